"""Panels of attention-driven masking: where a model looks, what it masks."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from mmmedmask.functional.attention_masking import TokenPartition
from mmmedmask.util.checks import check_shape
from mmmedmask.visualization.grid import Column
from mmmedmask.visualization.pictures import PictureUnits
from mmmedmask.visualization.reconstruction import MASK_COLOR, OUTLINE_COLOR

# Equal steps of attention look equal, also in gray.
COLORMAP = 'inferno'
MAP_SHARE = 0.65
THROWN_COLOR = (232, 228, 220)
HATCH_COLOR = (168, 160, 148)
MASKED, THROWN = 1, -1


def overlay_map(pictures: np.ndarray, maps: torch.Tensor) -> np.ndarray:
    """Colour uint8 pictures (B, H, W, 3), in gray, by maps (B, gh, gw) >= 0.

    0 is black and the maximum of each map yellow: only ratios count.
    """
    import matplotlib
    table = matplotlib.colormaps[COLORMAP](np.arange(256))[:, :3] * 255
    maps = maps.detach().float().cpu()
    highest = maps.amax(dim=(1, 2), keepdim=True)
    levels = torch.where(highest > 0, maps / highest, 0.0)
    levels = levels.clamp_min(0).mul(255).round()
    places = enlarge_cells(levels.numpy().astype(np.uint8),
                           pictures.shape[1:3])
    gray = np.stack(
        [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures])
    mixed = MAP_SHARE * table[places] + (1 - MAP_SHARE) * gray[..., None]
    return mixed.round().astype(np.uint8)


def cover_partition(pictures: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """Cover masked patches of uint8 pictures (B, H, W, 3), hatch thrown ones.

    ``flags`` (B, gh, gw) are 1 = masked, -1 = thrown, 0 = visible.
    """
    covered = hatch_thrown(pictures, flags)
    covered[enlarge_cells(flags, pictures.shape[1:3]) == MASKED] = MASK_COLOR
    return covered


def hatch_thrown(pictures: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """Hatch the patches that are thrown away, see :func:`cover_partition`."""
    height, width = pictures.shape[1:3]
    places = enlarge_cells(flags, (height, width))
    thickness = max(1, round(height / flags.shape[1] / 10))
    rows, columns = np.mgrid[:height, :width]
    stripes = (rows + columns) % (4 * thickness) < thickness
    hatching = np.where(stripes[..., None], np.uint8(HATCH_COLOR),
                        np.uint8(THROWN_COLOR))
    return np.where((places == THROWN)[..., None], hatching, pictures)


def outline_lesions(pictures: np.ndarray,
                    lesions: Sequence[np.ndarray | None]) -> np.ndarray:
    """Draw a line around each lesion, outside of it.

    Pictures are uint8 (B, H, W, 3); each has a mask, bool (H, W), or None.
    """
    outlined = pictures.copy()
    for picture, lesion in zip(outlined, lesions, strict=True):
        if lesion is None:
            continue
        check_shape('a lesion mask', lesion, picture.shape[:2],
                    'that of the picture')
        side = 3 + 2 * (min(lesion.shape) // 160)
        wider = cv2.dilate(
            lesion.astype(np.uint8), np.ones((side, side), np.uint8))
        picture[(wider > 0) & ~lesion.astype(bool)] = OUTLINE_COLOR
    return outlined


def attention_columns(
        images: torch.Tensor, maps: torch.Tensor, partition: TokenPartition,
        units: PictureUnits, lesions: Sequence[np.ndarray | None] = (),
        reconstruction: torch.Tensor | None = None) -> list[Column]:
    """Make the columns of an attention panel, one row per image.

    These are image, attention and masking, and with a reconstruction two
    more: what the decoder has and draws, and the image filled in.

    Args:
        images: Normalised whole images (B, C, H, W).
        maps: What the class token looks at, (B, gh, gw), not negative.
        partition: Where each token goes, on the grid of the maps.
        lesions: Per image its lesion mask, bool (H, W), or None; or empty.
        reconstruction: The images with their masked patches predicted,
            (B, C, H, W), normalised as they are; None without a decoder.
    """
    flags = partition.flags().cpu().numpy()
    if flags.shape[1] != maps[0].numel():
        raise ValueError(f'the partition has {flags.shape[1]} tokens, and the '
                         f'maps {tuple(maps.shape[1:])} cells')
    flags = flags.reshape(tuple(maps.shape))
    pictures = units.to_pictures(images)
    shown, note = pictures, ''
    if any(lesion is not None for lesion in lesions):
        shown = outline_lesions(pictures, lesions)
        note = 'lesion outlined'
    columns = [Column('Image', note, shown),
               Column('Attention', 'of the class token, yellow is most',
                      overlay_map(pictures, maps)),
               Column('Masking', describe_partition(partition),
                      cover_partition(pictures, flags))]
    if reconstruction is not None:
        drawn = units.to_pictures(reconstruction)
        columns += [Column('Reconstruction', 'masked patches predicted',
                           hatch_thrown(drawn, flags)),
                    Column('Filled in', 'predictions in the image', drawn)]
    return columns


def describe_partition(partition: TokenPartition) -> str:
    """Say in a line how much is masked, thrown and visible."""
    counts = [ids.shape[1] for ids in partition]
    masked, thrown, visible = (
        f'{100 * count / sum(counts):.0f} %' for count in counts)
    hatched = f'hatched: thrown, {thrown}; ' if counts[1] else ''
    return f'dark: masked, {masked}; {hatched}visible: {visible}'


def enlarge_cells(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Give every pixel of (B, h, w) the value of the cell at its centre."""
    rows, columns = ((2 * np.arange(length) + 1) * number // (2 * length)
                     for length, number in zip(size, cells.shape[1:],
                                               strict=True))
    return cells[:, rows[:, None], columns]
