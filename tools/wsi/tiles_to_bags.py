"""Encode folders of tiles as bags, one folder per class.

    python tools/wsi/tiles_to_bags.py lung_aca lung_scc --out data/lc25000 \
        --groups lung_aca_clusters.csv lung_scc_clusters.csv \
        --encoder resnet18 --weights resnet18.pth --bag-size 10

OUT/cohort.csv is the ann_file of a data set, OUT/features its feature_root,
OUT/tiles.csv tells which tile is where, and OUT/folds has folds of the bags
(--folds 5), which train on all that they do not test. Tiles of one group are
in one bag, and so in one split. Broken tiles are named at the end, and no csv
is written. A second call goes on where the first one stopped. A data set that
comes with test tiles has them in --test-folders, and --split .8 .2 0 splits
the others.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from encoder_cli import add_encoder_arguments, build_encoder

from mmmedmask.util.command_line import check_overwrites
from mmmedmask.util.run_tool import run_tool

SPLITS = ('train', 'val', 'test')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folders', nargs='+', type=Path,
                        help='folders of tiles; their names are the classes')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument(
        '--test-folders', nargs='+', type=Path, default=(),
        help='folders of the same classes whose tiles are test bags')
    parser.add_argument('--groups', nargs='+', type=Path, metavar='CSV',
                        help='csv files that tell which tiles come from one '
                        'source (default: each tile from its own)')
    parser.add_argument(
        '--path-column', default='img_path',
        help='column with the path of a tile (default: %(default)s)')
    parser.add_argument('--group-column', default='cluster_label',
                        help='column with its group (default: %(default)s)')
    parser.add_argument('--bag-size', type=int, default=10,
                        help='tiles in a bag, about (default: %(default)s)')
    parser.add_argument(
        '--split', nargs=3, type=float, default=(.6, .2, .2),
        metavar=('TRAIN', 'VAL', 'TEST'),
        help='shares of the bags of each class (default: .6 .2 .2)')
    parser.add_argument('--folds', type=int, metavar='K',
                        help='draw K folds of all bags, too')
    parser.add_argument('--seed', type=int, default=0,
                        help='of bags, splits and folds')
    parser.add_argument(
        '--tile-size', type=int, default=224,
        help='side in pixels that tiles are resized to (default: %(default)s)')
    parser.add_argument(
        '--mosaics', action='store_true',
        help='draw each bag as one picture, on which attention can be shown')
    add_encoder_arguments(parser)
    args = parser.parse_args(argv)
    if args.folds is not None and args.test_folders:
        parser.error('--folds test every bag once: with --test-folders there '
                     'are bags that must not train')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)

    import mmmedmask  # noqa: F401  (mends gaps in what is imported next)
    from mmmedmask.apis import tile_bags
    from mmmedmask.datasets.image_io import ImageFileError
    from mmmedmask.datasets.slides import folds
    from mmmedmask.datasets.slides.cohort import Case
    try:
        check_overwrites(args, ['out'], [
            args.out / name for name in ('tiles.csv', 'cohort.csv')])
        groups = None if args.groups is None else tile_bags.read_groups(
            args.groups, args.path_column, args.group_column)
        shares = dict(zip(SPLITS, args.split, strict=True))
        tiles = tile_bags.find_tiles(args.folders, groups)
        bags = tile_bags.split_bags(
            tile_bags.make_bags(tiles, args.bag_size, args.seed), shares,
            args.seed)
        if args.test_folders:
            test_tiles = tile_bags.find_tiles(args.test_folders, groups)
            test_bags = tile_bags.make_bags(test_tiles, args.bag_size,
                                            args.seed)
            bags = tile_bags.add_test_bags(bags, test_bags, groups is not None)
            tiles += test_tiles
        if args.folds is not None:
            # What cannot be drawn is said before anything is encoded.
            folds.write_folds(args.out / 'folds', folds.draw_folds(
                [Case(bag.name, bag.label) for bag in bags], args.folds,
                args.seed, validate=False), dict(seed=args.seed))
        encoder = build_encoder(args)
        tile_bags.encode_bags(bags, args.out, encoder, args.tile_size,
                              args.batch_size, args.precision, args.mosaics,
                              print)
    except (ValueError, FileExistsError, FileNotFoundError,
            ModuleNotFoundError, ImageFileError) as error:
        raise SystemExit(f'tiles_to_bags.py: {error}') from None
    counts = Counter(bag.split for bag in bags)
    counts = {split: counts[split] for split in SPLITS if counts[split]}
    print(f'{len(tiles)} tiles in {len(bags)} bags {counts}, '
          f'{encoder.dims} features of {encoder.name} '
          f'({encoder.weights_id}): {args.out / "cohort.csv"}')


if __name__ == '__main__':
    run_tool(main)
