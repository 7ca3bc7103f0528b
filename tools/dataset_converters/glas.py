"""Convert GlaS to COCO instances: train (85) and test (A and B, 80).

    python tools/dataset_converters/glas.py data/glas --check

DATA_ROOT holds the unpacked download, "Warwick QU Dataset (Released
2016_07_08)". Images stay where they are.
"""

import sys

from gland_cli import run

if __name__ == '__main__':
    sys.exit(run('glas', __doc__))
