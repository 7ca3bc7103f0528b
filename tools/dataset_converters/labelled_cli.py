"""Command line shared by the converters of labelled images."""

import argparse
import sys
from pathlib import Path

from mmmedmask.datasets.conversion import LayoutError
from mmmedmask.datasets.conversion.check_report import ConversionError
from mmmedmask.datasets.conversion.labelled import describe_splits
from mmmedmask.datasets.conversion.labelled_check import check
from mmmedmask.datasets.conversion.labelled_source import (
    LabelledSource,
    prepare,
)

LINES_SHOWN = 10


def parse_args(source: LabelledSource,
               description: str) -> argparse.Namespace:
    """Parse the command line.

    Args:
        source: The data set.
        description: Of the script.

    Returns:
        The arguments.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'source', type=Path, help=f'folder of the download of {source.name}')
    parser.add_argument(
        'out',
        type=Path,
        help='where the data set goes; the data_root of configs')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='of splits that are drawn (default: %(default)s)')
    parser.add_argument(
        '--copy',
        action='store_true',
        help='copy the images; without it they are hard links where the '
        'file system permits')
    parser.add_argument(
        '--check',
        action='store_true',
        help='read back what was written, and report leaks and copies in '
        'OUT/check.txt and check.json; exit status 1 if there are problems')
    parser.add_argument(
        '--near-threshold',
        type=float,
        default=source.near_threshold,
        help='correlation of fingerprints from which on images are nearly '
        'identical (default: %(default)s, measured on this data set)')
    return parser.parse_args()


def run(source: LabelledSource, description: str) -> int:
    """Convert a data set, and check it if asked.

    Args:
        source: The data set.
        description: Of the script.

    Returns:
        The exit status.
    """
    args = parse_args(source, description)
    try:
        conversion = prepare(
            source, args.source, args.out, args.seed, args.near_threshold)
        written = conversion.write(args.out, args.copy)
    except ConversionError as error:
        print(error.report.to_text(LINES_SHOWN), file=sys.stderr)
        print('error: nothing was written', file=sys.stderr)
        return 1
    except (LayoutError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'{args.out}: {written}')
    for notice in conversion.notices:
        print(f'NOTICE: {notice}')
    for line in describe_splits(conversion.splits, source.classes):
        print(line)
    if not args.check:
        return 0
    report = check(conversion, args.out)
    text, data = report.write(args.out)
    print(report.to_text(LINES_SHOWN))
    print(f'\nThe complete report: {text} and {data}')
    return int(bool(report.problems))
