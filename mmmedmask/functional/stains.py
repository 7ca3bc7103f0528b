"""Stains of H&E tiles: their colours, and random changes of their amounts.

Light that passes a stain falls off exponentially (Beer and Lambert), so that
in optical density, ``-log10(I / I_0)``, the amounts of the stains add up.
"""

import torch
from torch import Tensor

# Colours of haematoxylin and eosin in optical density, from Ruifrok and
# Johnston, "Quantification of histochemical staining by color
# deconvolution", 2001.
REFERENCE_STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11))
DARKEST = 1 / 255
# A pixel whose channels have less on average is background; Macenko et al.
# call it beta.
BACKGROUND_DENSITY = 0.15
# Share of angles beyond each of the two stains; Macenko et al. call it alpha.
OUTLIER_SHARE = 0.01
# Pixels that are looked at for the stains, at most, along each side.
ESTIMATE_SIDE = 64
# With fewer pixels of tissue, or stains whose angle (in radians) is smaller,
# an image does not tell its stains.
MIN_TISSUE_PIXELS = 16
MIN_ANGLE = 0.15


def _optical_density(images: Tensor) -> Tensor:
    """Density of each channel, ``-log10(I)``, from intensities in [0, 1]."""
    return -images.clamp(DARKEST, 1).log10()


def estimate_stains(images: Tensor) -> Tensor:
    """Find the colours of haematoxylin and eosin in each image.

    Macenko et al., "A method for normalizing histology slides for quantitative
    analysis", ISBI 2009: the two first singular vectors of the densities of
    tissue span a plane; the stains are the extremes of the angles in it. Up to
    64 x 64 evenly spaced pixels are looked at. Where there is too little
    tissue or one stain only, the colours are those of Ruifrok and Johnston.

    Gives unit vectors in optical density, shape (B, 2, 3), haematoxylin (the
    one with more red in its density) first, of RGB images (B, 3, H, W) in
    [0, 1].

    Example:
        >>> estimate_stains(torch.ones(1, 3, 8, 8))[0, 0]  # no tissue
        tensor([0.6511, 0.7012, 0.2905])
    """
    reference = torch.nn.functional.normalize(
        images.new_tensor(REFERENCE_STAINS), dim=1)
    steps = [-(-side // ESTIMATE_SIDE) for side in images.shape[-2:]]
    density = _optical_density(images[..., ::steps[0], ::steps[1]])
    density = density.flatten(2).transpose(1, 2)  # (B, N, 3)
    tissue = density.mean(dim=2) > BACKGROUND_DENSITY
    count = tissue.sum(dim=1)
    inside = density * tissue[..., None]
    moments = inside.transpose(1, 2).double() @ inside.double()
    axes = torch.linalg.eigh(moments)[1][..., [2, 1]].to(density)  # (B, 3, 2)
    # No density is negative, so the first axis has one sign throughout.
    axes = axes * axes.sum(dim=1, keepdim=True).sign()
    places = density @ axes
    angles = torch.atan2(places[..., 1], places[..., 0])
    angles = angles.masked_fill(~tissue, torch.inf).sort(dim=1).values
    last = (count - 1).clamp(min=0)
    ranks = torch.stack([(share * last).round().long()
                         for share in (OUTLIER_SHARE, 1 - OUTLIER_SHARE)], 1)
    extremes = angles.gather(1, ranks)  # (B, 2)
    has_stains = ((count >= MIN_TISSUE_PIXELS)
                  & (extremes[:, 1] - extremes[:, 0] >= MIN_ANGLE))
    turns = torch.stack([extremes.cos(), extremes.sin()], dim=2)  # (B, 2, 2)
    stains = turns @ axes.transpose(1, 2)
    swap = stains[:, 0, 0] < stains[:, 1, 0]
    stains = torch.where(swap[:, None, None], stains.flip(1), stains)
    return torch.where(has_stains[:, None, None], stains, reference)


def change_stains(images: Tensor, factors: Tensor, shifts: Tensor) -> Tensor:
    """Change the amount of haematoxylin and eosin in each image.

    An amount ``a`` becomes ``factor * a + shift``, as in Tellez et al.,
    "Whole-slide mitosis detection in H&E breast histology using PHH3 as a
    reference to train distilled stain-invariant convolutional networks",
    2018, with the colours that :func:`estimate_stains` finds. What the two
    stains do not explain stays as it is.

    Args:
        images: RGB images in [0, 1], shape (B, 3, H, W), as the result.
        factors: One per image and stain, shape (B, 2); 1 changes nothing.
        shifts: In units of optical density, shape (B, 2); 0 changes nothing.

    Example:
        >>> pink = torch.tensor([.9, .5, .8]).view(1, 3, 1, 1)
        >>> paler = change_stains(pink, torch.full((1, 2), .5),
        ...                       torch.zeros(1, 2))
        >>> bool((paler > pink).all())
        True
    """
    stains = estimate_stains(images)
    density = _optical_density(images)
    amounts = torch.linalg.pinv(stains.double()).to(images).transpose(1, 2)
    # density + ((factors - 1) * amount + shift) @ stains, in one product.
    change = stains.transpose(1, 2) @ (
        (factors - 1).to(images)[..., None] * amounts)
    offset = (shifts.to(images)[:, None] @ stains).transpose(1, 2)
    flat = density.flatten(2)
    changed = torch.baddbmm(flat + offset, change, flat)
    return (10**-changed).clamp(0, 1).view_as(images)
