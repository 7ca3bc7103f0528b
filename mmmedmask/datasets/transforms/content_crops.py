"""Crops of two views that keep to an image's content, but not to its middle.

ContrastiveCrop (Peng et al., "Crafting Better Contrastive Views for Siamese
Representation Learning", CVPR 2022, arXiv 2202.03278).
"""

from collections.abc import Mapping, Sequence

import torch

from mmmedmask.datasets.transforms.recorded_crops import (
    ATTEMPTS,
    DRAWS_PER_ATTEMPT,
    WHOLE,
    RandomResizedCrop,
    draw_crop,
)
from mmmedmask.functional import contrastive_crop
from mmmedmask.registry import TRANSFORMS
from mmmedmask.util.checks import check_integer, check_range

BOX_DRAWS = ATTEMPTS * DRAWS_PER_ATTEMPT


@TRANSFORMS.register_module()
class ContrastiveCrop(RandomResizedCrop):
    """Cut out a random box whose centre lies in the image's region.

    Area and aspect ratio are those of
    :class:`~mmmedmask.datasets.transforms.recorded_crops.RandomResizedCrop`.
    The regions come from ``mmmedmask.ContrastiveCropHook``, which finds them
    with the encoder in training; until there are some, the place is uniform.
    They are in shared memory, so that persistent workers see new ones.

    **Required keys**: ``img`` (H, W, C); ``sample_idx``, ``img_path``.
    **Modified and added keys**: as RandomResizedCrop.

    Args:
        scale: Side of the result in pixels, or (h, w).
        view: Number of the view outside of ``MultiView``, which numbers its
            views itself. Each has draws of its own.
        alpha: Both parameters of the beta distribution from which the place
            of the centre in the region is drawn, in (0, 1]. Below 1 it is
            rather near an end than in the middle; 0.6 is what the authors
            take with MoCo v2.
        crop_ratio_range: This, and what follows, as RandomResizedCrop.
    """

    def __init__(
            self, scale: int | Sequence[int], view: int = 0,
            alpha: float = 0.6,
            crop_ratio_range: Sequence[float] = (0.2, 1.0),
            aspect_ratio_range: Sequence[float] = (3 / 4, 4 / 3),
            interpolation: str = 'bicubic', seed: int | None = None) -> None:
        super().__init__(scale, crop_ratio_range, aspect_ratio_range,
                         interpolation, seed)
        self.view = check_integer('view', view, 0)
        self.alpha = check_range('alpha', alpha, 0, 1, open_low=True)
        self._rows: Mapping[str, int] = {}
        self._boxes = torch.zeros(0, 4)

    def share_regions(self, rows: Mapping[str, int],
                      boxes: torch.Tensor) -> None:
        """Take the regions, before workers start.

        ``rows`` map a sample's ``img_path`` to its row of ``boxes``, (N, 4):
        (x0, y0, x1, y1) in fractions of the image, NaN where there is none.
        The caller changes them in place, in shared memory.
        """
        self._rows, self._boxes = rows, boxes

    def region(self, img_path: str) -> tuple[float, ...] | None:
        """Look up an image's (x0, y0, x1, y1) in fractions, or None."""
        if img_path not in self._rows:
            return None
        box = self._boxes[self._rows[img_path]]
        return None if box.isnan().any() else tuple(box.tolist())

    def choose_crop(self, results: dict) -> tuple[int, int, int, int]:
        """Choose (top, left, height, width), of an image as it was loaded."""
        if results.get('crop_box', WHOLE) != WHOLE or results.get('flip'):
            raise ValueError('ContrastiveCrop must come before other crops '
                             f'and flips, but {results["img_path"]} has '
                             f'crop_box {results.get("crop_box", WHOLE)} and '
                             f'flip {bool(results.get("flip"))}')
        rows, columns = results['img'].shape[:2]
        draws = [BOX_DRAWS, 2 * contrastive_crop.BETA_DRAWS]
        box_uniform, place_uniform = self.draw(
            {'view_idx': self.view, **results}, sum(draws),
            'contrastive crop')[0].split(draws)
        top, left, height, width = draw_crop(
            box_uniform.tolist(), (rows, columns), self.crop_ratio_range,
            self.aspect_ratio_range)
        region = self.region(results['img_path'])
        if region is not None:
            x0, y0, x1, y1 = region
            down, right = contrastive_crop.symmetric_beta(
                place_uniform.view(2, -1), self.alpha).tolist()
            top = contrastive_crop.place_crop(down, rows, height, (y0, y1))
            left = contrastive_crop.place_crop(right, columns, width, (x0, x1))
        return top, left, height, width
