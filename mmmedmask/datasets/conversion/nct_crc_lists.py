"""NCT-CRC-HE-100K-NONORM: list files of the splits, and a check of tiles.

The lists that CMIM and ConCL use come with ConCL's code. Where they are not
at hand, a split of the same kind is drawn: 8:2, at random by tile.
"""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np

from mmmedmask.datasets.conversion import LayoutError
from mmmedmask.datasets.conversion.check_report import CheckReport
from mmmedmask.datasets.conversion.duplicates import (
    NEAR_THRESHOLD,
    ImageRecord,
    add_duplicates,
    make_record,
)
from mmmedmask.datasets.image_io import ImageFileError, read_image
from mmmedmask.datasets.nct_crc import (
    NCT_CLASSES,
    NCT_SPLIT_SIZES,
    parse_list_line,
)
from mmmedmask.datasets.tiles import read_list_file

TILE_SHAPE = (224, 224, 3)
NCT_CLASS_TOTALS = {
    'BACK': 10566, 'ADI': 10407, 'DEB': 11512, 'LYM': 11557, 'MUC': 8896,
    'MUS': 13536, 'NORM': 8763, 'STR': 10446, 'TUM': 14317
}
"""Tiles per class in the official download, 100,000 together."""

LIST_NAMES = tuple(
    f'{split}{suffix}.txt'
    for split in NCT_SPLIT_SIZES for suffix in ('', '_labeled'))


def list_tiles(image_folder: Path) -> list[str]:
    """List the tiles on disk.

    Args:
        image_folder: The folder with one folder per class.

    Returns:
        Sorted names ``CLASS/NAME.tif``.

    Raises:
        LayoutError: If the folder or a class is missing, or it holds a
            folder that is no class.
    """
    if not image_folder.is_dir():
        raise LayoutError(f'{image_folder} does not exist or is no folder')
    present = {path.name for path in image_folder.iterdir()
               if path.is_dir() and not path.name.startswith('.')}
    missing, unknown = (
        sorted(set(NCT_CLASSES) - present), sorted(present - set(NCT_CLASSES)))
    if missing or unknown:
        raise LayoutError(
            f'{image_folder} must hold one folder for each of '
            f'{sorted(NCT_CLASSES)}; missing: {missing or "none"}, '
            f'unknown: {unknown or "none"}')
    return sorted(
        f'{name}/{path.name}' for name in NCT_CLASSES
        for path in (image_folder / name).iterdir()
        if path.suffix.lower() == '.tif' and not path.name.startswith('.'))


def compare_with_official(names: list[str]) -> str:
    """Say whether all tiles of the download are there.

    Args:
        names: From :func:`list_tiles`.

    Returns:
        A sentence; empty if all classes have their official number.
    """
    counts = Counter(name.split('/')[0] for name in names)
    parts = [f'{name} {counts[name]} of {total}'
             for name, total in NCT_CLASS_TOTALS.items()
             if counts[name] != total]
    if not parts:
        return ''
    return ('This is not the complete NCT-CRC-HE-100K-NONORM: '
            f'{", ".join(parts)} tiles.')


def copy_lists(source: Path, meta: Path) -> None:
    """Copy ConCL's list files.

    Args:
        source: Folder with the four list files.
        meta: Where to; made if need be.

    Raises:
        LayoutError: If one is missing, or both are the same folder.
    """
    if source.resolve() == meta.resolve():
        raise LayoutError(
            f'{source} is where the list files go; nothing to copy')
    missing = [name for name in LIST_NAMES if not (source / name).is_file()]
    if missing:
        raise LayoutError(f'{source} lacks the list files {missing}')
    meta.mkdir(parents=True, exist_ok=True)
    for name in LIST_NAMES:
        shutil.copyfile(source / name, meta / name)


def draw_lists(names: list[str], meta: Path, val_fraction: float,
               seed: int) -> None:
    """Draw a random split and write its four list files.

    Args:
        names: From :func:`list_tiles`.
        meta: Where to; made if need be.
        val_fraction: Part of the tiles that goes to ``val``, in (0, 1).
        seed: The same seed and tiles give the same split.

    Raises:
        ValueError: If the fraction is out of range, or leaves a split
            empty.
    """
    if not 0 < val_fraction < 1:
        raise ValueError(
            f'val_fraction must be in (0, 1), got {val_fraction}')
    number = round(len(names) * val_fraction)
    if not 0 < number < len(names):
        raise ValueError(
            f'val_fraction {val_fraction} of {len(names)} tiles leaves a '
            'split empty')
    order = np.random.default_rng(seed).permutation(len(names))
    meta.mkdir(parents=True, exist_ok=True)
    for split, chosen in (('val', order[:number]), ('train', order[number:])):
        tiles = [names[index] for index in sorted(chosen)]
        labels = [NCT_CLASSES.index(tile.split('/')[0]) for tile in tiles]
        (meta / f'{split}.txt').write_text(
            ''.join(f'{tile}\n' for tile in tiles))
        (meta / f'{split}_labeled.txt').write_text(''.join(
            f'{tile} {label}\n'
            for tile, label in zip(tiles, labels, strict=True)))


def read_lists(meta: Path) -> dict[str, list[str]]:
    """Read the lists and see that the labelled ones say the same.

    Args:
        meta: Folder with the four list files.

    Returns:
        Names of the tiles of each split.

    Raises:
        LayoutError: If a file is missing, a line cannot be understood, or
            the two lists of a split differ.
    """
    splits = {}
    for split in NCT_SPLIT_SIZES:
        lists = []
        for with_label in (False, True):
            path = meta / f'{split}{"_labeled" * with_label}.txt'
            if not path.is_file():
                raise LayoutError(f'The list file {path} does not exist')
            try:
                lists.append([parse_list_line(line, with_label)[0]
                              for line in read_list_file(path)])
            except ValueError as error:
                raise LayoutError(f'{path}: {error}') from error
        if lists[0] != lists[1]:
            raise LayoutError(
                f'{split}.txt and {split}_labeled.txt in {meta} do not list '
                'the same tiles')
        splits[split] = lists[0]
    return splits


def check(image_folder: Path, names: list[str],
          splits: dict[str, list[str]],
          threshold: float = NEAR_THRESHOLD) -> CheckReport:
    """Compare the lists with the disk, and read every listed tile.

    Args:
        image_folder: The folder with one folder per class.
        names: From :func:`list_tiles`.
        splits: From :func:`read_lists`.
        threshold: See :mod:`mmmedmask.datasets.conversion.duplicates`.
            Near copies are looked for across the splits only.

    Returns:
        The report.
    """
    report = CheckReport()
    on_disk = set(names)
    listed = Counter(name for tiles in splits.values() for name in tiles)
    for name, times in listed.items():
        if times > 1:
            report.add_problem('listed_twice', name)
        if name not in on_disk:
            report.add_problem('missing_tile', str(image_folder / name))
    for name in names:
        if name not in listed:
            report.add_notice('unlisted_tile', str(image_folder / name))
    records = []
    for split, tiles in splits.items():
        for name in tiles:
            if name in on_disk:
                record = _read_tile(image_folder / name, split, report)
                if record:
                    records.append(record)
        report.checked.append(f'{split}: {len(tiles)} tiles')
    add_duplicates(report, records, threshold, within_splits=False)
    return report


def _read_tile(path: Path, split: str,
               report: CheckReport) -> ImageRecord | None:
    """Read one tile; report it if it is broken or of another shape."""
    try:
        tile = read_image(path)
    except ImageFileError as error:
        report.add_problem('broken_file', str(path), detail=str(error))
        return None
    if tile.shape != TILE_SHAPE or tile.dtype != np.uint8:
        report.add_problem(
            'wrong_shape', str(path),
            detail=f'{tile.shape} {tile.dtype}, expected {TILE_SHAPE} uint8')
        return None
    return make_record(str(path), split, path.read_bytes(), tile)
