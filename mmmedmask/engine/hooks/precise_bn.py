"""Exact BatchNorm statistics of the final weights, before they are judged.

Running averages mix the statistics of many weights; the mean over N batches
does not (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", section 3).
"""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmmedmask.engine.preserved_state import (
    preserve_modes,
    preserve_random_state,
    unwrap,
)
from mmmedmask.engine.rank_errors import gather_results
from mmmedmask.registry import HOOKS
from mmmedmask.util.checks import check_choice, check_integer


def active_batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """List the BatchNorm layers (SyncBN too) that training updates, by name.

    Not those that are kept in evaluation mode (frozen stages, ``norm_eval``).
    """
    return {name: module for name, module in model.named_modules()
            if isinstance(module, _BatchNorm) and module.training
            and module.track_running_stats}


@contextmanager
def _measuring(layers: Collection[_BatchNorm]) -> Iterator[list[torch.Tensor]]:
    """Add up, in float64, each layer's means, variances and batches."""
    totals = [layer.running_mean.new_zeros(
        2 * layer.num_features + 1, dtype=torch.float64) for layer in layers]
    saved = [(layer.momentum, [buffer.clone() for buffer in layer.buffers()])
             for layer in layers]
    handles = []
    for layer, total in zip(layers, totals, strict=True):

        def add(layer: _BatchNorm, inputs, output, total=total) -> None:
            # With a momentum of 1 the buffers are those of the batch.
            total += torch.cat([layer.running_mean, layer.running_var,
                                layer.running_mean.new_ones(1)])

        handles += [layer.register_forward_pre_hook(_check_values),
                    layer.register_forward_hook(add)]
        layer.momentum = 1.0
    try:
        yield totals
    finally:
        for handle in handles:
            handle.remove()
        for layer, (momentum, buffers) in zip(layers, saved, strict=True):
            layer.momentum = momentum
            for buffer, value in zip(layer.buffers(), buffers, strict=True):
                buffer.copy_(value)


def _check_values(layer: _BatchNorm, inputs: tuple[torch.Tensor]) -> None:
    features, = inputs
    # SyncBN has those of the other ranks, too.
    if features.numel() == layer.num_features and not isinstance(
            layer, nn.SyncBatchNorm):
        raise ValueError(
            'BatchNorm statistics need more than one value per channel, a '
            f'batch gives {tuple(features.shape)}: take more or larger images')


@torch.no_grad()
def update_bn_statistics(model: nn.Module, batches: Iterable,
                         forward: Callable[[nn.Module, object], object],
                         others_rest: bool = False) -> tuple[int, list]:
    """Replace running statistics by the mean over batches, on all ranks.

    ``mean = sum_b mean_b / B`` and ``var = sum_b var_b / B``, where the
    variance of a batch is the unbiased one that PyTorch keeps. A layer that
    is called several times for one batch counts each call. With
    ``others_rest`` all other layers are in evaluation mode, so that no
    dropout is drawn. A rank may bring fewer batches than another, or none,
    but with SyncBN, which talks at each. No batch on any rank is a ValueError,
    and so is a batch with one value per channel. A batch that cannot be read
    ends all ranks, with a RankError on the others.

    Returns the number of batches on this rank, and the names of layers that
    saw none; those keep their statistics.
    """
    with preserve_modes(model), preserve_random_state():
        model.train()
        layers = active_batch_norms(model)
        if others_rest:
            model.eval()
            for layer in layers.values():
                layer.train()

        count = total_count = 0
        batches = iter(batches)
        batch = []

        def read() -> bool:
            batch[:] = itertools.islice(batches, 1)
            return bool(batch)

        with _measuring(layers.values()) as totals:
            # Ranks meet where they read, for an error of one ends all, and
            # apart from that in the model's SyncBN.
            while number := sum(gather_results(read)):
                total_count += number
                if batch:
                    forward(model, batch[0])
                    count += 1
    if total_count == 0:
        raise ValueError('precise BN: the loader gave no batch')
    unseen = []
    for (name, layer), total in zip(layers.items(), totals, strict=True):
        all_reduce(total, op='sum')
        if total[-1] == 0:
            unseen.append(name)
            continue
        mean, var = (total[:-1] / total[-1]).chunk(2)
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(var)
    return count, unseen


def forward_features(model: nn.Module, batch: object) -> None:
    """Run ``model.extract_feat`` on a training batch."""
    model.extract_feat(model.data_preprocessor(batch, True)['inputs'])


def forward_loss(model: nn.Module, batch: object) -> None:
    """Run all that training runs: RoI heads of C4 detectors, decode heads."""
    model(**model.data_preprocessor(batch, True), mode='loss')


FORWARDS = {'extract_feat': forward_features, 'loss': forward_loss}


@HOOKS.register_module()
class PreciseBNHook(Hook):
    """Measure BatchNorm statistics once, at the end of training.

    It acts in the last iteration, before the last checkpoint and validation,
    or where training is stopped early, at its end, in full precision. Loops
    that count iterations go on with the training batches that would have come
    next; those of epochs make one pass at most, in the order of the last
    epoch, and the log says how many batches that was.

    mmpretrain's hook of this name cannot do that for detectors: it runs the
    test-time preprocessing. MMEngine's ``EMAHook`` treats the statistics as
    those of any iteration; those of its average are not measured.

    Args:
        num_batches: Training batches per rank.
        forward: What is run on a batch: ``'extract_feat'`` or ``'loss'``, see
            :func:`forward_features` and :func:`forward_loss`.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, num_batches: int = 200,
                 forward: str = 'extract_feat') -> None:
        self.num_batches = check_integer('num_batches', num_batches)
        self.forward = check_choice('forward', forward, FORWARDS)
        self._has_layers = True
        # Whether weights have changed since statistics were measured.
        self._due = False

    def before_train(self, runner) -> None:
        """Find out now, not after hours, that a model does not fit."""
        model = unwrap(runner.model)
        if self.forward == 'extract_feat' and not hasattr(
                model, 'extract_feat'):
            raise ValueError(
                f'precise BN: {type(model).__name__} has no extract_feat, '
                "use forward='loss'")
        with preserve_modes(model):
            model.train()
            self._has_layers = bool(active_batch_norms(model))
        if not self._has_layers:
            runner.logger.warning('Precise BN will do nothing: no BatchNorm '
                                  'layer of the model updates its statistics.')

    def after_train_iter(self, runner, batch_idx: int, data_batch=None,
                         outputs=None) -> None:
        self._due = True
        if self.is_last_train_iter(runner):
            self._update(runner)

    def after_train_epoch(self, runner) -> None:
        """Measure where iterations do not tell that training is over."""
        if not isinstance(runner.train_loop, IterBasedTrainLoop) \
                and self.is_last_train_epoch(runner):
            self._update(runner)

    def after_train(self, runner) -> None:
        """Measure where a hook has stopped training early."""
        self._update(runner)

    def _update(self, runner) -> None:
        if not self._has_layers or not self._due:
            return
        self._due = False
        loop = runner.train_loop
        # A loader that keeps its workers has one iterator, which the loop has
        # not left yet: to iterate over it would begin the epoch anew.
        batches = loop.dataloader_iterator if isinstance(
            loop, IterBasedTrainLoop) else loop.dataloader._get_iterator()
        count, unseen = update_bn_statistics(
            unwrap(runner.model), itertools.islice(batches, self.num_batches),
            FORWARDS[self.forward])
        runner.logger.info(
            f'Precise BN: statistics of {count} training batches per rank.')
        if count < self.num_batches:
            runner.logger.warning(
                f'Precise BN used {count} batches instead of '
                f'{self.num_batches}: the loader has no more.')
        if unseen:
            runner.logger.warning(
                f'Precise BN: {len(unseen)} layers were not run and keep '
                f"their running averages: {unseen}. forward='loss' runs "
                'them all.')
