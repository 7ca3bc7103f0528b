"""Splits of labelled images: drawn by image, or with groups kept whole.

MSMAE's published counts (arXiv 2305.05871) are met by one rule, which it does
not state: three tenths of each class, rounded down, go to ``val``.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

VAL_TENTHS = 3


@dataclass(frozen=True)
class LabelledImage:
    """An image of a download, and what becomes of it.

    Attributes:
        path: Where it goes, relative to the data root, forward slashes.
        group: Images that belong together have the same one; the path
            where a download does not tell.
        masks: Lesion masks in the download; several are joined by OR.
        mask_path: Where the joined mask goes; empty if there is none.
    """

    source: Path
    path: str
    label: str
    group: str
    masks: tuple[Path, ...] = ()
    mask_path: str = ''


@dataclass
class FoundImages:
    """Images of a download, sorted by path, and what to know about them."""

    images: list[LabelledImage]
    notices: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.images = sort_images(self.images)


@dataclass
class Split:
    """Training and validation images, each sorted by path."""

    train: list[LabelledImage] = field(default_factory=list)
    val: list[LabelledImage] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.train, self.val = sort_images(self.train), sort_images(self.val)

    def parts(self) -> dict[str, list[LabelledImage]]:
        """Return both parts by the name of their csv."""
        return {'train': self.train, 'val': self.val}


def sort_images(images: Sequence[LabelledImage]) -> list[LabelledImage]:
    """Sort images by path."""
    return sorted(images, key=lambda image: image.path)


def by_attribute(images: Sequence[LabelledImage],
                 name: str) -> dict[Hashable, list[LabelledImage]]:
    """Return the images of each ``'label'`` or ``'group'``, all sorted."""
    collected = defaultdict(list)
    for image in sort_images(images):
        collected[getattr(image, name)].append(image)
    return dict(sorted(collected.items()))


def val_targets(images: Sequence[LabelledImage]) -> dict[str, int]:
    """Return how many images of each class go to ``val``: three tenths."""
    return {label: len(members) * VAL_TENTHS // 10
            for label, members in by_attribute(images, 'label').items()}


def names_groups(images: Sequence[LabelledImage]) -> bool:
    """Whether a download tells the groups, be it one for each image."""
    return any(image.group != image.path for image in images)


def draw_by_image(images: Sequence[LabelledImage], seed: int) -> Split:
    """Draw a split by image, of exactly :func:`val_targets`."""
    rng = np.random.default_rng(seed)
    targets = val_targets(images)
    train, val = [], []
    for label, members in by_attribute(images, 'label').items():
        order = rng.permutation(len(members))
        val += [members[index] for index in order[:targets[label]]]
        train += [members[index] for index in order[targets[label]:]]
    return Split(train, val)


def draw_by_group(images: Sequence[LabelledImage], seed: int) -> Split:
    """Draw a split in which every group is on one side.

    Groups are gone through in random order; one goes to ``val`` if this
    brings the number of images per class nearer to :func:`val_targets`. So
    classes are as near to three tenths as the groups permit.
    """
    rng = np.random.default_rng(seed)
    groups = list(by_attribute(images, 'group').values())
    lacking = Counter(val_targets(images))
    train, val = [], []
    for index in rng.permutation(len(groups)):
        counts = Counter(image.label for image in groups[index])
        gain = sum(abs(lacking[label]) - abs(lacking[label] - number)
                   for label, number in counts.items())
        if gain > 0:
            lacking.subtract(counts)
            val += groups[index]
        else:
            train += groups[index]
    return Split(train, val)


def draw_paper_and(grouped: str) -> Callable[..., dict[str, Split]]:
    """Make ``make_splits`` that draws ``paper`` by image, one by group."""

    def make_splits(images: Sequence[LabelledImage], copies: object,
                    seed: int) -> dict[str, Split]:
        return {'paper': draw_by_image(images, seed),
                grouped: draw_by_group(images, seed)}

    return make_splits


def describe_splits(splits: Mapping[str, Split],
                    classes: Sequence[str]) -> list[str]:
    """Say how many images of each class each part has, a line each."""
    return [f'{name}/{part}: {count_labels(images, classes)}'
            for name, split in splits.items()
            for part, images in split.parts().items()]


def count_labels(images: Sequence[LabelledImage],
                 classes: Sequence[str]) -> str:
    """Say how many images there are, and how many of each class."""
    counts = Counter(image.label for image in images)
    return f'{len(images)} images (' + ', '.join(
        f'{label} {counts[label]}' for label in classes) + ')'
