"""BUSI: breast ultrasound with masks; one split for both its tasks.

780 images in three classes (Al-Dhabyani et al., Data in Brief 2020,
doi:10.1016/j.dib.2019.104863). Several masks of one image are joined.
"""

import re
from collections import Counter, defaultdict
from pathlib import Path

from mmmedmask.datasets.conversion import folders
from mmmedmask.datasets.conversion.copies import NEAR_THRESHOLD, fingerprint
from mmmedmask.datasets.conversion.label_splits import (
    FoundImages,
    LabelledImage,
    draw_paper_and,
)
from mmmedmask.datasets.conversion.labelled_conversion import LabelledSource

OFFICIAL_COUNTS = {'benign': 437, 'malignant': 210, 'normal': 133}
"""Images per class, 780 together."""

_MASK = re.compile(r'(.+)_mask(_\d+)?')


def find_images(download: Path) -> FoundImages:
    """Find the images of a download; groups are paths until copies are known.

    ``download`` holds the folders of the classes, two levels down at most.
    """
    classes = tuple(OFFICIAL_COUNTS)
    root = folders.only_folder(download, [f'{name}/' for name in classes],
                       'benign, malignant and normal')
    images, ignored = [], Counter()
    for folder in folders.class_folders(root, classes):
        files, others = folders.image_files(folder, ('.png', ))
        ignored += others
        pictures, masks = {}, defaultdict(list)
        for path in files:
            match = _MASK.fullmatch(path.stem)
            if match:
                masks[match[1]].append(path)
            else:
                pictures[path.stem] = path
        folders.check_same_names(pictures, masks, folder)
        for stem, source in pictures.items():
            path = f'images/{folder.name}/{source.name}'
            images.append(LabelledImage(
                source, path, folder.name, path, tuple(masks[stem]),
                f'masks/{folder.name}/{stem}.png'))
    counts = Counter(image.label for image in images)
    notices = folders.check_parts('BUSI', root, counts, OFFICIAL_COUNTS,
                          "PNG such as 'benign/benign (1).png' with "
                          "'benign/benign (1)_mask.png'", ignored)
    joined = sum(len(image.masks) > 1 for image in images)
    if joined:
        notices.append(
            f'{joined} images have several masks, which are joined.')
    return FoundImages(images, notices)


BUSI = LabelledSource(
    'BUSI', tuple(OFFICIAL_COUNTS), NEAR_THRESHOLD, find_images,
    draw_paper_and('grouped'), groups_are_copies=True,
    fingerprint_of=fingerprint, lesion_free=('normal', ))
"""Compared as tissue is: of its copies many are cut or written on, and local
fingerprints lose those. In 80 images, different ones reached 0.52, and the
two pairs above 0.6 show one lesion each."""
