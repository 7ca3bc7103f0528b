"""Convert counts of TCGA tumour types to one cohort with CPM.

    python tools/dataset_converters/tcga_counts.py \\
        path/to/ref_data data/tcga-five-types --check

SOURCE holds TCGA_<type>_Counts.exp.gz (RNAsum.data). The class is the tumour
type; every patient gets one primary tumour; counts become counts per million.
"""

import argparse
import sys
from pathlib import Path

from omic_cli import finish

from mmmedmask.datasets.conversion.tcga_counts import convert, find_types


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path, help='folder with the counts')
    parser.add_argument('out', type=Path, help='folder to write to')
    parser.add_argument(
        '--types', nargs='+', default=[], metavar='TYPE',
        help='tumour types, such as ACC UVM (default: all but TEST)')
    parser.add_argument(
        '--unit', choices=['cpm', 'log2_cpm'], default='cpm',
        help='unit of the table (default: %(default)s)')
    parser.add_argument(
        '--check', action='store_true',
        help='read back what was written, and report what makes it useless '
        'in OUT/check.txt and check.json; exit status 1 if there is any')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    return finish(
        lambda: convert(find_types(args.source, args.types), args.unit),
        args.out, args.check)


if __name__ == '__main__':
    sys.exit(main())
