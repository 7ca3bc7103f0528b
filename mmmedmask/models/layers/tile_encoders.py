"""Networks that turn a tile into one feature, for bags of features.

From torchvision, from timm where it is installed, or any backbone with maps.
How their weights are found is a matter of :mod:`mmmedmask.apis`.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from mmmedmask.util.checks import check_integer, check_numbers
from mmmedmask.util.extras import import_extra
from mmmedmask.util.nearest import did_you_mean

# Of ImageNet's channels (R, G, B), in 8-bit units.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
BLOCK3_SUFFIX = '-block3'
LOCAL_DIR = 'local-dir:'
_BLOCK3_LAYERS = ('conv1', 'bn1', 'relu', 'maxpool', 'layer1', 'layer2',
                  'layer3')
_NUM_CLASSES = 1000
# Side of the empty tile that tells the size of a feature, in pixels.
_PROBE_SIZE = 64
# Of networks that torchvision took from TensorFlow, as R, G and B.
_TENSORFLOW_UNITS = (127.5, 127.5, 127.5)


class TileEncoder(nn.Module):
    """A network with the normalisation that belongs to it.

    Its features have the size ``dims``, D. A ValueError if ``mean`` or ``std``
    is not three numbers, or one, a size is not positive, or the network's
    output has another shape.

    Args:
        network: Takes normalised tiles (B, 3, H, W), or (B, 1, H, W), the
            mean of R, G and B, if ``mean`` is one number. Gives features
            (B, D), a map (B, D, h, w), which is averaged over its places, or
            a sequence of maps, of which the last counts.
        name: How files of features call it.
        mean: What is subtracted from the channels, in 8-bit units and in the
            order that the network takes.
        std: What they are divided by.
        input_size: Side in pixels that tiles are resized to first; None
            takes tiles as they are.
        options: Named arguments of the network's call, such as ``mask=None``
            for one that would mask.
        bgr: Whether the network takes the channels B, G, R.
        probe_size: Side in pixels of tiles that the network takes, where
            ``input_size`` is None.
        config_id: What tells the network from others of its name.
    """

    def __init__(self, network: nn.Module, name: str,
                 mean: Sequence[float] = IMAGENET_MEAN,
                 std: Sequence[float] = IMAGENET_STD,
                 input_size: int | None = None,
                 options: Mapping[str, object] | None = None,
                 bgr: bool = False, probe_size: int | None = None,
                 config_id: str | None = None) -> None:
        super().__init__()
        channels = 1 if isinstance(mean, Sequence) and len(mean) == 1 else 3
        check_numbers('mean of R, G, B or of gray', mean, count=channels)
        check_numbers('std of R, G, B or of gray', std, 0, open_low=True,
                      count=channels)
        if input_size is not None:
            check_integer('input_size', input_size)
        # Backbones of mmpretrain return nothing from train() and eval().
        network.eval()
        self.network = network
        self.name = name
        self.input_size = input_size
        self.options = dict(options or {})
        self.bgr = bgr
        self.config_id = config_id
        shape = (1, channels, 1, 1)
        self.register_buffer('mean', torch.tensor(mean).float().view(shape))
        self.register_buffer('std', torch.tensor(std).float().view(shape))
        side = input_size or probe_size or _PROBE_SIZE
        with torch.inference_mode():
            self.dims = self(
                torch.zeros(1, 3, side, side, dtype=torch.uint8)).shape[1]

    def forward(self, tiles: Tensor) -> Tensor:
        """Encode RGB tiles, uint8 (B, 3, H, W), to (B, D)."""
        tiles = tiles.to(self.mean.dtype)
        if self.input_size and tiles.shape[-2:] != (self.input_size, ) * 2:
            tiles = F.interpolate(tiles, (self.input_size, ) * 2,
                                  mode='bilinear', antialias=True)
        if self.mean.shape[1] == 1:
            tiles = tiles.mean(dim=1, keepdim=True)
        if self.bgr:
            tiles = tiles.flip(1)
        features = self.network((tiles - self.mean) / self.std,
                                **self.options)
        if isinstance(features, list | tuple):
            features = features[-1]
        if features.ndim == 4:
            features = features.mean(dim=(2, 3))
        if features.ndim != 2:
            raise ValueError(
                f'{self.name} gives features of shape '
                f'{tuple(features.shape)}, expected (B, D) or (B, D, h, w)')
        return features

    def train(self, mode: bool = True) -> 'TileEncoder':
        """Stay in evaluation mode: a tile's feature is its own."""
        return super().train(False)


def torchvision_network(name: str) -> tuple[nn.Module, dict]:
    """Build a classifier of torchvision without its last layer.

    With the ending ``'-block3'`` a ResNet is cut after its third block, as
    CLAM and GiMP do: ``'resnet50-block3'`` gives 1,024 features. Weights are
    random; the names of tensors are torchvision's. What belongs to it is
    ``input_size``, None if it takes every size, ``probe_size``, and
    ``classifier``, the parts with what was cut off. A ValueError tells if
    torchvision has no such classifier, it cannot be cut, or it ends with no
    linear layer.
    """
    base = name.removesuffix(BLOCK3_SUFFIX)
    known = torchvision.models.list_models(module=torchvision.models)
    if base not in known:
        raise ValueError(f'torchvision has no classifier {base!r}.'
                         f'{did_you_mean(base, known, count=3)}')
    network = torchvision.models.get_model(base, weights=None)
    smallest = max((weights.meta['min_size'][0] for weights in
                    torchvision.models.get_model_weights(base)), default=0)
    units = dict(input_size=_fixed_size(network),
                 probe_size=max(_PROBE_SIZE, smallest), classifier=())
    if base != name:
        return _cut_after_block3(network, name), units
    last = [place for place, module in network.named_modules()
            if isinstance(module, nn.Linear)
            and module.out_features == _NUM_CLASSES]
    if not last:
        raise ValueError(
            f'{name} has no linear layer of classes that could be left out')
    parent, _, child = last[-1].rpartition('.')
    setattr(network.get_submodule(parent), child, nn.Identity())
    return network, {**units, 'classifier': (last[-1].partition('.')[0], )}


def _fixed_size(network: nn.Module) -> int | None:
    """Side in pixels of the only images that a transformer takes."""
    if isinstance(network, torchvision.models.MaxVit):
        # Of the first block, behind two strides of 2.
        return 4 * network.blocks[0].grid_size[0]
    # One position embedding per patch.
    return getattr(network, 'image_size', None)


def torchvision_units(network: nn.Module, weights: torchvision.models.Weights
                      ) -> dict[str, tuple[float, ...]]:
    """Mean and std, in 8-bit units, that weights of torchvision are for."""
    # torchvision changes the units within these networks, if it loads them.
    if hasattr(network, 'transform_input'):
        return dict(mean=_TENSORFLOW_UNITS, std=_TENSORFLOW_UNITS)
    shown = weights.transforms()
    return {name: tuple(255 * value for value in getattr(shown, name))
            for name in ('mean', 'std')}


def _cut_after_block3(network: nn.Module, name: str) -> nn.Module:
    layers = OrderedDict((layer, getattr(network, layer, None))
                         for layer in _BLOCK3_LAYERS)
    if None in layers.values():
        raise ValueError(f"{name!r}: only ResNets can be cut after block 3, "
                         f"e.g. 'resnet50{BLOCK3_SUFFIX}'")
    return nn.Sequential(layers)


def timm_network(name: str) -> tuple[nn.Module, dict]:
    """Build a network of timm, with random weights, without its classifier.

    ``'local-dir:FOLDER'`` is that of a folder with a ``config.json``. What
    belongs to a network is ``mean`` and ``std`` in 8-bit units,
    ``input_size``, None if it takes every size, ``probe_size``, and
    ``classifier``, the parts with what was left out.
    """
    timm = import_extra('timm', 'encoders', f"the encoder 'timm:{name}'")
    if not name.startswith(LOCAL_DIR) and not timm.is_model(name):
        raise ValueError(f'timm has no network {name!r}.'
                         f'{did_you_mean(name, timm.list_models(), count=3)}')
    try:
        network = timm.create_model(name, pretrained=False, num_classes=0)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f'timm cannot build {name!r}: {error!r}') from None
    settings = dict(network.pretrained_cfg)
    height, size = settings.get('input_size', (3, None, None))[1:]
    if not settings.get('fixed_input_size'):
        size = None
    elif height != size:
        raise ValueError(f'{name!r} takes images of {height} x {size} pixels, '
                         'and tiles are squares')
    classifier = settings.get('classifier') or ()
    if isinstance(classifier, str):
        classifier = (classifier, )
    return network, {
        'classifier': tuple(part.partition('.')[0] for part in classifier),
        'mean': tuple(255 * value for value in settings['mean']),
        'std': tuple(255 * value for value in settings['std']),
        'input_size': size, 'probe_size': height}
