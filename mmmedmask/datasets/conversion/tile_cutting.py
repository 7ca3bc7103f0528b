"""Cut large pictures into tiles for pre-training."""

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import cv2

from mmmedmask.datasets.conversion import Conversion
from mmmedmask.datasets.image_io import IMAGE_EXTENSIONS
from mmmedmask.util.checks import check_integer


@dataclass
class TileCutting(Conversion):
    """Pictures that are cut on a regular grid.

    The last row and column are moved inwards, so that nothing is lost and no
    tile is padded.

    Attributes:
        source: Folder with pictures.
        size: Side of a tile in pixels.
        stride: Distance of two tiles in pixels.
        include: Pattern of file names to cut.
        exclude: Pattern of file names to leave out.

    Raises:
        ValueError: If ``size`` or ``stride`` is not positive, or no picture
            matches.
    """

    source: Path
    size: int = 224
    stride: int = 224
    include: str = '*'
    exclude: str = ''
    notices = ()

    def __post_init__(self) -> None:
        check_integer('size', self.size)
        check_integer('stride', self.stride)
        self.pictures = [
            path for path in sorted(self.source.iterdir())
            if path.suffix.lower() in IMAGE_EXTENSIONS
            and fnmatch(path.name, self.include)
            and not (self.exclude and fnmatch(path.name, self.exclude))
        ]
        if not self.pictures:
            raise ValueError(f'no picture in {self.source} matches '
                             f'{self.include!r}')

    def write(self, out: Path) -> list[str]:
        """Write ``NAME_yTOP_xLEFT.png`` for each tile."""
        out.mkdir(parents=True, exist_ok=True)
        count = sum(self._cut(path, out) for path in self.pictures)
        return [f'{count} tiles from {len(self.pictures)} pictures in {out}']

    def _cut(self, path: Path, out: Path) -> int:
        # Left as it is stored: what is read is written again.
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise ValueError(f'{path} cannot be read as a picture')
        height, width = image.shape[:2]
        if min(height, width) < self.size:
            raise ValueError(
                f'{path} measures {height}x{width} pixels, less than --size '
                f'{self.size}')
        corners = [(top, left) for top in self._starts(height)
                   for left in self._starts(width)]
        for top, left in corners:
            cv2.imwrite(
                str(out / f'{path.stem}_y{top:05d}_x{left:05d}.png'),
                image[top:top + self.size, left:left + self.size])
        return len(corners)

    def _starts(self, length: int) -> list[int]:
        """First pixels of the tiles along one axis."""
        last = length - self.size
        return sorted({*range(0, last + 1, self.stride), last})
