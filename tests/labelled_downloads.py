"""Draw downloads of labelled images, laid out as they are released.

For tests of the converters: a few small images per class, in the folders,
with the file names and the tables of the real thing.
"""


from functools import partial
from pathlib import Path

import cv2
import numpy as np

from mmmedmask.datasets.conversion.brain_tumor_mri import BRAIN_TUMOR_MRI
from mmmedmask.datasets.conversion.busi import BUSI
from mmmedmask.datasets.conversion.ham10000 import HAM10000
from mmmedmask.datasets.conversion.messidor2 import MESSIDOR2
from mmmedmask.datasets.image_io import write_image
from mmmedmask.util.atomic_files import write_csv

_CELLS = 24


def draw_scan(seed, size=(72, 96), channels=3):
    """Draw an image that no image with another seed resembles.

    uint8 of shape (h, w, channels), 1 or 3 of them.
    """
    coarse = np.random.default_rng(seed).integers(
        20, 236, (_CELLS, _CELLS, channels), np.uint8)
    image = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    return image.reshape(*size, channels)


def write_brain_download(root, per_class=4):
    """Write Brain Tumor MRI: ``Training`` and ``Testing``, a folder a class.

    Every second image is gray, as in the release. Testing has half as many
    per class as Training.
    """
    seed = 0
    for part, number in (('Training', per_class), ('Testing', per_class // 2)):
        for label in ('glioma', 'meningioma', 'notumor', 'pituitary'):
            for index in range(number):
                name = f'{part[:2]}-{label[:2]}_{index:04d}.jpg'
                image = draw_scan(seed, (64, 64), 1 + 2 * (index % 2))
                write_image(Path(root) / part / label / name, image.squeeze())
                seed += 1


def write_ham_download(root, counts, images_per_lesion=2, masks=True):
    """Write HAM10000: two folders of images, masks, the metadata.

    ``counts`` are numbers of images by diagnosis; the last lesion may have
    fewer images than others.
    """
    root = Path(root)
    rows, number = [], 0
    for label, count in counts.items():
        for index in range(count):
            image_id = f'ISIC_{24306 + number:07d}'
            lesion = f'HAM_{label}_{index // images_per_lesion:04d}'
            rows.append([lesion, image_id, label, 'histo', 50.0, 'male', ''])
            part = f'HAM10000_images_part_{1 + number % 2}'
            write_image(root / part / f'{image_id}.jpg', draw_scan(number))
            if masks:
                write_image(
                    root / 'HAM10000_segmentations_lesion_tschandl'
                    / f'{image_id}_segmentation.png', draw_mask(number))
            number += 1
    write_csv(
        root / 'HAM10000_metadata.csv',
        ['lesion_id', 'image_id', 'dx', 'dx_type', 'age', 'sex',
         'localization'], rows)


def write_busi_download(root, counts):
    """Write BUSI: a folder a class, a mask an image, some with several.

    The second image of a class with lesions has two masks; the third one's
    mask is RGBA. Masks of ``normal`` are empty.
    """
    number = 0
    for label, count in counts.items():
        folder = Path(root) / 'Dataset_BUSI_with_GT' / label
        for index in range(1, count + 1):
            stem = f'{label} ({index})'
            write_image(folder / f'{stem}.png', draw_scan(number))
            mask = draw_mask(number) * (label != 'normal')
            if index == 3:
                mask = np.dstack([mask] * 3 + [np.full_like(mask, 255)])
            write_image(folder / f'{stem}_mask.png', mask)
            if index == 2 and label != 'normal':
                write_image(
                    folder / f'{stem}_mask_1.png', draw_mask(number + 1000))
            number += 1


def write_messidor_download(root, counts, ungraded=1, pairs=True):
    """Write Messidor-2: images in two folders, grades, pairs of eyes.

    Files are PNG, and JPEG with the ending ``.JPG``, which the grades call
    ``.jpg``. ``counts`` are by grade, from 0; ``ungraded`` come on top.
    """
    root = Path(root)
    grades = [str(grade) for grade, count in enumerate(counts)
              for _ in range(count)] + [''] * ungraded
    # Not sorted by grade, so that the eyes of a patient differ.
    order = np.random.default_rng(0).permutation(len(grades))
    rows, names = [], []
    for number, index in enumerate(order):
        # Two zip files, which unpack to two folders.
        folder = root / f'part_{1 + number % 2}' / 'IMAGES'
        if number % 3:
            name = f'2005102{number % 9}_{43808 + number}_0100_PP.png'
        else:
            name = f'IM{number:06d}.JPG'
        write_image(folder / name, draw_scan(number))
        names.append(name)
        grade = grades[index]
        rows.append([name.replace('.JPG', '.jpg'), grade,
                     '0' if grade else '', '1' if grade else '0'])
    write_csv(
        root / 'messidor_data.csv',
        ['image_id', 'adjudicated_dr_grade', 'adjudicated_dme',
         'adjudicated_gradable'], rows)
    if pairs:
        lines = [';'.join(names[start:start + 2])
                 for start in range(0, len(names) - 1, 2)]
        (root / 'messidor-2.csv').write_text(
            '\r\n'.join(['left;right', *lines]) + '\r\n')


SMALL_DOWNLOADS = {
    'messidor2': partial(write_messidor_download, counts=(10, 4, 7, 4, 4)),
    'brain_tumor_mri': write_brain_download,
    'ham10000': partial(
        write_ham_download, counts={'nv': 10, 'mel': 7, 'bkl': 4}),
    'busi': partial(write_busi_download,
                    counts={'benign': 10, 'malignant': 7, 'normal': 4})}
"""Writes a small download of each data set, by the converter's name."""

SOURCES = {'brain_tumor_mri': BRAIN_TUMOR_MRI, 'ham10000': HAM10000,
           'busi': BUSI, 'messidor2': MESSIDOR2}


def draw_mask(seed, size=(72, 96)):
    """Draw a lesion mask: one filled ellipse, uint8 (h, w), 255 on it."""
    rng = np.random.default_rng(seed)
    height, width = size
    center = (int(rng.integers(width // 4, width * 3 // 4)),
              int(rng.integers(height // 4, height * 3 // 4)))
    axes = (int(rng.integers(5, width // 5)),
            int(rng.integers(5, height // 5)))
    return cv2.ellipse(
        np.zeros(size, np.uint8), center, axes, 0, 0, 360, 255, -1)
