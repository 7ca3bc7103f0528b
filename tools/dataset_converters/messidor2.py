"""Convert Messidor-2 with adjudicated grades, splits by image and patient.

    python tools/dataset_converters/messidor2.py \\
        path/to/download data/messidor2 --check

SOURCE holds, at any depth, the images, the grades messidor_data.csv and, for
patients, the pairs messidor-2.csv. Splits written: paper (1,222 and 522
images, by image) and patient (both eyes on one side).
"""

import sys

from labelled_cli import run

from mmmedmask.datasets.conversion.messidor2 import MESSIDOR2

if __name__ == '__main__':
    sys.exit(run(MESSIDOR2, __doc__))
