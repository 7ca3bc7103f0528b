"""Learning rates that fall from a backbone's last layer to its first."""

from collections.abc import Callable

from mmpretrain.engine.optimizers import (
    LearningRateDecayOptimWrapperConstructor,
)
from torch import nn

from mmmedmask.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class BackboneLayerDecayConstructor(LearningRateDecayOptimWrapperConstructor):
    """mmpretrain's layer-wise decay, for detectors and segmentors.

    mmpretrain asks the whole model for the depth of a parameter, which only
    its own classifiers know. Here the backbone is asked, so that any host's
    model with one of mmpretrain's backbones will do. The rate of layer ``i``
    of ``L`` (from 1) is ``layer_decay_rate ** (L + 1 - i)`` times the base
    rate; that of embeddings and tokens has the exponent ``L + 1``, and
    everything behind the layers has 0.

    ``paramwise_cfg`` is as mmpretrain describes it: ``layer_decay_rate``,
    ``norm_decay_mult``, ``bias_decay_mult``, ``flat_decay_mult`` and
    ``custom_keys`` with ``decay_mult``. A backbone that cannot tell depths is
    a ValueError.
    """

    def add_params(self, params: list[dict], module: nn.Module,
                   prefix: str = '',
                   get_layer_depth: Callable | None = None) -> None:
        """Append to ``params`` one group for each trainable parameter.

        ``get_layer_depth`` gives depth and number of depths for a name.
        """
        if get_layer_depth is None:
            get_layer_depth = _backbone_depth(module)
        super().add_params(
            params, module, prefix=prefix, get_layer_depth=get_layer_depth)


def _backbone_depth(model: nn.Module) -> Callable[[str], tuple[int, int]]:
    backbone = getattr(model, 'backbone', None)
    if not hasattr(backbone, 'get_layer_depth'):
        raise ValueError(
            f'layer-wise decay: the backbone {type(backbone).__name__} of '
            f'{type(model).__name__} has no get_layer_depth, valid are '
            "mmpretrain's vision transformers, BEiT, ConvNeXt and Swin")
    return lambda name: backbone.get_layer_depth(name, 'backbone.')
