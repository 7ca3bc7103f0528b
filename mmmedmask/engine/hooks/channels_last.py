"""Training in the memory layout that convolutions are fastest in."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmmedmask.engine.preserved_state import unwrap
from mmmedmask.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Keep a model's weights in channels-last layout while it trains.

    For 2D convolutional networks of other packages; :class:`mmmedmask.CMIM`
    has ``channels_last`` of its own. Convolutions hand the layout on to their
    maps; results differ by rounding alone. It pays with bfloat16 on
    processors with AMX and on GPUs with tensor cores (docs/performance.md).
    """

    def before_train(self, runner: Runner) -> None:
        """Turn the weights; those of a checkpoint are loaded by now."""
        for value in unwrap(runner.model).parameters():
            if value.dim() == 4:
                value.data = value.data.contiguous(
                    memory_format=torch.channels_last)
