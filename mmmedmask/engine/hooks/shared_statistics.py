"""One model on all ranks: the same BatchNorm statistics.

MMEngine's ``SyncBuffersHook`` comes too late for checkpoints by iterations,
leaves out averaged copies of a model, and averages all buffers.
"""

from collections.abc import Iterable

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from mmmedmask.registry import HOOKS


@torch.no_grad()
def average_statistics(models: Iterable[nn.Module]) -> None:
    """Give all ranks the mean of their running means and variances."""
    statistics = [values for model in models for layer in model.modules()
                  if isinstance(layer, _NormBase)
                  for values in (layer.running_mean, layer.running_var)
                  if values is not None]
    if not statistics:
        return
    # In float64 the mean of equal numbers is that number: nothing that is
    # equal on all ranks changes, such as frozen layers.
    device = statistics[0].device
    means = torch.cat([values.to(device, torch.float64)
                       for values in statistics])
    all_reduce(means, op='mean')
    for values, mean in zip(statistics, means.split(
            [len(values) for values in statistics]), strict=True):
        values.copy_(mean)


@HOOKS.register_module()
class SharedStatisticsHook(Hook):
    """Average BatchNorm statistics of ranks before they count.

    Each rank keeps running statistics of its own batches, which training
    does not use. Without this a prediction depends on the rank that makes
    it, and a checkpoint has the statistics of the first one. It acts after
    each epoch, before each validation, and before each checkpoint that is
    saved by iterations; copies of ``EMAHook`` are averaged, too. One process
    does nothing.
    """

    # After EMAHook has moved its copy, before checkpoints are written.
    priority = 'BELOW_NORMAL'

    def after_train_iter(self, runner, batch_idx: int, data_batch=None,
                         outputs=None) -> None:
        """Act if a checkpoint is saved after this iteration."""
        if any(_saves_iteration(hook, runner) for hook in runner.hooks):
            self.after_train_epoch(runner)

    def after_train_epoch(self, runner) -> None:
        """Act before checkpoints, and before maps that ranks share."""
        if get_world_size() > 1:
            average_statistics([runner.model, *(
                hook.ema_model for hook in runner.hooks
                if isinstance(hook, EMAHook))])

    before_val_epoch = after_train_epoch  # In loops that count iterations.


def _saves_iteration(hook: Hook, runner) -> bool:
    """Whether MMEngine's checkpoint hook, or ours, saves in this iteration."""
    return isinstance(hook, CheckpointHook) and not hook.by_epoch and (
        hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
        or hook.save_last and hook.is_last_train_iter(runner))
