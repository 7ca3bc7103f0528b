"""Turn whole slides into files of features, one per slide.

    python tools/wsi/extract_features.py SLIDES --out data/cohort \
        --encoder resnet50-block3 --tile-size 256 --mpp 0.5 --workers 4

writes OUT/h5_files/<slide>.h5 (features and coords as CLAM's), OUT/tiles
(pictures of the tiles that were kept: look at them), OUT/thumbnails and a
csv per run in OUT/manifests. A second call does what the first one left.
The exit status is 1 if a slide failed.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from encoder_cli import add_encoder_arguments, build_encoder


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'slides', nargs='+', type=Path,
        help='files, and folders that are searched for slides')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument(
        '--csv', type=Path,
        help='take only the slides of its column slide_id; its column mpp '
        'tells their resolution where the files do not')
    parser.add_argument(
        '--slide-mpp', type=float,
        help='µm per pixel of the finest level, for slides whose file does '
        'not tell, or tells wrong')
    parser.add_argument(
        '--workers', type=int, default=2,
        help='processes that read slides (default: %(default)s; 0: none)')
    parser.add_argument(
        '--overwrite', action='store_true',
        help='do slides again that were done with other settings')
    group = parser.add_argument_group('tiles')
    group.add_argument(
        '--tile-size', type=int, default=256,
        help='side in pixels (default: %(default)s)')
    group.add_argument(
        '--mpp', type=float, default=.5,
        help='µm per pixel of a tile (default: %(default)s, about 20x)')
    group.add_argument(
        '--overlap', type=int, default=0,
        help='of neighbours, in pixels (default: %(default)s)')
    group.add_argument(
        '--min-tissue', type=float, default=.5,
        help='share of a tile that has to be tissue (default: %(default)s)')
    group.add_argument(
        '--allow-enlarging', action='store_true',
        help='cut tiles that are finer than the slide')
    group = parser.add_argument_group(
        'tissue', 'what is more colourful than glass')
    group.add_argument(
        '--tissue-mpp', type=float, default=8.,
        help='µm per pixel of the picture on which it is looked for '
        '(default: %(default)s)')
    group.add_argument(
        '--saturation', type=int,
        help='threshold, 0 to 255 (default: Otsu\'s)')
    group.add_argument(
        '--saturation-limits', type=int, nargs=2, default=(10, 40),
        metavar=('LOW', 'HIGH'),
        help='what Otsu\'s threshold is kept within (default: 10 40)')
    group.add_argument(
        '--min-brightness', type=int, default=40,
        help='darker pixels are pen or borders (default: %(default)s)')
    group.add_argument(
        '--median', type=int, default=5,
        help='side of the median filter, odd (default: %(default)s)')
    group.add_argument(
        '--min-area', type=float, default=.02,
        help='smaller pieces are left out, in mm² (default: %(default)s)')
    group.add_argument(
        '--max-hole', type=float, default=.01,
        help='smaller holes are filled, in mm² (default: %(default)s)')
    add_encoder_arguments(parser)
    return parser.parse_args(argv)


def report(result, finished: int, total: int) -> None:
    """Print a line about a slide."""
    detail = result.error or f'{result.num_tiles} tiles'
    if result.seconds is not None:
        detail += f', {result.seconds:.1f} s'
    print(f'{finished}/{total} {result.slide_id}: {result.status}, {detail}',
          flush=True)


def extract(args: argparse.Namespace) -> list:
    """Extract the features and return what became of each slide."""
    from mmmedmask.apis.slide_extraction import extract_slides
    from mmmedmask.datasets.slides.slide_list import list_slides
    from mmmedmask.datasets.slides.tile_stream import TilingOptions
    from mmmedmask.datasets.slides.tissue import TissueOptions

    tasks, notes = list_slides(args.slides, args.csv, args.slide_mpp)
    for note in notes:
        print(note)
    tissue = TissueOptions(
        args.tissue_mpp, args.saturation, tuple(args.saturation_limits),
        args.min_brightness, args.median, args.min_area, args.max_hole)
    tiling = TilingOptions(
        args.tile_size, args.mpp, args.overlap, args.min_tissue,
        args.allow_enlarging, tissue)
    encoder = build_encoder(args)
    print(f'{len(tasks)} slides, encoder {encoder.name} '
          f'({encoder.weights_id}), {encoder.dims} features', flush=True)
    return extract_slides(
        tasks, args.out, encoder, tiling, args.batch_size, args.workers,
        args.precision, args.overwrite, report)


def main(argv: Sequence[str] | None = None) -> None:
    """Extract what the command line names."""
    args = parse_args(argv)

    import mmmedmask  # noqa: F401  (mends gaps in what is imported next)

    try:
        results = extract(args)
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        raise SystemExit(f'extract_features.py: {error}') from None
    counts = Counter(result.status for result in results)
    print(f'{len(results)} slides: '
          + ', '.join(f'{number} {status}'
                      for status, number in sorted(counts.items()))
          + f'; {sum(result.num_tiles or 0 for result in results)} tiles in '
          f'{args.out}')
    if counts['empty']:
        names = [r.slide_id for r in results if r.status == 'empty']
        print(f'Empty, no tile has enough tissue: {", ".join(names)}')
    if counts['failed']:
        raise SystemExit(
            f'extract_features.py: {counts["failed"]} of {len(results)} '
            f'slides failed, see the last csv in {args.out / "manifests"}')


if __name__ == '__main__':
    main()
