"""CMIM's two views made by loader workers with Pillow, the reference path.

It draws the same as the batched path in the data preprocessor. Unlike ConCL,
which cuts a box out and then resizes it, a view is exactly affine.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageFilter
from torchvision.transforms import functional as TF  # noqa: N812

from mmmedmask.datasets.transforms.seeded import SeededTransform
from mmmedmask.functional.views import (
    VIEW_DRAWS,
    ColorFamily,
    Colors,
    Crops,
    ViewFamily,
    draw_view,
    split_view_draws,
)
from mmmedmask.registry import TRANSFORMS
from mmmedmask.util.checks import check_size


def crop_with_pillow(image: Image.Image, crops: Crops,
                     view_size: tuple[int, int]) -> Image.Image:
    """Cut, resize (bilinear, antialiased) and mirror one box to (h, w)."""
    left, top = int(crops.left), int(crops.top)
    box = (left, top, left + int(crops.width), top + int(crops.height))
    view = image.resize(
        (view_size[1], view_size[0]), Image.Resampling.BILINEAR, box=box)
    if bool(crops.flip):
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return view


def color_with_pillow(image: Image.Image, colors: Colors) -> Image.Image:
    """Apply the parameters of a batch of one to a picture, gray or RGB."""
    steps = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation,
             TF.adjust_hue)
    if bool(colors.stain):
        image = TF.to_pil_image(
            colors.change_stains(TF.to_tensor(image)[None])[0])
    if bool(colors.jitter):
        for kind in colors.order[0].tolist():
            image = steps[kind](image, float(colors.factors[0, kind]))
    if bool(colors.gray):
        image = TF.to_grayscale(image, num_output_channels=3)
    if bool(colors.blur):
        image = image.filter(ImageFilter.GaussianBlur(float(colors.sigma)))
    return image


@TRANSFORMS.register_module()
class CMIMTwoViews(SeededTransform):
    """Make the query and the key view of an 8-bit tile in a worker.

    Set ``view_source='loader'`` in the data preprocessor.
    Needs ``mmmedmask.TransformEpochHook``, as all seeded transforms.

    **Required keys**: ``img`` (H, W, C) with 1 or 3 channels, uint8, and
    ``sample_idx``.
    **Returned keys**: ``img`` of shape (2, h, w, C), query and key;
    ``theta_query`` and ``theta_key``, arrays of shape (3, 3), to be named in
    ``meta_keys`` of ``PackTile``.

    Args:
        view_size: Side of the views in pixels, or (h, w).
        views: Fields of :class:`~mmmedmask.functional.views.ViewFamily`;
            crops and left-right flips only.
        color: Fields of :class:`~mmmedmask.functional.views.ColorFamily`, or
            None.
        same_view: Use t2 = t1.
        seed: Seed of the draws; None takes the run's.
    """

    def __init__(self, view_size: int | Sequence[int] = 224,
                 views: dict | None = None, color: dict | None = None,
                 same_view: bool = False, seed: int | None = None) -> None:
        super().__init__(seed)
        self.view_size = check_size('view_size', view_size)
        self.family = ViewFamily(**views or {})
        if (not self.family.axis_aligned
                or self.family.vertical_flip_prob > 0):
            raise ValueError(
                'CMIMTwoViews makes crops and left-right flips; for '
                'max_angle, max_shear and vertical_flip_prob draw the views '
                f"on the device (view_source='device'), got {self.family}")
        self.color = None if color is None else ColorFamily(**color)
        self.same_view = same_view

    def transform(self, results: dict) -> dict:
        pixels = results['img']
        if pixels.dtype != np.uint8 or pixels.shape[2] not in (1, 3):
            raise ValueError(
                'CMIMTwoViews needs uint8 tiles with 1 or 3 channels, got '
                f'{pixels.dtype} with {pixels.shape[2]} channels in '
                f'{results.get("img_path")}; draw the views on the device '
                "(view_source='device')")
        if self.color is not None:
            self.color.check_channels(pixels.shape[2], results.get('img_path'))
        return self.make_views(results, self.draw(results, VIEW_DRAWS))

    def make_views(self, results: dict, uniform: torch.Tensor) -> dict:
        """Make the views for numbers (1, >= ``VIEW_DRAWS``) in [0, 1)."""
        pixels = results['img']
        query, key, color, _ = split_view_draws(uniform)
        image = TF.to_pil_image(pixels)
        views = []
        for name, numbers in (('theta_query', query),
                              ('theta_key', query if self.same_view else key)):
            crops, theta = draw_view(numbers, pixels.shape[:2],
                                     self.view_size, self.family)
            views.append(crop_with_pillow(image, crops, self.view_size))
            results[name] = theta[0].numpy()
        if self.color is not None:
            views[0] = color_with_pillow(views[0], self.color.draw(color))
        results['img'] = np.stack([
            np.asarray(view).reshape(*self.view_size, -1) for view in views])
        return results
