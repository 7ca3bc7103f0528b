"""Mixed precision in bfloat16 on any device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmmedmask.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class Bfloat16OptimWrapper(OptimWrapper):
    """Run the forward pass under bfloat16 autocast, on CPUs too.

    bfloat16 has the range of float32, so no loss scaling is needed. MMEngine's
    AmpOptimWrapper refuses to run without an accelerator, although CPUs with
    AMX run convolutions several times faster in bfloat16.

    Its arguments are those of MMEngine's OptimWrapper, which checks them.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Open autocast around a forward pass."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(
                device, dtype=torch.bfloat16):
            yield
