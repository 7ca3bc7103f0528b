"""CMIM's two views, colour and mask, drawn on the device batch by batch."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mmmedmask.functional.affine import is_axis_aligned
from mmmedmask.functional.masking import num_masked_patches, random_patch_mask
from mmmedmask.functional.views import (
    VIEW_DRAWS,
    draw_view,
    split_view_draws,
)
from mmmedmask.models.layers.view_preprocessor import TileViewPreprocessor
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import (
    check_choice,
    check_integer,
    check_multiple,
    check_range,
)

VIEW_SOURCES = ('device', 'loader')


@MODELS.register_module()
class CMIMDataPreprocessor(TileViewPreprocessor):
    """Turn raw tiles into what one CMIM step needs.

    ``x^q = c(t1(x))`` and ``x^k = t2(x)`` (paper, Fig. 3), the matrices of t1
    and t2, and a patch mask on the query's grid. Everything random is drawn
    here, from the seed of the run, the iteration and the sample's index, so
    it does not depend on workers, ranks or a resume.

    Args:
        patch_size: Side of a mask patch in pixels.
        mask_ratio: Share of patches to mask, in (0, 1).
        views: See :class:`TileViewPreprocessor`, as of ``color``.
        color: It acts on the query only.
        same_view: Use t2 = t1, so that nothing has to be warped (the
            ablations "emb. masking" and colour-only).
        view_source: ``'device'`` draws the views here; ``'loader'`` takes
            them from the transform ``CMIMTwoViews``, with ``views``,
            ``color`` and ``same_view`` given there, not here.
        options: Further arguments of :class:`TileViewPreprocessor`.
    """

    shape_hint = "; pairs of views need view_source='loader'"

    def __init__(self, patch_size: int = 32, mask_ratio: float = 0.7,
                 views: dict | None = None, color: dict | None = None,
                 same_view: bool = False, view_source: str = 'device',
                 **options) -> None:
        self.mask_ratio = check_range('mask_ratio', mask_ratio, 0, 1, True,
                                      True)
        self.patch_size = check_integer('patch_size', patch_size)
        self.view_source = check_choice('view_source', view_source,
                                        VIEW_SOURCES)
        self.same_view = same_view
        if view_source == 'loader' and (views or color is not None
                                        or same_view):
            raise ValueError(
                "with view_source='loader' the transform CMIMTwoViews makes "
                'the views: give views, color and same_view there, got '
                f'views={views}, color={color}, same_view={same_view}')
        super().__init__(views=views, color=color, **options)
        check_multiple('view_size', self.view_size, patch_size, 'patch_size')
        self.grid_size = tuple(side // patch_size for side in self.view_size)
        patches = math.prod(self.grid_size)
        masked = num_masked_patches(patches, mask_ratio)
        if not 0 < masked < patches:
            raise ValueError(
                f'mask_ratio {mask_ratio} masks {masked} of {patches} '
                'patches; at least one patch has to be masked and one visible')

    def training_inputs(self, images: Sequence[Tensor],
                        data_samples: Sequence | None) -> dict:
        """Draw the two views and the mask of every tile.

        Gives ``query`` and ``key`` (B, C, h, w), normalised; ``mask``
        (B, 1, h / patch_size, w / patch_size), 1 = masked; ``theta_query``
        and ``theta_key`` (B, 3, 3), float32, and ``separable``, True if every
        view is axis-aligned.
        """
        uniform = self.draw(data_samples,
                            VIEW_DRAWS + math.prod(self.grid_size))
        query, key, theta_query, theta_key = (
            self.loaded_views(images, data_samples)
            if self.view_source == 'loader' else
            self.draw_views(images, uniform))
        noise = uniform[:, VIEW_DRAWS:].reshape(-1, *self.grid_size)
        device = self.mean.device
        return dict(query=self.normalise(query), key=self.normalise(key),
                    mask=random_patch_mask(noise, self.mask_ratio).to(device),
                    theta_query=theta_query.float().to(device),
                    theta_key=theta_key.float().to(device),
                    separable=(is_axis_aligned(theta_query)
                               and is_axis_aligned(theta_key)))

    def draw_stacked(self, images: Tensor,
                     uniform: Tensor) -> tuple[Tensor, ...]:
        """Draw query and key (B, C, h, w) of equally sized tiles.

        Both in stored units, and their matrices (B, 3, 3), float64, on the
        CPU.
        """
        first, second, color, _ = split_view_draws(uniform)
        size = tuple(images.shape[-2:])
        _, theta_key = draw_view(first if self.same_view else second, size,
                                 self.view_size, self.family)
        key = self.sample_view(images, theta_key)
        if self.same_view:
            return self.augment_color(key, color), key, theta_key, theta_key
        _, theta_query = draw_view(first, size, self.view_size, self.family)
        query = self.sample_view(images, theta_query)
        return self.augment_color(query, color), key, theta_query, theta_key

    def loaded_views(self, images: Sequence[Tensor],
                     data_samples: Sequence) -> tuple[Tensor, ...]:
        """Take views and matrices that the loader made."""
        names = ('theta_query', 'theta_key')
        expected = (2, self.in_channels, *self.view_size)
        for image, sample in zip(images, data_samples, strict=True):
            if tuple(image.shape) != expected:
                raise ValueError(
                    "view_source='loader' needs two views per sample, "
                    f'(2, C, h, w) = {expected}, got {tuple(image.shape)}; '
                    'add mmmedmask.CMIMTwoViews to the pipeline, with the '
                    'same view_size, and describe its channels by mean and '
                    'std')
            missing = set(names) - set(sample.metainfo)
            if missing:
                raise ValueError(f'the metainfo lacks {sorted(missing)}, '
                                 'which mmmedmask.CMIMTwoViews provides; name '
                                 'them in meta_keys of mmmedmask.PackTile')
        thetas = (torch.stack([
            torch.as_tensor(sample.metainfo[name], dtype=torch.float64)
            for sample in data_samples]) for name in names)
        return (*torch.stack(list(images)).float().unbind(dim=1), *thetas)
