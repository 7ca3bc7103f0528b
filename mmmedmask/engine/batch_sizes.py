"""Batches that a model cannot train on, told before training."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.logging import MessageHub
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmmedmask.engine.preserved_state import preserve_random_state

#: What helps against a batch that :func:`unfit_batch` finds.
MEND = ('set train_dataloader.drop_last=True against a small last batch, '
        'else another train_dataloader.batch_size')


def batch_sizes(samples: int, batch_size: int, drop_last: bool) -> list[int]:
    """Sizes of the batches of an epoch of a process.

    Example:
        >>> batch_sizes(9, 4, drop_last=False)
        [4, 4, 1]
    """
    full, rest = divmod(samples, batch_size)
    return [batch_size] * full + [rest] * (rest > 0 and not drop_last)


def no_batch(samples: int, share: int, ranks: int,
             batch_size: int) -> tuple[str, str]:
    """Say that an epoch has no batch where small ones are dropped.

    ``share`` are the samples of each process. Gives the reason and what to do.
    """
    return (f'an epoch has no iteration: of {samples} samples each of {ranks} '
            f'processes gets {share}, which fill no batch of {batch_size}, '
            'and train_dataloader.drop_last=True drops what does not fill one',
            'take a smaller batch_size, fewer processes or drop_last=False')


def unfit_batch(model: nn.Module, sizes: Sequence[int], ranks: int,
                load: Callable[[], Any]) -> str | None:
    """Say which batch a model cannot train on, None if all are right.

    A queue of MoCo's takes batches that divide its length. A BatchNorm that
    sees one value per channel, as behind a global pooling, takes no batch of
    one sample: where one occurs, a copy of the model is tried on it.

    Args:
        sizes: Samples in the batches of a process, see :func:`batch_sizes`.
        ranks: Number of processes.
        load: Gives a batch of one sample, as the loader does.
    """
    for size in dict.fromkeys(sizes):
        which = 'a batch' if size == sizes[0] else \
            'the last batch of an epoch'
        keys, length = size * ranks, getattr(model, 'queue_len', None)
        if length is not None and length % keys:
            return (f'{which} has {size} samples in each of {ranks} processes,'
                    f' and their {keys} keys do not divide the queue of '
                    f'{length} (model.queue_len)')
        if size == 1 and _needs_more(model, load):
            return (f'{which} has 1 sample in each process, and a BatchNorm '
                    'of the model sees a single value of it per channel')
    return None


def _needs_more(model: nn.Module, load: Callable[[], Any]) -> bool:
    if not any(isinstance(part, _BatchNorm) for part in model.modules()):
        return False
    # Data preprocessors draw from it.
    MessageHub.get_current_instance().update_info('iter', 0)
    try:
        with preserve_random_state(), torch.no_grad():
            trial = copy.deepcopy(model).train()
            trial._run_forward(trial.data_preprocessor(load(), True), 'loss')
    except ValueError as error:
        return 'more than 1 value per channel' in str(error)
    except Exception:  # what hooks prepare may be missing
        return False
    return False
