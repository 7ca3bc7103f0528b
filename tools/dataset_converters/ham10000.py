"""Convert HAM10000: diagnoses, lesion masks, splits by image and by lesion.

    python tools/dataset_converters/ham10000.py \\
        path/to/download data/ham10000 --check

SOURCE holds, at any depth, HAM10000_metadata.csv, the images of both parts
and, for lesion masks, HAM10000_segmentations_lesion_tschandl. Splits written:
paper (7,014 and 3,001 images, by image) and lesion (all images of a lesion on
one side).
"""

import sys

from labelled_cli import run

from mmmedmask.datasets.conversion.ham10000 import HAM10000

if __name__ == '__main__':
    sys.exit(run(HAM10000, __doc__))
