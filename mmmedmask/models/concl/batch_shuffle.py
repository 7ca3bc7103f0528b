"""Shuffle a batch over the ranks, so that BatchNorm tells nothing (MoCo).

Each rank's BatchNorm would otherwise see a query and its key in the same
company. The order follows from seed and step, and is the first rank's on all
of them: with ``diff_rank_seed`` each has a seed of its own.
"""

import torch
from mmengine.dist import all_gather, broadcast, get_rank, get_world_size
from torch import Tensor

from mmmedmask.functional.randomness import sample_generator, stream_seed
from mmmedmask.models.layers.data_samples import run_info


def shuffle_batch(batch: Tensor, seed: int | None
                  ) -> tuple[Tensor, Tensor | None]:
    """Take this rank's share of the shuffled batches of all ranks.

    ``batch`` (B, ...) has the same B on all ranks; the first one's ``seed``
    counts, None takes the run's. Gives the order, too, for
    :func:`unshuffle_batch`, None with one rank.
    """
    size = get_world_size()
    if size == 1:
        return batch, None
    seed = run_info('seed') if seed is None else seed
    generator = sample_generator(
        stream_seed(seed, 'batch shuffle'), run_info('iter'), 0)
    order = torch.randperm(size * len(batch), generator=generator)
    broadcast(order)
    return _own_share(batch, order), order


def unshuffle_batch(batch: Tensor, order: Tensor | None) -> Tensor:
    """Give this rank its own samples back, in their order."""
    return batch if order is None else _own_share(batch, order.argsort())


def _own_share(batch: Tensor, order: Tensor) -> Tensor:
    """This rank's part of all samples in a new order."""
    samples = torch.cat(all_gather(batch.contiguous()))
    share = order.view(get_world_size(), -1)[get_rank()]
    return samples[share.to(samples.device)]
