"""Labelled images: what converters find, and the layout that they write.

The layout is that of
:class:`mmmedmask.datasets.labelled_images.LabelledImages`.
"""

import csv
import io
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmmedmask.datasets.conversion import LayoutError
from mmmedmask.datasets.labelled_images import (
    CLASS_FILE,
    OPTIONAL_COLUMNS,
    REQUIRED_COLUMNS,
)


@dataclass(frozen=True)
class LabelledImage:
    """An image of a download, and what becomes of it.

    Attributes:
        source: The file in the download.
        path: Where it goes, relative to the data root, forward slashes.
        label: Its class.
        group: Images that belong together have the same one.
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
class Split:
    """Training and validation images, each sorted by path.

    Attributes:
        train: Training images.
        val: Validation images.
    """

    train: list[LabelledImage] = field(default_factory=list)
    val: list[LabelledImage] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, images in self.parts().items():
            setattr(self, name, sorted(images, key=lambda one: one.path))

    def parts(self) -> dict[str, list[LabelledImage]]:
        """Return both parts by the name of their csv."""
        return {'train': self.train, 'val': self.val}


@dataclass(frozen=True)
class LesionMask:
    """A joined lesion mask.

    Attributes:
        encoded: The PNG file, 0 or 255. Encoded, since thousands of masks
            in pixels would need gigabytes.
        marked: Whether it marks anything.
    """

    encoded: bytes
    marked: bool


@dataclass
class WrittenFiles:
    """How image files came into the data root.

    Attributes:
        linked: Number of hard links made.
        copied: Number of files copied.
        kept: Number of files that were there already.
    """

    linked: int = 0
    copied: int = 0
    kept: int = 0

    def __str__(self) -> str:
        return (f'{self.linked} files linked, {self.copied} copied, '
                f'{self.kept} there already')


def check_out_folder(source: Path, out: Path,
                     classes: Sequence[str]) -> None:
    """See that a data set can be written to a folder.

    Args:
        source: The download.
        out: Where to.
        classes: Classes of the data set.

    Raises:
        LayoutError: If ``out`` is in the download or the download in it, is
            no folder, or holds a data set with other classes.
    """
    inner, outer = source.resolve(), out.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise LayoutError(
            f'{out} must be apart from the download {source}, neither in it '
            'nor around it')
    if out.exists() and not out.is_dir():
        raise LayoutError(f'{out} is not a folder')
    path = out / CLASS_FILE
    if path.is_file() and path.read_text(encoding='utf-8') != class_text(
            classes):
        raise LayoutError(
            f'{out} holds another data set: {CLASS_FILE} names '
            f'{path.read_text(encoding="utf-8").split()}, expected '
            f'{list(classes)}')


def class_text(classes: Sequence[str]) -> str:
    """Return the content of ``classes.txt``."""
    return ''.join(f'{name}\n' for name in classes)


def split_text(images: Sequence[LabelledImage], with_mask: bool) -> str:
    """Return the content of a split's csv.

    Args:
        images: The images of the split.
        with_mask: Whether there is a mask column.

    Returns:
        Lines with LF ends.
    """
    columns = REQUIRED_COLUMNS + (OPTIONAL_COLUMNS if with_mask else ())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(columns)
    for image in images:
        cells = [image.path, image.label, image.group]
        writer.writerow(cells + [image.mask_path] * with_mask)
    return text.getvalue()


def write_data_set(out: Path,
                   classes: Sequence[str],
                   images: Sequence[LabelledImage],
                   splits: Mapping[str, Split],
                   masks: Mapping[str, LesionMask],
                   copy: bool = False) -> WrittenFiles:
    """Write the layout; what is there already and equal stays.

    Args:
        out: The data root, made if need be.
        classes: Classes in the order of their labels.
        images: All images, whether a split has them or not.
        splits: Splits by the name of their folder.
        masks: Joined masks by the path that they go to.
        copy: Copy images even where they could be hard-linked.

    Returns:
        How the image files came there.
    """
    out.mkdir(parents=True, exist_ok=True)
    _write(out / CLASS_FILE, class_text(classes).encode())
    written = WrittenFiles()
    for image in images:
        _place(image.source, out / image.path, copy, written)
    for name, mask in masks.items():
        _write(out / name, mask.encoded)
    for name, split in splits.items():
        for part, members in split.parts().items():
            _write(
                out / 'splits' / name / f'{part}.csv',
                split_text(members, with_mask=bool(masks)).encode())
    return written


def describe_splits(splits: Mapping[str, Split],
                    classes: Sequence[str]) -> list[str]:
    """Say how many images of each class each part has.

    Args:
        splits: Splits by name.
        classes: Classes in the order of their labels.

    Returns:
        One line per part.
    """
    lines = []
    for name, split in splits.items():
        for part, images in split.parts().items():
            counts = Counter(image.label for image in images)
            per_class = ', '.join(
                f'{label} {counts[label]}' for label in classes)
            lines.append(
                f'{name}/{part}: {len(images)} images ({per_class})')
    return lines


def _place(source: Path, target: Path, copy: bool,
           written: WrittenFiles) -> None:
    """Link or copy a file, unless an equal one is there."""
    linked = target.exists() and target.samefile(source)
    if target.exists() and not (copy and linked) and (
            linked or _same_bytes(source, target)):
        written.kept += 1
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # Never written through: the old file may be a link to a download.
    target.unlink(missing_ok=True)
    if not copy:
        try:
            # Resolved, for a link to a symbolic link would be one itself.
            os.link(source.resolve(), target)
        except OSError:
            # Another file system, or one without hard links.
            pass
        else:
            written.linked += 1
            return
    shutil.copyfile(source, target)
    written.copied += 1


def _same_bytes(first: Path, second: Path) -> bool:
    return (first.stat().st_size == second.stat().st_size
            and first.read_bytes() == second.read_bytes())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
