"""Heat maps of the patches of a slide, and what their colours say."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmmedmask.util.checks import check_choice, check_positive, check_shape
from mmmedmask.visualization.attention_pictures import COLORMAP, MAP_SHARE
from mmmedmask.visualization.grid import FAINT_INK, Column, draw_grid

SCALES = dict(
    percentile='colour: rank among {} patches (percentile); numbers: values '
    'at these ranks',
    minmax='colour: linear from the least to the most of {} patches',
    probability='colour: probability 0 to 1, {} patches')
"""How values become colours, and what is written above them."""

PROBABILITY_COLORMAP = 'coolwarm'
CANVAS_COLOR = (244, 244, 244)
_BAR_HEIGHT, _LABEL_HEIGHT = 14, 18
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class PatchMap:
    """A finite value (N,) for every patch, on one of ``SCALES``."""

    title: str
    values: np.ndarray
    scale: str = 'percentile'

    def __post_init__(self) -> None:
        check_choice('scale', self.scale, SCALES)
        if not np.isfinite(self.values).all():
            raise ValueError(f'{self.title} has values that are NaN or '
                             'infinite')


@dataclass(frozen=True)
class PatchPlaces:
    """Where the patches lie, in pixels of the slide's finest level.

    Attributes:
        coords: Upper left corners (x, y), shape (N, 2).
        side: Side of a patch.
        size: (width, height) of the slide.
        origin: (x, y) of what was scanned (``openslide.bounds``).
    """

    coords: np.ndarray
    side: float
    size: tuple[int, int]
    origin: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        check_shape('coords', self.coords, ('N', 2))
        check_positive('side', self.side)


def percentile_ranks(values: np.ndarray) -> np.ndarray:
    """Share of the other values (N, ) that are smaller; equal ones half."""
    from scipy.stats import rankdata

    if len(values) < 2:
        return np.full(len(values), .5)
    return (rankdata(values) - 1) / (len(values) - 1)


def color_levels(values: np.ndarray, scale: str) -> np.ndarray:
    """Bring values (N, ) to [0, 1], as one of ``SCALES`` says."""
    if scale == 'percentile':
        return percentile_ranks(values)
    if scale == 'probability':
        return np.clip(values, 0, 1)
    low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
    if not high > low:
        return np.full(len(values), .5)
    return (values - low) / (high - low)


def paint_patches(levels: np.ndarray, places: PatchPlaces,
                  shape: tuple[int, int]) -> np.ndarray:
    """Give every pixel the mean of the levels (N, ) of patches that cover it.

    The picture of the whole slide has ``shape`` (height, width); NaN is where
    there is no patch.
    """
    height, width = shape
    scale = np.array([width / places.size[0], height / places.size[1]])
    low = np.round(places.coords * scale).astype(int)
    # A corner near the far edge is rounded over it.
    low -= low == [width, height]
    high = np.round((places.coords + places.side) * scale).astype(int)
    # A patch is seen, however small the picture is.
    high = np.maximum(high, low + 1)
    total, count = np.zeros(shape), np.zeros(shape, np.int32)
    for level, (left, top), (right, bottom) in zip(
            levels, low.clip(0), high.clip(0), strict=True):
        total[top:bottom, left:right] += level
        count[top:bottom, left:right] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def draw_slide_heatmaps(thumbnail: np.ndarray | None, maps: Sequence[PatchMap],
                        places: PatchPlaces, heading: str = '', note: str = '',
                        max_side: int = 800) -> np.ndarray:
    """Draw maps side by side, each with its colour bar.

    Args:
        thumbnail: The whole slide, RGB, uint8; it is shown beside the maps,
            and in gray below them. None: an empty canvas below the maps.
        note: Line below the title of the slide, or behind the heading if
            there is no slide.
        max_side: Longest side of each picture in pixels.
    """
    if not maps:
        raise ValueError('there is no map to draw')
    for patch_map in maps:
        check_shape(f'values of {patch_map.title}', patch_map.values,
                    (len(places.coords), ), 'one for each patch')
    columns = []
    if thumbnail is None:
        canvas = np.full((*_shape_within(places.size[::-1], max_side), 3),
                         CANVAS_COLOR, np.uint8)
        if note:
            heading = f'{heading} ({note})'
    else:
        height, width = _shape_within(thumbnail.shape[:2], max_side)
        canvas = cv2.resize(thumbnail, (width, height),
                            interpolation=cv2.INTER_AREA)
        strip = np.full((_BAR_HEIGHT + _LABEL_HEIGHT, canvas.shape[1], 3),
                        255, np.uint8)
        columns.append(Column('Slide', note, [np.concatenate(
            [canvas, strip])]))
    gray = np.repeat(cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY)[..., None], 3,
                     axis=2)
    columns += [Column(
        patch_map.title, SCALES[patch_map.scale].format(len(places.coords)),
        [_draw_map(gray, patch_map, places, thumbnail is None)])
        for patch_map in maps]
    return draw_grid(columns, heading)


def _draw_map(gray: np.ndarray, patch_map: PatchMap, places: PatchPlaces,
              opaque: bool) -> np.ndarray:
    colors = matplotlib.colormaps[
        PROBABILITY_COLORMAP if patch_map.scale == 'probability'
        else COLORMAP]
    levels = color_levels(patch_map.values, patch_map.scale)
    painted = paint_patches(levels, places, gray.shape[:2])
    covered = np.isfinite(painted)
    picture = gray.copy()
    share = 1.0 if opaque else MAP_SHARE
    picture[covered] = np.round(share * 255 * colors(painted[covered])[:, :3]
                                + (1 - share) * gray[covered]).astype(np.uint8)
    return np.concatenate(
        [picture, _color_bar(patch_map, colors, gray.shape[1])])


def _color_bar(patch_map: PatchMap, colors, width: int) -> np.ndarray:
    """Draw a bar with the values that its colours stand for."""
    bar = colors(np.linspace(0, 1, width))[:, :3] * 255
    sheet = Image.new('RGB', (width, _BAR_HEIGHT + _LABEL_HEIGHT), 'white')
    sheet.paste(Image.fromarray(np.broadcast_to(
        bar.round().astype(np.uint8), (_BAR_HEIGHT - 4, width, 3)).copy()),
        (0, 4))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    free = 0
    for tick in _TICKS:
        text = _tick_text(patch_map, tick)
        length = font.getlength(text)
        left = min(max(0, tick * width - length / 2), width - length)
        if left < free:
            continue
        pen.text((left, _BAR_HEIGHT + 2), text, fill=FAINT_INK, font=font)
        free = left + length + 4
    return np.asarray(sheet)


def _tick_text(patch_map: PatchMap, tick: float) -> str:
    values = patch_map.values
    if patch_map.scale == 'probability':
        return f'{tick:g}'
    if not len(values):
        return ''
    if patch_map.scale == 'percentile':
        return f'{100 * tick:.0f} %: {np.quantile(values, tick):.3g}'
    return f'{values.min() + tick * (values.max() - values.min()):.3g}'


def _shape_within(shape: tuple[int, int], max_side: int) -> tuple[int, int]:
    """Make a shape smaller until its sides fit."""
    factor = max(1.0, max(shape) / max_side)
    return tuple(max(1, round(length / factor)) for length in shape)
