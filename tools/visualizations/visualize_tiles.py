"""Draw a map of tiles as an encoder sees them: a picture and a web page.

    python tools/visualizations/visualize_tiles.py CONFIG CHECKPOINT TILES \
        --out map.png --html map.html --slide '([^/_]+)_[^/]*$'

The page shows the tile under the mouse, switches classes on and off, and
lists the nearest neighbours of a tile that is clicked. CHECKPOINT may be
`none`: the random weights that a run with --seed starts from. Tiles that
cannot be read are left out, and named.
"""

import argparse
import os
import re
from collections.abc import Sequence
from itertools import compress
from pathlib import Path

from picture_tool import at_least, draw_or_exit, make_parser, save_picture

from mmmedmask.util.command_line import file_ending
from mmmedmask.util.extras import import_extra
from mmmedmask.util.run_tool import run_tool

UNTRAINED = 'none'
THUMBNAIL = 48


def pattern(text: str) -> re.Pattern:
    """Type of an option: a regular expression."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no regular expression: {error}') from None


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, '--seed', '--device')
    parser.add_argument('tiles', help='folder of tiles, at any depth')
    parser.add_argument('--html', type=file_ending('.html', '.htm'),
                        help='web page to write')
    parser.add_argument('--labels', type=Path, metavar='CSV',
                        help='table with the columns path (relative to TILES) '
                        'and label: tiles are coloured by label, and those '
                        'that it does not list are left out')
    parser.add_argument(
        '--slide', metavar='REGEX', type=pattern,
        help='what of a path relative to TILES names the slide, in a group')
    parser.add_argument('--color', choices=('label', 'folder', 'slide'),
                        help='of the picture; the page has all (default: the '
                        'first of label, slide and folder with two classes)')
    parser.add_argument('--method', choices=('tsne', 'umap'), default='tsne',
                        help='umap needs the extra plots (default: tsne)')
    parser.add_argument('--max-tiles', type=at_least(5), default=10_000,
                        help='drawn at random if there are more (default: '
                        '%(default)s)')
    parser.add_argument('--neighbours', type=at_least(1), default=8)
    parser.add_argument('--batch-size', type=at_least(1), default=32)
    return parser.parse_args(argv)


def list_tiles(args: argparse.Namespace) -> tuple[list[str], dict]:
    """List the tiles, and what each can be coloured by."""
    import numpy as np

    from mmmedmask.datasets import TileFolder
    from mmmedmask.datasets.labelled_images import image_rows
    from mmmedmask.util.checks import check_not_read
    from mmmedmask.util.table_files import read_table
    # Broken ones are named when they are read.
    folder = TileFolder(args.tiles, on_error='skip')
    names = [str(Path(folder.get_data_info(place)['img_path']).relative_to(
        args.tiles)) for place in range(len(folder))]
    check_not_read([args.out], (Path(args.tiles, name) for name in names))
    groups = {}
    if args.labels:
        # Each tile is listed once.
        labels = {os.path.normpath(row['path']): row['label']
                  for _, row in image_rows(
                      read_table(args.labels, ('path', 'label')),
                      Path(args.tiles))}
        absent = labels.keys() - set(names)
        names = [name for name in names if name in labels]
        if not names:
            raise ValueError(f'{args.labels} lists no tile of {args.tiles}')
        if absent:
            print(f'{len(absent)} of {len(labels)} paths in {args.labels} are '
                  f'no tiles of {args.tiles}, such as {min(absent)}')
    if len(names) > args.max_tiles:
        chosen = np.random.default_rng(args.seed).permutation(len(names))
        names = [names[place] for place in sorted(chosen[:args.max_tiles])]
    if args.labels:
        groups['label'] = [labels[name] for name in names]
    if args.slide:
        matches = [args.slide.search(name) for name in names]
        lost = [name for name, match in zip(names, matches, strict=True)
                if match is None or not match.re.groups]
        if lost:
            raise ValueError(f'--slide {args.slide.pattern!r} finds no group '
                             f'in {lost[0]}')
        groups['slide'] = [match[1] for match in matches]
    top = Path(args.tiles).resolve().name
    groups['folder'] = [str(parent) if parent.name else top for parent in
                        (Path(name).parent for name in names)]
    return names, groups


def leave_out(names: list[str], groups: dict, results: list[dict]
              ) -> tuple[list[str], dict]:
    """Leave out, and name, the tiles that cannot be read."""
    used = [not result['error'] for result in results]
    errors = [result['error'] for result in results if result['error']]
    if errors:
        # The log has the first already.
        print(f'The map is without the {len(errors)} tiles that cannot be '
              'used.', *errors[1:], sep='\n')
    return [*compress(names, used)], {
        group: [*compress(values, used)] for group, values in groups.items()}


def draw(args: argparse.Namespace) -> list[Path]:
    """Encode, lay out, draw; return the files."""
    import cv2
    import numpy as np

    from mmmedmask import apis
    from mmmedmask.visualization import embedding_page, embeddings
    from mmmedmask.visualization.pictures import picture_of
    if args.method == 'umap':
        import_extra('umap', 'plots', 'UMAP')
    names, groups = list_tiles(args)
    color = args.color or next(
        (group for group, values in groups.items() if len(set(values)) > 1),
        next(iter(groups)))
    if color not in groups:
        raise ValueError('--color label needs --labels CSV' if color == 'label'
                         else '--color slide needs --slide REGEX')
    config = apis.load_config(args.config, args.cfg_options)
    embed = apis.EmbeddingInferencer(
        apis.untrained_model(config, args.seed)
        if args.checkpoint == UNTRAINED
        else apis.get_model(config, args.checkpoint), device=args.device)
    results = embed([Path(args.tiles, name) for name in names],
                    args.batch_size, progress=True)
    names, groups = leave_out(names, groups, results)
    paths = [Path(args.tiles, name) for name in names]
    vectors = np.stack([result['embedding'] for result in results
                        if not result['error']])
    points = embeddings.project(vectors, args.method, args.seed)
    labels, classes = embeddings.frequent_classes(groups[color])
    title = f'{len(names)} tiles by {color}, {args.method}'
    files = [save_picture(embeddings.draw_embeddings(
        [[embeddings.EmbeddingPanel(title, points, labels)]],
        classes), args.out)]
    if args.html:
        thumbnails = [cv2.resize(picture_of(path), (THUMBNAIL, THUMBNAIL),
                                 interpolation=cv2.INTER_AREA)
                      for path in paths]
        args.html.parent.mkdir(parents=True, exist_ok=True)
        embedding_page.write_embedding_page(
            args.html, f'{Path(args.tiles).name}: {title}', points,
            embedding_page.nearest_neighbours(
                vectors, min(args.neighbours, len(names) - 1)),
            thumbnails, names, {color: groups[color], **groups})
        files.append(args.html)
    return files


def main(argv: Sequence[str] | None = None) -> None:
    draw_or_exit('visualize_tiles.py', draw, parse_args(argv))


if __name__ == '__main__':
    run_tool(main)
