"""What models read of data samples and of the run: labels and draws."""

import math
from collections.abc import Sequence

import torch
from mmengine.logging import MessageHub
from mmpretrain.structures import DataSample
from torch import Tensor

from mmmedmask.functional.randomness import per_sample_uniform, stream_seed


def run_info(name: str) -> int:
    """The runner's ``'seed'``, ``'iter'`` or ``'epoch'``; 0 without one."""
    hub = MessageHub.get_current_instance()
    return int(hub.get_info(name)) if name in hub.runtime_info else 0


def draw_for_samples(data_samples: Sequence[DataSample] | None, count: int,
                     seed: int | None, stream: str | None = None) -> Tensor:
    """Draw uniform numbers for every sample of this iteration's batch.

    Nothing depends on workers, ranks, batch mates or a resume.

    Gives (B, count) on the CPU, float64, in [0, 1). A ValueError names a
    sample without ``sample_idx``.

    Args:
        seed: Seed of the draws; None takes the run's.
        stream: Name of a stream of its own; None is the bare seed's, which
            one part of a model alone may use.
    """
    samples = data_samples or [DataSample()]
    for sample in samples:
        if sample.get('sample_idx') is None:
            raise ValueError(
                f'{sample_name(sample)} lacks the metainfo sample_idx, from '
                'which random numbers are drawn; mmmedmask.PackTile and '
                'mmmedmask.PackSlideOmicInputs provide it')
    seed = run_info('seed') if seed is None else seed
    if stream is not None:
        seed = stream_seed(seed, stream)
    return per_sample_uniform(seed, run_info('iter'),
                              [sample.sample_idx for sample in samples], count)


def sample_name(sample: DataSample) -> object:
    """How an error names a sample: its case, or its image."""
    case = sample.get('case_id')
    return sample.get('img_path') if case is None else f'case {case}'


def class_labels(data_samples: Sequence[DataSample],
                 num_classes: int | None = None, hint: str = '') -> Tensor:
    """Classes ``gt_label`` (B, ) of a batch, int64, in [0, num_classes).

    A ValueError names a sample without a label, and adds ``hint``, or with
    one that is not a class.
    """
    labels = []
    for sample in data_samples:
        label = sample.get('gt_label')
        if label is None or label.numel() != 1:
            raise ValueError(f'{sample_name(sample)} has the gt_label '
                             f'{None if label is None else label.tolist()}, '
                             f'expected one class{hint}')
        labels.append(label.view(1))
    stacked = torch.cat(labels)
    limit = math.inf if num_classes is None else num_classes
    # One look at the device, not one per sample.
    wrong = ((stacked < 0) | (stacked >= limit)).nonzero()
    if len(wrong):
        place = int(wrong[0])
        last = 'the last class' if num_classes is None else num_classes - 1
        raise ValueError(
            f'{sample_name(data_samples[place])} has the gt_label '
            f'{labels[place].tolist()}, expected one of 0 to {last}')
    return stacked
