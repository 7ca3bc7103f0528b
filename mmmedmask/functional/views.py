"""Turn uniform numbers into the parameters of random views and colours.

Drawing is separate from doing: the CPU transforms and the batched path on the
device get the same parameters from the same numbers, so that they can be
compared, and a draw costs no access to the device.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmmedmask.functional.affine import crop_theta, pixel_theta
from mmmedmask.functional.stains import change_stains
from mmmedmask.util.checks import check_range

CROP_ATTEMPTS = 10
# Per attempt an area and an aspect ratio; then the place (2) and the flip.
CROP_DRAWS = 2 * CROP_ATTEMPTS + 3
# Vertical flip, angle, shear along x and along y.
AFFINE_DRAWS = 4
# Application, four factors, four sort keys (their order), gray, blur, sigma.
COLOR_DRAWS = 12


@dataclass(frozen=True)
class Crops:
    """Boxes of a batch of random resized crops, each field of shape (B,).

    ``top``, ``left``, ``height`` and ``width`` are whole pixels (int64);
    ``flip`` is True where the view is mirrored left to right.
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
        stain: Whether to change the stains first, bool, shape (B,), or None
            for no image at all.
        stain_factors: Factors of the amounts of haematoxylin and eosin
            (1 = unchanged), shape (B, 2).
        stain_shifts: What is added to them, in optical density, (B, 2).
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
            0, index,
            change_stains(images[index], self.stain_factors[chosen],
                          self.stain_shifts[chosen]))


def _between(uniform: Tensor, low: float, high: float) -> Tensor:
    return low + uniform * (high - low)


def random_resized_crops(uniform: Tensor, image_size: tuple[int, int],
                         scale: tuple[float, float],
                         ratio: tuple[float, float],
                         flip_prob: float) -> Crops:
    """Draw crops as torchvision's RandomResizedCrop does.

    Ten attempts draw an area share and an aspect ratio (uniform in its
    logarithm); the first box that fits is placed uniformly. If none fits,
    the largest central box with an allowed aspect ratio is taken.

    Args:
        uniform: Numbers in [0, 1), shape (B, ``CROP_DRAWS``).
        image_size: Size of the image as (h, w).
        scale: Range of the area share.
        ratio: Range of width over height.
        flip_prob: Probability of a left-right flip.

    Example:
        >>> draws = torch.zeros(1, CROP_DRAWS, dtype=torch.float64)
        >>> random_resized_crops(draws, (8, 8), (.25, 1), (1, 1), .5).height
        tensor([4])
    """
    image_height, image_width = image_size
    attempts = uniform[:, :2 * CROP_ATTEMPTS].view(-1, CROP_ATTEMPTS, 2)
    area = _between(attempts[..., 0], *scale) * image_height * image_width
    log_ratio = torch.tensor(ratio, dtype=torch.float64).log()
    aspect = _between(attempts[..., 1], log_ratio[0], log_ratio[1]).exp()
    widths = (area * aspect).sqrt().round().long()
    heights = (area / aspect).sqrt().round().long()
    fits = ((widths > 0) & (widths <= image_width) & (heights > 0)
            & (heights <= image_height))
    first = fits.int().argmax(dim=1, keepdim=True)
    width = widths.gather(1, first)[:, 0]
    height = heights.gather(1, first)[:, 0]

    image_ratio = image_width / image_height
    if image_ratio < ratio[0]:
        fallback = (round(image_width / ratio[0]), image_width)
    elif image_ratio > ratio[1]:
        fallback = (image_height, round(image_height * ratio[1]))
    else:
        fallback = (image_height, image_width)
    any_fits = fits.any(dim=1)
    height = torch.where(any_fits, height, fallback[0])
    width = torch.where(any_fits, width, fallback[1])

    place = uniform[:, 2 * CROP_ATTEMPTS:2 * CROP_ATTEMPTS + 2]
    free_rows, free_columns = image_height - height, image_width - width
    top = (place[:, 0] * (free_rows + 1)).floor().long()
    left = (place[:, 1] * (free_columns + 1)).floor().long()
    return Crops(top=torch.where(any_fits, top, free_rows // 2),
                 left=torch.where(any_fits, left, free_columns // 2),
                 height=height, width=width,
                 flip=uniform[:, 2 * CROP_ATTEMPTS + 2] < flip_prob)


def crops_to_theta(crops: Crops, image_size: tuple[int, int]) -> Tensor:
    """Matrices of the crops, shape (B, 3, 3), float64.

    Example:
        >>> draws = torch.zeros(1, CROP_DRAWS, dtype=torch.float64)
        >>> crops = random_resized_crops(draws, (8, 8), (1, 1), (1, 1), 0)
        >>> bool((crops_to_theta(crops, (8, 8)) == torch.eye(3)).all())
        True
    """
    return crop_theta(crops.top, crops.left, crops.height, crops.width,
                      image_size, crops.flip)


def general_affine_theta(crops: Crops, uniform: Tensor,
                         image_size: tuple[int, int],
                         view_size: tuple[int, int], vertical_flip_prob: float,
                         max_angle: float, max_shear: float) -> Tensor:
    """Matrices (B, 3, 3), float64, of crops mirrored, rotated and sheared.

    Pathology has no canonical orientation, so this family is offered beside
    the crops and flips that CMIM uses. Turning happens in pixels around the
    centre of the crop; parts may lie outside the image.

    Args:
        crops: The boxes, see :func:`random_resized_crops`.
        uniform: Numbers in [0, 1), shape (B, ``AFFINE_DRAWS``).
        image_size: Size of the image as (h, w).
        view_size: Size of the view as (h, w).
        vertical_flip_prob: Probability of a top-bottom flip.
        max_angle: Rotations are uniform in [-max_angle, max_angle] degrees.
        max_shear: Shears are uniform in [-max_shear, max_shear] degrees.

    Example:
        >>> draws = torch.full((1, CROP_DRAWS), .5, dtype=torch.float64)
        >>> crops = random_resized_crops(draws, (8, 8), (1, 1), (1, 1), 0)
        >>> theta = general_affine_theta(crops, draws[:, :AFFINE_DRAWS],
        ...                              (8, 8), (8, 8), 0, 180, 0)
        >>> bool((theta == torch.eye(3)).all())
        True
    """
    batch_size = len(uniform)
    angle = torch.deg2rad(_between(uniform[:, 1], -max_angle, max_angle))
    shear = torch.deg2rad(_between(uniform[:, 2:4], -max_shear, max_shear))
    scale = torch.zeros(batch_size, 2, 2, dtype=torch.float64)
    top, left, height, width = (
        value.double()
        for value in (crops.top, crops.left, crops.height, crops.width))
    scale[:, 0, 0] = (1 - 2 * crops.flip.double()) * (width / view_size[1])
    vertical = uniform[:, 0] < vertical_flip_prob
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
    return pixel_theta(matrix, view_size, image_size)


VIEW_DRAWS = 2 * (CROP_DRAWS + AFFINE_DRAWS) + COLOR_DRAWS


@dataclass(frozen=True)
class ViewFamily:
    """The affine family T of CMIM: what a random view may look like.

    The defaults are ConCL's augmentation, which CMIM follows: resized crops
    and left-right flips, both exactly affine.

    Attributes:
        scale: Range of the crop's share of the image area, in (0, 1].
        ratio: Range of the crop's width over its height.
        flip_prob: Probability of a left-right flip.
        vertical_flip_prob: Probability of a top-bottom flip.
        max_angle: Largest rotation in degrees, in [0, 180].
        max_shear: Largest shear in degrees, in [0, 45].

    Raises:
        ValueError: If a value is outside its range.
    """

    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip_prob: float = 0.5
    vertical_flip_prob: float = 0.0
    max_angle: float = 0.0
    max_shear: float = 0.0

    def __post_init__(self):
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError('scale must be an increasing pair in (0, 1], '
                             f'got {self.scale}')
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError('ratio must be an increasing pair of positive '
                             f'numbers, got {self.ratio}')
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
        if not 0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise ValueError('blur_sigma must be an increasing pair of '
                             f'positive numbers, got {self.blur_sigma}')

    @property
    def needs_rgb(self) -> bool:
        """Whether a step is only defined for three colour channels."""
        return self.gray_prob > 0 or self.stain_prob > 0 or (
            self.jitter_prob > 0 and (self.saturation > 0 or self.hue > 0))

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
            jitter=uniform[:, 0] < self.jitter_prob,
            factors=factors,
            order=uniform[:, 5:9].argsort(dim=1),
            gray=uniform[:, 9] < self.gray_prob,
            blur=uniform[:, 10] < self.blur_prob,
            sigma=_between(uniform[:, 11], *self.blur_sigma),
            stain=low[:, 0] < self.stain_prob,
            stain_factors=_between(low[:, 1:3], 1 - self.stain_factor,
                                   1 + self.stain_factor),
            stain_shifts=_between(low[:, 3:], -self.stain_shift,
                                  self.stain_shift))


def split_view_draws(uniform: Tensor) -> tuple[Tensor, ...]:
    """Cut a sample's numbers into those of each decision.

    Args:
        uniform: Shape (B, N) with N at least ``VIEW_DRAWS``.

    Returns:
        Crop and affine draws of the query, crop and affine draws of the
        key, colour draws, and whatever is left.

    Example:
        >>> [part.shape[1] for part in split_view_draws(torch.rand(1, 70))]
        [23, 4, 23, 4, 12, 4]
    """
    lengths = [CROP_DRAWS, AFFINE_DRAWS] * 2 + [COLOR_DRAWS]
    lengths.append(uniform.shape[1] - sum(lengths))
    return uniform.split(lengths, dim=1)


def draw_view(crop_uniform: Tensor, affine_uniform: Tensor,
              image_size: tuple[int, int], view_size: tuple[int, int],
              family: ViewFamily) -> tuple[Crops, Tensor]:
    """Draw one view per image: crop boxes, and theta (B, 3, 3), float64.

    Args:
        crop_uniform: Shape (B, ``CROP_DRAWS``).
        affine_uniform: Shape (B, ``AFFINE_DRAWS``).
        image_size: Size of the images as (h, w).
        view_size: Size of the views as (h, w).

    Example:
        >>> uniform = torch.rand(2, CROP_DRAWS, dtype=torch.float64)
        >>> draw_view(uniform, uniform, (8, 8), (4, 4), ViewFamily())[1].shape
        torch.Size([2, 3, 3])
    """
    crops = random_resized_crops(crop_uniform, image_size, family.scale,
                                 family.ratio, family.flip_prob)
    if family.axis_aligned and family.vertical_flip_prob == 0:
        return crops, crops_to_theta(crops, image_size)
    theta = general_affine_theta(crops, affine_uniform, image_size, view_size,
                                 family.vertical_flip_prob, family.max_angle,
                                 family.max_shear)
    return crops, theta
