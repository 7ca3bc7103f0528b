"""Random views of tiles, sampled and coloured on the device in batches."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from mmengine.utils import is_seq_of
from torch import Tensor

from mmmedmask.functional.views import ColorFamily, ViewFamily
from mmmedmask.functional.warp import resample
from mmmedmask.models.layers.color import (
    COLOR_IMPLEMENTATIONS,
    augment_colors_kornia,
    augment_colors_torchvision,
)
from mmmedmask.models.layers.data_samples import draw_for_samples
from mmmedmask.util.checks import (
    check_choice,
    check_numbers,
    check_positive,
    check_seed,
    check_size,
)

_TYPE_RANGES = {torch.uint8: 255.0, torch.int32: 65535.0}


class TileViewPreprocessor(BaseDataPreprocessor):
    """What the preprocessors of methods that draw views of tiles share.

    Loader workers only have to decode. A subclass draws what its method needs
    in :meth:`training_inputs`, from the numbers of :meth:`draw`. A ValueError
    if an argument is outside its range, or a colour step is asked for that the
    number of channels does not have.

    Args:
        mean: Mean of each channel, in stored units, as ``std``. Its length
            is the number of channels.
        view_size: Side of the views in pixels, or (h, w).
        views: Fields of :class:`~mmmedmask.functional.views.ViewFamily`.
        color: Fields of :class:`~mmmedmask.functional.views.ColorFamily`;
            None has no colour augmentation.
        data_range: Largest stored value. None follows the tiles: 255 for
            uint8, 65535 for uint16 (which ``PackTile`` makes int32); other
            types need it named where colours are drawn. None of the values
            may be below 0 or above it there.
        color_impl: ``'kornia'`` (batched), ``'torchvision'`` (image by
            image) or ``'auto'``: kornia on a GPU and where there are not 8
            bits or not 1 or 3 channels, torchvision else.
        seed: Seed of the draws; None takes the run's.
    """

    #: What to say where a sample is not an image (C, H, W).
    shape_hint = ''

    def __init__(self, mean: Sequence[float] = (123.675, 116.28, 103.53),
                 std: Sequence[float] = (58.395, 57.12, 57.375),
                 view_size: int | Sequence[int] = 224,
                 views: dict | None = None, color: dict | None = None,
                 data_range: float | None = None, color_impl: str = 'auto',
                 seed: int | None = None) -> None:
        super().__init__(non_blocking=True)
        check_numbers('mean', mean)
        check_numbers('std', std, 0, open_low=True)
        if len(mean) != len(std) or len(mean) == 0:
            raise ValueError('mean and std need one value per channel, got '
                             f'{len(mean)} and {len(std)} values')
        self.in_channels = len(mean)
        self.view_size = check_size('view_size', view_size)
        self.family = ViewFamily(**views or {})
        self.color = None if color is None else ColorFamily(**color)
        if self.color is not None:
            self.color.check_channels(self.in_channels, 'the length of mean')
        if color_impl == 'torchvision' and not (
                data_range in (None, 255) and self.in_channels in (1, 3)):
            raise ValueError(
                "color_impl='torchvision' works on 8 bits and 1 or 3 "
                f'channels, got data_range {data_range} and '
                f"{self.in_channels} channels; use 'kornia' or 'auto'")
        if data_range is not None:
            check_positive('data_range', data_range)
        self.data_range = data_range
        self._stored_range = data_range or 255.0
        self.color_impl = check_choice('color_impl', color_impl,
                                       COLOR_IMPLEMENTATIONS)
        self.seed = check_seed(seed)
        for name, values in (('mean', mean), ('std', std)):
            self.register_buffer(name, torch.tensor(
                values, dtype=torch.float32).view(1, -1, 1, 1), False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Make a batch of ``inputs``, tensors (C, H, W) in stored units.

        In training, ``inputs`` become what :meth:`training_inputs` makes of
        them and of the metainfo ``sample_idx`` of ``data_samples``, else
        normalised images (B, C, H, W).
        """
        data_samples = data.get('data_samples')
        if training and self.color is not None:
            self._stored_range = self._find_range(data['inputs'])
        images = self.cast_data(data['inputs'])
        with torch.autocast(self.mean.device.type, enabled=False):
            if training:
                inputs = self.training_inputs(images, data_samples)
            else:
                inputs = self.normalise(self.stack(images))
        return dict(inputs=inputs, data_samples=data_samples)

    def training_inputs(self, images: Sequence[Tensor],
                        data_samples: Sequence | None) -> dict:
        """Draw what a training step needs, the ``inputs`` of its ``loss``."""
        raise NotImplementedError

    def draw_views(self, images: Sequence[Tensor],
                   uniform: Tensor) -> tuple[Tensor, ...]:
        """Sample the views of tiles (C, H, W) in stored units, of any sizes.

        ``uniform`` has a row of numbers in [0, 1) for each.
        """
        if len({image.shape[-2:] for image in images}) == 1:
            return self.draw_stacked(self.stack(images), uniform)
        # Tiles of several sizes: one at a time, with the same numbers.
        parts = [self.draw_stacked(self.stack([image]), row[None])
                 for image, row in zip(images, uniform, strict=True)]
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))

    def draw_stacked(self, images: Tensor,
                     uniform: Tensor) -> tuple[Tensor, ...]:
        """Draw and sample the views of equally sized tiles (B, C, H, W)."""
        raise NotImplementedError

    def sample_view(self, images: Tensor, theta: Tensor) -> Tensor:
        """Sample one view of every image, (B, C, h, w)."""
        height, width = images.shape[-2:]
        view_height, view_width = self.view_size
        matrices = theta.float().to(images.device)
        # The way is chosen by sizes, not by what the batch happened to draw:
        # a sample's view must not depend on the other samples.
        if self.family.axis_aligned:
            larger = height > view_height or width > view_width
            return resample(images, matrices, self.view_size, larger, larger)
        # Input pixels per output pixel; above 1 the view shrinks the image.
        steps = (theta[:, :2, :2].abs() * theta.new_tensor([[width], [height]])
                 / theta.new_tensor([view_width, view_height])).sum(dim=2)
        if float(steps.max()) < 2:
            return resample(images, matrices, self.view_size, separable=False)
        # Average over whole pixels first: theta fits every resolution.
        views = []
        for image, matrix, step in zip(images, matrices, steps, strict=True):
            factor = max(1, math.floor(float(step.max())))
            coarse = F.interpolate(image[None],
                                   size=(max(1, height // factor),
                                         max(1, width // factor)), mode='area')
            views.append(resample(coarse, matrix[None], self.view_size, False))
        return torch.cat(views)

    def augment_color(self, images: Tensor, uniform: Tensor) -> Tensor:
        """Apply the colour family to images in stored units."""
        if self.color is None:
            return images
        colors = self.color.draw(uniform)
        scaled = colors.change_stains(
            (images / self._stored_range).clamp(0, 1))
        one_by_one = self.color_impl == 'torchvision' or (
            self.color_impl == 'auto' and self._stored_range == 255
            and self.in_channels in (1, 3) and images.is_cpu)
        if one_by_one:
            scaled = augment_colors_torchvision(scaled.cpu(), colors)
        else:
            scaled = augment_colors_kornia(scaled, colors,
                                           self.color.blur_sigma[1])
        return scaled.to(images.device) * self._stored_range

    def _find_range(self, images: Sequence[Tensor]) -> float:
        """Largest value that the tiles' type, or the setting, allows."""
        dtypes = {image.dtype for image in images}
        ranges = {_TYPE_RANGES.get(dtype) for dtype in dtypes}
        data_range = self.data_range
        if data_range is None:
            if len(ranges) != 1 or None in ranges:
                raise ValueError(
                    'data_range must be named for tiles of '
                    f'{dtypes}: the largest stored value, that of '
                    'LoadTile(data_range=...), in model.data_preprocessor, '
                    'too, for its colours; 1 with LoadTile(window=...)')
            (data_range, ) = ranges
            if self.color_impl == 'torchvision' and data_range != 255:
                raise ValueError(
                    "color_impl='torchvision' works on 8 bits, the tiles "
                    "are of data_range 65535: use 'kornia' or 'auto'")
            if data_range == 255:
                return data_range
        largest = max(image.max().item() for image in images)
        if largest > data_range or dtypes == {
                torch.uint8} and data_range > 255:
            raise ValueError(
                f'data_range is {data_range}, but the tiles are of '
                f'{dtypes} with values up to {largest}; '
                + ('None follows the type' if self.data_range else
                   'name the largest stored value'))
        least = min(image.min().item() for image in images)
        if least < 0:
            raise ValueError(
                f'colours are drawn on values in [0, {data_range}], but '
                f'the least of the tiles is {least}: LoadTile(window=(center, '
                'width)) spreads HU and the like over [0, 1], with data_range '
                '1')
        return float(data_range)

    def stack(self, images: Sequence[Tensor] | Tensor) -> Tensor:
        """Stack equally sized images as float32, (B, C, H, W)."""
        if isinstance(images, torch.Tensor):
            shapes = {tuple(images.shape[1:])}
        elif is_seq_of(images, torch.Tensor):
            shapes = {tuple(image.shape) for image in images}
        else:
            raise ValueError('inputs must be tensors of shape (C, H, W), got '
                             f'{type(images[0])}')
        if any(len(shape) != 3 for shape in shapes):
            raise ValueError('inputs must be of shape (C, H, W), got '
                             f'{tuple(images[0].shape)}{self.shape_hint}')
        if any(0 in shape for shape in shapes):
            raise ValueError('inputs must have at least one pixel and '
                             f'channel, got the shapes {sorted(shapes)}')
        sizes = sorted({shape[-2:] for shape in shapes})
        if len(sizes) > 1:
            raise ValueError('tiles of different sizes make no batch: '
                             f'{sizes}; resize them in the pipeline')
        channels = sorted({shape[0] for shape in shapes})
        if channels != [self.in_channels]:
            raise ValueError(
                f'tiles have {" and ".join(map(str, channels))} channels, but '
                f'mean and std describe {self.in_channels}; set mean and std '
                '(one value per channel) or in_channels of mmmedmask.LoadTile')
        if not isinstance(images, torch.Tensor):
            images = torch.stack(list(images))
        return images.float()

    def normalise(self, images: Tensor) -> Tensor:
        """Subtract the mean and divide by the standard deviation."""
        return (images - self.mean) / self.std

    def draw(self, data_samples: Sequence | None, count: int,
             stream: str | None = None) -> Tensor:
        """Draw ``count`` numbers for each sample, from the model's seed."""
        return draw_for_samples(data_samples, count, self.seed, stream)
