"""ConCL's two views and their reference, drawn on the device in batches."""

from collections.abc import Sequence

from torch import Tensor

from mmmedmask.functional.affine import relative_theta
from mmmedmask.functional.views import (
    COLOR_DRAWS,
    VIEW_DRAWS,
    crop_theta,
    draw_view,
    split_view_draws,
    union_crops,
)
from mmmedmask.functional.warp import resample_cubic
from mmmedmask.models.layers.view_preprocessor import TileViewPreprocessor
from mmmedmask.registry import MODELS


@MODELS.register_module()
class ConCLDataPreprocessor(TileViewPreprocessor):
    """Turn raw tiles into what one ConCL step needs.

    Query and key are crops of the tile with colours of their own (MoCo v2's
    augmentation). The reference is the smallest box around both, resized
    bicubically within the tile's values, neither flipped nor coloured. A
    matrix tells where each view lies in the reference. A ValueError if views
    are rotated or sheared.

    Args:
        options: Arguments of :class:`TileViewPreprocessor`. ``views`` have no
            rotations and shears, which have no box; ``color`` acts on query
            and key, each with parameters of its own.
    """

    def __init__(self, **options) -> None:
        super().__init__(**options)
        if not self.family.axis_aligned:
            raise ValueError(
                'the views of ConCL are boxes: max_angle and max_shear must '
                f'be 0, got {self.family.max_angle} and '
                f'{self.family.max_shear}')

    def training_inputs(self, images: Sequence[Tensor],
                        data_samples: Sequence | None) -> dict:
        """Draw the three views of every tile.

        Gives ``query``, ``key`` and ``reference`` (B, C, h, w), normalised;
        ``theta_query`` and ``theta_key`` (B, 3, 3), float32, which map
        coordinates of the view to those of the reference.
        """
        uniform = self.draw(data_samples, VIEW_DRAWS + COLOR_DRAWS)
        *views, theta_query, theta_key = self.draw_views(images, uniform)
        query, key, reference = map(self.normalise, views)
        return dict(query=query, key=key, reference=reference,
                    theta_query=theta_query.float().to(query.device),
                    theta_key=theta_key.float().to(query.device))

    def draw_stacked(self, images: Tensor,
                     uniform: Tensor) -> tuple[Tensor, ...]:
        """Draw query, key and reference (B, C, h, w) of equally sized tiles.

        In stored units, and the matrices from query and from key to the
        reference, (B, 3, 3), float64, on the CPU.
        """
        size = tuple(images.shape[-2:])
        *draws, color1, color2 = split_view_draws(uniform)
        crops, thetas = zip(*(
            draw_view(numbers, size, self.view_size, self.family)
            for numbers in draws), strict=True)
        theta_reference = crop_theta(union_crops(*crops), size)
        query, key = (self.sample_view(images, theta) for theta in thetas)
        reference = resample_cubic(
            images, theta_reference.float().to(images.device), self.view_size)
        # Cubics overshoot, and what tiles can hold is not known of floats.
        least, largest = (end[:, None, None, None]
                          for end in images.flatten(1).aminmax(dim=1))
        return (self.augment_color(query, color1),
                self.augment_color(key, color2),
                reference.clamp(least, largest),
                *(relative_theta(theta_reference, theta) for theta in thetas))
