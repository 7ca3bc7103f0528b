"""Frozen layers of mmpretrain's transformers stay as they are."""

from torch import nn


class FrozenStages:
    """Keep frozen layers out of training mode, as ResNets do.

    mmpretrain's transformers freeze ``frozen_stages`` layers when they are
    built; the first ``train()`` turns their dropout and stochastic depth on
    again. To stand before their class.
    """

    def train(self, mode: bool = True) -> nn.Module:
        """Set the training mode of all layers that are trained."""
        super().train(mode)
        if self.frozen_stages > 0:
            self._freeze_stages()
        return self
