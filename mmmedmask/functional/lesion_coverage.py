"""How much of an attention map, and of a masking, falls on the lesion.

What papers show in pictures, as numbers, each next to what chance would give.
Images without a lesion have NaN, and are counted apart.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmmedmask.functional.concepts import overlap_matrix
from mmmedmask.util.checks import check_shape

ATTENTION_NAMES = ('attention_share', 'lesion_share', 'attention_gain',
                   'pointing', 'pointing_chance')
MASKING_NAMES = ('masked', 'masked_chance', 'thrown', 'thrown_chance',
                 'visible', 'visible_chance')
SUMMARY_NAMES = (*ATTENTION_NAMES, *MASKING_NAMES)


def cell_shares(masks: Tensor, grid_size: tuple[int, int]) -> Tensor:
    """Share of each cell's area that is lesion, float64 (B, rows, columns).

    Cells need not divide the image. A ValueError names a mask (B, H, W) of
    whole images that is not bool or 0 and 1.

    Example:
        >>> mask = torch.tensor([[[1, 1, 0, 0], [1, 0, 0, 0]]])
        >>> cell_shares(mask, (1, 2)).tolist()
        [[[0.75, 0.0]]]
    """
    _check_masks(masks)
    vertical, horizontal = map(_overlaps, grid_size, masks.shape[1:])
    masks = masks.to('cpu', torch.float64)
    # Sums of whole numbers are exact: a full cell is 1, half of one 0.5.
    return vertical @ masks @ horizontal.T / masks[0].numel()


def _overlaps(num_cells: int, num_pixels: int) -> Tensor:
    """What each pixel covers of each cell, whole numbers of 1 / num_pixels."""
    unit = torch.ones(1, dtype=torch.float64)
    shares = overlap_matrix(unit, 0 * unit, num_cells, num_pixels)[0]
    return (num_pixels * shares).round()


def centre_hits(masks: Tensor, grid_size: tuple[int, int]) -> Tensor:
    """Say which cells' centres lie on the lesion, bool (B, rows, columns).

    Pixels are closed squares: a centre on their border is on all of them.
    Arguments are those of :func:`cell_shares`.

    Example:
        >>> centre_hits(torch.eye(4)[None], (2, 2)).tolist()
        [[[True, False], [False, True]]]
    """
    _check_masks(masks)
    masks = masks.to('cpu', torch.bool)
    rows = _centre_pixels(grid_size[0], masks.shape[1])
    columns = _centre_pixels(grid_size[1], masks.shape[2])
    # The up to four pixels at each centre: (B, rows, columns, 2, 2).
    near = masks[:, rows[:, None, :, None], columns[None, :, None, :]]
    return near.flatten(3).any(dim=3)


def _centre_pixels(num_cells: int, num_pixels: int) -> Tensor:
    """Pixels at the centres of cells along one axis, (num_cells, 2).

    Both are the same, unless a centre is on the border of two.
    """
    # In units of 1 / (2 num_cells) pixels these are integers, thus exact.
    centres = (2 * torch.arange(num_cells) + 1) * num_pixels
    return torch.stack([centres - 1, centres], dim=1) // (2 * num_cells)


def attention_on_lesion(maps: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """Compare attention maps with lesion masks.

    Args:
        maps: Attention of whole images, (B, gh, gw), not negative; only
            ratios matter. A map of zeros counts as uniform, as in masking.
        masks: Lesion masks of the same images, (B, H, W), of any size.

    Returns:
        By name, each (B,), float64: ``attention_share`` of the map's mass on
        the lesion, the ``lesion_share`` of the image, ``attention_gain``,
        their ratio, 1 for a uniform map; ``pointing``, whether the map's
        maximum hits the lesion (a fraction if several cells are the
        maximum), and ``pointing_chance``, the share of cells that would.
        NaN without lesion, but for ``lesion_share``, which is 0.

    Raises:
        ValueError: If shapes do not fit, or maps are negative or not finite.

    Example:
        >>> mask = torch.tensor([[[1, 0], [0, 0]]])
        >>> maps = torch.tensor([[[2.0, 1.0], [1.0, 0.0]]])
        >>> attention_on_lesion(maps, mask)['attention_gain'].item()
        2.0
    """
    check_shape('maps', maps, (len(masks), 'gh', 'gw'), 'one for each mask')
    maps = maps.detach().to('cpu', torch.float64)
    if not (maps.isfinite() & (maps >= 0)).all():
        raise ValueError('attention maps must be finite and not negative, '
                         f'got {maps.min().item()} to {maps.max().item()}')
    grid_size = maps.shape[1:]
    shares = cell_shares(masks, grid_size).flatten(1)
    maps = maps.flatten(1)
    maps = torch.where(maps.sum(dim=1, keepdim=True) > 0, maps, 1.0)
    hits = centre_hits(masks, grid_size).flatten(1).double()
    maximum = (maps == maps.amax(dim=1, keepdim=True)).double()
    lesion = shares.mean(dim=1)
    attention = (maps * shares).sum(dim=1) / maps.sum(dim=1)
    pointing = (maximum * hits).sum(dim=1) / maximum.sum(dim=1)
    values = (attention, lesion, attention / lesion, pointing,
              hits.mean(dim=1))
    return {name: value if name == 'lesion_share' else
            value.masked_fill(lesion == 0, torch.nan)
            for name, value in zip(ATTENTION_NAMES, values, strict=True)}


def lesion_patches(masks: Tensor, grid_size: tuple[int, int]) -> Tensor:
    """Say which patches belong to the lesion: those half of which it is.

    A small lesion that fills no patch so far has one patch, the one with the
    most of it (the first of several). Gives bool, (B, rows * columns); see
    :func:`cell_shares` for the arguments.

    Example:
        >>> lesion_patches(torch.eye(4)[None], (2, 2)).tolist()
        [[True, False, False, True]]
    """
    shares = cell_shares(masks, grid_size).flatten(1)
    patches = shares >= 0.5
    most = shares.argmax(dim=1)
    lonely = ~patches.any(dim=1) & (shares.amax(dim=1) > 0)
    patches[lonely, most[lonely]] = True
    return patches


def masking_of_lesion(flags: Tensor, patches: Tensor) -> dict[str, Tensor]:
    """Count where a masking put the lesion's patches.

    Args:
        flags: 1 = masked, -1 = thrown, 0 = visible; (B, L), or (B, D, L)
            for D maskings of each image, over which means are taken.
        patches: The lesion's patches, bool, (B, L).

    Returns:
        By name, each (B,), float64: the shares of the lesion's patches that
        are ``masked``, ``thrown`` and ``visible``, NaN without lesion, and
        those of all patches, ``masked_chance`` and so on.

    Raises:
        ValueError: If shapes do not fit, or a flag is unknown.

    Example:
        >>> flags = torch.tensor([[1, -1, 0, 1]])
        >>> patches = torch.tensor([[True, False, True, False]])
        >>> masking_of_lesion(flags, patches)['masked'].item()
        0.5
    """
    if flags.ndim == 2:
        flags = flags[:, None]
    check_shape('flags', flags, (len(patches), 'D', patches.shape[1]),
                'images, draws and patches')
    flags = flags.to('cpu')
    known = torch.isin(flags, torch.tensor([-1, 0, 1]))
    if not known.all():
        raise ValueError('flags must be 1 (masked), -1 (thrown) or 0 '
                         f'(visible), got {flags[~known][0].item()}')
    patches = patches.to('cpu', torch.float64)
    count = patches.sum(dim=1)
    shares = []
    for flag in (1, -1, 0):
        where = (flags == flag).double().mean(dim=1)
        # 0 / 0, thus NaN, without lesion.
        shares += [(where * patches).sum(dim=1) / count, where.mean(dim=1)]
    return dict(zip(MASKING_NAMES, shares, strict=True))


def image_coverage(attention_map: Tensor, mask: Tensor,
                   flags: Tensor | None = None) -> dict[str, float]:
    """Measure one image by its map (gh, gw) and its lesion mask (H, W).

    Gives the values of :func:`attention_on_lesion`, and with ``flags``, (L,)
    or (D, L) on the map's grid, those of :func:`masking_of_lesion`.

    Example:
        >>> values = image_coverage(torch.ones(2, 2), torch.eye(4))
        >>> values['lesion_share'], values['attention_gain']
        (0.25, 1.0)
    """
    values = attention_on_lesion(attention_map[None], mask[None])
    if flags is not None:
        patches = lesion_patches(mask[None], attention_map.shape)
        values |= masking_of_lesion(flags[None], patches)
    return {name: value.item() for name, value in values.items()}


def summarize_coverage(
        images: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average over images of :func:`image_coverage`, each counted once.

    Gives the mean of each value; ``masked_gain``, which is ``masked`` over
    ``masked_chance``, if anything was masked; ``num_images``, those with a
    lesion, which alone are averaged; ``num_without_lesion``. A ValueError if
    no image has a lesion, or only some were masked.

    Example:
        >>> image = image_coverage(torch.ones(2, 2), torch.eye(4))
        >>> summarize_coverage([image, image])['num_images']
        2
    """
    lesions = [image for image in images if image['lesion_share'] > 0]
    if not lesions:
        raise ValueError(f'none of {len(images)} images has a lesion')
    names = [name for name in SUMMARY_NAMES if name in lesions[0]]
    if any(set(image) != set(lesions[0]) for image in lesions):
        raise ValueError('all images must have the same values, with or '
                         'without those of a masking')
    summary = {name: sum(image[name] for image in lesions) / len(lesions)
               for name in names}
    if summary.get('masked_chance', 0) > 0:
        summary['masked_gain'] = summary['masked'] / summary['masked_chance']
    summary['num_images'] = len(lesions)
    summary['num_without_lesion'] = len(images) - len(lesions)
    return summary


def _check_masks(masks: Tensor) -> None:
    check_shape('masks', masks, ('B', 'H', 'W'))
    if masks.dtype != torch.bool and not ((masks == 0) | (masks == 1)).all():
        raise ValueError('lesion masks must hold 0 and 1, got values from '
                         f'{masks.min().item()} to {masks.max().item()}')
