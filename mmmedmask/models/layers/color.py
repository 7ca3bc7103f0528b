"""Per-sample colour augmentation of a batch as contrastive methods do it.

Two ways give the same picture up to 8-bit rounding: ``torchvision`` image by
image (fast on a CPU) and ``kornia`` in batches (fast on a GPU).
"""

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as TF  # noqa: N812

from mmmedmask.functional.views import Colors

COLOR_IMPLEMENTATIONS = ('auto', 'kornia', 'torchvision')
# Factors of brightness, contrast and saturation, and the shift of the hue,
# that change nothing.
_NEUTRAL = (1.0, 1.0, 1.0, 0.0)
# Luma weights of Pillow's and torchvision's gray conversion.
_GRAY_WEIGHTS = (0.299, 0.587, 0.114)


def blur_kernel(sigma: Tensor, radius: int) -> Tensor:
    """Gaussian kernels (B, 2 * radius + 1), with sum 1, of sigmas (B,)."""
    offsets = torch.arange(
        -radius, radius + 1, dtype=sigma.dtype, device=sigma.device)
    weights = torch.exp(-0.5 * (offsets / sigma[:, None])**2)
    return weights / weights.sum(dim=1, keepdim=True)


def gaussian_blur(images: Tensor, sigma: Tensor, max_sigma: float) -> Tensor:
    """Blur every image with its own standard deviation.

    The border is repeated. ``sigma`` (B,) is in pixels; ``max_sigma`` sets
    the kernel length without reading ``sigma`` from the device.
    """
    radius = max(1, round(3 * max_sigma))
    kernel = blur_kernel(sigma.to(images), radius)
    kernel = kernel.repeat_interleave(images.shape[1], dim=0)
    flat = F.pad(images.flatten(0, 1)[None], [radius] * 4, mode='replicate')
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=len(kernel))
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=len(kernel))
    return flat.view_as(images)


def augment_colors_kornia(images: Tensor, colors: Colors,
                          max_sigma: float) -> Tensor:
    """Apply colour parameters in batches on the images' device.

    Every image has its own order of the four jitter steps: position by
    position, the images whose next step is the same go through it together.
    Images are (B, C, H, W) in [0, 1], parameters on the CPU.
    """
    from kornia import enhance
    device = images.device
    images = images.clone()
    # kornia measures the shift of hues in radians.
    steps = (enhance.adjust_brightness_accumulative,
             enhance.adjust_contrast_with_mean_subtraction,
             enhance.adjust_saturation_with_gray_subtraction,
             lambda pixels, turns: enhance.adjust_hue(
                 pixels, turns * 2 * torch.pi))
    for position in range(4):
        for kind, step in enumerate(steps):
            chosen = colors.jitter & (colors.order[:, position] == kind) & (
                colors.factors[:, kind] != _NEUTRAL[kind])
            index = chosen.nonzero()[:, 0]
            if len(index) == 0:
                continue
            factor = colors.factors[index, kind].to(device, images.dtype)
            index = index.to(device, non_blocking=True)
            images[index] = step(images[index], factor)
    gray = colors.gray.nonzero()[:, 0].to(device)
    if len(gray):
        weights = images.new_tensor(_GRAY_WEIGHTS).view(1, 3, 1, 1)
        images[gray] = (images[gray] * weights).sum(1, True).expand(
            -1, 3, -1, -1)
    blurred = colors.blur.nonzero()[:, 0]
    if len(blurred):
        sigma = colors.sigma[blurred].to(device)
        blurred = blurred.to(device)
        images[blurred] = gaussian_blur(images[blurred], sigma, max_sigma)
    return images


def augment_color_torchvision(image: Tensor, colors: Colors,
                              index: int) -> Tensor:
    """Apply the parameters at a place of the batch to one uint8 image."""
    steps = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation,
             TF.adjust_hue)
    if colors.jitter[index]:
        for kind in colors.order[index].tolist():
            factor = float(colors.factors[index, kind])
            if factor != _NEUTRAL[kind]:
                image = steps[kind](image, factor)
    if colors.gray[index]:
        image = TF.rgb_to_grayscale(image, num_output_channels=3)
    if colors.blur[index]:
        pixels = image.permute(1, 2, 0).contiguous().numpy()
        pixels = cv2.GaussianBlur(pixels, (0, 0), float(colors.sigma[index]),
                                  borderType=cv2.BORDER_REPLICATE)
        pixels = torch.from_numpy(pixels)
        image = pixels.view(*image.shape[1:], -1).permute(2, 0, 1)
    return image


def augment_colors_torchvision(images: Tensor, colors: Colors) -> Tensor:
    """Apply colour parameters image by image, in 8 bits as Pillow does.

    Images are (B, C, H, W) in [0, 1], C = 1 or 3, and stay so in steps of
    1 / 255; they are on the CPU, as the parameters.
    """
    pixels = images.mul(255).round_().clamp_(0, 255).byte()
    augmented = [augment_color_torchvision(image, colors, index)
                 for index, image in enumerate(pixels)]
    return torch.stack(augmented).to(images.dtype).div_(255)
