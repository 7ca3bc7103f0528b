"""Prepare NCT-CRC-HE-100K-NONORM: list files of the splits, and a check.

    python tools/dataset_converters/nct_crc.py data/NCT \\
        --lists path/to/ConCL/data/NCT/meta --check

DATA_ROOT/data holds the unpacked download, one folder per class. The lists
go to DATA_ROOT/meta. Without --lists, and where there are none, a random
8:2 split is drawn.
"""

import argparse
import sys
from pathlib import Path

from mmmedmask.datasets.conversion import LayoutError
from mmmedmask.datasets.conversion.duplicates import NEAR_THRESHOLD
from mmmedmask.datasets.conversion.nct_crc_lists import (
    LIST_NAMES,
    check,
    compare_with_official,
    copy_lists,
    draw_lists,
    list_tiles,
    read_lists,
)
from mmmedmask.datasets.nct_crc import NCT_SPLIT_SIZES

LINES_SHOWN = 10


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'data_root', type=Path, help='folder that holds the tiles\' folder')
    parser.add_argument(
        '--image-folder',
        default='data',
        help='the tiles\' folder below DATA_ROOT (default: %(default)s)')
    parser.add_argument(
        '--lists', type=Path, help='folder with ConCL\'s four list files')
    parser.add_argument(
        '--val-fraction',
        type=float,
        default=0.2,
        help='part of the tiles for val, if a split is drawn (default: '
        '%(default)s)')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='of the drawn split (default: %(default)s)')
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='replace list files that are there already')
    parser.add_argument(
        '--check',
        action='store_true',
        help='read all tiles, compare them with the lists and with each '
        'other; exit status 1 if there are problems')
    parser.add_argument(
        '--near-threshold',
        type=float,
        default=NEAR_THRESHOLD,
        help='correlation of fingerprints from which on --check calls tiles '
        'nearly identical (default: %(default)s)')
    args = parser.parse_args()
    if not 0 < args.near_threshold <= 1:
        parser.error(
            f'--near-threshold must be in (0, 1], got {args.near_threshold}')
    return args


def make_lists(args: argparse.Namespace, names: list[str]) -> None:
    """Copy or draw the list files, unless they are there.

    Args:
        args: The arguments.
        names: The tiles on disk.

    Raises:
        LayoutError: If lists are to be copied over others.
    """
    meta = args.data_root / 'meta'
    present = [name for name in LIST_NAMES if (meta / name).exists()]
    if present and not args.overwrite:
        if args.lists:
            raise LayoutError(
                f'{meta} has the list files {present}; --overwrite replaces '
                'them')
        print(f'{meta}: the list files that are there are used')
    elif args.lists:
        copy_lists(args.lists, meta)
        print(f'{meta}: list files copied from {args.lists}')
    else:
        draw_lists(names, meta, args.val_fraction, args.seed)
        print(f'{meta}: drew a split at random by tile, seed {args.seed}')
        print('NOTICE: it is not ConCL\'s; results are not quite comparable '
              'with published ones')


def main() -> int:
    """Make the lists and check the tiles; return the exit status."""
    args = parse_args()
    try:
        image_folder = args.data_root / args.image_folder
        names = list_tiles(image_folder)
        make_lists(args, names)
        splits = read_lists(args.data_root / 'meta')
    except (LayoutError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    for split, tiles in splits.items():
        print(f'{split}: {len(tiles)} tiles (ConCL: '
              f'{NCT_SPLIT_SIZES[split]})')
    notice = compare_with_official(names)
    if notice:
        print(f'NOTICE: {notice}')
    if not args.check:
        return 0
    report = check(image_folder, names, splits, args.near_threshold)
    text, data = report.write(args.data_root / 'meta')
    print(report.to_text(LINES_SHOWN))
    print(f'\nThe complete report: {text} and {data}')
    return int(bool(report.problems))


if __name__ == '__main__':
    sys.exit(main())
