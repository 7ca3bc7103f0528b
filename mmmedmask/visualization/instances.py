"""Draw instance masks over an image."""

from collections.abc import Sequence

import cv2
import numpy as np

from mmmedmask.util.checks import check_integer, check_shape

# Bright and far from the pinks and blues of stained tissue; neighbours in
# the list differ most.
PALETTE = ((255, 196, 0), (0, 200, 150), (255, 92, 38), (0, 168, 255),
           (160, 220, 0), (255, 64, 160), (0, 224, 224), (255, 150, 90))
FILL_SHARE = 0.28


def draw_instances(image: np.ndarray, masks: Sequence[np.ndarray],
                   scores: Sequence[float] | None = None,
                   scale: int = 2) -> np.ndarray:
    """Fill and outline every instance in a colour of its own.

    Args:
        image: uint8 RGB image (H, W, 3).
        masks: One bool array (H, W) per instance, 1 = inside.
        scores: In [0, 1], written into the instances.
        scale: Whole factor by which the picture is enlarged first, so that
            thin lines and small numbers stay sharp.
    """
    check_integer('scale', scale)
    if scores is not None and len(scores) != len(masks):
        raise ValueError(f'{len(scores)} scores for {len(masks)} masks')
    for mask in masks:
        check_shape('a mask', mask, image.shape[:2], 'that of the image')
    size = (image.shape[1] * scale, image.shape[0] * scale)  # (w, h), OpenCV
    picture = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    enlarged = [cv2.resize(mask.astype(np.uint8), size,
                           interpolation=cv2.INTER_NEAREST) for mask in masks]
    colors = [PALETTE[index % len(PALETTE)] for index in range(len(masks))]
    for color, mask in zip(colors, enlarged, strict=True):
        inside = mask > 0
        mixed = picture[inside] * (1 - FILL_SHARE) \
            + np.array(color) * FILL_SHARE
        picture[inside] = mixed.round().astype(np.uint8)
    for color, mask in zip(colors, enlarged, strict=True):
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL,
                                       cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, color, 2, cv2.LINE_AA)
    if scores is not None:
        for mask, score in zip(enlarged, scores, strict=True):
            _write_score(picture, mask, score)
    return picture


def _write_score(picture: np.ndarray, mask: np.ndarray, score: float) -> None:
    places = np.argwhere(mask)
    if len(places) == 0:
        return
    text = f'{score:.2f}'.lstrip('0') if score < 1 else '1.0'
    row, column = places.mean(axis=0)
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    (width, height), _ = cv2.getTextSize(text, font, size, 1)
    corner = (round(column - width / 2), round(row + height / 2))
    for color, thickness in (((20, 24, 32), 3), ((255, 255, 255), 1)):
        cv2.putText(picture, text, corner, font, size, color, thickness,
                    cv2.LINE_AA)
