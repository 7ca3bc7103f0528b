"""CMIM's two views, colour and mask, drawn on the device batch by batch."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from mmengine.utils import is_seq_of

from mmmedmask.functional.affine import is_axis_aligned
from mmmedmask.functional.masking import num_masked_patches, random_patch_mask
from mmmedmask.functional.randomness import per_sample_uniform
from mmmedmask.functional.views import (
    VIEW_DRAWS,
    ColorFamily,
    ViewFamily,
    draw_view,
    split_view_draws,
)
from mmmedmask.functional.warp import resample
from mmmedmask.models.cmim.color import (
    COLOR_IMPLEMENTATIONS,
    augment_colors_kornia,
    augment_colors_torchvision,
)
from mmmedmask.models.run_info import run_info
from mmmedmask.registry import MODELS

VIEW_SOURCES = ('device', 'loader')


@MODELS.register_module()
class CMIMDataPreprocessor(BaseDataPreprocessor):
    """Turn raw tiles into what one CMIM step needs.

    ``x^q = c(t1(x))`` and ``x^k = t2(x)`` (paper, Fig. 3), the matrices of
    t1 and t2, and a patch mask on the query's grid. Loader workers only have
    to decode: everything random is drawn here, from the seed of the run, the
    iteration and the sample's index, so it does not depend on workers,
    ranks or a resume.

    Args:
        mean: Mean of each channel, in stored units. Its length is the number
            of channels.
        std: Standard deviation of each channel, in stored units.
        view_size: Side of the views in pixels, or (h, w).
        patch_size: Side of a mask patch in pixels.
        mask_ratio: Share of patches to mask, in (0, 1).
        views: Fields of :class:`~mmmedmask.functional.views.ViewFamily`.
        color: Fields of :class:`~mmmedmask.functional.views.ColorFamily`, or
            None for no colour augmentation. It acts on the query only.
        same_view: Use t2 = t1, so that nothing has to be warped (the
            ablations "emb. masking" and colour-only).
        data_range: Largest stored value: 255 for 8, 65535 for 16 bits.
        view_source: ``'device'`` draws the views here; ``'loader'`` takes
            them from the transform ``CMIMTwoViews``, with ``views``,
            ``color`` and ``same_view`` given there, not here.
        color_impl: ``'kornia'`` (batched), ``'torchvision'`` (image by
            image) or ``'auto'``: kornia on a GPU and where there are not 8
            bits or not 1 or 3 channels, torchvision else.
        seed: Seed of the draws; None takes the run's.
        non_blocking: Copy to the device without waiting.

    Raises:
        ValueError: If an argument is outside its range, or a colour step is
            asked for that the number of channels does not have.
    """

    def __init__(self,
                 mean: Sequence[float] = (123.675, 116.28, 103.53),
                 std: Sequence[float] = (58.395, 57.12, 57.375),
                 view_size: int | Sequence[int] = 224,
                 patch_size: int = 32,
                 mask_ratio: float = 0.7,
                 views: dict | None = None,
                 color: dict | None = None,
                 same_view: bool = False,
                 data_range: float = 255.0,
                 view_source: str = 'device',
                 color_impl: str = 'auto',
                 seed: int | None = None,
                 non_blocking: bool = True) -> None:
        super().__init__(non_blocking=non_blocking)
        if len(mean) != len(std) or len(mean) == 0:
            raise ValueError('mean and std need one value per channel, got '
                             f'{len(mean)} and {len(std)} values')
        if min(std) <= 0:
            raise ValueError(f'std must be positive, got {tuple(std)}')
        if not 0 < mask_ratio < 1:
            raise ValueError(f'mask_ratio must be in (0, 1), got {mask_ratio}')
        if isinstance(view_size, int):
            view_size = (view_size, view_size)
        if len(view_size) != 2 or min(view_size) < 1:
            raise ValueError('view_size must be a side or (h, w), in pixels, '
                             f'got {tuple(view_size)}')
        if patch_size < 1:
            raise ValueError(f'patch_size must be at least 1, got '
                             f'{patch_size}')
        if any(side % patch_size for side in view_size):
            raise ValueError(f'view_size {tuple(view_size)} must be a '
                             f'multiple of patch_size {patch_size}')
        if view_source not in VIEW_SOURCES:
            raise ValueError(f'view_source must be one of {VIEW_SOURCES}, '
                             f'got {view_source!r}')
        if view_source == 'loader' and (views or color is not None
                                        or same_view):
            raise ValueError(
                "with view_source='loader' the transform CMIMTwoViews makes "
                'the views: give views, color and same_view there, got '
                f'views={views}, color={color}, same_view={same_view}')
        if view_source == 'loader' and (views or color is not None
                                        or same_view):
            raise ValueError(
                "view_source='loader' leaves views and colours to the "
                'transform CMIMTwoViews: set views=None, color=None and '
                f'same_view=False here, got views={views}, color={color} '
                f'and same_view={same_view}')
        if color_impl not in COLOR_IMPLEMENTATIONS:
            raise ValueError(
                f'color_impl must be one of {COLOR_IMPLEMENTATIONS}, '
                f'got {color_impl!r}')
        if data_range <= 0:
            raise ValueError(f'data_range must be positive, got {data_range}')
        self.in_channels = len(mean)
        self.view_size = tuple(view_size)
        self.patch_size = patch_size
        self.mask_ratio = mask_ratio
        self.grid_size = tuple(side // patch_size for side in view_size)
        masked = num_masked_patches(math.prod(self.grid_size), mask_ratio)
        if not 0 < masked < math.prod(self.grid_size):
            raise ValueError(
                f'mask_ratio {mask_ratio} masks {masked} of '
                f'{math.prod(self.grid_size)} patches; at least one patch '
                'has to be masked and one visible')
        self.family = ViewFamily(**views or {})
        self.color = None if color is None else ColorFamily(**color)
        if (self.color is not None and self.color.needs_rgb
                and self.in_channels != 3):
            raise ValueError(
                'saturation, hue and gray_prob need 3 channels, got '
                f'{self.in_channels} (the length of mean); set them to 0')
        self.eight_bit_picture = (
            data_range == 255 and self.in_channels in (1, 3))
        if color_impl == 'torchvision' and not self.eight_bit_picture:
            raise ValueError(
                "color_impl='torchvision' works on 8 bits and 1 or 3 "
                f'channels, got data_range {data_range} and '
                f"{self.in_channels} channels; use 'kornia' or 'auto'")
        self.same_view = same_view
        self.data_range = data_range
        self.view_source = view_source
        self.color_impl = color_impl
        self.seed = seed
        shape = (1, self.in_channels, 1, 1)
        self.register_buffer(
            'mean', torch.tensor(mean, dtype=torch.float32).view(shape), False)
        self.register_buffer(
            'std', torch.tensor(std, dtype=torch.float32).view(shape), False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Make a batch.

        Args:
            data: ``inputs``, a list of tensors (C, H, W) in stored units
                (``view_source='loader'``: (2, C, H, W), query and key), and
                ``data_samples`` with the metainfo ``sample_idx``.
            training: False skips all that is random and returns the
                normalised images.

        Returns:
            ``data_samples`` as they came and ``inputs``. In training a dict:
            ``query`` and ``key`` (B, C, h, w), normalised; ``mask``
            (B, 1, h / patch_size, w / patch_size), 1 = masked;
            ``theta_query`` and ``theta_key`` (B, 3, 3), float32, and
            ``separable``, True if every view is axis-aligned. Else a tensor
            (B, C, H, W).
        """
        data_samples = data.get('data_samples')
        images = self.cast_data(data['inputs'])
        device = self.mean.device
        with torch.autocast(device.type, enabled=False):
            if not training:
                return dict(
                    inputs=self.normalise(self.stack(images)),
                    data_samples=data_samples)
            num_patches = math.prod(self.grid_size)
            uniform = per_sample_uniform(
                self.run_seed(), self.current_step(),
                self.sample_indices(data_samples), VIEW_DRAWS + num_patches)
            if self.view_source == 'loader':
                query, key, theta_query, theta_key = self.loaded_views(
                    images, data_samples)
            else:
                query, key, theta_query, theta_key = self.draw_views(
                    images, uniform)
            noise = uniform[:, VIEW_DRAWS:].reshape(-1, *self.grid_size)
            inputs = dict(
                query=self.normalise(query),
                key=self.normalise(key),
                mask=random_patch_mask(noise, self.mask_ratio).to(device),
                theta_query=theta_query.float().to(device),
                theta_key=theta_key.float().to(device),
                separable=(is_axis_aligned(theta_query)
                           and is_axis_aligned(theta_key)))
        return dict(inputs=inputs, data_samples=data_samples)

    def draw_views(self, images: Sequence[torch.Tensor] | torch.Tensor,
                   uniform: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Draw and sample the views of tiles on their device.

        Args:
            images: Tiles (C, H, W) in stored units, of any sizes.
            uniform: Numbers in [0, 1), shape (B, at least ``VIEW_DRAWS``).

        Returns:
            Query and key in stored units, (B, C, h, w) each, and their
            matrices on the CPU, (B, 3, 3), float64.
        """
        if len({image.shape[-2:] for image in images}) > 1:
            # Tiles of several sizes: one at a time, with the same numbers.
            parts = [
                self.draw_views(image[None], uniform[index:index + 1])
                for index, image in enumerate(images)
            ]
            return tuple(torch.cat(part) for part in zip(*parts, strict=True))
        images = self.stack(images)
        crop1, affine1, crop2, affine2, color, _ = split_view_draws(uniform)
        if self.same_view:
            crop2, affine2 = crop1, affine1
        image_size = tuple(images.shape[-2:])
        _, theta_query = draw_view(crop1, affine1, image_size, self.view_size,
                                   self.family)
        _, theta_key = draw_view(crop2, affine2, image_size, self.view_size,
                                 self.family)
        key = self.sample_view(images, theta_key)
        query = key if self.same_view else self.sample_view(
            images, theta_query)
        return self.augment_color(query, color), key, theta_query, theta_key

    def sample_view(self, images: torch.Tensor,
                    theta: torch.Tensor) -> torch.Tensor:
        """Sample one view of every image, (B, C, h, w)."""
        height, width = images.shape[-2:]
        view_height, view_width = self.view_size
        matrices = theta.float().to(images.device)
        # The way is chosen by sizes, not by what the batch happened to draw:
        # a sample's view must not depend on the other samples.
        if self.family.axis_aligned:
            if height > view_height or width > view_width:
                return resample(
                    images, matrices, self.view_size, True, antialias=True)
            return resample(images, matrices, self.view_size, separable=False)
        # Input pixels per output pixel; above 1 the view shrinks the image.
        steps = (
            theta[:, :2, :2].abs() * theta.new_tensor([[width], [height]]) /
            theta.new_tensor([view_width, view_height])).sum(dim=2)
        if float(steps.max()) < 2:
            return resample(images, matrices, self.view_size, separable=False)
        # Average over whole pixels first: theta fits every resolution.
        views = []
        for image, matrix, step in zip(images, matrices, steps, strict=True):
            factor = max(1, math.floor(float(step.max())))
            coarse = F.interpolate(
                image[None],
                size=(max(1, height // factor), max(1, width // factor)),
                mode='area')
            views.append(
                resample(coarse, matrix[None], self.view_size, False))
        return torch.cat(views)

    def augment_color(self, images: torch.Tensor,
                      uniform: torch.Tensor) -> torch.Tensor:
        """Apply the colour family to images in stored units."""
        if self.color is None:
            return images
        colors = self.color.draw(uniform)
        scaled = (images / self.data_range).clamp(0, 1)
        implementation = self.color_impl
        if implementation == 'auto':
            implementation = (
                'torchvision' if self.eight_bit_picture
                and images.device.type == 'cpu' else 'kornia')
        if implementation == 'kornia':
            scaled = augment_colors_kornia(scaled, colors,
                                           self.color.blur_sigma[1])
        else:
            scaled = augment_colors_torchvision(scaled.cpu(), colors)
        return scaled.to(images.device) * self.data_range

    def loaded_views(self, images: Sequence[torch.Tensor],
                     data_samples: Sequence) -> tuple[torch.Tensor, ...]:
        """Take views and matrices that the loader made."""
        expected = (2, self.in_channels, *self.view_size)
        for image, sample in zip(images, data_samples, strict=True):
            if tuple(image.shape) != expected:
                raise ValueError(
                    "view_source='loader' needs two views per sample, "
                    f'(2, C, h, w) = {expected}, got {tuple(image.shape)}; '
                    'add mmmedmask.CMIMTwoViews to the pipeline, with the '
                    'same view_size, and describe its channels by mean and '
                    'std')
            missing = {'theta_query', 'theta_key'} - set(sample.metainfo)
            if missing:
                raise ValueError(
                    f'the metainfo lacks {sorted(missing)}, which '
                    'mmmedmask.CMIMTwoViews provides; name them in '
                    'meta_keys of mmmedmask.PackTile')
        pairs = torch.stack(list(images)).float()
        thetas = [
            torch.stack([
                torch.as_tensor(sample.metainfo[name], dtype=torch.float64)
                for sample in data_samples
            ]) for name in ('theta_query', 'theta_key')
        ]
        return (pairs[:, 0], pairs[:, 1], *thetas)

    def stack(self, images: Sequence[torch.Tensor]
              | torch.Tensor) -> torch.Tensor:
        """Stack equally sized images as float32, (B, C, H, W)."""
        if not isinstance(images, torch.Tensor):
            if not is_seq_of(images, torch.Tensor):
                raise ValueError('inputs must be tensors of shape (C, H, W), '
                                 f'got {type(images[0])}')
            if any(image.dim() != 3 for image in images):
                raise ValueError(
                    'inputs must be of shape (C, H, W), got '
                    f'{tuple(images[0].shape)}; pairs of views need '
                    "view_source='loader'")
            sizes = sorted({tuple(image.shape[-2:]) for image in images})
            if len(sizes) > 1:
                raise ValueError('tiles of different sizes make no batch: '
                                 f'{sizes}; resize them in the pipeline')
        channels = sorted({image.shape[-3] for image in images})
        if channels != [self.in_channels]:
            raise ValueError(
                f'tiles have {" and ".join(map(str, channels))} channels, '
                f'but mean and std describe {self.in_channels}; set mean and '
                'std (one value per channel) or in_channels of '
                'mmmedmask.LoadTile')
        if not isinstance(images, torch.Tensor):
            images = torch.stack(list(images))
        return images.float()

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Subtract the mean and divide by the standard deviation."""
        return (images - self.mean) / self.std

    def sample_indices(self, data_samples: Sequence | None) -> list[int]:
        """Indices of the samples in their data set."""
        try:
            return [
                int(sample.metainfo['sample_idx']) for sample in data_samples
            ]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                'every data sample needs the metainfo sample_idx, from '
                'which its views and mask are drawn; mmmedmask.PackTile '
                'provides it') from error

    def run_seed(self) -> int:
        """Seed of the draws."""
        if self.seed is not None:
            return self.seed
        return run_info('seed')

    def current_step(self) -> int:
        """Iteration of the running loop, 0 outside of one."""
        return run_info('iter')
