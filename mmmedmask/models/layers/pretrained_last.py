"""Weights of a file win, also where ``init_cfg`` is a list."""

from mmengine.model import initialize

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
            initialize(self, split_init(self.init_cfg)[0])
