"""Make bags of features of single tiles, for data sets without slides.

Tiles that come from one source, such as augmentations of one picture, stay
in one bag, so no split of bags can tear them apart; so do copies of a file.
"""

import functools
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from mmmedmask.apis.encoder_weights import (
    encode_tiles,
    encoder_settings,
    unnoted_settings,
)
from mmmedmask.datasets.conversion.folders import image_files
from mmmedmask.datasets.image_io import (
    IMAGE_EXTENSIONS,
    ImageFileError,
    picture_on_white,
    read_image,
    write_image,
)
from mmmedmask.datasets.slides import feature_writer
from mmmedmask.datasets.slides.tiling import resize
from mmmedmask.models.layers.tile_encoders import TileEncoder
from mmmedmask.util.atomic_files import write_csv
from mmmedmask.util.checks import check_integer, check_numbers
from mmmedmask.util.nearest import shown
from mmmedmask.util.nested import as_list
from mmmedmask.util.table_files import MISSING, read_table


@dataclass(frozen=True)
class Tile:
    """A picture; tiles of one source have the same ``group``.

    Example:
        >>> str(Tile(Path('tiles/scc/1.png'), 'scc', group='patient-7'))
        'scc/1.png'
    """

    path: Path
    label: str
    group: str

    def __str__(self) -> str:
        return f'{self.label}/{self.path.name}'


@dataclass(frozen=True)
class TileBag:
    """Tiles of one class; ``split`` is empty while there is none.

    Example:
        >>> tiles = tuple(Tile(Path(f'{number}.png'), 'scc', 'patient-7')
        ...               for number in range(3))
        >>> len(TileBag('scc-0000', 'scc', tiles, split='train').tiles)
        3
    """

    name: str
    label: str
    tiles: tuple[Tile, ...]
    split: str = ''


def find_tiles(folders: str | Path | Sequence[str | Path],
               groups: Mapping[tuple[str, str], str] | None = None
               ) -> list[Tile]:
    """List the tiles of folders, one per class, by class and file name.

    Args:
        folders: The folder, or several; their names are the classes.
        groups: Source of each tile by the names of its folder and file, see
            :func:`read_groups`. None: every tile is a source of its own, and
            so are all copies of a file together.

    Raises:
        FileNotFoundError: If a folder is missing or has no tile.
        ValueError: If two folders have one name, a tile has no group,
            copies of a file have several, or a group has tiles of several
            classes.

    Example:
        >>> Path('scc').mkdir()
        >>> Path('scc/1.png').touch()
        >>> [str(tile) for tile in find_tiles('scc')]
        ['scc/1.png']
    """
    folders = list(map(Path, as_list(folders)))
    # '.' has a name, too; that of a link is its own.
    names = [Path(os.path.abspath(folder)).name for folder in folders]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f'several folders are called {shown(twice)}: the '
                         'name of a folder is the class of its tiles')
    tiles, lacking = [], []
    for name, folder in sorted(zip(names, folders, strict=True)):
        if not folder.is_dir():
            raise FileNotFoundError(f'{folder} is not a folder')
        paths, others = image_files(folder)
        if not paths:
            raise FileNotFoundError(
                f'{folder} has no file that ends with {IMAGE_EXTENSIONS}')
        if others:
            print_log(f'{folder} has {len(paths)} tiles, and beside them '
                      f'{dict(others)}', logger='current')
        for path in paths:
            key = (name, path.name)
            group = f'{key}' if groups is None else groups.get(key)
            if group is None:
                lacking.append('/'.join(key))
                continue
            tiles.append(Tile(path, name, group))
    if lacking:
        raise ValueError(f'{len(lacking)} tiles are in no group of the csv, '
                         f'the first are {shown(lacking)}')
    tiles = _join_copies(tiles, groups is not None)
    first: dict[str, Tile] = {}
    for tile in tiles:
        other = first.setdefault(tile.group, tile)
        if other.label != tile.label:
            raise ValueError(
                f'group {tile.group} has tiles of {other.label} and of '
                f'{tile.label}, {other} and {tile}: a bag has one class')
    return tiles


def _join_copies(tiles: Sequence[Tile], grouped: bool) -> list[Tile]:
    """Give the copies of a file one group, unless groups are stated."""
    pairs = list(zip(tiles, _first_copies(tiles), strict=True))
    copies = [f'{tile} of {first}' for tile, first in pairs
              if tile.group != first.group]
    text = f'{len(copies)} tiles are copies of others: {shown(copies)}'
    if copies and grouped:
        raise ValueError(f'{text}; give copies one group in the csv')
    if copies:
        print_log(f'{text}; copies are put in one bag', logger='current',
                  level=logging.WARNING)
    return [replace(tile, group=first.group) for tile, first in pairs]


def _first_copies(tiles: Sequence[Tile]) -> list[Tile]:
    """Find for each tile the first of those with the very same bytes."""
    sizes = [tile.path.stat().st_size for tile in tiles]
    counts = Counter(sizes)
    first: dict[bytes, Tile] = {}
    return [first.setdefault(_digest(tile), tile) if size and counts[size] > 1
            else tile for tile, size in zip(tiles, sizes, strict=True)]


def read_groups(
        paths: str | Path | Sequence[str | Path],
        path_column: str = 'img_path',
        group_column: str = 'cluster_label') -> dict[tuple[str, str], str]:
    """Read the group of tiles by folder and file, as LC25000-clean has it.

    Each csv numbers its groups by itself, which are called by its name. Of
    the path of a tile the last folder and the file name count.

    Example:
        >>> _ = Path('groups.csv').write_text(
        ...     'cluster_label,img_path\\n7,all/scc/1.png\\n')
        >>> read_groups([Path('groups.csv')])
        {('scc', '1.png'): 'groups:7'}
    """
    groups: dict[tuple[str, str], str] = {}
    paths = list(map(Path, as_list(paths)))
    stems = [path.stem for path in paths]
    for path in paths:
        file = path.stem if stems.count(path.stem) == 1 else path
        columns = path_column, group_column
        for where, row in read_table(path, columns).rows(*columns):
            place, number = row[path_column], row[group_column]
            *_, folder, name = ['', *place.replace('\\', '/').split('/')]
            if not folder or number in MISSING:
                raise ValueError(
                    f'{where}: {place!r} must name a folder, which is the '
                    f'class of the tile, and have a group, got {number!r}')
            group = f'{file}:{number}'
            if groups.setdefault((folder, name), group) != group:
                raise ValueError(f'{where}: {place} is in two groups (of a '
                                 f'path {folder}/{name} counts)')
    return groups


def make_bags(tiles: Sequence[Tile], bag_size: int,
              seed: int = 0) -> list[TileBag]:
    """Put groups of tiles into bags of about one size.

    Groups of a class are taken in random order and whole; a bag is full when
    it has ``bag_size`` tiles or more. What is left at the end becomes a bag
    if it is half of one, else it goes into the last. Bags are named by class
    and number.

    Example:
        >>> tiles = [Tile(Path(f'{number}.png'), 'scc', f'{number // 2}')
        ...          for number in range(6)]
        >>> [len(bag.tiles) for bag in make_bags(tiles, 3)]
        [4, 2]
    """
    check_integer('bag_size', bag_size)
    bags = []
    for number, label in enumerate(sorted({tile.label for tile in tiles})):
        groups: dict[str, list[Tile]] = {}
        for tile in tiles:
            if tile.label == label:
                groups.setdefault(tile.group, []).append(tile)
        names = sorted(groups)
        order = np.random.default_rng([seed, number]).permutation(len(names))
        filled: list[list[Tile]] = [[]]
        for place in order:
            if len(filled[-1]) >= bag_size:
                filled.append([])
            filled[-1] += groups[names[place]]
        if len(filled) > 1 and 2 * len(filled[-1]) < bag_size:
            rest = filled.pop()
            filled[-1] += rest
        bags += [TileBag(f'{label}-{count:04d}', label, tuple(content))
                 for count, content in enumerate(filled)]
    return bags


def split_bags(bags: Sequence[TileBag], shares: Mapping[str, float],
               seed: int = 0) -> list[TileBag]:
    """Draw the split of bags, with equal shares of every class.

    Shares sum to one, and 0 leaves a split out; every class is in every
    other split.

    Example:
        >>> bags = [TileBag(f'{number}', 'scc', ()) for number in range(4)]
        >>> bags = split_bags(bags, {'train': .5, 'test': .5})
        >>> sorted(bag.split for bag in bags)
        ['test', 'test', 'train', 'train']
    """
    check_numbers('shares', list(shares.values()), 0)
    shares = {name: share for name, share in shares.items() if share != 0}
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f'shares must sum to 1, got {shares}')
    split_of: dict[str, str] = {}
    for number, label in enumerate(sorted({bag.label for bag in bags})):
        names = sorted(bag.name for bag in bags if bag.label == label)
        ends = np.cumsum([*shares.values()]) * len(names)
        ends = np.round(ends).astype(int)
        counts = np.diff(ends, prepend=0)
        if counts.min() < 1:
            raise ValueError(
                f'class {label!r} has {len(names)} bags, too few for the '
                f'shares {shares}: ask for smaller bags or for fewer splits')
        order = np.random.default_rng([seed, number]).permutation(len(names))
        splits = np.repeat([*shares], counts).tolist()
        for place, split in zip(order, splits, strict=True):
            split_of[names[place]] = split
    return [replace(bag, split=split_of[bag.name]) for bag in bags]


def add_test_bags(bags: Sequence[TileBag], test_bags: Sequence[TileBag],
                  grouped: bool = False) -> list[TileBag]:
    """Add the bags of a test set of its own, named ``test-...``.

    It shares no tile, nor a copy of one, with the others, and no source
    either if groups are sources (``grouped``), not names of files. Then no
    tile has class and file name of one in training, either, by which
    :func:`find_tiles` tells groups: both would have the group of one of them.

    Example:
        >>> bags = [TileBag('scc-0000', 'scc', (), 'train')]
        >>> [bag.name for bag in add_test_bags(bags, bags)]
        ['scc-0000', 'test-scc-0000']
    """
    if any(bag.split == 'test' for bag in bags):
        raise ValueError('a test set of its own leaves no share for test in '
                         'the other bags: split them by .8 .2 0, say')
    unknown = sorted({bag.label for bag in test_bags}
                     - {bag.label for bag in bags})
    if unknown:
        raise ValueError(f'the test set has the classes {shown(unknown)}, '
                         'which no other bag has')
    others, tests = ([tile for bag in part for tile in bag.tiles]
                     for part in (bags, test_bags))
    paths = {tile.path for tile in others}
    copies = {tile for tile, first in zip(tests, _first_copies(
        [*others, *tests])[len(others):], strict=True) if first.path in paths}
    names = {str(tile) for tile in others if grouped}
    alike = [str(tile) for tile in tests
             if str(tile) in names and tile not in copies]
    if alike:
        raise ValueError(
            f'{len(alike)} tiles of the test set are called as tiles in '
            'training, and groups are told by folder and file name; give '
            f'them other names, here and in the csv: {shown(alike)}')
    groups = {tile.group for tile in others if grouped}
    both = [str(tile.path) for tile in tests
            if tile in copies or tile.group in groups]
    if both:
        raise ValueError(f'{len(both)} tiles of the test set, or others of '
                         'their source, are in training, too; the first are '
                         f'{shown(both)}')
    return [*bags, *(replace(bag, name=f'test-{bag.name}', split='test')
                     for bag in test_bags)]


def mosaic_coords(number: int, tile_size: int) -> np.ndarray:
    """Lay tiles side by side in a square, row by row.

    Returns upper left corners (x, y) in pixels, int32 of shape (number, 2).

    Example:
        >>> mosaic_coords(3, 64).tolist()
        [[0, 0], [64, 0], [0, 64]]
    """
    rows, columns = np.divmod(
        np.arange(number), max(1, int(np.ceil(np.sqrt(number)))))
    return (np.stack([columns, rows], axis=1) * tile_size).astype(np.int32)


def draw_mosaic(tiles: np.ndarray) -> np.ndarray:
    """Draw tiles (N, S, S, 3) where :func:`mosaic_coords` says, on white.

    Example:
        >>> draw_mosaic(np.zeros((3, 8, 8, 3), np.uint8)).shape
        (16, 16, 3)
    """
    side = tiles.shape[1]
    coords = mosaic_coords(len(tiles), side)
    height, width = coords[:, 1].max() + side, coords[:, 0].max() + side
    picture = np.full((height, width, 3), 255, np.uint8)
    for tile, (x, y) in zip(tiles, coords, strict=True):
        picture[y:y + side, x:x + side] = tile
    return picture


def encode_bags(bags: Sequence[TileBag], folder: Path, encoder: TileEncoder,
                tile_size: int = 224, batch_size: int = 64,
                precision: str = 'float32', mosaics: bool = False,
                report: Callable[[str], None] | None = None) -> None:
    """Write ``features/<bag>.h5``, ``tiles.csv`` and ``cohort.csv``.

    Bags whose file is there, made with the same settings of the same
    pictures, are not encoded again. The coordinates are those of the tiles in
    a mosaic.

    Args:
        tile_size: Side in pixels that tiles are resized to.
        precision: See :func:`mmmedmask.apis.encoder_weights.encode_tiles`.
        mosaics: Whether to draw ``mosaics/<bag>.png``.
        report: Is called with a line per bag.

    Raises:
        ValueError: If the folder has bags of other settings.
        ImageFileError: If tiles cannot be used, see :func:`read_tile_file`;
            it names all. The other bags are written, but no csv.

    Example:
        >>> from mmmedmask.apis.encoder_weights import build_tile_encoder
        >>> write_image('tile.png', np.zeros((32, 32, 3), np.uint8))
        >>> tile = Tile(Path('tile.png'), 'scc', '1')
        >>> encode_bags(
        ...     [TileBag('bag', 'scc', (tile, ), 'train')], Path('bags'),
        ...     build_tile_encoder('resnet18-block3', random_seed=0), 32)
        >>> sorted(path.name for path in Path('bags').iterdir())
        ['cohort.csv', 'features', 'tiles.csv']
    """
    check_integer('tile_size', tile_size)
    check_integer('batch_size', batch_size)
    broken = []
    for number, bag in enumerate(bags, start=1):
        path = folder / 'features' / f'{bag.name}.h5'
        settings = dict(
            encoder_settings(encoder, precision), tile_size=tile_size,
            tiles=[str(tile) for tile in bag.tiles],
            pictures=_digest_pictures(bag))
        differing = feature_writer.differing_settings(
            path, settings, unnoted_settings(encoder))
        if differing:
            raise ValueError(
                f'{path} was made with other settings ({differing}): choose '
                'another folder or delete it')
        picture = folder / 'mosaics' / f'{bag.name}.png'
        wanted = mosaics and not picture.is_file()
        was_there = differing is not None
        if wanted or not was_there:
            tiles, errors = [], len(broken)
            for tile in bag.tiles:
                try:
                    tiles.append(read_tile_file(tile, tile_size))
                except ImageFileError as error:
                    broken.append(str(error))
            if len(broken) > errors:
                continue
            tiles = np.stack(tiles)
        if wanted:
            write_image(picture, draw_mosaic(tiles))
        if not was_there:
            _write_bag(path, tiles, encoder, settings, batch_size, precision)
        if report is not None:
            report(f'{number}/{len(bags)} {bag.name}: {len(bag.tiles)} tiles'
                   f'{", was there" if was_there else ""}')
    if broken:
        raise ImageFileError('\n'.join([
            f'{len(broken)} tiles cannot be used: mend or remove them, and '
            'call again for their bags and the csv files', *broken]))
    write_csv(folder / 'tiles.csv', ('bag', 'row', 'tile', 'group', 'split'),
              [(bag.name, row, str(tile), tile.group, bag.split)
               for bag in bags for row, tile in enumerate(bag.tiles)])
    write_csv(folder / 'cohort.csv', ('case_id', 'slide_id', 'label', 'split'),
              [(bag.name, bag.name, bag.label, bag.split) for bag in bags])


def _digest_pictures(bag: TileBag) -> str:
    """Tell tiles from others of the same names."""
    return hashlib.sha256(
        b''.join(map(_digest, bag.tiles))).hexdigest()[:16]


def _digest(tile: Tile) -> bytes:
    status = tile.path.stat()
    return _digest_file(tile.path, status.st_size, status.st_mtime_ns)


# Tiles are compared with one another, with a test set and with bags there.
@functools.lru_cache(maxsize=2**20)
def _digest_file(path: Path, size: int, changed: int) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def _write_bag(path: Path, tiles: np.ndarray, encoder: TileEncoder,
               settings: dict, batch_size: int, precision: str) -> None:
    side = tiles.shape[1]
    coords = mosaic_coords(len(tiles), side)
    width, height = (int(value) for value in coords.max(axis=0) + side)
    writer = feature_writer.FeatureWriter(
        path, coords, encoder.dims, encoder.name, settings,
        dict(patch_size=side, patch_size_level0=side, overlap=0,
             level0_width=width, level0_height=height, name=path.stem))
    try:
        for start in range(0, len(tiles), batch_size):
            writer.write(start, encode_tiles(
                encoder, tiles[start:start + batch_size], precision))
        writer.finish()
    except BaseException:
        writer.discard()
        raise


def read_tile_file(tile: Tile, tile_size: int) -> np.ndarray:
    """Read a square tile of 8 bits as RGB, uint8 (tile_size, tile_size, 3).

    What is transparent is white, as in slides.

    Example:
        >>> write_image('gray.png', np.zeros((48, 48), np.uint8))
        >>> read_tile_file(Tile(Path('gray.png'), 'scc', '1'), 32).shape
        (32, 32, 3)
    """
    image = picture_on_white(read_image(tile.path), tile.path)
    height, width, _ = image.shape
    if height != width:
        raise ImageFileError(
            f'{tile.path} measures {height}x{width} pixels: tiles are square')
    return np.ascontiguousarray(resize(image, (tile_size, tile_size)))
