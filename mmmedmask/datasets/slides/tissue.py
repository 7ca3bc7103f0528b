"""Find tissue on a small picture of a slide.

Stained tissue is more colourful than glass: Otsu's threshold on saturation, as
in CLAM, within limits, since Otsu always divides in two: where the means
differ by less than the lower limit, the upper one counts. Yellow, of old
mounting medium, does not count, nor blue and green ink: haematoxylin and eosin
absorb green more than red (Ruifrok and Johnston 2001), these inks do not.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mmmedmask.util.checks import (
    check_ascending,
    check_integer,
    check_positive,
    check_range,
)

_YELLOW = 0.4
# What is brighter in red is too pale for ink: glass, faint nuclei of IHC.
_INK_RED = 170


@dataclass(frozen=True)
class TissueOptions:
    """How tissue is found.

    Attributes:
        mpp: Micrometres per pixel of the picture it is found on.
        saturation: Threshold of the saturation (0 to 255); None for Otsu's.
        saturation_limits: What Otsu's threshold is kept within.
        min_brightness: Pixels whose brightest channel (0 to 255) is below
            are not tissue: pen, black borders, whose saturation is noise.
        median: Side of the median filter of the saturation in pixels, odd;
            1 for none.
        min_area: Smaller pieces are left out, in mm².
        max_hole: Smaller holes are filled, in mm².
        ink: How many times as much of red as of green (absorbance, that is
            the logarithm of what is missing to white) blue and green ink
            absorbs at least; 0 where it counts as tissue, as the blues of
            trichrome and Alcian stains need it. Red and purple ink has the
            colours of stains and counts as tissue.
    """

    mpp: float = 8.0
    saturation: int | None = None
    saturation_limits: tuple[int, int] = (10, 40)
    min_brightness: int = 40
    median: int = 5
    min_area: float = 0.02
    max_hole: float = 0.01
    ink: float = 1.3

    def __post_init__(self) -> None:
        check_positive('mpp', self.mpp)
        check_range('saturation', self.saturation or 0, 0, 255)
        check_range('min_brightness', self.min_brightness, 0, 255)
        check_ascending('saturation_limits', self.saturation_limits, 0, 255)
        if check_integer('median', self.median) % 2 == 0:
            raise ValueError(f'median must be odd, got {self.median}')
        for name in ('min_area', 'max_hole', 'ink'):
            check_range(name, getattr(self, name), 0)


def find_tissue(picture: np.ndarray, options: TissueOptions,
                mpp: float | None = None) -> np.ndarray:
    """Find tissue, bool (H, W), on an RGB picture, uint8 (H, W, 3).

    ``mpp`` are the picture's; None takes the options'.
    """
    saturation = _saturation(picture)
    if options.median > 1:
        saturation = cv2.medianBlur(saturation, options.median)
    threshold = options.saturation
    if threshold is None:
        otsu, high = cv2.threshold(saturation, 0, 255,
                                   cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        least, most = options.saturation_limits
        high = high > 0
        # Apart by less, both are glass with a tint, or nothing but tissue.
        are_two = high.any() and not high.all() and (
            saturation[high].mean() - saturation[~high].mean() >= least)
        threshold = np.clip(otsu, least, most) if are_two else most
    tissue = saturation > threshold
    tissue &= picture.max(axis=2) >= options.min_brightness
    if options.ink:
        tissue &= ~_is_ink(picture, options)
    pixels_per_mm2 = (1000 / (mpp or options.mpp))**2
    tissue = _without_small(tissue, options.min_area * pixels_per_mm2, 8)
    return ~_without_small(~tissue, options.max_hole * pixels_per_mm2, 4)


def _saturation(picture: np.ndarray) -> np.ndarray:
    """Saturation as of HSV, uint8 (H, W), but for a yellow tint of the glass.

    Yellow lacks blue: the least value is not sought there, and 0.4 of what
    blue lacks to green is taken off.
    """
    red, green, blue = np.moveaxis(picture.astype(np.int16), 2, 0)
    largest = np.maximum(np.maximum(red, green), blue)
    spread = np.maximum(red, blue) - np.minimum(red, green)
    spread = spread - _YELLOW * np.maximum(green - blue, 0)
    share = 255 * spread / np.maximum(largest, 1)
    return share.clip(0, 255).round().astype(np.uint8)


def _is_ink(picture: np.ndarray, options: TissueOptions) -> np.ndarray:
    """Find blue and green ink, bool (H, W)."""
    smooth = cv2.medianBlur(picture, options.median)
    # A table of the 256 values is faster than a logarithm for each pixel.
    absorbance = -np.log(np.arange(1, 257, dtype=np.float32) / 256)
    red, green = (absorbance[smooth[..., place]] for place in (0, 1))
    return (red > options.ink * green) & (smooth[..., 0] < _INK_RED)


def _without_small(mask: np.ndarray, min_pixels: float,
                   connectivity: int) -> np.ndarray:
    """Leave out connected pieces of fewer pixels."""
    if min_pixels <= 1 or not mask.any():
        return mask
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=connectivity)
    keep = stats[:count, cv2.CC_STAT_AREA] >= min_pixels
    keep[0] = False
    return keep[labels]
