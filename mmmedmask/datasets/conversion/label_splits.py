"""Draw splits of labelled images: by image, or with groups kept whole.

The published counts of MSMAE (arXiv 2305.05871) for Messidor-2 (522 of 1,744
in the validation set, 305 of grade 0), HAM10000 (3,001 of 10,015) and BUSI
(233 of 780) are all met by one rule: of each class, three tenths rounded down
go to ``val``. The paper does not state it; it is what the counts say.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from mmmedmask.datasets.conversion.labelled import LabelledImage, Split

VAL_TENTHS = 3


def val_targets(images: Sequence[LabelledImage]) -> dict[str, int]:
    """Return how many images of each class go to ``val``.

    Args:
        images: All images.

    Returns:
        Three tenths of each class, rounded down, by class.
    """
    counts = Counter(image.label for image in images)
    return {label: counts[label] * VAL_TENTHS // 10
            for label in sorted(counts)}


def draw_by_image(images: Sequence[LabelledImage], seed: int) -> Split:
    """Draw a split by image, as the paper's.

    Args:
        images: All images.
        seed: The same seed and images give the same split.

    Returns:
        The split, of exactly :func:`val_targets`. Both parts are sorted.
    """
    rng = np.random.default_rng(seed)
    by_label = defaultdict(list)
    for image in sorted(images, key=lambda image: image.path):
        by_label[image.label].append(image)
    train, val = [], []
    for label, number in val_targets(images).items():
        order = rng.permutation(len(by_label[label]))
        val += [by_label[label][index] for index in order[:number]]
        train += [by_label[label][index] for index in order[number:]]
    return Split(train, val)


def draw_by_group(images: Sequence[LabelledImage], seed: int) -> Split:
    """Draw a split in which every group is on one side.

    Groups are gone through in random order; one goes to ``val`` if this
    brings the number of images per class nearer to :func:`val_targets`. So
    classes are as near to three tenths as the groups permit.

    Args:
        images: All images.
        seed: The same seed and images give the same split.

    Returns:
        The split. Both parts are sorted.
    """
    rng = np.random.default_rng(seed)
    groups = defaultdict(list)
    for image in sorted(images, key=lambda image: image.path):
        groups[image.group].append(image)
    names = sorted(groups)
    lacking = Counter(val_targets(images))
    train, val = [], []
    for index in rng.permutation(len(names)):
        members = groups[names[index]]
        counts = Counter(image.label for image in members)
        gain = sum(
            abs(lacking[label]) - abs(lacking[label] - number)
            for label, number in counts.items())
        if gain > 0:
            lacking.subtract(counts)
            val += members
        else:
            train += members
    return Split(train, val)
