"""Crops, flips and resizing that record which part of an image is left.

A map of the whole image can then be read at the pixels of the crop, which is
what MSMAE's attention masking does (arXiv 2305.05871, section 3.3).
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mmmedmask.datasets.transforms.seeded import (
    SeededTransform,
    ShownTransform,
)
from mmmedmask.datasets.transforms.tile_loading import DTYPE_CHOICES
from mmmedmask.registry import TRANSFORMS
from mmmedmask.util.checks import (
    check_ascending,
    check_choice,
    check_range,
    check_size,
)

INTERPOLATIONS = tuple(kind.name.lower() for kind in Image.Resampling)
# By number of channels. Pillow would multiply RGBA with its alpha.
PILLOW_MODES = {1: 'L', 3: 'RGB', 4: 'CMYK'}
ATTEMPTS = 10
# Area, aspect ratio, top, left.
DRAWS_PER_ATTEMPT = 4

Box = tuple[float, float, float, float]
WHOLE: Box = (0., 0., 1., 1.)
# Mirrored left-right and top-bottom.
FLIPS = {None: (False, False), 'horizontal': (True, False),
         'vertical': (False, True), 'diagonal': (True, True)}
DIRECTIONS = {flips: direction for direction, flips in FLIPS.items()}


def resize_image(image: np.ndarray, size: tuple[int, int],
                 interpolation: str) -> np.ndarray:
    """Resize an image with Pillow, antialiased when it shrinks.

    Args:
        image: Shape (H, W, C); uint8, uint16 or float32.
        size: (h, w).
        interpolation: One of ``INTERPOLATIONS``.

    Returns:
        Shape (h, w, C) of the same type; integers are rounded and clipped.
    """
    height, width = size
    resample = Image.Resampling[interpolation.upper()]
    channels = image.shape[2]
    if image.dtype == np.uint8 and channels in PILLOW_MODES:
        picture = Image.frombytes(
            PILLOW_MODES[channels], image.shape[1::-1], image.tobytes())
        resized = picture.resize((width, height), resample)
        return np.array(resized).reshape(height, width, channels)
    check_choice('the type of an image', image.dtype.name, DTYPE_CHOICES)
    planes = np.empty((height, width, channels), np.float32)
    for channel in range(channels):
        plane = Image.fromarray(image[..., channel].astype(np.float32))
        planes[..., channel] = plane.resize((width, height), resample)
    if image.dtype == np.float32:
        return planes
    limit = np.iinfo(image.dtype).max
    return planes.round().clip(0, limit).astype(image.dtype)


def resize_map(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring a map of labels (H, W) of any type to a size (h, w).

    It takes the pixels that :func:`resize_image` takes by ``'nearest'``.
    """
    rows, columns = (
        resize_image(np.arange(present, dtype=np.float32).reshape(-1, 1, 1),
                     (wanted, 1), 'nearest').astype(int).ravel()
        for present, wanted in zip(labels.shape, size, strict=True))
    return labels[np.ix_(rows, columns)]


def pixel_keys(results: dict) -> tuple[str, ...]:
    """Name the image of a sample and its maps of labels (H, W)."""
    return ('img', *results.get('seg_fields', ()))


def resize_sample(results: dict, size: tuple[int, int], interpolation: str,
                  box: tuple[slice, ...] = ()) -> None:
    """Bring a sample, or a box (rows, columns) of it, to a size (h, w).

    The maps of labels that ``seg_fields`` names take their nearest pixel.
    """
    for key in pixel_keys(results):
        part = results[key][box]
        results[key] = (resize_image(part, size, interpolation)
                        if key == 'img' else resize_map(part, size))
    results['img_shape'] = size


def draw_crop(uniform: Sequence[float], image_size: tuple[int, int],
              crop_ratio_range: tuple[float, float],
              aspect_ratio_range: tuple[float, float]
              ) -> tuple[int, int, int, int]:
    """Choose (top, left, height, width), as torchvision's RandomResizedCrop.

    Area and, on a log scale, aspect ratio are uniform in their ranges; the
    first attempt that fits into the image (h, w) counts, at a uniform place.
    If none does, the largest central box of a valid aspect ratio is taken.
    ``uniform`` are ``DRAWS_PER_ATTEMPT`` numbers in [0, 1) per attempt.
    """
    rows, columns = image_size
    least, largest = crop_ratio_range
    low, high = map(math.log, aspect_ratio_range)
    for start in range(0, len(uniform), DRAWS_PER_ATTEMPT):
        area, aspect, top, left = uniform[start:start + DRAWS_PER_ATTEMPT]
        area = rows * columns * (least + (largest - least) * area)
        aspect = math.exp(low + (high - low) * aspect)
        width = round(math.sqrt(area * aspect))
        height = round(math.sqrt(area / aspect))
        if 0 < width <= columns and 0 < height <= rows:
            return (int(top * (rows - height + 1)),
                    int(left * (columns - width + 1)), height, width)
    narrow, wide = aspect_ratio_range
    height = min(rows, max(1, round(columns / narrow)))
    width = min(columns, max(1, round(rows * wide)))
    return (rows - height) // 2, (columns - width) // 2, height, width


def record_crop(results: dict, box: Box) -> None:
    """Note a crop in a sample, also after other crops and flips.

    ``box`` is (x0, y0, x1, y1) in fractions of the present image. The keys
    ``crop_box``, ``flip`` and ``flip_direction`` stand for the crop of the
    loaded image, mirrored after it.
    """
    left_right, top_bottom = recorded_flips(results)
    x0, y0, x1, y1 = box
    if left_right:
        x0, x1 = 1 - x1, 1 - x0
    if top_bottom:
        y0, y1 = 1 - y1, 1 - y0
    left, top, right, bottom = results.get('crop_box', WHOLE)
    width, height = right - left, bottom - top
    results['crop_box'] = (left + width * x0, top + height * y0,
                           left + width * x1, top + height * y1)
    results.setdefault('flip', False)
    results.setdefault('flip_direction', None)


def recorded_flips(results: dict) -> tuple[bool, bool]:
    """Whether a sample was mirrored, left-right and top-bottom."""
    return FLIPS[
        results.get('flip_direction') if results.get('flip') else None]


@TRANSFORMS.register_module()
class RandomResizedCrop(SeededTransform):
    """Cut out a random box, bring it to one size, and record the box.

    Boxes are distributed as those of torchvision and mmpretrain, whose
    arguments these are. Needs ``mmmedmask.TransformEpochHook``, as all seeded
    transforms.

    **Required keys**: ``img`` (H, W, C); uint8, uint16 or float32;
    ``sample_idx``.
    **Modified keys**: ``img``, ``img_shape`` (h, w), and the maps of labels
    (H, W) that ``seg_fields`` names, by the nearest pixel.
    **Added keys**: ``crop_box``, (x0, y0, x1, y1) in fractions of the loaded
    image; ``flip`` and ``flip_direction``, if there are none yet: False and
    None.

    Args:
        scale: Side of the result in pixels, or (h, w).
        crop_ratio_range: Least and largest share of the image's area, in
            (0, 1].
        aspect_ratio_range: Least and largest width over height.
        interpolation: Filter of Pillow, antialiased.
        seed: Seed of the draws; None takes the run's.
    """

    def __init__(self, scale: int | Sequence[int],
                 crop_ratio_range: Sequence[float] = (0.2, 1.0),
                 aspect_ratio_range: Sequence[float] = (3 / 4, 4 / 3),
                 interpolation: str = 'bicubic',
                 seed: int | None = None) -> None:
        super().__init__(seed)
        check_ascending('crop_ratio_range', crop_ratio_range, 0, 1,
                        open_low=True)
        check_ascending('aspect_ratio_range', aspect_ratio_range, 0,
                        open_low=True)
        self.scale = check_size('scale', scale)
        self.crop_ratio_range = tuple(crop_ratio_range)
        self.aspect_ratio_range = tuple(aspect_ratio_range)
        self.interpolation = check_choice(
            'interpolation', interpolation, INTERPOLATIONS)

    def transform(self, results: dict) -> dict:
        rows, columns = results['img'].shape[:2]
        top, left, height, width = self.choose_crop(results)
        resize_sample(results, self.scale, self.interpolation, (
            slice(top, top + height), slice(left, left + width)))
        record_crop(results, (left / columns, top / rows,
                              (left + width) / columns, (top + height) / rows))
        return results

    def choose_crop(self, results: dict) -> tuple[int, int, int, int]:
        """Choose the (top, left, height, width) of a sample, in pixels."""
        uniform = self.draw(results, ATTEMPTS * DRAWS_PER_ATTEMPT, 'crop')
        return draw_crop(uniform[0].tolist(), results['img'].shape[:2],
                         self.crop_ratio_range, self.aspect_ratio_range)


@TRANSFORMS.register_module()
class ResizeImage(ShownTransform):
    """Bring a whole image to one size, whatever its shape, and record so.

    **Required key**: ``img`` (H, W, C); uint8, uint16 or float32.
    **Modified keys**: as :class:`RandomResizedCrop`.
    **Added keys**: as :class:`RandomResizedCrop`; ``crop_box`` is the whole
    image.

    Args:
        scale: Side of the result in pixels, or (h, w).
        interpolation: Filter of Pillow, antialiased.
    """

    def __init__(self, scale: int | Sequence[int],
                 interpolation: str = 'bicubic') -> None:
        self.scale = check_size('scale', scale)
        self.interpolation = check_choice(
            'interpolation', interpolation, INTERPOLATIONS)

    def transform(self, results: dict) -> dict:
        resize_sample(results, self.scale, self.interpolation)
        record_crop(results, WHOLE)
        return results


@TRANSFORMS.register_module()
class RandomFlip(SeededTransform):
    """Mirror an image at random, and record it either way.

    The draw is apart from that of the crop.
    Needs ``mmmedmask.TransformEpochHook``, as all seeded transforms.

    **Required keys**: ``img`` (H, W, C), ``sample_idx``.
    **Modified keys**: ``img``, and the maps of labels (H, W) that
    ``seg_fields`` names.
    **Added keys**: ``flip``, whether it is mirrored; ``flip_direction``,
    ``'horizontal'`` (left-right), ``'vertical'`` (top-bottom),
    ``'diagonal'`` (both) or None.

    Args:
        prob: Probability in [0, 1]; several directions share it alike. Or
            one for each direction, with a sum of at most 1.
        direction: One direction, or several of which one is drawn.
        seed: Seed of the draw; None takes the run's.
    """

    def __init__(self, prob: float | Sequence[float] = 0.5,
                 direction: str | Sequence[str] = 'horizontal',
                 seed: int | None = None) -> None:
        super().__init__(seed)
        directions = (direction, ) if isinstance(
            direction, str) else tuple(direction)
        known = tuple(name for name in FLIPS if name)
        if not directions or not set(directions) <= set(known):
            raise ValueError(f'direction must be one or several of {known}, '
                             f'got {direction!r}')
        probs = tuple(prob) if isinstance(prob, Sequence) else (
            prob / len(directions), ) * len(directions)
        for value in probs:
            check_range(f'each of prob {prob!r}', value, 0, 1)
        # The sum of ten times 0.1 is below 1 in floats, other sums above.
        if len(probs) != len(directions) or sum(probs) > 1 + 1e-9:
            raise ValueError('prob must be in [0, 1], or one for each of '
                             f'{len(directions)} directions with a sum of '
                             f'at most 1, got {prob!r}')
        self.direction, self.prob = directions, probs

    def transform(self, results: dict) -> dict:
        left_right, top_bottom = FLIPS[self._choose(results)]
        axes = (0, ) * top_bottom + (1, ) * left_right
        for key in pixel_keys(results) if axes else ():
            results[key] = np.ascontiguousarray(np.flip(results[key], axes))
        before = recorded_flips(results)
        direction = DIRECTIONS[left_right != before[0],
                               top_bottom != before[1]]
        results['flip'] = direction is not None
        results['flip_direction'] = direction
        return results

    def _choose(self, results: dict) -> str | None:
        left = float(self.draw(results, 1, 'flip'))
        for direction, prob in zip(self.direction, self.prob, strict=True):
            if left < prob:
                return direction
            left -= prob
        return None
