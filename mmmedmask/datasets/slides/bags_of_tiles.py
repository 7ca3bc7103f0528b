"""Make bags of single tiles, for data sets that have tiles but no slides.

Tiles that come from one source, such as augmentations of one picture, stay
in one bag, so no split of bags can tear them apart.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from mmmedmask.datasets.expression.gene_names import shown
from mmmedmask.datasets.image_io import IMAGE_EXTENSIONS


@dataclass(frozen=True)
class Tile:
    """A picture.

    Attributes:
        path: The file.
        label: Its class.
        group: Its source; tiles of one source belong together.
    """

    path: Path
    label: str
    group: str


@dataclass(frozen=True)
class TileBag:
    """Tiles of one class.

    Attributes:
        name: Name of the bag.
        label: The class.
        tiles: The tiles.
        split: The split, empty while there is none.
    """

    name: str
    label: str
    tiles: tuple[Tile, ...]
    split: str = ''


def find_tiles(folders: Sequence[Path],
               groups: Mapping[tuple[str, str], str] | None = None
               ) -> list[Tile]:
    """List the tiles of folders, one folder per class.

    Args:
        folders: The folders; their names are the classes.
        groups: Source of each tile by the names of its folder and file, see
            :func:`read_groups`. None: every tile is a source of its own.

    Returns:
        The tiles, sorted by class and file name.

    Raises:
        FileNotFoundError: If a folder is missing or has no tile.
        ValueError: If two folders have one name, a tile has no group, or a
            group has tiles of several classes.
    """
    names = [folder.name for folder in folders]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f'several folders are called {shown(twice)}: the '
                         'name of a folder is the class of its tiles')
    tiles, lacking = [], []
    for folder in sorted(folders, key=lambda folder: folder.name):
        if not folder.is_dir():
            raise FileNotFoundError(f'{folder} is no folder')
        paths = sorted(path for path in folder.iterdir()
                       if path.suffix.lower() in IMAGE_EXTENSIONS)
        if not paths:
            raise FileNotFoundError(
                f'{folder} has no file that ends with {IMAGE_EXTENSIONS}')
        for path in paths:
            key = (folder.name, path.name)
            group = f'{key}' if groups is None else groups.get(key)
            if group is None:
                lacking.append('/'.join(key))
            else:
                tiles.append(Tile(path, folder.name, group))
    if lacking:
        raise ValueError(
            f'{len(lacking)} tiles are in no group of the csv, the first '
            f'are {shown(lacking)}')
    labels: dict[str, str] = {}
    for tile in tiles:
        if labels.setdefault(tile.group, tile.label) != tile.label:
            raise ValueError(
                f'group {tile.group} has tiles of {labels[tile.group]} and '
                f'of {tile.label}: a bag has one class')
    return tiles


def read_groups(paths: Sequence[Path],
                path_column: str = 'img_path',
                group_column: str = 'cluster_label'
                ) -> dict[tuple[str, str], str]:
    """Read which tiles belong together, as LC25000-clean lists them.

    Args:
        paths: One csv or several; each numbers its groups by itself.
        path_column: Column with the path of a tile, of which the last
            folder and the file name count.
        group_column: Column with its group.

    Returns:
        Group of each tile by folder and file name.

    Raises:
        FileNotFoundError: If a csv is missing.
        ValueError: If a column is missing, a path has no folder, or a tile
            is in two groups.
    """
    groups: dict[tuple[str, str], str] = {}
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f'The csv of groups {path} does not '
                                    'exist')
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        missing = [name for name in (path_column, group_column)
                   if name not in frame]
        if missing:
            raise ValueError(f'{path} lacks the columns {missing}; it has '
                             f'{list(frame)}')
        for place, number in zip(frame[path_column], frame[group_column],
                                 strict=True):
            parts = place.replace('\\', '/').split('/')
            if len(parts) < 2:
                raise ValueError(
                    f'{path}: {place!r} names no folder, which is the class '
                    'of the tile')
            group = f'{path.stem}:{number}'
            if groups.setdefault((parts[-2], parts[-1]), group) != group:
                raise ValueError(f'{path}: {place} is in two groups')
    return groups


def make_bags(tiles: Sequence[Tile], bag_size: int,
              seed: int = 0) -> list[TileBag]:
    """Put groups of tiles into bags of about one size.

    Groups of a class are taken in random order and whole; a bag is full when
    it has ``bag_size`` tiles or more. What is left at the end becomes a bag
    if it is half of one, else it goes into the last.

    Args:
        tiles: The tiles.
        bag_size: Wanted number of tiles in a bag.
        seed: Seed.

    Returns:
        The bags, named by class and number.

    Raises:
        ValueError: If ``bag_size`` is not positive.
    """
    if bag_size < 1:
        raise ValueError(f'bag_size must be positive, got {bag_size}')
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


def split_bags(bags: Sequence[TileBag],
               shares: Mapping[str, float],
               seed: int = 0) -> list[TileBag]:
    """Draw the split of bags, with equal shares of every class.

    Args:
        bags: The bags.
        shares: Share of each split, e.g. ``{'train': .6, 'test': .4}``.
        seed: Seed.

    Returns:
        The bags in their order, with a split.

    Raises:
        ValueError: If the shares are not positive or do not sum to one, or a
            class has too few bags to be in every split.
    """
    if not shares or min(shares.values()) <= 0 or abs(
            sum(shares.values()) - 1) > 1e-6:
        raise ValueError('shares must be positive and sum to 1, got '
                         f'{dict(shares)}')
    split_of: dict[str, str] = {}
    for number, label in enumerate(sorted({bag.label for bag in bags})):
        names = sorted(bag.name for bag in bags if bag.label == label)
        ends = np.cumsum([*shares.values()]) * len(names)
        ends = np.round(ends).astype(int)
        counts = np.diff(ends, prepend=0)
        if counts.min() < 1:
            raise ValueError(
                f'class {label!r} has {len(names)} bags, too few for the '
                f'shares {dict(shares)}: ask for smaller bags or for fewer '
                'splits')
        order = np.random.default_rng([seed, number]).permutation(len(names))
        places = np.repeat(np.arange(len(shares)), counts)
        for place, split in zip(order, places, strict=True):
            split_of[names[place]] = [*shares][split]
    return [replace(bag, split=split_of[bag.name]) for bag in bags]


def mosaic_coords(number: int, tile_size: int) -> np.ndarray:
    """Lay tiles side by side in a square.

    Args:
        number: Number of tiles.
        tile_size: Side of a tile in pixels.

    Returns:
        Upper left corners (x, y), int32 of shape (number, 2), row by row.
    """
    columns = max(1, int(np.ceil(np.sqrt(number))))
    places = np.arange(number)
    coords = np.stack([places % columns, places // columns], axis=1)
    return (coords * tile_size).astype(np.int32)


def draw_mosaic(tiles: np.ndarray) -> np.ndarray:
    """Draw the picture that :func:`mosaic_coords` tells the places of.

    Args:
        tiles: RGB, uint8, shape (N, S, S, 3).

    Returns:
        RGB picture, white where there is no tile.
    """
    side = tiles.shape[1]
    coords = mosaic_coords(len(tiles), side)
    height, width = coords[:, 1].max() + side, coords[:, 0].max() + side
    picture = np.full((height, width, 3), 255, np.uint8)
    for tile, (x, y) in zip(tiles, coords, strict=True):
        picture[y:y + side, x:x + side] = tile
    return picture
