"""Read the lesion mask of an image."""

from pathlib import Path

import numpy as np

from mmmedmask.datasets.image_io import ImageFileError, read_image


def read_lesion_mask(path: str | Path) -> np.ndarray:
    """Read a mask file: which pixels are lesion.

    Args:
        path: An image of 8 bits, gray or with equal colours; alpha is not
            looked at. Either 0 and 255, or 0 and 1; all black is an image
            without lesion.

    Returns:
        Boolean array of shape (H, W), True on the lesion.

    Raises:
        ImageFileError: If the file cannot be read, or holds anything else;
            the message names it.
    """
    image = read_image(path)
    try:
        mask = gray_values(image)
    except ValueError as error:
        raise ImageFileError(f'The lesion mask {path} {error}') from error
    lesion = mask > 127 if mask.max() > 1 else mask == 1
    others = np.setdiff1d(mask, [0, 255] if mask.max() > 1 else [0, 1])
    if len(others):
        share = np.isin(mask, others).mean()
        raise ImageFileError(
            f'The lesion mask {path} must hold 0 and 255, or 0 and 1, but '
            f'{share:.1%} of its pixels hold other values, such as '
            f'{others[len(others) // 2]}: is it a mask, and not compressed '
            'with loss or resized with interpolation?')
    return lesion


def gray_values(image: np.ndarray) -> np.ndarray:
    """Take the one channel of a black and white picture.

    Args:
        image: uint8 of shape (H, W, C): gray, gray with alpha, RGB or RGBA.
            Colours have to be gray, alpha is not looked at.

    Returns:
        uint8 of shape (H, W).

    Raises:
        ValueError: If it is of another type, or has colours; the message
            goes on a sentence that begins with the picture.
    """
    if image.dtype != np.uint8:
        raise ValueError(f'holds {image.dtype}, expected uint8')
    if image.shape[2] in (2, 4):
        image = image[..., :-1]
    if image.shape[2] not in (1, 3) or (image != image[..., :1]).any():
        raise ValueError(
            f'has colours: {image.shape[2]} channels that differ, expected '
            'black and white')
    return image[..., 0]
