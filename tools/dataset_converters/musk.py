"""Convert musk1, bags of shapes of molecules, to our layout for bags.

    python tools/dataset_converters/musk.py path/to/musk1.csv data/musk1

The table has a shape in each line: label, molecule and 166 features. OUT gets
features/, cohort.csv and folds/ for tools/cross_validate.py.
"""

import argparse
import sys
from pathlib import Path

from mmmedmask.datasets.conversion.musk import read_molecules, write_cohort


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('table', type=Path, help='the csv')
    parser.add_argument('out', type=Path, help='folder to write to')
    parser.add_argument(
        '--folds', type=int, default=10,
        help='number of folds (default: %(default)s)')
    parser.add_argument(
        '--seed', type=int, default=0,
        help='of the folds (default: %(default)s)')
    return parser.parse_args()


def main() -> int:
    """Convert; return the exit status."""
    args = parse_args()
    try:
        molecules = read_molecules(args.table)
        counts = write_cohort(molecules, args.out, args.folds, args.seed)
    except (OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    sizes = [len(one.shapes) for one in molecules]
    print(f'{args.out / "cohort.csv"}: {len(molecules)} molecules '
          f'{dict(counts)} of {min(sizes)} to {max(sizes)} shapes, '
          f'{args.folds} folds')
    return 0


if __name__ == '__main__':
    sys.exit(main())
