"""Convert CRAG (version 2) to COCO instances: train (173) and test (40).

    python tools/dataset_converters/crag.py data/crag --check

DATA_ROOT holds the unpacked download, with train and valid. Images stay
where they are.
"""

import sys

from gland_cli import run

if __name__ == '__main__':
    sys.exit(run('crag', __doc__))
