"""Compare a backbone with the network of the library that names it."""

from collections.abc import Mapping, Sequence
from textwrap import shorten

import torch
import torchvision
from torch import Tensor, nn

from mmmedmask.engine.checkpoint.timm_architectures import timm_architecture
from mmmedmask.engine.frozen_features import encoder_stages, show_whole_images
from mmmedmask.util.extras import import_extra

#: Largest error in double precision: another eps of a norm is above it.
TOLERANCE = 1e-9
#: Blocks of the third stage and channels of the first of torchvision's.
CONVNEXTS = {(9, 96): 'tiny', (27, 96): 'small', (27, 128): 'base',
             (27, 192): 'large'}
#: Size of images where the network says none.
_SIZE = (64, 96)


@torch.no_grad()
def compare_networks(library: str, tensors: Mapping[str, Tensor],
                     renamed: Mapping[str, Tensor],
                     network: nn.Module) -> str:
    """Say which network of a library computes the same as a backbone of ours.

    All stages are compared on random images, in double precision: from here
    on that of ``network``.

    Args:
        library: ``'timm'`` or ``'torchvision'``.
        tensors: Of ``network``, by its names.
        renamed: The same by the library's names; all have to be used.
        network: In evaluation mode, with its weights loaded.

    Raises:
        ModuleNotFoundError: Without timm.
        ValueError: If the library has no such network, its tensors are
            others, or it computes something else.
    """
    architecture, arguments = timm_architecture(tensors, network)
    with torch.random.fork_rng(devices=[]):
        theirs, call = (_from_timm if library == 'timm' else
                        _from_torchvision)(architecture, arguments)
    try:
        theirs.load_state_dict(renamed)
    except RuntimeError as error:
        raise ValueError(f'{call} has other tensors: '
                         f'{shorten(str(error), 300)}') from None
    theirs.double().eval()
    network.double()
    options = show_whole_images(network)
    images = torch.rand(
        2, arguments['in_chans'], *getattr(network, 'img_size', _SIZE),
        dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    stages = encoder_stages(network)
    wanted, outputs = _run(network, stages.values(), images, **options)
    features, vectors = _run(theirs, _stages(theirs), images)
    names = list(stages)
    if outputs[-1].ndim == 2 and max(network.out_indices) == len(stages) - 1:
        names.append('the vector')
        wanted.append(outputs[-1])
        features.append(vectors)
    check_features(dict(zip(names, wanted, strict=True)), features, TOLERANCE,
                   call)
    return call


def check_features(wanted: Mapping[str, Tensor], features: Sequence[Tensor],
                   tolerance: float, whose: str) -> None:
    """Raise a ValueError that names the first feature that is another.

    The tolerance is beside the largest value, or 1 if that is smaller.
    """
    for (name, want), got in zip(wanted.items(), features, strict=True):
        if want.shape != got.shape:
            raise ValueError(f'{whose} gives {name} the shape '
                             f'{tuple(got.shape)}, the network '
                             f'{tuple(want.shape)}')
        error = float((want - got).abs().max())
        largest = float(want.abs().max())
        # NaN is no error that is small enough.
        if not error <= tolerance * max(1., largest):
            raise ValueError(f'{whose} differs from the network by {error:.3g}'
                             f' of {largest:.3g} in {name} of shape '
                             f'{tuple(want.shape)}')


def _run(network: nn.Module, stages: Sequence[nn.Module], images: Tensor,
         **options) -> tuple[list[Tensor], object]:
    """Give the outputs of stages, and that of the network."""
    features = []
    hooks = [stage.register_forward_hook(
        lambda module, inputs, output: features.append(output))
        for stage in stages]
    output = network(images, **options)
    for hook in hooks:
        hook.remove()
    return features, output


def _from_timm(architecture: str, arguments: dict) -> tuple[nn.Module, str]:
    timm = import_extra('timm', 'encoders', 'a comparison with timm')
    words = ', '.join(f'{name}={value!r}' for name, value in arguments.items())
    return (timm.create_model(architecture, num_classes=0, **arguments),
            f"timm.create_model('{architecture}', num_classes=0, {words})")


def _from_torchvision(architecture: str,
                      arguments: dict) -> tuple[nn.Module, str]:
    if 'dims' in arguments:
        size = CONVNEXTS.get((arguments['depths'][2], arguments['dims'][0]))
        if size is None:
            raise ValueError(
                f'torchvision has no ConvNeXt with {arguments["depths"]} '
                f'blocks and {arguments["dims"]} channels')
        architecture = f'convnext_{size}'
    network = torchvision.models.get_model(architecture, weights=None)
    # The classes' layer has no weights here.
    if 'dims' in arguments:
        network.classifier[-1] = nn.Identity()
    else:
        network.fc = nn.Identity()
    return network, f'torchvision.models.{architecture}()'


def _stages(network: nn.Module) -> Sequence[nn.Module]:
    if isinstance(network, torchvision.models.ConvNeXt):
        # Between its stages it has the layers that halve the maps.
        return network.features[1::2]
    return encoder_stages(network).values()
