"""Images with one class each, and where there are any, their lesion masks.

``tools/dataset_converters/convert.py`` makes the layout from downloads.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mmengine.logging import print_log

from mmmedmask.datasets.image_files import ImageFileDataset
from mmmedmask.datasets.image_io import IMAGE_EXTENSIONS
from mmmedmask.datasets.radiology import split_part
from mmmedmask.registry import DATASETS
from mmmedmask.util.file_walk import match_paths
from mmmedmask.util.nearest import alike
from mmmedmask.util.table_files import (
    MISSING,
    Table,
    check_cell,
    check_files,
    check_named,
    check_spelling,
    read_list_file,
    read_table,
)

CLASS_FILE = 'classes.txt'
"""Classes of a data set, one per line; the line is the label's number."""

REQUIRED_COLUMNS = ('path', 'label', 'group')
OPTIONAL_COLUMNS = ('mask', )
PARTS = ('train', 'val', 'test')


@DATASETS.register_module()
class LabelledImages(ImageFileDataset):
    """Images with a class, a group and, for some, a lesion mask.

    Layout::

        data_root/
            classes.txt
            <split_folder>/{train,val}.csv
            images/...
            masks/...            only where there are lesion masks

    A csv has the columns ``path,label,group`` and may have ``mask``. Paths
    are relative to ``data_root``, ``label`` is the name of a class, and
    images that belong together (a patient, a lesion, copies of an image)
    have the same ``group``. An empty ``mask`` means that there is none.

    Samples have ``img_path``, ``gt_label`` (int), ``group`` (str) and, if
    the mask column is filled, ``lesion_path``. The order is that of the
    csv. Whether an image is on disk is seen when it is read.

    Args:
        data_root: The folder with ``classes.txt``.
        split: Name of the csv without its ending, such as ``'train'``.
        split_folder: Folder of the csv, below ``data_root`` or absolute.
        metainfo: Extra meta information. ``classes`` are those of
            ``classes.txt``; if given here too, they have to agree.
        base: Arguments of :class:`ImageFileDataset`, such as ``pipeline``
            and ``on_error``.

    Raises:
        ValueError: If the csv lacks a column or has an unknown one, a label
            is not a class, a path occurs twice, in the csv or in another part
            (train, val, test), or an entry is empty; names the line. Or if
            classes or groups, of other parts too, differ by upper and lower
            case, blanks or kinds of hyphens alone.
        FileNotFoundError: If ``data_root``, ``classes.txt`` or the csv is
            missing; says which splits there are.
    """

    def __init__(self, data_root: str, split: str = 'train',
                 split_folder: str = 'splits/paper',
                 metainfo: Mapping | None = None, **base: object) -> None:
        for name, value in (('data_root', data_root), ('split', split),
                            ('split_folder', split_folder)):
            if not str(value):
                raise ValueError(f'{name} must not be empty, got {value!r}')
        self.root = Path(data_root)
        self.split = split
        self.split_folder = split_folder
        super().__init__(metainfo=metainfo, **base)

    @property
    def split_file(self) -> Path:
        """The csv that this data set reads."""
        return self.root / self.split_folder / f'{self.split}.csv'

    def load_data_list(self) -> list[dict]:
        classes = read_classes(self.root)
        declared = self._metainfo.get('classes')
        if declared is not None and tuple(declared) != classes:
            raise ValueError(f'metainfo has the classes {tuple(declared)}, '
                             f'but {self.root / CLASS_FILE} has {classes}')
        self._metainfo['classes'] = classes
        rows = read_split_file(self.split_file, self.root, classes)
        self._compare_parts(rows)
        if self.on_error == 'raise':
            check_files(self.split_file, (
                split_part(self.root / row[name])[0] for row in rows
                for name in ('path', 'mask') if row[name]))
        return [{'img_path': str(self.root / row['path']),
                 'gt_label': classes.index(row['label']),
                 'group': row['group'],
                 **({'lesion_path': str(self.root / row['mask'])}
                    if row['mask'] else {})} for row in rows]

    def _compare_parts(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Refuse images that another part has, too, and count groups."""
        paths = {os.path.normpath(self.root / row['path']) for row in rows}
        groups = dict.fromkeys(row['group'] for row in rows)
        for part in PARTS if self.split in PARTS else ():
            file = self.split_file.with_name(f'{part}.csv')
            if part == self.split or not file.is_file():
                continue
            theirs = []
            for where, row in read_table(
                    file, REQUIRED_COLUMNS, empty=True).rows('path', 'group'):
                if os.path.normpath(self.root / row['path']) in paths:
                    raise ValueError(
                        f'{where}: {row["path"]} is in {self.split_file.name}'
                        ', too; an image belongs to one part of a split')
                theirs.append(row['group'])
            check_groups(f'{self.split_file} and {file.name}',
                         [*groups, *theirs])
            shared = groups.keys() & theirs
            if shared:
                print_log(f'{self.split_file}: {len(shared)} of {len(groups)} '
                          f'groups are in {file.name}, too, such as '
                          f'{min(shared)}: scores say little about new ones',
                          logger='current', level=logging.WARNING)


def read_classes(data_root: Path) -> tuple[str, ...]:
    """Read ``classes.txt``; a class's position is its label."""
    if not data_root.is_dir():
        raise FileNotFoundError(f'The data set folder {data_root} does not '
                                'exist or is not a folder')
    path = data_root / CLASS_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} does not exist; tools/dataset_converters/convert.py '
            'writes it')
    classes = read_list_file(path)
    counts = Counter(map(alike, classes))
    twice = [name for name in classes if counts[alike(name)] > 1]
    if twice:
        raise ValueError(f'{path} names classes twice: {twice}')
    return tuple(classes)


def read_split_file(path: Path, data_root: Path,
                    classes: Sequence[str]) -> list[dict[str, str]]:
    """Read the csv of a split and check it; see :class:`LabelledImages`.

    Dicts have ``path``, ``label``, ``group`` and ``mask``, which may be empty.
    """
    if not path.is_file():
        present = [file.relative_to(data_root).as_posix()
                   for file in match_paths(data_root, 'splits/*/*.csv')]
        raise FileNotFoundError(f'The split file {path} does not exist; '
                                f'{data_root} has {present or "no splits"}')
    table = read_table(path, REQUIRED_COLUMNS)
    unknown = set(table.names) - {*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS}
    if unknown:
        raise ValueError(
            f'{path} must have the columns {REQUIRED_COLUMNS} and may have '
            f'{OPTIONAL_COLUMNS}, not {sorted(unknown)}')
    rows = []
    for where, row in image_rows(table, data_root, classes):
        check_cell(where, 'label', row['label'], classes,
                   str(data_root / CLASS_FILE))
        rows.append({**row, 'mask': row.get('mask', '')})
    return rows


def check_groups(source: object, names: Iterable[str]) -> None:
    """Refuse names of groups that differ by their spelling alone.

    Where nothing else groups images, a group is the path of one: those are
    different files.
    """
    check_spelling(source, 'group', (
        name for name in names
        if Path(name).suffix.lower() not in IMAGE_EXTENSIONS))


def image_rows(table: Table, root: Path, classes: Sequence[str] = ('None', )
               ) -> Iterator[tuple[str, dict[str, str]]]:
    """Go through the rows of a table of images, each listed once.

    Paths are relative to ``root``; no path, label or group may be empty, or
    ``NA`` and the like, unless it is one of the ``classes``; and each label
    and group is spelled in one way. Such a mask is none.
    """
    for place, name in enumerate(table.names):
        if name == 'label':
            check_spelling(table.path, name, table.text(place))
        elif name == 'group':
            check_groups(table.path, table.text(place))
    lines = {}
    for where, row in table.rows():
        check_named(where, row, ('path', 'group'))
        check_named(where, row, ('label', ), known=classes)
        if row.get('mask') in MISSING:
            row['mask'] = ''
        # One image may be written in two ways.
        file = os.path.normpath(root / row['path'])
        before = lines.setdefault(file, where)
        if before != where:
            raise ValueError(f'{where}: {row["path"]} is listed in '
                             f'{before.rpartition(", ")[2]} already')
        yield where, row
