"""NCT-CRC-HE-100K-NONORM: list files of the splits, and a check of tiles.

The lists that CMIM and ConCL use come with ConCL's code. Where they are not
at hand, a split of the same kind is drawn: 8:2, at random by tile.
"""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmmedmask.datasets.conversion import (
    Conversion,
    LayoutError,
    copies,
    folders,
)
from mmmedmask.datasets.conversion.check_report import CheckReport
from mmmedmask.datasets.nct_crc import (
    NCT_CLASSES,
    NCT_SPLIT_SIZES,
    read_tile_list,
)
from mmmedmask.util.atomic_files import write_text
from mmmedmask.util.checks import check_range

TILE_SHAPE = (224, 224, 3)
NCT_CLASS_TOTALS = {'BACK': 10566, 'ADI': 10407, 'DEB': 11512, 'LYM': 11557,
                    'MUC': 8896, 'MUS': 13536, 'NORM': 8763, 'STR': 10446,
                    'TUM': 14317}
"""Tiles per class in the official download, 100,000 together."""

LIST_NAMES = tuple(f'{split}{suffix}.txt' for split in NCT_SPLIT_SIZES
                   for suffix in ('', '_labeled'))


def list_tiles(image_folder: Path) -> list[str]:
    """List the tiles ``CLASS/NAME.tif`` of a folder of classes, sorted."""
    return sorted(f'{folder.name}/{path.name}'
                  for folder in folders.class_folders(image_folder,
                                                      NCT_CLASSES)
                  for path in folders.image_files(folder, ('.tif', ))[0])


def copy_lists(source: Path, meta: Path) -> None:
    """Copy ConCL's four list files; ``meta`` is made if need be."""
    if source.resolve() == meta.resolve():
        raise LayoutError(f'{source} is where the list files go; nothing to '
                          'copy')
    missing = [name for name in LIST_NAMES if not (source / name).is_file()]
    if missing:
        raise LayoutError(f'{source} lacks the list files {missing}')
    meta.mkdir(parents=True, exist_ok=True)
    for name in LIST_NAMES:
        shutil.copyfile(source / name, meta / name)


def draw_lists(names: list[str], meta: Path, val_fraction: float,
               seed: int) -> None:
    """Draw a split of tiles by the seed, and write its four list files."""
    check_range('val_fraction', val_fraction, 0, 1, open_low=True,
                open_high=True)
    number = round(len(names) * val_fraction)
    if not 0 < number < len(names):
        raise ValueError(f'val_fraction {val_fraction} of {len(names)} tiles '
                         'leaves a split empty')
    order = np.random.default_rng(seed).permutation(len(names))
    for split, chosen in (('val', order[:number]), ('train', order[number:])):
        tiles = [names[index] for index in sorted(chosen)]
        write_text(meta / f'{split}.txt',
                   ''.join(f'{tile}\n' for tile in tiles))
        write_text(meta / f'{split}_labeled.txt', ''.join(
            f'{tile} {NCT_CLASSES.index(tile.split("/")[0])}\n'
            for tile in tiles))


def read_lists(meta: Path) -> dict[str, list[str]]:
    """Read the tiles of each split; the labelled lists must say the same."""
    splits = {}
    for split in NCT_SPLIT_SIZES:
        plain, labelled = ([name for name, _ in read_tile_list(
            meta / f'{split}{"_labeled" * with_label}.txt', with_label)]
                           for with_label in (False, True))
        if plain != labelled:
            raise LayoutError(f'{split}.txt and {split}_labeled.txt in {meta} '
                              'do not list the same tiles')
        splits[split] = plain
    return splits


@dataclass
class NCTConversion(Conversion):
    """The tiles on disk, and where their lists come from.

    Attributes:
        lists: Folder with ConCL's list files; None draws a split.
    """

    image_folder: Path
    lists: Path | None = None
    val_fraction: float = 0.2
    seed: int = 0
    overwrite: bool = False
    threshold: float = copies.NEAR_THRESHOLD

    def __post_init__(self) -> None:
        self.names = list_tiles(self.image_folder)

    @property
    def notices(self) -> list[str]:
        """Whether all tiles of the download are there."""
        return folders.compare_counts(
            'NCT-CRC-HE-100K-NONORM',
            Counter(name.split('/')[0] for name in self.names),
            NCT_CLASS_TOTALS, 'tiles')

    def write(self, out: Path) -> list[str]:
        """Copy or draw the list files, unless they are there."""
        present = [name for name in LIST_NAMES if (out / name).exists()]
        if present and not self.overwrite:
            if self.lists:
                raise LayoutError(f'{out} has the list files {present}; '
                                  '--overwrite replaces them')
            lines = [f'{out}: the list files that are there are used']
        elif self.lists:
            copy_lists(self.lists, out)
            lines = [f'{out}: list files copied from {self.lists}']
        else:
            draw_lists(self.names, out, self.val_fraction, self.seed)
            lines = [f'{out}: drew a split at random by tile, seed '
                     f'{self.seed}',
                     "NOTICE: it is not ConCL's; results are not quite "
                     'comparable with published ones']
        return lines + [
            f'{split}: {len(tiles)} tiles (ConCL: {NCT_SPLIT_SIZES[split]})'
            for split, tiles in read_lists(out).items()]

    def check(self, out: Path) -> CheckReport:
        """Compare lists and disk, read tiles, seek copies across splits."""
        report, records = CheckReport(), []
        splits = read_lists(out)
        on_disk = set(self.names)
        listed = Counter(name for tiles in splits.values() for name in tiles)
        for name, times in listed.items():
            if times > 1:
                report.add_problem('listed_twice', name)
            if name not in on_disk:
                report.add_problem(
                    'missing_tile', str(self.image_folder / name))
        for name in self.names:
            if name not in listed:
                report.add_notice(
                    'unlisted_tile', str(self.image_folder / name))
        for split, tiles in splits.items():
            records += [_read_tile(self.image_folder / name, split, report)
                        for name in tiles if name in on_disk]
            report.checked.append(f'{split}: {len(tiles)} tiles')
        copies.report_copies(report, [record for record in records if record],
                      self.threshold, within_splits=False)
        return report


def _read_tile(path: Path, split: str,
               report: CheckReport) -> copies.ImageRecord | None:
    """Read one tile; report it if it is broken or of another shape."""
    tile = report.read_image(path)
    if tile is None:
        return None
    if tile.shape != TILE_SHAPE or tile.dtype != np.uint8:
        report.add_problem(
            'wrong_shape', str(path),
            detail=f'{tile.shape} {tile.dtype}, expected {TILE_SHAPE} uint8')
        return None
    return copies.make_record(str(path), split, path.read_bytes(), tile)
