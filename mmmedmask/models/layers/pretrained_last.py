"""Weights of a file win, over all that is drawn."""

from mmengine.model import BaseModule, initialize

from mmmedmask.util.nested import split_init


class PretrainedLast:
    """Load what a list of ``init_cfg`` names after all draws, as of a dict.

    mmpretrain's transformers and ResNets draw some weights after loading,
    unless ``init_cfg`` is a single dict. To stand before their class.
    """

    def init_weights(self) -> None:
        """Initialise; a pre-trained checkpoint wins."""
        super().init_weights()
        if isinstance(self.init_cfg, list):
            load_last(self)


def load_last(module: BaseModule) -> None:
    """Load what ``init_cfg`` names, if it does, over what was drawn since."""
    initialize(module, split_init(module.init_cfg)[0])
