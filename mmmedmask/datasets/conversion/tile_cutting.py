"""Cut large pictures into tiles for pre-training."""

import re
from collections import defaultdict
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from mmmedmask.datasets import image_io
from mmmedmask.datasets.conversion import Conversion
from mmmedmask.datasets.conversion.folders import image_files
from mmmedmask.util.atomic_files import write_bytes
from mmmedmask.util.checks import check_integer
from mmmedmask.util.nearest import shown

_TILE = re.compile(r'(.+)_y\d{5,}_x\d{5,}\.png')


@dataclass
class TileCutting(Conversion):
    """Pictures that are cut on a regular grid.

    The last row and column are moved inwards, so that nothing is lost and no
    tile is padded. Tiles are PNG and hold what the picture holds: up to four
    channels of 8 or 16 bits. ``size`` and ``stride`` are in pixels. It is an
    error if no picture matches, or tiles of two would have the same names.
    """

    source: Path
    size: int = 224
    stride: int = 224
    include: str = '*'
    exclude: str = ''

    def __post_init__(self) -> None:
        check_integer('size', self.size)
        check_integer('stride', self.stride)
        pictures, others = image_files(self.source)
        self.pictures = [
            path for path in pictures if fnmatch(path.name, self.include)
            and not (self.exclude and fnmatch(path.name, self.exclude))]
        others['picture by --include and --exclude'] = (
            len(pictures) - len(self.pictures))
        left = ', '.join(f'{count} {kind}' for kind, count in
                         sorted(others.items()) if count)
        self.notices = [f'Left out: {left}.'] * bool(left)
        if not self.pictures:
            raise ValueError(f'no picture in {self.source} matches '
                             f'{self.include!r}')
        first: dict[str, Path] = {}
        for path in self.pictures:
            # Some file systems take upper and lower case for the same.
            other = first.setdefault(path.stem.lower(), path)
            if other is not path:
                raise ValueError(f'the tiles of {other.name} and {path.name} '
                                 'would have the same names: rename one, or '
                                 'leave it out with --exclude')

    def write(self, out: Path) -> list[str]:
        """Write ``NAME_yTOP_xLEFT.png`` for each tile.

        An OSError says how many pictures could not be cut, or tiles not be
        written, and why the first. The others are there. A ValueError names a
        tile that is there from another grid on the same picture.
        """
        out.mkdir(parents=True, exist_ok=True)
        there = _tiles_in(out)
        written, problems = 0, []
        for path in self.pictures:
            try:
                tiles = self._cut(path)
            except (image_io.ImageFileError, ValueError, OSError) as error:
                problems.append(f'{path} was not cut: {error}')
                continue
            if others := there[path.stem].difference(tiles):
                raise ValueError(
                    f'{out / min(others)} exists and is no tile of this cut '
                    f'of {path}: of another --stride or --size? Choose '
                    'another OUT')
            for name, tile in tiles.items():
                try:
                    _write_once(out / name, tile)
                    written += 1
                except OSError as error:
                    problems.append(str(error))
        line = f'{written} tiles from {len(self.pictures)} pictures in {out}'
        if problems:
            raise OSError(f'{line}; {len(problems)} problems, the first: '
                          f'{problems[0]}')
        return [line]

    def leftovers(self, out: Path) -> list[str]:
        others = _tiles_in(out)
        for path in self.pictures:
            others.pop(path.stem, None)
        count = sum(map(len, others.values()))
        return [f'{out} also holds {count} tiles of other pictures, perhaps '
                'of another --size or --stride, which whatever reads the '
                f'folder reads, too: {shown(sorted(others))}.'
                ] if others else []

    def _cut(self, path: Path) -> dict[str, bytes]:
        """Encode the tiles of a picture, by the names of their files."""
        image = image_io.read_image(path)
        height, width = image.shape[:2]
        if min(height, width) < self.size:
            raise ValueError(f'it measures {height}x{width} pixels, less than '
                             f'--size {self.size}')
        return {
            f'{path.stem}_y{top:05d}_x{left:05d}.png': image_io.encode_image(
                '.png', np.ascontiguousarray(
                    image[top:top + self.size, left:left + self.size]))
            for top in self._starts(height) for left in self._starts(width)}

    def _starts(self, length: int) -> list[int]:
        """First pixels of the tiles along one axis."""
        last = length - self.size
        return sorted({*range(0, last + 1, self.stride), last})


def _tiles_in(folder: Path) -> dict[str, set[str]]:
    """List the names of tiles in a folder by the names of their pictures."""
    tiles: dict[str, set[str]] = defaultdict(set)
    for path in folder.iterdir():
        if match := _TILE.fullmatch(path.name):
            tiles[match[1]].add(path.name)
    return tiles


def _write_once(path: Path, encoded: bytes) -> None:
    """Write a tile; one of other pixels that is there already stays."""
    if path.is_file() and path.read_bytes() != encoded:
        raise OSError(f'{path} exists, with other pixels: of a picture of '
                      'the same name in another folder? Choose another OUT')
    write_bytes(path, encoded, durable=False)
