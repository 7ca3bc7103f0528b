"""Unlabelled image tiles from plain folders."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.logging import print_log

from mmmedmask.datasets import radiology
from mmmedmask.datasets.image_files import ImageFileDataset, check_held_out
from mmmedmask.datasets.image_io import IMAGE_EXTENSIONS
from mmmedmask.functional.randomness import stream_seed
from mmmedmask.registry import DATASETS
from mmmedmask.util.checks import check_choice
from mmmedmask.util.file_walk import real_paths, walk_files
from mmmedmask.util.table_files import read_list_file


@DATASETS.register_module()
class TileFolder(ImageFileDataset):
    """All images below one or several folders, without labels.

    The order is that of the roots, and within a root that of the relative
    paths; it does not depend on the file system. Linked folders are
    followed. Files and folders whose name starts with a dot, and files with
    other extensions, are not tiles; how many there were is logged. Every
    frame of a DICOM (``.dcm``) and every slice of a NIfTI volume is a tile.
    With ``on_error='skip'`` one whose header cannot be read is in the list as
    a file, and is skipped as any other.

    Args:
        data_root: A folder, or a list of folders.
        ann_file: Optional text file with one path per line, relative to the
            only ``data_root``; then these files are used, in this order. It
            is looked up as given, then below ``data_root``.
        axis: Slices of NIfTI: ``'axial'``, ``'coronal'`` or ``'sagittal'``.
        held_out_share: Share of the files that are left out, about, in
            [0, 1). Their names below the root alone decide: each run leaves
            out the same ones, and a file stays where it is when others come.
        held_out: Take those that are left out, in place of the others.
        base: Arguments of :class:`ImageFileDataset`, such as ``pipeline``
            and ``on_error``.

    Raises:
        ValueError: If there is no root, a root is given twice or lies in
            another, or two share a file by a link, or one root has a
            file twice and a share is held out, or ``ann_file`` comes with
            several roots; or the header of a DICOM or NIfTI file cannot be
            read, unless it is skipped.
        FileNotFoundError: If a root or ``ann_file`` does not exist, or a
            root holds no image.
        OSError: If a folder below a root cannot be read.
    """

    def __init__(self, data_root: str | Sequence[str], ann_file: str = '',
                 axis: str = 'axial', held_out_share: float = 0.0,
                 held_out: bool = False, **base: object) -> None:
        self.axis = check_choice('axis', axis, radiology.AXES)
        check_held_out(held_out_share, held_out)
        self.held_out_share, self.held_out = held_out_share, held_out
        roots = [data_root] if isinstance(
            data_root, (str, os.PathLike)) else list(data_root)
        if not roots or not all(str(root) for root in roots):
            raise ValueError('data_root must name at least one folder, got '
                             f'{data_root!r}')
        places: dict[Path, list] = {}
        for root in roots:
            places.setdefault(Path(root).resolve(), []).append(root)
        for place, (inner, *around) in places.items():
            for parent in place.parents:
                around += places.get(parent, ())
            if around:
                raise ValueError(
                    f'data_root names {inner}, which is or lies in '
                    f'{around[0]}: its tiles would count twice')
        if ann_file and len(roots) > 1:
            raise ValueError(f'ann_file {ann_file!r} needs a single '
                             f'data_root, got {len(roots)}: {roots}')
        self.roots = [Path(root) for root in roots]
        super().__init__(ann_file=ann_file, **base)

    def load_data_list(self) -> list[dict]:
        for root in self.roots:
            if not root.is_dir():
                raise FileNotFoundError(f'The tile folder {root} does not '
                                        'exist or is not a folder')
        if self.ann_file:
            (root, ) = self.roots
            names = read_list_file(find_list_file(self.ann_file, root))
            paths = {root: [root / name for name in names]}
        else:
            paths = {root: list_images(
                root, self.axis, self.on_error == 'skip')
                for root in self.roots}
            _check_apart(paths, bool(self.held_out_share))
        taken = [{'img_path': str(path)} for root, images in paths.items()
                 for path in images if self._takes(path, root)]
        if not taken and self.held_out_share:
            raise FileNotFoundError(
                f'held_out_share={self.held_out_share} of the images of '
                f'{", ".join(map(str, self.roots))} is none or all of them')
        return taken

    def _takes(self, path: Path | str, root: Path) -> bool:
        if not self.held_out_share:
            return True
        # All pictures of a scan are on one side.
        name = os.path.relpath(radiology.split_part(path)[0], root)
        number = stream_seed(0, Path(name).as_posix())
        return (number < self.held_out_share * 2**63) == self.held_out


def _check_apart(paths: Mapping[Path, Sequence[Path | str]],
                 strict: bool) -> None:
    """Refuse tiles that are in two roots by a link to a folder or a file.

    In one root links to one file are told, and refused if ``strict``: they
    could lie on two sides.
    """
    first: dict[str, tuple[str, Path]] = {}
    twice = []
    for root, images in paths.items():
        # Of a scan all pictures are of one file.
        files = list(dict.fromkeys(
            str(radiology.split_part(path)[0]) if '#' in str(path)
            else str(path) for path in images))
        for file, real in zip(files, real_paths(files), strict=True):
            other, place = first.setdefault(real, (file, root))
            if other == file:
                continue
            if strict or place != root:
                raise ValueError(
                    f'{file} and {other} are {real}, which would count '
                    'twice: take out a link or a root')
            twice.append(file)
    if twice:
        print_log(f'{len(twice)} tiles in {root} are links to others, and '
                  f'count twice, such as {twice[0]}', 'current', 30)


def list_images(root: Path, axis: str = 'axial',
                keep_broken: bool = False) -> list[Path | str]:
    """List the images below a folder, by path parts; log what else is there.

    Every frame of a DICOM and every slice of a NIfTI volume along ``axis`` is
    an image, with ``keep_broken`` also a file of these whose header cannot be
    read. A folder without an image is a FileNotFoundError.
    """
    images, others = [], Counter()
    for path in walk_files(root):
        if radiology.is_scan(path):
            try:
                images += radiology.pictures_of(path, axis)
            except ValueError:
                if not keep_broken:
                    raise
                # What is wrong with it is said where it is read.
                images.append(path)
        elif path.suffix.lower() in IMAGE_EXTENSIONS:
            images.append(path)
        else:
            others[path.suffix.lower() or 'no extension'] += 1
    if not images:
        raise FileNotFoundError(
            f'The folder {root} holds no image with one of the extensions '
            f'{IMAGE_EXTENSIONS + radiology.SCAN_EXTENSIONS}; other files: '
            f'{dict(others) or "none"}')
    print_log(f'{root}: {len(images)} images, {sum(others.values())} other '
              f'files {dict(others) or ""}'.rstrip(), logger='current')
    return images


def find_list_file(name: str, data_root: Path) -> Path:
    """Find a list file as given, or below ``data_root``."""
    candidates = [Path(name), data_root / name]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    places = ' or '.join(map(str, dict.fromkeys(candidates)))
    raise FileNotFoundError(f'List file not found: {places}')
