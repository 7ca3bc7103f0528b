"""Panels that show what a masked model sees, is asked for and draws."""

from collections.abc import Mapping

import cv2
import numpy as np
import torch

from mmmedmask.functional.masking import resize_mask
from mmmedmask.visualization.grid import Column
from mmmedmask.visualization.pictures import PictureUnits

# Neither occurs in stained tissue.
MASK_COLOR = (58, 66, 82)
OUTLINE_COLOR = (0, 176, 116)
# Share of white that is mixed into what plays no part.
FADING = 0.65


@torch.no_grad()
def reconstruct(model: torch.nn.Module,
                inputs: Mapping) -> tuple[torch.Tensor, torch.Tensor]:
    """Let a model reconstruct, in the units of its input.

    Args:
        model: :class:`mmmedmask.models.cmim.CMIM` or alike, in evaluation
            mode: with ``reconstruct(inputs)`` and ``head.to_pixels``.
        inputs: The data preprocessor's output of training, on the model's
            device; ``key`` is the target.

    Returns:
        The reconstruction, (B, C, H, W), normalised as the images are (a
        normalisation per patch is undone with the target's statistics), and
        where the loss counts, (B, 1, H, W), 1 = it does.
    """
    prediction, weight = model.reconstruct(inputs)
    pixels = model.head.to_pixels(prediction.float(), inputs['key'].float())
    return pixels, weight


def cover_masked(pictures: np.ndarray, mask: torch.Tensor) -> np.ndarray:
    """Paint over the masked patches of uint8 pictures (B, H, W, 3).

    ``mask`` has shape (B, 1, h, w), 1 = masked.
    """
    masked = _to_places(resize_mask(mask.float(), pictures.shape[1:3]))
    return np.where(masked[..., None], np.uint8(MASK_COLOR), pictures)


def mark_region(pictures: np.ndarray, weight: torch.Tensor) -> np.ndarray:
    """Outline a region of uint8 pictures (B, H, W, 3) and fade the rest.

    ``weight`` has shape (B, 1, H, W), 1 inside the region.
    """
    inside = _to_places(weight)
    faded = pictures * (1 - FADING) + 255 * FADING
    marked = np.where(inside[..., None], pictures,
                      faded.round().astype(np.uint8))
    for picture, region in zip(marked, inside, strict=True):
        # Its pixels that touch something else, but not the frame.
        eroded = cv2.erode(region.astype(np.uint8), np.ones((3, 3), np.uint8))
        picture[region & (eroded == 0)] = OUTLINE_COLOR
    return marked


def composite(inside: np.ndarray, outside: np.ndarray,
              weight: torch.Tensor) -> np.ndarray:
    """Put pictures ``inside`` a region, others outside, uint8 (B, H, W, 3).

    ``weight`` has shape (B, 1, H, W), 1 inside the region.
    """
    return np.where(_to_places(weight)[..., None], inside, outside)


def reconstruction_columns(inputs: Mapping, reconstruction: torch.Tensor,
                           weight: torch.Tensor,
                           units: PictureUnits) -> list[Column]:
    """Make the six columns of a reconstruction panel, one row per sample.

    Args:
        inputs: ``query`` and ``key`` (B, C, H, W), normalised, and ``mask``
            (B, 1, h, w), 1 = masked, as the data preprocessor returns them.
        reconstruction: (B, C, H, W), normalised.
        weight: Where the loss counts, (B, 1, H, W).
    """
    shown = (units.to_pictures(pixels) for pixels in (
        inputs['query'], inputs['key'], reconstruction))
    return picture_columns(*shown, inputs['mask'], weight)


def picture_columns(query: np.ndarray, key: np.ndarray, drawn: np.ndarray,
                    mask: torch.Tensor, weight: torch.Tensor) -> list[Column]:
    """Columns of :func:`reconstruction_columns` from uint8 pictures."""
    *queries, target = _view_columns(query, key, mask)
    return [*queries,
            Column('Asked for', 'masked patches, found in the key view',
                   mark_region(key, weight)),
            Column('Reconstruction', 'all that the decoder draws', drawn),
            Column('Filled in', 'reconstruction where asked for',
                   composite(drawn, key, weight)), target]


def view_columns(inputs: Mapping, units: PictureUnits) -> list[Column]:
    """Columns of a batch's views: query view, masked query, key view."""
    return _view_columns(units.to_pictures(inputs['query']),
                         units.to_pictures(inputs['key']), inputs['mask'])


def _view_columns(query: np.ndarray, key: np.ndarray,
                  mask: torch.Tensor) -> list[Column]:
    return [Column('Query view', 'first crop, other colours', query),
            Column('Masked query', 'what the encoder sees',
                   cover_masked(query, mask)),
            Column('Key view', 'second crop, the target', key)]


def _to_places(weight: torch.Tensor) -> np.ndarray:
    """(B, 1, H, W), 1 = inside, to a bool array (B, H, W)."""
    return (weight.detach()[:, 0] > 0.5).cpu().numpy()
