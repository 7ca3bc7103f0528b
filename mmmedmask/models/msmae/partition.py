"""From data samples to a partition of their tokens.

What the algorithm and the classifier of MSMAE share: a map that
``mmmedmask.AttentionMaskHook`` attached becomes the weights of a crop's
tokens, and these are drawn from.
"""

from collections.abc import Sequence

import torch
from mmpretrain.structures import DataSample

from mmmedmask.functional.attention_masking import map_to_patches
from mmmedmask.functional.randomness import per_sample_uniform
from mmmedmask.models.layers.run_info import run_info

# Left-right and top-bottom.
FLIPS = {
    None: (False, False),
    'horizontal': (True, False),
    'vertical': (False, True),
    'diagonal': (True, True)
}


def patch_weights(data_samples: Sequence[DataSample],
                  grid_size: tuple[int, int],
                  device: torch.device) -> torch.Tensor | None:
    """Read the attached maps at the tokens of the samples' crops.

    Args:
        data_samples: Samples, of which all or none have ``attention_map``,
            shape (gh, gw), with the metainfo ``crop_box``, ``flip`` and
            ``flip_direction``.
        grid_size: Tokens of the crops as (rows, columns).
        device: Where the weights are needed.

    Returns:
        Shape (B, rows * columns), float32, or None if no sample has a map.

    Raises:
        ValueError: If only some have one, or a sample's crop is not known.
    """
    maps = [sample.get('attention_map') for sample in data_samples]
    missing = [sample.get('img_path') for sample, one in zip(
        data_samples, maps, strict=True) if one is None]
    if len(missing) == len(maps):
        return None
    if missing:
        raise ValueError(
            f'{len(missing)} of {len(maps)} samples have no attention_map, '
            f'the first is {missing[0]}')
    boxes, flips = zip(*map(crop_of, data_samples), strict=True)
    # Stacked where they are, so that one tensor moves, not one per sample;
    # autocast knows no stack of float16 on a CPU.
    with torch.autocast(maps[0].device.type, enabled=False):
        stacked = torch.stack(maps).to(device=device, dtype=torch.float32)
    return map_to_patches(
        stacked, torch.tensor(boxes, dtype=torch.float32, device=device),
        torch.tensor(flips, device=device), grid_size)


def crop_of(
    sample: DataSample
) -> tuple[tuple[float, float, float, float], tuple[bool, bool]]:
    """Which part of its image a sample shows.

    Args:
        sample: A sample.

    Returns:
        The box (x0, y0, x1, y1) in fractions of the image, and whether it is
        mirrored left-right and top-bottom.

    Raises:
        ValueError: If the metainfo is missing.
    """
    box = sample.get('crop_box')
    if box is None:
        raise ValueError(
            f'{sample.get("img_path")} has an attention_map but no crop_box: '
            'use mmmedmask.RandomResizedCrop or mmmedmask.ResizeImage, and '
            "name 'crop_box', 'flip' and 'flip_direction' in PackTile's "
            'meta_keys')
    direction = sample.get('flip_direction') if sample.get('flip') else None
    if direction not in FLIPS:
        raise ValueError(f'{sample.get("img_path")} has the flip_direction '
                         f'{direction!r}, valid are {tuple(FLIPS)}')
    return tuple(box), FLIPS[direction]


def exponential_noise(data_samples: Sequence[DataSample], num_patches: int,
                      seed: int | None,
                      device: torch.device) -> torch.Tensor:
    """Draw what decides the partition, from seed, iteration and sample.

    Args:
        data_samples: Samples with the metainfo ``sample_idx``.
        num_patches: Tokens per image, L.
        seed: Seed; None takes the run's.
        device: Where the noise is needed.

    Returns:
        Shape (B, L), float32, exponentially distributed with mean 1.

    Raises:
        ValueError: If a sample has no ``sample_idx``.
    """
    indices = [sample.get('sample_idx') for sample in data_samples]
    if None in indices:
        raise ValueError(
            'every data sample needs the metainfo sample_idx, from which its '
            'masking is drawn; mmmedmask.PackTile provides it')
    seed = run_info('seed') if seed is None else seed
    # The bare seed, not one of a stream of its own (stream_seed): all runs of
    # docs/results.md drew so, and whatever else drew from the same seed,
    # iteration and samples would draw these very numbers.
    uniform = per_sample_uniform(seed, run_info('iter'), indices, num_patches)
    return -torch.log1p(-uniform).to(device=device, dtype=torch.float32)
