"""Convert a download of labelled images: find, read, compare, split, write.

What differs between data sets is in a :class:`LabelledSource`. The layout is
that of :class:`mmmedmask.datasets.labelled_images.LabelledImages`.
"""

import filecmp
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mmmedmask.datasets.conversion import Conversion, LayoutError
from mmmedmask.datasets.conversion.check_report import (
    CheckReport,
    ConversionError,
)
from mmmedmask.datasets.conversion.copies import (
    Copies,
    Fingerprint,
    ImageRecord,
    connected,
    find_copies,
    local_fingerprint,
    make_record,
)
from mmmedmask.datasets.conversion.label_splits import (
    FoundImages,
    LabelledImage,
    Split,
    describe_splits,
    names_groups,
)
from mmmedmask.datasets.conversion.labelled_check import LabelledCheck
from mmmedmask.datasets.labelled_images import (
    CLASS_FILE,
    OPTIONAL_COLUMNS,
    REQUIRED_COLUMNS,
    check_groups,
)
from mmmedmask.datasets.lesion_masks import mask_to_binary
from mmmedmask.datasets.radiology import is_scan
from mmmedmask.util.atomic_files import (
    atomic_path,
    write_bytes,
    write_csv,
    write_text,
)
from mmmedmask.util.file_walk import match_paths, walk_files
from mmmedmask.util.nearest import shown
from mmmedmask.util.table_files import check_spelling


class LesionMask(NamedTuple):
    """A joined mask as PNG (pixels take gigabytes); if it marks anything."""

    encoded: bytes
    marked: bool


@dataclass(frozen=True)
class LabelledSource:
    """What differs between data sets of labelled images.

    Attributes:
        classes: Classes in the order of their labels.
        near_threshold: Least correlation of near copies.
        make_splits: Makes the splits, by name, from the images, the copies
            among them and a seed.
        groups_are_copies: Whether copies make the groups of images; False
            if the download names the groups, of which those that share a
            picture are joined.
        group_noun: What a group is, in reports.
        lesion_free: Classes whose lesion masks have to be empty.
    """

    name: str
    classes: tuple[str, ...]
    near_threshold: float
    find: Callable[[Path], FoundImages]
    make_splits: Callable[[Sequence[LabelledImage], Copies, int],
                          dict[str, Split]]
    groups_are_copies: bool = False
    group_noun: str = 'group of copies'
    fingerprint_of: Fingerprint = local_fingerprint
    lesion_free: tuple[str, ...] = ()


@dataclass
class LabelledConversion(Conversion):
    """A download, read and split, but not yet written.

    Attributes:
        images: All images, with their final groups.
        shapes: (h, w, channels) and type of each image.
        masks: Joined lesion masks by the path that they go to.
        copy: Whether to copy images even where they could be hard-linked.
    """

    source: LabelledSource
    images: list[LabelledImage]
    notices: list[str]
    copies: Copies
    splits: dict[str, Split]
    shapes: list[tuple[tuple[int, int, int], str]]
    masks: dict[str, LesionMask]
    copy: bool = False

    def write(self, out: Path) -> list[str]:
        """Write the layout, see :meth:`write_files`."""
        written = self.write_files(out)
        return [f'{out}: {written["linked"]} files linked, '
                f'{written["copied"]} copied, {written["kept"]} there already',
                *describe_splits(self.splits, self.source.classes)]

    def leftovers(self, out: Path) -> list[str]:
        files = {path.relative_to(out).as_posix()
                 for folder in ('images', 'masks') if (out / folder).is_dir()
                 for path in walk_files(out / folder)}
        files -= {image.path for image in self.images}
        files = sorted(files.difference(self.masks))
        return [f'{out / name} is not of this conversion'
                for name in self.other_splits(out)] + [
            f'{len(files)} files in {out} are not of this conversion: '
            f'{shown(files)}'] * bool(files)

    def other_splits(self, out: Path) -> list[str]:
        """Name the splits in a folder that are not of this conversion."""
        return [f'splits/{path.name}' for path in match_paths(out, 'splits/*')
                if path.name not in self.splits]

    def write_files(self, out: Path) -> Counter:
        """Write the layout; what is there already and equal stays.

        Returns how many images were ``linked``, ``copied`` and ``kept``.
        """
        write_text(out / CLASS_FILE, _class_text(self.source.classes))
        written = Counter(_place(image.source, out / image.path, self.copy)
                          for image in self.images)
        for name, mask in self.masks.items():
            write_bytes(out / name, mask.encoded, durable=False)
        columns = REQUIRED_COLUMNS + OPTIONAL_COLUMNS * bool(self.masks)
        for name, split in self.splits.items():
            for part, images in split.parts().items():
                write_csv(out / 'splits' / name / f'{part}.csv', columns, [
                    (image.path, image.label, image.group,
                     image.mask_path)[:len(columns)] for image in images])
        return written

    def check(self, out: Path) -> CheckReport:
        return LabelledCheck(self).run(out)


def prepare(source: LabelledSource, download: Path, out: Path, seed: int = 0,
            threshold: float | None = None,
            copy: bool = False) -> LabelledConversion:
    """Find the images of a download, read and compare them, and split them.

    Args:
        out: Where it will be written to; only looked at.
        seed: Of the drawn splits.
        threshold: Correlation of near copies; None takes the data set's.
        copy: Whether to copy images that could be hard-linked.

    Raises:
        LayoutError: If the download is not as released, ``out`` cannot be
            used, or a part of a split would be empty.
        ValueError: If classes or groups differ by upper and lower case,
            blanks or kinds of hyphens alone.
        ConversionError: If images or masks are broken or do not fit
            together; names them all.
    """
    _check_out_folder(download, out, source.classes)
    content = source.find(download)
    images, notices = content.images, content.notices
    check_spelling(download, 'class', source.classes)
    check_groups(download, [image.group for image in images])
    records, shapes, masks = read_all(images, source.fingerprint_of)
    copies = find_copies(records, source.near_threshold if threshold is None
                         else threshold)
    if source.groups_are_copies or names_groups(images):
        images, joined = join_groups(images, copies)
        if joined and not source.groups_are_copies:
            notices.append(
                f'{source.group_noun}s that share a picture are joined: '
                + '; '.join(', '.join(names) for names in joined))
    splits = source.make_splits(images, copies, seed)
    for name, split in splits.items():
        for part, members in split.parts().items():
            if not members:
                groups = Counter(image.group for image in images)
                raise LayoutError(
                    f'{download} has no image for {part} of splits/{name}: '
                    f'it has {len(images)}, in {len(groups)} groups, the '
                    f'largest of {max(groups.values())}. Near copies join '
                    'groups, and a larger --near-threshold joins fewer')
    return LabelledConversion(
        source, images, notices, copies, splits, shapes, masks, copy)


def _check_out_folder(download: Path, out: Path,
                      classes: Sequence[str]) -> None:
    """See that a data set can be written to a folder."""
    inner, outer = download.resolve(), out.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise LayoutError(f'{out} must be apart from the download {download}, '
                          'neither in it nor around it')
    if out.exists() and not out.is_dir():
        raise LayoutError(f'{out} is not a folder')
    path = out / CLASS_FILE
    if path.is_file() and (text := path.read_text('utf-8')) != _class_text(
            classes):
        raise LayoutError(f'{out} holds another data set: {CLASS_FILE} names '
                          f'{text.split()}, expected {list(classes)}')


def read_all(
    images: Sequence[LabelledImage], fingerprint_of: Fingerprint
) -> tuple[list[ImageRecord], list[tuple], dict[str, LesionMask]]:
    """Read all images: their records, shapes and types, and joined masks."""
    report, records, shapes, masks = CheckReport(), [], [], {}
    for image in images:
        pixels = report.read_image(image.source)
        if pixels is None:
            continue
        if pixels.dtype not in (np.uint8, np.uint16) and not is_scan(
                image.source):
            report.add_problem(
                'wrong_shape', str(image.source),
                detail=f'{pixels.dtype}, expected uint8 or uint16')
            continue
        records.append(make_record(image.path, '', image.source.read_bytes(),
                                   pixels, fingerprint_of))
        shapes.append((pixels.shape, str(pixels.dtype)))
        if image.mask_path:
            mask = join_masks(image, pixels.shape[:2], report)
            if mask is not None:
                masks[image.mask_path] = mask
    if report.problems:
        raise ConversionError(report)
    return records, shapes, masks


def join_masks(image: LabelledImage, size: tuple[int, int],
               report: CheckReport) -> LesionMask | None:
    """Join masks of an image (h, w) by OR; None, reported, if one is bad."""
    joined, problems = np.zeros(size, np.uint8), len(report.problems)
    for path in image.masks:
        pixels = report.read_image(path)
        if pixels is None:
            continue
        try:
            mask = mask_to_binary(pixels)
        except ValueError as error:
            report.add_problem('bad_lesion_mask', str(path), detail=str(error))
            continue
        if mask.shape != tuple(size):
            report.add_problem(
                'size_mismatch', str(image.source), str(path),
                detail=f'image {tuple(size)}, mask {mask.shape}, (h, w)')
            continue
        joined[mask] = 255
    if len(report.problems) > problems:
        return None
    return LesionMask(
        cv2.imencode('.png', joined)[1].tobytes(), bool(joined.any()))


def join_groups(
    images: Sequence[LabelledImage], copies: Copies
) -> tuple[list[LabelledImage], list[tuple[str, ...]]]:
    """Make one group, called as the first, of all that share a picture.

    A chain of copies joins its groups. Also returns which were joined.
    """
    group_of = {image.path: image.group for image in images}
    joined = [names for names in connected(
        [group_of[path] for path in paths] for paths in copies.groups)
        if len(names) > 1]
    first = {name: names[0] for names in joined for name in names}
    return [replace(image, group=first.get(image.group, image.group))
            for image in images], joined


def _class_text(classes: Sequence[str]) -> str:
    """Return the content of ``classes.txt``."""
    return ''.join(f'{name}\n' for name in classes)


def _place(source: Path, target: Path, copy: bool) -> str:
    """Link or copy a file, unless an equal one is there; say which."""
    linked = target.exists() and target.samefile(source)
    if target.exists() and not (copy and linked) and (
            linked or filecmp.cmp(source, target, shallow=False)):
        return 'kept'
    target.parent.mkdir(parents=True, exist_ok=True)
    # Never written through: the old file may be a link to a download.
    target.unlink(missing_ok=True)
    if not copy:
        # Another file system, or one without hard links, raises.
        with suppress(OSError):
            # Resolved, for a link to a symbolic link would be one itself.
            os.link(source.resolve(), target)
            return 'linked'
    with atomic_path(target, durable=False) as temporary:
        shutil.copyfile(source, temporary)
    return 'copied'
