"""Command line shared by the converters of gland data sets."""

import argparse
import sys
from pathlib import Path

from mmmedmask.datasets.coco_instances import (
    MASK_KINDS,
    TINY_AREA,
    InstanceOptions,
)
from mmmedmask.datasets.conversion import LayoutError
from mmmedmask.datasets.conversion.duplicates import NEAR_THRESHOLD
from mmmedmask.datasets.conversion.gland_datasets import (
    SOURCES,
    ConversionError,
    check,
    compare_with_official,
    convert,
)

LINES_SHOWN = 10


def parse_args(name: str, description: str) -> argparse.Namespace:
    """Parse the command line.

    Args:
        name: The data set.
        description: Of the script.

    Returns:
        The arguments.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'data_root',
        type=Path,
        help=f'folder of {name}; file names in the json are relative to it')
    parser.add_argument(
        '--out-dir',
        type=Path,
        help='where train.json and test.json go (default: '
        'DATA_ROOT/annotations, where the configs look)')
    parser.add_argument(
        '--mask-kind',
        choices=MASK_KINDS,
        default='auto',
        help='what the values in masks mean; auto takes a mask with nothing '
        'but 0 and 255 for binary (default: %(default)s)')
    parser.add_argument(
        '--split-components',
        action='store_true',
        help='one instance per connected part of an instance number')
    parser.add_argument(
        '--min-area',
        type=int,
        default=0,
        help='leave instances with fewer pixels out (default: %(default)s)')
    parser.add_argument(
        '--check',
        action='store_true',
        help='read everything back, and report broken files, masks that do '
        'not fit, and images that occur twice; exit status 1 if there are '
        'problems')
    parser.add_argument(
        '--near-threshold',
        type=float,
        default=NEAR_THRESHOLD,
        help='correlation of fingerprints from which on --check calls '
        'images nearly identical (default: %(default)s)')
    return parser.parse_args()


def run(name: str, description: str) -> int:
    """Convert a data set, and check it if asked.

    Args:
        name: A key of ``SOURCES``.
        description: Of the script.

    Returns:
        The exit status.
    """
    source = SOURCES[name]
    args = parse_args(source.name, description)
    out_dir = args.out_dir or args.data_root / 'annotations'
    status = 0
    try:
        if not 0 < args.near_threshold <= 1:
            raise ValueError(
                '--near-threshold must be in (0, 1], got '
                f'{args.near_threshold}')
        options = InstanceOptions(
            args.mask_kind, args.split_components, args.min_area)
        splits = source.find(args.data_root)
    except (LayoutError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    try:
        totals = convert(splits, out_dir, source, options)
    except ConversionError as error:
        print(error.report.to_text(LINES_SHOWN), file=sys.stderr)
        print('error: nothing was written', file=sys.stderr)
        status = 1
        if not args.check:
            return status
    else:
        print_totals(totals, out_dir)
    notice = compare_with_official(splits, source)
    if notice:
        print(f'NOTICE: {notice}')
    if args.check:
        try:
            report = check(
                splits, out_dir, source, options, args.near_threshold)
        except LayoutError as error:
            print(f'error: {error}', file=sys.stderr)
            return 1
        text, data = report.write(out_dir)
        print(report.to_text(LINES_SHOWN))
        print(f'\nThe complete report: {text} and {data}')
        status = status or int(bool(report.problems))
    return status


def print_totals(totals: dict, out_dir: Path) -> None:
    """Print what was written, and what was decided on the way.

    Args:
        totals: ``SplitTotals`` by split.
        out_dir: Where it was written to.
    """
    for split, total in totals.items():
        print(f'{out_dir / split}.json: {total.images} images, '
              f'{total.instances} instances')
        if total.binary_masks:
            print(f'WARNING: {len(total.binary_masks)} of {total.images} '
                  'masks are binary. Their instances are connected parts: '
                  'glands that touch became one.')
        if (total.in_several_parts and total.images > 1
                and total.zero_one_masks == total.images):
            print('WARNING: no mask holds a number above 1. If they only '
                  'say gland or not, use --mask-kind binary.')
        if total.in_several_parts:
            print(f'NOTICE: {total.in_several_parts} instances consist of '
                  'several parts (--split-components separates them)')
        if total.tiny:
            print(f'NOTICE: {total.tiny} instances have fewer than '
                  f'{TINY_AREA} pixels, probably specks (--min-area leaves '
                  'them out)')
        if total.too_small:
            print(f'NOTICE: {total.too_small} instances left out, smaller '
                  'than --min-area')
        if total.empty_images:
            print(f'NOTICE: {len(total.empty_images)} images without '
                  f'instances: {", ".join(total.empty_images[:5])}')
