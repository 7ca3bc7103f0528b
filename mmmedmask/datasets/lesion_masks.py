"""Lesion masks: read one as it must be, or bring a download's to 0 and 1."""

from pathlib import Path

import numpy as np

from mmmedmask.datasets.image_io import (
    ImageFileError,
    gray_channel,
    read_image,
)


def read_lesion_mask(path: str | Path) -> np.ndarray:
    """Read a mask file: which pixels (H, W) are lesion.

    It is an image of 8 bits, gray or with equal colours; alpha is not looked
    at. Values are 0 and 255, or 0 and 1; all black is an image without
    lesion. Anything else is an :class:`ImageFileError` that names the file.
    """
    image = read_image(path)
    try:
        mask = _gray_bytes(image)
    except ValueError as error:
        raise ImageFileError(f'The lesion mask {path} {error}') from error
    white = 255 if mask.max() > 1 else 1
    others = np.setdiff1d(mask, [0, white])
    if len(others):
        share = np.isin(mask, others).mean()
        raise ImageFileError(
            f'The lesion mask {path} must hold 0 and 255, or 0 and 1, but '
            f'{share:.1%} of its pixels hold other values, such as '
            f'{others[len(others) // 2]}: is it a mask, and not compressed '
            'with loss or resized with interpolation?')
    return mask == white


def mask_to_binary(image: np.ndarray) -> np.ndarray:
    """Turn the pixels (H, W, C) of a download's mask into lesion or not.

    They are uint8, gray or with equal colours: 0 and 255, 0 and 1, or others
    near to black or white, as compression leaves them. An error are values
    between black and white in more than one pixel of 20, and nothing white
    though it is not black (class numbers, for instance).
    """
    try:
        values = _gray_bytes(image)
    except ValueError as error:
        raise ValueError(f'the mask {error}') from error
    brightest = int(values.max(initial=0))
    if brightest <= 1:
        return values == 1
    if brightest <= 127:
        raise ValueError(f'the largest value of the mask is {brightest}; '
                         'expected 0 and 255, or 0 and 1')
    between = ((values > 63) & (values < 192)).mean()
    if between > 0.05:
        raise ValueError(
            f'{between:.1%} of the mask is neither black nor white')
    return values > 127


def _gray_bytes(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8:
        raise ValueError(f'holds {image.dtype}, expected uint8')
    mask = gray_channel(image)
    if image.shape[2] in (2, 4) and np.ptp(mask) == 0 < np.ptp(image[..., -1]):
        raise ValueError('has one colour, and a shape in its alpha channel '
                         'alone: store the shape as gray')
    return mask
