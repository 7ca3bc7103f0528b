"""Truth and prediction of segmented images, side by side under titles."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmengine.visualization import Visualizer

from mmmedmask.registry import VISUALIZERS
from mmmedmask.util.checks import check_shape
from mmmedmask.visualization.grid import Column, draw_grid, enlarge
from mmmedmask.visualization.instances import PALETTE

PARTS = {'Truth': 'gt_sem_seg', 'Prediction': 'pred_sem_seg'}
BACKGROUND = 'background'
#: Small images are enlarged to about so many pixels before they are drawn on.
MIN_SIDE = 240
#: White around an image, on which outlines at its border are closed.
FRAME = 3


@VISUALIZERS.register_module()
class SegmentationVisualizer(Visualizer):
    """Draw an image, what is true of it and what was predicted.

    Other than with mmseg's visualizer, whose arguments it takes, nothing lies
    on a lesion, however small: it is outlined from outside, and named above.
    All processes draw, where OpenMMLab's know classes in the first alone.
    """

    @property
    def dataset_meta(self) -> dict | None:
        """What is known of the data set, such as ``classes``."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict | None) -> None:
        self._dataset_meta = dataset_meta

    def add_datasample(self, name: str, image: np.ndarray,
                       data_sample: Any = None, draw_gt: bool = True,
                       draw_pred: bool = True, show: bool = False,
                       wait_time: float = 0, out_file: str | None = None,
                       step: int = 0) -> None:
        """Draw a sample and save the picture.

        Args:
            image: uint8 RGB image (H, W, 3).
            data_sample: With ``gt_sem_seg`` and ``pred_sem_seg``, class
                numbers (1, H, W), or one of them.
            wait_time: Seconds that it stays; 0 until a key is pressed.
            out_file: File to write; None hands the picture to the backends.
        """
        picture = self._draw(image, data_sample, dict(
            Truth=draw_gt, Prediction=draw_pred))
        if show:
            self.show(picture, win_name=name, wait_time=wait_time)
        if out_file is not None:
            cv2.imwrite(out_file, picture[..., ::-1])
        else:
            self.add_image(name, picture, step)

    def _draw(self, image: np.ndarray, data_sample: Any,
              wanted: dict[str, bool]) -> np.ndarray:
        height, width = image.shape[:2]
        columns = [Column('Image', f'{width} x {height} pixels',
                          [framed(image)])]
        names = (self.dataset_meta or {}).get('classes')
        for title, key in PARTS.items():
            if wanted[title] and key in (data_sample or ()):
                labels = data_sample.get(key).data.squeeze(0).cpu().numpy()
                columns.append(labels_column(title, image, labels, names))
        return draw_grid(columns)


def framed(image: np.ndarray) -> np.ndarray:
    """Enlarge an image (H, W, 3) as those with outlines are."""
    return _framed(enlarge(image, MIN_SIDE), 255)


def _framed(image: np.ndarray, value: int) -> np.ndarray:
    return cv2.copyMakeBorder(
        image, *[FRAME] * 4, cv2.BORDER_CONSTANT, value=[value] * 3)


def labels_column(title: str, image: np.ndarray, labels: np.ndarray,
                  names: Sequence[str] | None = None) -> Column:
    """Outline the classes of an image from outside, but for the background.

    The column tells the number of pixels of each class. Its picture is of
    the size of :func:`framed`.

    Args:
        image: uint8 RGB image (H, W, 3), which is enlarged.
        labels: Class numbers (H, W); mmseg's 255 is no class.
        names: Names of the classes; None numbers them.
    """
    check_shape('labels', labels, image.shape[:2], 'that of the image')
    masks = {str(name): labels == number for number, name in enumerate(
        names or range(int(labels[labels != 255].max(initial=0)) + 1))
        if name != BACKGROUND}
    text = ', '.join(f'{name}: {mask.sum()} pixels'
                     for name, mask in masks.items())
    large_image = enlarge(image, MIN_SIDE)
    picture = _framed(large_image, 255)
    for number, mask in enumerate(masks.values()):
        large = _framed(cv2.resize(
            mask.astype(np.uint8), large_image.shape[1::-1],
            interpolation=cv2.INTER_NEAREST), 0)
        near, far = (cv2.dilate(large, np.ones((side, side), np.uint8))
                     for side in (3, 7))
        picture[far > near] = PALETTE[number % len(PALETTE)]
    return Column(title, text, [picture])
