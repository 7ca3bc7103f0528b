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
    if image.dtype != np.uint8:
        raise ImageFileError(
            f'The lesion mask {path} holds {image.dtype}, expected uint8')
    if image.shape[2] in (2, 4):
        image = image[..., :-1]
    mask = image[..., 0]
    if (image != mask[..., None]).any():
        raise ImageFileError(
            f'The lesion mask {path} has colours, expected black and white')
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
