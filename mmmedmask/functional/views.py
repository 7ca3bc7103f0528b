"""Turn uniform numbers into the parameters of random views and colours.

Drawing is separate from doing: the CPU transforms and the batched path on the
device get the same parameters from the same numbers, so that they can be
compared, and a draw costs no access to the device.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mmmedmask.functional.stains import change_stains
from mmmedmask.util.checks import check_ascending, check_range

CROP_ATTEMPTS = 10
# Per attempt an area and an aspect ratio; then the place (2) and the flip.
CROP_DRAWS = 2 * CROP_ATTEMPTS + 3
# Vertical flip, angle, shear along x and along y.
AFFINE_DRAWS = 4
# Application, four factors, four sort keys (their order), gray, blur, sigma.
COLOR_DRAWS = 12
VIEW_DRAWS = 2 * (CROP_DRAWS + AFFINE_DRAWS) + COLOR_DRAWS


class Crops(NamedTuple):
    """Boxes of a batch, in whole pixels (int64), each field of shape (B,).

    ``flip`` is True where the view is mirrored left to right.

    Example:
        >>> Crops(*torch.tensor([[0], [4], [8], [6], [1]])).width
        tensor([6])
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor


@dataclass(frozen=True)
class Colors:
    """Colour parameters of a batch.

    Attributes:
        jitter: Whether to jitter at all, bool, shape (B,).
        factors: Brightness, contrast and saturation factors (1 = unchanged)
            and the hue shift in turns (0 = unchanged), shape (B, 4).
        order: The order of these four, a permutation of 0..3, shape (B, 4).
        gray: Whether to drop the colour, bool, shape (B,).
        blur: Whether to blur, bool, shape (B,).
        sigma: Standard deviation of the blur in pixels, shape (B,).
        stain: Whether to change the stains first, bool, shape (B,); None: of
            no image.
        stain_factors: Factors of the amounts of haematoxylin and eosin
            (1 = unchanged), shape (B, 2).
        stain_shifts: What is added to them, in optical density, (B, 2).

    Example:
        >>> uniform = torch.rand(2, COLOR_DRAWS, dtype=torch.float64)
        >>> colors = ColorFamily(brightness=0).draw(uniform)
        >>> colors.factors[:, 0]
        tensor([1., 1.], dtype=torch.float64)
    """

    jitter: Tensor
    factors: Tensor
    order: Tensor
    gray: Tensor
    blur: Tensor
    sigma: Tensor
    stain: Tensor | None = None
    stain_factors: Tensor | None = None
    stain_shifts: Tensor | None = None

    def change_stains(self, images: Tensor) -> Tensor:
        """Change the stains of a batch (B, 3, H, W) of values in [0, 1]."""
        chosen = [] if self.stain is None else self.stain.nonzero()[:, 0]
        if len(chosen) == 0:
            return images
        index = chosen.to(images.device)
        return images.index_copy(
            0, index, change_stains(images[index], self.stain_factors[chosen],
                                    self.stain_shifts[chosen]))


def _between(uniform: Tensor, low: float, high: float) -> Tensor:
    return low + uniform * (high - low)


def _draw_crops(uniform: Tensor, image_size: tuple[int, int],
                family: 'ViewFamily') -> Crops:
    """Draw crops from numbers (B, ``CROP_DRAWS``)."""
    image_height, image_width = image_size
    attempts, place, flip = uniform.split([2 * CROP_ATTEMPTS, 2, 1], dim=1)
    share, shape = attempts.view(-1, CROP_ATTEMPTS, 2).unbind(dim=2)
    area = _between(share, *family.scale) * image_height * image_width
    log_ratio = torch.tensor(family.ratio, dtype=torch.float64).log()
    aspect = _between(shape, *log_ratio).exp()
    widths = (area * aspect).sqrt().round().long()
    heights = (area / aspect).sqrt().round().long()
    fits = ((widths > 0) & (widths <= image_width) & (heights > 0)
            & (heights <= image_height))
    any_fits = fits.any(dim=1)
    first = fits.int().argmax(dim=1, keepdim=True)
    ratio = min(max(image_width / image_height, family.ratio[0]),
                family.ratio[1])
    height = torch.where(any_fits, heights.gather(1, first)[:, 0],
                         round(min(image_height, image_width / ratio)))
    width = torch.where(any_fits, widths.gather(1, first)[:, 0],
                        round(min(image_width, image_height * ratio)))

    free_rows, free_columns = image_height - height, image_width - width
    top = (place[:, 0] * (free_rows + 1)).floor().long()
    left = (place[:, 1] * (free_columns + 1)).floor().long()
    return Crops(top=torch.where(any_fits, top, free_rows // 2),
                 left=torch.where(any_fits, left, free_columns // 2),
                 height=height, width=width,
                 flip=flip[:, 0] < family.flip_prob)


def crop_theta(crops: Crops, image_size: tuple[int, int]) -> Tensor:
    """Matrices of crops, (B, 3, 3), float64; off-diagonal terms are 0.

    Example:
        >>> box = Crops(*torch.tensor([[0], [4], [8], [4], [0]]))
        >>> crop_theta(box, (8, 8))[0]
        tensor([[0.5000, 0.0000, 0.5000],
                [0.0000, 1.0000, 0.0000],
                [0.0000, 0.0000, 1.0000]], dtype=torch.float64)
    """
    image_height, image_width = image_size
    top, left, height, width, flip = (field.double() for field in crops)
    theta = torch.zeros(len(top), 3, 3, dtype=torch.float64)
    theta[:, 0, 0] = (1 - 2 * flip) * width / image_width
    theta[:, 0, 2] = (2 * left + width) / image_width - 1
    theta[:, 1, 1] = height / image_height
    theta[:, 1, 2] = (2 * top + height) / image_height - 1
    theta[:, 2, 2] = 1
    return theta


def union_crops(first: Crops, second: Crops) -> Crops:
    """Smallest boxes that hold two crops each, not flipped, as ConCL's.

    Example:
        >>> first = Crops(*torch.tensor([[0], [2], [4], [4], [0]]))
        >>> second = Crops(*torch.tensor([[3], [0], [4], [4], [1]]))
        >>> union_crops(first, second).height
        tensor([7])
    """
    top = torch.minimum(first.top, second.top)
    left = torch.minimum(first.left, second.left)
    bottom = torch.maximum(first.top + first.height,
                           second.top + second.height)
    right = torch.maximum(first.left + first.width, second.left + second.width)
    return Crops(top=top, left=left, height=bottom - top, width=right - left,
                 flip=torch.zeros_like(first.flip))


def _turned_theta(crops: Crops, uniform: Tensor, image_size: tuple[int, int],
                  view_size: tuple[int, int], family: 'ViewFamily') -> Tensor:
    """Matrices of crops turned around their centres in pixels, (B, 3, 3)."""
    batch_size = len(uniform)
    angle = torch.deg2rad(
        _between(uniform[:, 1], -family.max_angle, family.max_angle))
    shear = torch.deg2rad(
        _between(uniform[:, 2:4], -family.max_shear, family.max_shear))
    scale = torch.zeros(batch_size, 2, 2, dtype=torch.float64)
    top, left, height, width, flip = (field.double() for field in crops)
    scale[:, 0, 0] = (1 - 2 * flip) * (width / view_size[1])
    vertical = uniform[:, 0] < family.vertical_flip_prob
    scale[:, 1, 1] = (1 - 2 * vertical.double()) * (height / view_size[0])
    # One shear after the other: the area stays, so no angle is singular.
    shear_x, shear_y = shear.tan().unbind(dim=1)
    shearing = torch.eye(2, dtype=torch.float64).repeat(batch_size, 1, 1)
    shearing[:, 0, 0] += shear_x * shear_y
    shearing[:, 0, 1] = shear_x
    shearing[:, 1, 0] = shear_y
    cosine, sine = angle.cos(), angle.sin()
    rotation = torch.stack([cosine, -sine, sine, cosine], -1).view(-1, 2, 2)
    matrix = torch.eye(3, dtype=torch.float64).repeat(batch_size, 1, 1)
    matrix[:, :2, :2] = rotation @ shearing @ scale
    matrix[:, 0, 2] = left + width / 2 - image_size[1] / 2
    matrix[:, 1, 2] = top + height / 2 - image_size[0] / 2
    # From pixels to normalised units; turned in these, images that are not
    # square would be distorted.
    to_pixels = matrix.new_tensor([view_size[1] / 2, view_size[0] / 2, 1])
    to_unit = matrix.new_tensor([2 / image_size[1], 2 / image_size[0], 1])
    return to_unit[:, None] * matrix * to_pixels


@dataclass(frozen=True)
class ViewFamily:
    """The affine family T of CMIM: what a random view may look like.

    The defaults are ConCL's augmentation, which CMIM follows: resized crops
    and left-right flips, both exactly affine. The rest is offered because
    pathology has no canonical orientation. A ValueError if a value is outside
    its range.

    Attributes:
        scale: Range of the crop's share of the image area, in (0, 1].
        ratio: Range of the crop's width over its height.
        flip_prob: Probability of a left-right flip.
        vertical_flip_prob: Probability of a top-bottom flip.
        max_angle: Largest rotation in degrees, in [0, 180].
        max_shear: Largest shear in degrees, in [0, 45].

    Example:
        >>> ViewFamily(scale=(.5, 1)).axis_aligned
        True
        >>> ViewFamily(max_angle=180).axis_aligned
        False
    """

    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip_prob: float = 0.5
    vertical_flip_prob: float = 0.0
    max_angle: float = 0.0
    max_shear: float = 0.0

    def __post_init__(self):
        check_ascending('scale', self.scale, 0, 1, open_low=True)
        check_ascending('ratio', self.ratio, 0, open_low=True)
        for name, limit in (('flip_prob', 1), ('vertical_flip_prob', 1),
                            ('max_angle', 180), ('max_shear', 45)):
            check_range(name, getattr(self, name), 0, limit)

    @property
    def axis_aligned(self) -> bool:
        """Whether no view is rotated or sheared."""
        return self.max_angle == 0 and self.max_shear == 0


@dataclass(frozen=True)
class ColorFamily:
    """The colour family C of CMIM; the defaults are ConCL's.

    Attributes:
        brightness: Largest change of brightness, at least 0.
        contrast: Largest change of contrast, at least 0.
        saturation: Largest change of saturation, at least 0.
        hue: Largest shift of the hue in turns, in [0, 0.5].
        jitter_prob: Probability of the four above.
        gray_prob: Probability of gray.
        blur_prob: Probability of a Gaussian blur.
        blur_sigma: Range of its standard deviation in pixels.
        stain_prob: Probability of a change of the stains, before the others,
            see :func:`~mmmedmask.functional.stains.change_stains`. ConCL has
            none.
        stain_factor: Largest change of a stain's factor, in [0, 1].
        stain_shift: Largest shift of a stain's amount in optical density,
            at least 0.

    Raises:
        ValueError: If a value is outside its range.

    Example:
        >>> uniform = torch.rand(2, COLOR_DRAWS, dtype=torch.float64)
        >>> ColorFamily(stain_prob=1).draw(uniform).stain
        tensor([True, True])
        >>> ColorFamily(saturation=0, hue=0, gray_prob=0).needs_rgb
        False
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    jitter_prob: float = 0.8
    gray_prob: float = 0.2
    blur_prob: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    stain_prob: float = 0.0
    stain_factor: float = 0.2
    stain_shift: float = 0.05

    def __post_init__(self):
        for name in ('brightness', 'contrast', 'saturation', 'stain_shift'):
            check_range(name, getattr(self, name), 0)
        for name, limit in (('hue', 0.5), ('jitter_prob', 1),
                            ('gray_prob', 1), ('blur_prob', 1),
                            ('stain_prob', 1), ('stain_factor', 1)):
            check_range(name, getattr(self, name), 0, limit)
        check_ascending('blur_sigma', self.blur_sigma, 0, open_low=True)

    @property
    def needs_rgb(self) -> bool:
        """Whether a step is only defined for three colour channels."""
        return self.gray_prob > 0 or self.stain_prob > 0 or (
            self.jitter_prob > 0 and (self.saturation > 0 or self.hue > 0))

    def check_channels(self, channels: int, source: object) -> None:
        """Refuse channels, told by ``source``, that a step cannot colour."""
        if self.needs_rgb and channels != 3:
            raise ValueError(
                'saturation, hue, gray_prob and stain_prob need 3 channels, '
                f'got {channels} ({source}); set them to 0')

    def draw(self, uniform: Tensor) -> Colors:
        """Draw parameters from numbers in [0, 1), (B, ``COLOR_DRAWS``).

        Factors are uniform in [max(0, 1 - amount), 1 + amount], shifts of
        the hue in [-hue, hue], as contrastive methods have them.
        """
        factors = torch.empty(len(uniform), 4, dtype=torch.float64)
        for column, amount in enumerate(
                (self.brightness, self.contrast, self.saturation)):
            factors[:, column] = _between(uniform[:, 1 + column],
                                          max(0.0, 1 - amount), 1 + amount)
        factors[:, 3] = _between(uniform[:, 4], -self.hue, self.hue)
        # The stains take the low bits of the same numbers: a draw of 53 bits
        # has enough for two, and with or without stains all else is equal.
        low = uniform[:, :5] * 2**24 % 1
        return Colors(
            jitter=uniform[:, 0] < self.jitter_prob, factors=factors,
            order=uniform[:, 5:9].argsort(dim=1),
            gray=uniform[:, 9] < self.gray_prob,
            blur=uniform[:, 10] < self.blur_prob,
            sigma=_between(uniform[:, 11], *self.blur_sigma),
            stain=low[:, 0] < self.stain_prob,
            stain_factors=_between(low[:, 1:3], 1 - self.stain_factor,
                                   1 + self.stain_factor),
            stain_shifts=_between(low[:, 3:], -self.stain_shift,
                                  self.stain_shift))


def draw_view(uniform: Tensor, image_size: tuple[int, int],
              view_size: tuple[int, int],
              family: ViewFamily) -> tuple[Crops, Tensor]:
    """Draw one view per image: crop boxes, and theta (B, 3, 3), float64.

    Crops are torchvision's RandomResizedCrop: ten attempts draw an area share
    and an aspect ratio (uniform in its logarithm); the first box that fits is
    placed uniformly. If none fits, the largest central box with an allowed
    aspect ratio is taken. Angles and shears are uniform up to their largest.

    Numbers in [0, 1) are (B, ``CROP_DRAWS + AFFINE_DRAWS``), sizes (h, w).

    Example:
        >>> uniform = torch.rand(2, 27, dtype=torch.float64)
        >>> draw_view(uniform, (8, 8), (4, 4), ViewFamily())[1].shape
        torch.Size([2, 3, 3])
    """
    crop, affine = uniform.split([CROP_DRAWS, AFFINE_DRAWS], dim=1)
    crops = _draw_crops(crop, image_size, family)
    if family.axis_aligned and family.vertical_flip_prob == 0:
        return crops, crop_theta(crops, image_size)
    return crops, _turned_theta(crops, affine, image_size, view_size, family)


def split_view_draws(uniform: Tensor) -> tuple[Tensor, ...]:
    """Cut a sample's numbers, (B, at least ``VIEW_DRAWS``), by decision.

    Gives those of the query's view, of the key's, of a colour, and the rest.

    Example:
        >>> [part.shape[1] for part in split_view_draws(torch.rand(1, 70))]
        [27, 27, 12, 4]
    """
    lengths = [CROP_DRAWS + AFFINE_DRAWS] * 2 + [COLOR_DRAWS]
    return uniform.split([*lengths, uniform.shape[1] - VIEW_DRAWS], dim=1)
