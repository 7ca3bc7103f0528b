"""Draw which tiles of a slide are kept."""

import cv2
import numpy as np

from mmmedmask.visualization.grid import Column, draw_grid

TILE_COLOR = (20, 60, 200)
TISSUE_COLOR = (0, 150, 60)


def draw_kept_tiles(thumbnail: np.ndarray, coords: np.ndarray, side: int,
                    size: tuple[int, int], tissue: np.ndarray | None = None,
                    heading: str = '', note: str = '') -> np.ndarray:
    """Draw tiles as blue squares, and the tissue with a green outline.

    Args:
        thumbnail: The slide, RGB, uint8 (H, W, 3).
        coords: Upper left corners (x, y), (N, 2), of tiles of a ``side``, in
            pixels of the finest level.
        size: (width, height) of the finest level.
        tissue: Tissue on a picture of the slide of any size, bool.
    """
    height, width = thumbnail.shape[:2]
    picture = thumbnail.copy()
    scale = np.array([width / size[0], height / size[1]])
    corners = np.round(np.concatenate([coords, coords + side], axis=1)
                       * np.tile(scale, 2)).astype(int)
    inside = picture.copy()
    for left, top, right, bottom in corners.tolist():
        inside[top:bottom, left:right] = TILE_COLOR
    picture = cv2.addWeighted(inside, .12, picture, .88, 0)
    for left, top, right, bottom in corners.tolist():
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1),
                      TILE_COLOR, 1)
    if tissue is not None:
        mask = cv2.resize(tissue.astype(np.uint8), (width, height),
                          interpolation=cv2.INTER_NEAREST)
        outline, _ = cv2.findContours(mask, cv2.RETR_CCOMP,
                                      cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outline, -1, TISSUE_COLOR,
                         max(1, round(max(height, width) / 700)))
    column = Column(f'{len(coords)} tiles kept (blue), tissue outlined '
                    '(green)', note, [picture])
    return draw_grid([column], heading)
