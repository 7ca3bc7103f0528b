"""Convert Brain Tumor MRI: the official split, and two without copies.

    python tools/dataset_converters/brain_tumor_mri.py \\
        path/to/download data/brain_tumor_mri --check

SOURCE holds the unpacked download, the folders Training and Testing. Splits
written: official (5,712 and 1,311 images), clean (official training images,
test images without copies among them) and clean-train (training images
without copies among the test images).
"""

import sys

from labelled_cli import run

from mmmedmask.datasets.conversion.brain_tumor_mri import BRAIN_TUMOR_MRI

if __name__ == '__main__':
    sys.exit(run(BRAIN_TUMOR_MRI, __doc__))
