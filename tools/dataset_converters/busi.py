"""Convert BUSI: classes, joined lesion masks, one split for both tasks.

    python tools/dataset_converters/busi.py \\
        path/to/download data/busi --check

SOURCE holds the unpacked download, Dataset_BUSI_with_GT. Splits written: paper
(547 and 233 images, by image) and grouped (copies of an image on one side;
BUSI names no patients).
"""

import sys

from labelled_cli import run

from mmmedmask.datasets.conversion.busi import BUSI

if __name__ == '__main__':
    sys.exit(run(BUSI, __doc__))
