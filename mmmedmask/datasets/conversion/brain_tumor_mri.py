"""Brain Tumor MRI: the official split, and two without copies across it.

7,023 slices in four classes (Nickparvar, doi:10.34740/kaggle/dsv/2645886).
Three quarters of its test images are copies of training images.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmmedmask.datasets.conversion import folders
from mmmedmask.datasets.conversion.copies import Copies
from mmmedmask.datasets.conversion.label_splits import (
    FoundImages,
    LabelledImage,
    Split,
    by_attribute,
)
from mmmedmask.datasets.conversion.labelled_conversion import LabelledSource

BRAIN_CLASSES = ('glioma', 'meningioma', 'notumor', 'pituitary')
PARTS = ('Training', 'Testing')
OFFICIAL_COUNTS = {'Training/glioma': 1321, 'Training/meningioma': 1339,
                   'Training/notumor': 1595, 'Training/pituitary': 1457,
                   'Testing/glioma': 300, 'Testing/meningioma': 306,
                   'Testing/notumor': 405, 'Testing/pituitary': 300}
"""Images in the release: 5,712 and 1,311."""

NEAR_THRESHOLD = 0.87
"""Between copies and neighbouring slices, measured on the release.

Local fingerprints of different slices of one patient reach 0.857; copies of
slices with a tumour, mostly mirrored, begin at 0.91 (no pair lies between).
Among images without a tumour there are brightened and sharpened copies down
to 0.80; 20 of 20 pairs looked at from 0.86 to 0.89 were copies, and 19 of 19
pairs of slices with a tumour from 0.82 to 0.857 were not.
"""


def find_images(download: Path) -> FoundImages:
    """Find the images of a download; groups are paths until copies are known.

    ``download`` holds ``Training`` and ``Testing``, two levels down at most.
    """
    root = folders.only_folder(
        download, [f'{part}/' for part in PARTS], ' and '.join(PARTS))
    images, ignored, counts = [], Counter(), Counter()
    for part in PARTS:
        for folder in folders.class_folders(root / part, BRAIN_CLASSES):
            files, others = folders.image_files(folder)
            ignored += others
            counts[f'{part}/{folder.name}'] = len(files)
            for source in files:
                path = f'images/{part}/{folder.name}/{source.name}'
                images.append(LabelledImage(source, path, folder.name, path))
    return FoundImages(images, folders.check_parts(
        'Brain Tumor MRI', root, counts, OFFICIAL_COUNTS,
        'such as Training/glioma/Tr-gl_0010.jpg and '
        'Testing/glioma/Te-gl_0010.jpg', ignored))


def make_splits(images: Sequence[LabelledImage], copies: Copies,
                seed: int) -> dict[str, Split]:
    """Make the official split and those without copies across it.

    ``official`` is as released. ``clean`` trains on the same images, but for
    those that have an identical twin of another class; a group of copies with
    an image in Training, or with several classes, loses its test images, and
    of any other group one test image is kept. ``clean-train`` keeps one test
    image of each group instead, and removes from Training what has a copy in
    Testing, and further copies. ``seed`` plays no part.
    """
    train, test = ([image for image in images
                    if image.path.split('/')[1] == part] for part in PARTS)
    labels = {image.path: image.label for image in images}
    contradictory = {record.name for group in copies.identical
                     if len({labels[record.name] for record in group}) > 1
                     for record in group}
    clean_train = [image for image in train if image.path not in contradictory]
    in_test = set(test)
    clean_test, other_train, other_test = [], [], []
    for members in by_attribute(images, 'group').values():
        if len({image.label for image in members}) > 1:
            continue
        tests = [image for image in members if image in in_test]
        if len(tests) == len(members):
            clean_test.append(tests[0])
        if tests:
            other_test.append(tests[0])
        else:
            other_train.append(members[0])
    return {'official': Split(train, test),
            'clean': Split(clean_train, clean_test),
            'clean-train': Split(other_train, other_test)}


BRAIN_TUMOR_MRI = LabelledSource(
    'Brain Tumor MRI', BRAIN_CLASSES, NEAR_THRESHOLD, find_images,
    make_splits, groups_are_copies=True)
