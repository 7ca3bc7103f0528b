"""Convert PORPOISE's tables of a TCGA cohort to a cohort csv and genes.

    python tools/dataset_converters/porpoise.py \\
        path/to/datasets_csv_mutsig data/tcga-brca --cohorts brca \\
        --classes IDC ILC --check

SOURCE holds tcga_<cohort>_all_clean.csv.zip at any depth, or is one of them.
OUT gets cohort.csv, expression.npz and genes.txt. Expression is z-scored in
each cohort by itself: classes of different cohorts cannot be compared.
"""

import argparse
import sys
from pathlib import Path

from omic_cli import finish

from mmmedmask.datasets.conversion.porpoise import convert, find_tables


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path, help='table, or their folder')
    parser.add_argument('out', type=Path, help='folder to write to')
    parser.add_argument(
        '--cohorts', nargs='+', default=[], metavar='COHORT',
        help='cohorts to take, such as brca (default: all that are there)')
    parser.add_argument(
        '--classes', nargs='+', metavar='CODE',
        help='OncoTree codes to keep, such as IDC ILC (default: all)')
    parser.add_argument(
        '--check', action='store_true',
        help='read back what was written, and report what makes it useless '
        'in OUT/check.txt and check.json; exit status 1 if there is any')
    return parser.parse_args()


def main() -> int:
    args = parse_args()

    def make():
        conversion = convert(find_tables(args.source, args.cohorts))
        return (conversion.of_classes(args.classes) if args.classes
                else conversion)

    return finish(make, args.out, args.check)


if __name__ == '__main__':
    sys.exit(main())
