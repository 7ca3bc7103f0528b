"""NCT-CRC-HE-100K-NONORM, the tiles that CMIM and ConCL pre-train on.

100,000 H&E tiles of colorectal tissue, 224 x 224 pixels at 0.5 um (Kather et
al. 2018, doi:10.5281/zenodo.1214456). ConCL's lists: Yang et al., ECCV 2022.
"""

import logging
from pathlib import Path

from mmengine.logging import print_log

from mmmedmask.datasets.image_files import ImageFileDataset
from mmmedmask.datasets.tiles import find_list_file
from mmmedmask.registry import DATASETS
from mmmedmask.util.checks import check_choice
from mmmedmask.util.table_files import read_list_file

NCT_CLASSES = ('BACK', 'ADI', 'DEB', 'LYM', 'MUC', 'MUS', 'NORM', 'STR', 'TUM')
"""Classes in the order of ConCL's labels, which is not alphabetical."""

NCT_SPLIT_SIZES = {'train': 80_000, 'val': 20_000}
"""Tiles in ConCL's list files; drawn at random by tile, not by patient."""


@DATASETS.register_module()
class NCTCRC(ImageFileDataset):
    """NCT-CRC-HE-100K-NONORM with ConCL's list files.

    Layout, where ``CLASS`` is one of :data:`NCT_CLASSES`::

        data_root/
            meta/{train,train_labeled,val,val_labeled}.txt
            data/CLASS/CLASS-XXXXXXXX.tif

    A line of ``train.txt`` is ``CLASS/CLASS-XXXXXXXX.tif``; in
    ``train_labeled.txt`` a blank and the label follow.
    ``tools/dataset_converters/convert.py nct_crc`` writes the lists where
    they are missing, and reads all tiles once.

    Args:
        data_root: The folder with ``meta`` and the tiles.
        split: ``'train'`` or ``'val'``.
        with_labels: Read the labelled list, and give samples ``gt_label``.
        image_folder: The tiles' folder below ``data_root``; for the
            unpacked official download it is ``'NCT-CRC-HE-100K-NONORM'``.
        base: Arguments of :class:`ImageFileDataset`, such as ``pipeline``,
            ``on_error``, or ``ann_file``: another list file instead of the
            split's, as given or below ``data_root``.

    Raises:
        ValueError: If a line of the list is not as described; names it.
        FileNotFoundError: If the list or the tiles' folder is missing.
    """

    METAINFO = {'classes': NCT_CLASSES}

    def __init__(self, data_root: str, split: str = 'train',
                 with_labels: bool = False, image_folder: str = 'data',
                 **base: object) -> None:
        self.split = check_choice('split', split, tuple(NCT_SPLIT_SIZES))
        self.root = Path(data_root)
        self.with_labels = with_labels
        self.image_folder = image_folder
        super().__init__(**base)

    def load_data_list(self) -> list[dict]:
        if not self.root.is_dir():
            raise FileNotFoundError(
                f'The folder of NCT-CRC {self.root} does not exist')
        folder = self.root / self.image_folder
        if not folder.is_dir():
            present = sorted(
                path.name for path in self.root.iterdir() if path.is_dir())
            raise FileNotFoundError(
                f'The tiles of NCT-CRC are expected in {folder}, which does '
                f'not exist; {self.root} has the folders {present}: set '
                'image_folder')
        default = f'meta/{self.split}{"_labeled" * self.with_labels}.txt'
        list_file = find_list_file(self.ann_file or default, self.root)
        tiles = read_tile_list(list_file, self.with_labels)
        expected = NCT_SPLIT_SIZES[self.split]
        if not self.ann_file and len(tiles) != expected:
            print_log(
                f"{list_file} lists {len(tiles)} tiles, ConCL's {self.split} "
                f'split has {expected}: results will not be comparable',
                logger='current', level=logging.WARNING)
        return [{'img_path': str(folder / name),
                 **({'gt_label': label} if self.with_labels else {})}
                for name, label in tiles]


def read_tile_list(path: Path,
                   with_label: bool) -> list[tuple[str, int | None]]:
    """Read a list of ``CLASS/NAME`` or ``CLASS/NAME LABEL``, and check it.

    Names are relative to the tiles' folder; without labels these are None.
    """
    tiles = []
    for number, line in enumerate(read_list_file(path), start=1):
        name, *rest = line.split()
        folder, slash, _ = name.partition('/')
        if len(rest) != with_label:
            wrong = f'expected CLASS/NAME{" LABEL" * with_label}'
        elif not slash or folder not in NCT_CLASSES:
            wrong = f'expected a path that starts with one of {NCT_CLASSES}'
        elif rest not in ([], [str(NCT_CLASSES.index(folder))]):
            wrong = (f'the label of {folder} is '
                     f'{NCT_CLASSES.index(folder)}')
        else:
            tiles.append((name, int(rest[0]) if rest else None))
            continue
        raise ValueError(f'{path}, entry {number}: {wrong}, got {line!r}')
    return tiles
