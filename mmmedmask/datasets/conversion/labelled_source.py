"""Convert a download of labelled images: find, read, compare, split, write.

What differs between data sets is in a :class:`LabelledSource`; the steps are
the same for all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mmmedmask.datasets.conversion.check_report import (
    CheckReport,
    ConversionError,
)
from mmmedmask.datasets.conversion.copies import Copies, find_copies
from mmmedmask.datasets.conversion.duplicates import (
    ImageRecord,
    local_fingerprint,
    make_record,
)
from mmmedmask.datasets.conversion.labelled import (
    LabelledImage,
    LesionMask,
    Split,
    WrittenFiles,
    check_out_folder,
    write_data_set,
)
from mmmedmask.datasets.conversion.mask_joining import join_masks
from mmmedmask.datasets.image_io import ImageFileError, read_image


@dataclass
class FoundImages:
    """What a download holds.

    Attributes:
        images: The images with their labels, sorted by path.
        notices: What should be known about the download, a sentence each.
    """

    images: list[LabelledImage]
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LabelledSource:
    """A data set of labelled images.

    Attributes:
        name: Its name.
        classes: Classes in the order of their labels.
        near_threshold: Correlation from which on two of its images are near
            copies.
        find: Finds the images of a download.
        make_splits: Makes the splits, by name, from the images, the copies
            among them and a seed.
        regroup: Gives the images other groups, with the copies known; None
            if the download names the groups.
        group_noun: What a group is, in reports.
        fingerprint_of: Makes the fingerprint that images are compared by.
        lesion_free: Classes whose lesion masks have to be empty.
    """

    name: str
    classes: tuple[str, ...]
    near_threshold: float
    find: Callable[[Path], FoundImages]
    make_splits: Callable[[Sequence[LabelledImage], Copies, int],
                          dict[str, Split]]
    regroup: Callable[[Sequence[LabelledImage], Copies],
                      list[LabelledImage]] | None = None
    group_noun: str = 'group'
    fingerprint_of: Callable[[np.ndarray],
                             np.ndarray | None] = local_fingerprint
    lesion_free: tuple[str, ...] = ()


@dataclass
class ReadImages:
    """What reading all images told.

    Attributes:
        records: To compare them, by the order of the images.
        shapes: (h, w, channels) and type of each.
        masks: Joined lesion masks by the path that they go to.
    """

    records: list[ImageRecord] = field(default_factory=list)
    shapes: list[tuple[tuple[int, int, int], str]] = field(
        default_factory=list)
    masks: dict[str, LesionMask] = field(default_factory=dict)


@dataclass
class Conversion:
    """A download, read and split, but not yet written.

    Attributes:
        source: The data set.
        images: All images, with their final groups.
        notices: What should be known about the download.
        read: What reading all images told.
        copies: The copies among them.
        splits: Splits by name.
    """

    source: LabelledSource
    images: list[LabelledImage]
    notices: list[str]
    read: ReadImages
    copies: Copies
    splits: dict[str, Split]

    def write(self, out: Path, copy: bool = False) -> WrittenFiles:
        """Write the layout; see :func:`write_data_set`.

        Args:
            out: The data root, made if need be.
            copy: Copy images even where they could be hard-linked.

        Returns:
            How the image files came there.
        """
        return write_data_set(
            out, self.source.classes, self.images, self.splits,
            self.read.masks, copy)


def prepare(source: LabelledSource,
            download: Path,
            out: Path,
            seed: int = 0,
            threshold: float | None = None) -> Conversion:
    """Find the images of a download, read and compare them, and split them.

    Args:
        source: The data set.
        download: The unpacked download.
        out: Where it will be written to; only looked at.
        seed: Of the drawn splits.
        threshold: Correlation of near copies; None takes the data set's.

    Returns:
        The conversion, ready to be written.

    Raises:
        LayoutError: If the download is not as released, or ``out`` cannot
            be used.
        ConversionError: If images or masks are broken or do not fit
            together; names them all.
        ValueError: If the threshold is out of range.
    """
    check_out_folder(download, out, source.classes)
    found = source.find(download)
    read = read_all(found.images, source.fingerprint_of)
    copies = find_copies(
        read.records,
        source.near_threshold if threshold is None else threshold)
    images = found.images
    if source.regroup:
        images = source.regroup(images, copies)
    splits = source.make_splits(images, copies, seed)
    return Conversion(source, images, found.notices, read, copies, splits)


def read_all(
    images: Sequence[LabelledImage],
    fingerprint_of: Callable[[np.ndarray], np.ndarray | None]
) -> ReadImages:
    """Read all images and masks.

    Args:
        images: The images.
        fingerprint_of: Makes the fingerprint of an image.

    Returns:
        What they are like; the records are named as the paths of images.

    Raises:
        ConversionError: If some are broken or do not fit together.
    """
    report, read = CheckReport(), ReadImages()
    for image in images:
        try:
            pixels = read_image(image.source)
        except ImageFileError as error:
            report.add_problem(
                'broken_file', str(image.source), detail=str(error))
            continue
        if pixels.dtype not in (np.uint8, np.uint16):
            report.add_problem(
                'wrong_shape', str(image.source),
                detail=f'{pixels.dtype}, expected uint8 or uint16')
            continue
        read.records.append(make_record(
            image.path, '', image.source.read_bytes(), pixels,
            fingerprint_of))
        read.shapes.append((pixels.shape, str(pixels.dtype)))
        if image.mask_path:
            mask = join_masks(image, pixels.shape[:2], report)
            if mask is not None:
                read.masks[image.mask_path] = mask
    if report.problems:
        raise ConversionError(report)
    return read


def group_by_copies(images: Sequence[LabelledImage],
                    copies: Copies) -> list[LabelledImage]:
    """Make the copies of an image a group.

    Args:
        images: The images.
        copies: Which are copies.

    Returns:
        The images; a group is called as the path of its first image.
    """
    first = copies.first_of()
    return [replace(image, group=first.get(image.path, image.path))
            for image in images]
