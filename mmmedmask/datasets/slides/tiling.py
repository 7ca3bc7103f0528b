"""Lay tiles on a slide, and read them at a wanted resolution."""

from dataclasses import dataclass

import cv2
import numpy as np

from mmmedmask.datasets.slides.slide_readers import SlideError, SlideReader
from mmmedmask.util.checks import check_integer, check_positive

# Levels are said to be twice as coarse and are 2.0005: no reason to take
# one that has four times the pixels.
_TOLERANCE = 0.01
_MAX_ENLARGEMENT = 1.05
# What files and users round away.
_SAME_MPP = 0.02
_STRIPE_PIXELS = 1 << 24


@dataclass(frozen=True)
class TileGeometry:
    """Which pixels a tile is made of.

    Sides of a tile: ``tile_size`` as the encoder gets it, ``read_size`` on
    the ``level`` it is read from, ``side`` on the finest level, where tiles
    are ``step`` apart. ``mpp`` are its micrometres per pixel, as near to what
    was asked for as whole pixels permit, ``slide_mpp`` the finest level's.
    """

    tile_size: int
    side: int
    step: int
    level: int
    read_size: int
    mpp: float
    slide_mpp: float


def plan_tiles(slide: SlideReader, tile_size: int, mpp: float,
               overlap: int = 0, slide_mpp: float | None = None,
               allow_enlarging: bool = False,
               trust_slide_mpp: bool = False) -> TileGeometry:
    """Choose the level and the pixels of tiles; see ``TilingOptions``.

    Tiles are read from the coarsest level that is as fine as they are, and
    made smaller by averaging. ``slide_mpp`` is for files that do not tell
    theirs, and with ``trust_slide_mpp`` for those that tell another.
    """
    check_integer('tile_size', tile_size)
    check_positive('mpp', mpp)
    check_integer('overlap', overlap, 0, tile_size - 1)
    if slide_mpp is not None:
        check_positive('slide_mpp', slide_mpp)
    slide_mpp = known_mpp(slide, slide_mpp, trust_slide_mpp)
    if slide_mpp is None:
        reason = slide.mpp_note or 'it does not say'
        raise SlideError(f'{slide.path}: how many µm a pixel is wide is not '
                         f'known ({reason}); give it with --slide-mpp, or in '
                         'the column mpp of the csv')
    factor = mpp / slide_mpp
    if factor * _MAX_ENLARGEMENT < 1 and not allow_enlarging:
        raise SlideError(
            f'{slide.path} has {slide_mpp:g} µm per pixel, which is coarser '
            f'than tiles of {mpp:g}: ask for --mpp {slide_mpp:g} or more, '
            'or let pixels be made up with --allow-enlarging')
    side = max(1, round(tile_size * factor))
    step = max(1, round((tile_size - overlap) * factor))
    level = _level_for(slide, side / tile_size)
    return TileGeometry(tile_size, side, step, level,
                        max(1, round(side / slide.downsamples[level])),
                        slide_mpp * side / tile_size, slide_mpp)


def known_mpp(slide: SlideReader, given: float | None,
              trust_given: bool = False) -> float | None:
    """Micrometres per pixel of the file, else the user's, which must agree.

    With ``trust_given`` the user's, else the file's.
    """
    if trust_given:
        return given or slide.mpp
    if given is None or slide.mpp is None:
        return slide.mpp or given
    if abs(given / slide.mpp - 1) > _SAME_MPP:
        raise SlideError(
            f'{slide.path} tells {slide.mpp:g} µm per pixel, but {given:g} '
            'are given (--slide-mpp, or the column mpp of the csv), which is '
            'for files that do not tell it; extract_features.py takes what is '
            'given with --trust-slide-mpp')
    return slide.mpp


def _level_for(slide: SlideReader, downsample: float) -> int:
    """Choose the coarsest level that is as fine as is wanted."""
    fine = [level for level, value in enumerate(slide.downsamples)
            if value <= downsample * (1 + _TOLERANCE)]
    return max(fine, key=lambda level: slide.downsamples[level], default=0)


def tile_grid(size: tuple[int, int], geometry: TileGeometry) -> np.ndarray:
    """List corners (x, y) of tiles on a slide (w, h), by row, int32 (N, 2)."""
    starts = [np.arange(0, length - geometry.side + 1, geometry.step)
              for length in size]
    x, y = np.meshgrid(*starts)
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int32)


def tissue_shares(mask: np.ndarray, coords: np.ndarray, side: int,
                  size: tuple[int, int]) -> np.ndarray:
    """Say how much of each tile is tissue, exactly, in [0, 1], float64 (N, ).

    ``mask`` (h, w) is of a small picture of the whole slide; corners (x, y)
    (N, 2), side and size (width, height) are pixels of the finest level.
    """
    height, width = mask.shape
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = mask.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    scale = np.array([width / size[0], height / size[1]])
    low, high = coords * scale, (coords + side) * scale
    area = (_between(total, high[:, 0], high[:, 1])
            - _between(total, low[:, 0], high[:, 1])
            - _between(total, high[:, 0], low[:, 1])
            + _between(total, low[:, 0], low[:, 1]))
    return np.clip(area / (side * side * scale[0] * scale[1]), 0, 1)


def _between(total: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Read sums up to (x, y), which are linear within a pixel."""
    left = np.clip(np.floor(x).astype(int), 0, total.shape[1] - 2)
    top = np.clip(np.floor(y).astype(int), 0, total.shape[0] - 2)
    right, below = x - left, y - top
    return ((1 - below) * ((1 - right) * total[top, left]
                           + right * total[top, left + 1])
            + below * ((1 - right) * total[top + 1, left]
                       + right * total[top + 1, left + 1]))


def read_tile(slide: SlideReader, geometry: TileGeometry, x: int,
              y: int) -> np.ndarray:
    """Read a tile by its corner: RGB, uint8 (tile_size, tile_size, 3)."""
    size = geometry.read_size
    return resize(slide.read(geometry.level, x, y, size, size),
                  (geometry.tile_size, geometry.tile_size))


def read_overview(slide: SlideReader, downsample: float) -> np.ndarray:
    """Read the whole slide as RGB of :func:`small_size`, stripe by stripe."""
    check_positive('downsample', downsample)
    width, height = small_size(slide.size, downsample)
    level = _level_for(slide, downsample)
    level_width, level_height = slide.level_sizes[level]
    to_level = level_height / height
    rows = max(1, int(_STRIPE_PIXELS / level_width / to_level))
    picture = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        begin, end = round(top * to_level), round(bottom * to_level)
        end = min(max(end, begin + 1), level_height)
        stripe = slide.read(
            level, 0, round(begin * slide.size[1] / level_height),
            level_width, end - begin)
        picture[top:bottom] = resize(stripe, (width, bottom - top))
    return picture


def small_size(size: tuple[int, int], downsample: float) -> tuple[int, int]:
    """(width, height) of a slide's picture that is so much smaller."""
    width, height = (max(1, round(length / downsample)) for length in size)
    return width, height


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize to (width, height): average, or interpolate what gets larger."""
    width, height = size
    if image.shape[:2] == (height, width):
        return image
    smaller = image.shape[0] >= height and image.shape[1] >= width
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller
                      else cv2.INTER_CUBIC)
