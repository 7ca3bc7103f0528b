"""Lesion masks of a download: read them, and join several of one image."""

import cv2
import numpy as np

from mmmedmask.datasets.conversion.check_report import CheckReport
from mmmedmask.datasets.conversion.labelled import LabelledImage, LesionMask
from mmmedmask.datasets.image_io import ImageFileError, read_image
from mmmedmask.datasets.lesion_masks import gray_values


def join_masks(image: LabelledImage, size: tuple[int, int],
               report: CheckReport) -> LesionMask | None:
    """Read the masks of an image and join them by OR.

    Args:
        image: The image; without masks, the joined mask is empty.
        size: Height and width of the image.
        report: Where problems go.

    Returns:
        The mask, 255 on the lesion and 0 elsewhere, or None if a mask cannot
        be used.
    """
    joined, usable = np.zeros(size, np.uint8), True
    for path in image.masks:
        try:
            mask = mask_to_binary(read_image(path))
        except ImageFileError as error:
            report.add_problem('broken_file', str(path), detail=str(error))
            usable = False
            continue
        except ValueError as error:
            report.add_problem('bad_lesion_mask', str(path),
                               detail=str(error))
            usable = False
            continue
        if mask.shape != tuple(size):
            report.add_problem(
                'size_mismatch', str(image.source), str(path),
                detail=f'image {tuple(size)}, mask {mask.shape}, (h, w)')
            usable = False
            continue
        joined[mask] = 255
    if not usable:
        return None
    return LesionMask(
        cv2.imencode('.png', joined)[1].tobytes(), bool(joined.any()))


def mask_to_binary(mask: np.ndarray) -> np.ndarray:
    """Turn the pixels of a mask file into lesion or not.

    Args:
        mask: What :func:`gray_values` takes. Values are 0 and 255, 0 and
            1, or a few others near to black or white, as compression leaves
            them.

    Returns:
        Boolean array of shape (H, W), True on the lesion.

    Raises:
        ValueError: If the mask has colours, another type than uint8, values
            between black and white in more than one pixel of 20, or nothing
            white though it is not black (class numbers, for instance).
    """
    try:
        values = gray_values(mask)
    except ValueError as error:
        raise ValueError(f'the mask {error}') from error
    brightest = int(values.max(initial=0))
    if brightest <= 1:
        return values == 1
    if brightest <= 127:
        raise ValueError(
            f'the largest value of the mask is {brightest}; expected 0 and '
            '255, or 0 and 1')
    between = ((values > 63) & (values < 192)).mean()
    if between > 0.05:
        raise ValueError(
            f'{between:.1%} of the mask is neither black nor white')
    return values > 127
