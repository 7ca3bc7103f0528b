"""Random draws that follow from the run's seed, its step and the sample."""

from collections.abc import Sequence

import torch
from mmengine.logging import MessageHub
from mmpretrain.structures import DataSample

from mmmedmask.functional.randomness import per_sample_uniform, stream_seed


def run_info(name: str) -> int:
    """What MMEngine's runner says of itself; 0 where there is no runner.

    Args:
        name: ``'seed'``, ``'iter'`` or ``'epoch'``.

    Returns:
        The number.
    """
    hub = MessageHub.get_current_instance()
    return int(hub.get_info(name)) if name in hub.runtime_info else 0


def draw_for_samples(data_samples: Sequence[DataSample] | None,
                     count: int,
                     seed: int | None,
                     stream: str | None = None) -> torch.Tensor:
    """Draw uniform numbers for every sample of this iteration's batch.

    Nothing depends on workers, ranks, batch mates or a resume.

    Args:
        data_samples: Samples with the metainfo ``sample_idx``.
        count: Numbers per sample.
        seed: Seed of the draws; None takes the run's.
        stream: Name of a stream of its own; None is the bare seed's, which
            one part of a model alone may use.

    Returns:
        Shape (B, count) on the CPU, float64, in [0, 1).

    Raises:
        ValueError: If a sample has no ``sample_idx``; names it.
    """
    indices = []
    for sample in data_samples or [DataSample()]:
        index = sample.get('sample_idx')
        if index is None:
            name = sample.get('case_id') or sample.get('img_path')
            raise ValueError(
                f'the sample {name} lacks the metainfo sample_idx, from which '
                'random numbers are drawn; mmmedmask.PackTile and '
                'mmmedmask.PackSlideOmicInputs provide it')
        indices.append(int(index))
    seed = run_info('seed') if seed is None else seed
    if stream is not None:
        seed = stream_seed(seed, stream)
    return per_sample_uniform(seed, run_info('iter'), indices, count)
