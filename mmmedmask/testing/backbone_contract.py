"""A ready-made test of what CMIM relies on in an encoder.

Run a new CNN through :func:`check_backbone_contract` before it is trained;
docs/how_to/add_a_cnn.md shows how to write one.
"""

import copy
import inspect
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.overrides import TorchFunctionMode

from mmmedmask.models.cmim import Levels, MaskedBackbone, probe_levels
from mmmedmask.util.checks import check_integer

# Cells between the centre of an offset's probe image and its border, and how
# far a measured centre may lie beside the declared one, in cells.
_PROBE_CELLS = 4
_OFFSET_TOLERANCE = 0.2
_PROBE_IMAGES = 8


class ContractError(AssertionError):
    """An encoder does not do what CMIM relies on."""


def require(fulfilled: object, message: str) -> None:
    """Raise a ContractError unless a condition is fulfilled."""
    if not fulfilled:
        raise ContractError(message)


def require_close(actual: Tensor, expected: Tensor, what: str,
                  tolerance: float = 0.0) -> None:
    """Raise a ContractError unless tensors agree.

    ``tolerance`` is relative to the largest number, if that is above 1.
    """
    require(actual.shape == expected.shape, f'{what}: shape '
            f'{tuple(actual.shape)} instead of {tuple(expected.shape)}')
    if not actual.numel():
        return
    scale = max(1.0, float(expected.abs().max()))
    gap = float((actual - expected).abs().max())
    # Not the other way round: NaN is not a small gap.
    require(gap <= tolerance * scale, f'{what}: a difference of {gap:.2g}')


def check_backbone_contract(backbone: nn.Module, in_channels: int = 3,
                            image_size: int = 64) -> Levels:
    """Check an encoder against the contract of CMIM, and return its levels.

    Checked are: the plain forward pass (unchanged, and equal to the stem
    followed by the stages, bit for bit), the geometry of the levels, the mask
    token (where it goes, and that nothing of masked pixels passes it),
    gradients of all parameters, the declared centres of the receptive fields,
    and that checkpoints have the plain network's keys alone. The checks run on
    copies; the encoder itself is not changed. A ContractError if the encoder
    breaks the contract; the message says where and what to do.

    Args:
        in_channels: Channels of its images.
        image_size: Side of the images in pixels, a multiple of all strides
            and at least two cells of the coarsest level.
    """
    check_integer('in_channels', in_channels)
    check_integer('image_size', image_size)
    _check_class(backbone)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(
        2, in_channels, image_size, image_size, generator=generator)
    _check_plain_forward(_evaluated(backbone), images)
    levels = _check_levels(backbone, in_channels, image_size)
    _check_mask_token(_evaluated(backbone), images, levels)
    _check_gradients(copy.deepcopy(backbone), images, levels)
    _check_state(copy.deepcopy(backbone), images)
    for number in range(1, len(levels.strides) + 1):
        _check_offset(_evaluated(backbone), in_channels, levels, number)
    return levels


def _evaluated(backbone: nn.Module) -> nn.Module:
    # Some networks return None from eval().
    backbone = copy.deepcopy(backbone)
    backbone.eval()
    return backbone


def _check_class(backbone: nn.Module) -> None:
    kind, name = type(backbone), type(backbone).__name__
    require(isinstance(backbone, MaskedBackbone),
            f'{name} has to subclass mmmedmask.models.cmim.MaskedBackbone')
    for method in ('forward_stem', 'forward_stages'):
        require(getattr(kind, method) is not getattr(MaskedBackbone, method),
                f'{name} has to implement {method}')
    require({'mask', 'mask_tokens'} <= {*inspect.signature(
                kind.forward).parameters},
            f'{name}.forward takes no mask: name MaskedBackbone before the '
            f'network, class {name}(MaskedBackbone, Network)')


def _as_tuple(output: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    return (output, ) if isinstance(output, torch.Tensor) else tuple(output)


def _plain_forward(backbone: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Run the network that stands behind MaskedBackbone."""
    return _as_tuple(super(MaskedBackbone, backbone).forward(images))


@torch.no_grad()
def _check_plain_forward(backbone: nn.Module, images: Tensor) -> None:
    plain = _plain_forward(backbone, images)
    unmasked = _as_tuple(backbone(images))
    require(len(plain) == len(unmasked)
            and all(map(torch.equal, plain, unmasked)),
            'forward(x) without a mask differs from the plain network: '
            'leave forward to MaskedBackbone')
    stages = _as_tuple(backbone.forward_stages(backbone.forward_stem(images)))
    require_close(stages[-1], plain[-1], 'forward_stages(forward_stem(x))[-1] '
                  'is not the last output of the plain network')


def _check_levels(backbone: nn.Module, in_channels: int,
                  image_size: int) -> Levels:
    modes = [module.training for module in backbone.modules()]
    try:
        levels = probe_levels(backbone, in_channels, image_size)
        larger = probe_levels(backbone, in_channels, 2 * image_size)
    except ValueError as error:
        raise ContractError(str(error)) from error
    require(modes == [module.training for module in backbone.modules()],
            'measuring the levels changed training modes')
    require(levels == larger, 'levels depend on the size of the image: '
            f'{levels} for {image_size} pixels, {larger} for {2 * image_size}')
    strides, number = levels.strides, backbone.num_mask_tokens
    require(not any(coarse % fine for fine, coarse in pairwise(strides)),
            f'every stride must be a multiple of the finer one, got {strides}')
    require(image_size >= 2 * strides[-1],
            f'image_size {image_size} shows less than two cells of the '
            f'coarsest stride {strides[-1]}: check with a larger one')
    require(number is None or 1 <= number <= len(strides), 'num_mask_tokens '
            f'must be None or in [1, {len(strides)}], got {number}')
    wide = torch.zeros(1, in_channels, image_size, 2 * image_size)
    with torch.no_grad():
        maps = _all_levels(_evaluated(backbone), wide)
    for number, (level, stride) in enumerate(
            zip(maps, strides, strict=True), start=1):
        size = tuple(level.shape[-2:])
        expected = (image_size // stride, 2 * image_size // stride)
        require(size == expected, f'level {number} of an image of '
                f'{image_size} x {2 * image_size} pixels has the size {size}, '
                f'its stride {stride} asks for {expected}')
    return levels


def _all_levels(backbone: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    stem = backbone.forward_stem(images)
    return stem, *_as_tuple(backbone.forward_stages(stem))


def _mask_tokens(backbone: nn.Module, levels: Levels) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(1, channels, 1, 1, generator=generator).requires_grad_()
        for channels in levels.channels[:backbone.num_mask_tokens]]


def _masks(images: Tensor, levels: Levels) -> tuple[Tensor, Tensor]:
    """A mask of nothing, and a chequered one, (B, 1, h, w)."""
    height, width = images.shape[-2:]
    visible = torch.zeros(len(images), 1, height // levels.strides[-1],
                          width // levels.strides[-1])
    mask = visible.clone()
    mask[:, :, ::2, 1::2] = mask[:, :, 1::2, ::2] = 1
    return visible, mask


def _check_mask_token(backbone: nn.Module, images: Tensor,
                      levels: Levels) -> None:
    tokens = _mask_tokens(backbone, levels)
    visible, mask = _masks(images, levels)
    with torch.no_grad():
        stem = backbone.forward_stem(images)
    outputs = _as_tuple(backbone(images, visible, tokens))
    channels = tuple(output.shape[1] for output in outputs)
    require(channels == levels.channels, 'forward(x, mask, mask_tokens) must '
            f'return the levels {levels.channels} (channels), got {channels}')
    require(torch.equal(outputs[0], stem),
            'with nothing masked, level 1 is not the output of the stem: '
            'does forward_stages change its input in place?')
    sum(output.sum() for output in outputs).backward()
    require(not any(token.grad is not None and token.grad.any()
                    for token in tokens),
            'with nothing masked, mask tokens still have a gradient')
    with torch.no_grad():
        first = backbone(images, 1 - visible, tokens)
        second = backbone(images.flip(0) * 3 + 1, 1 - visible, tokens)
        require(all(map(torch.equal, first, second)),
                'with everything masked, the output depends on the pixels')
        masked = backbone(images, mask, tokens)
        level = masked[0]
        places = interpolate(mask, level.shape[-2:]).bool().expand_as(level)
        require(torch.equal(level[places], tokens[0].expand_as(level)[places]),
                'masked places of level 1 are not the mask token')
        changed = images + interpolate(mask, images.shape[-2:])
        require(all(map(torch.equal, masked, backbone(changed, mask, tokens))),
                'masked pixels reach the output')


def _check_gradients(backbone: nn.Module, images: Tensor,
                     levels: Levels) -> None:
    backbone.train()
    tokens = _mask_tokens(backbone, levels)
    _, mask = _masks(images, levels)
    generator = torch.Generator().manual_seed(2)
    loss = sum((output * torch.randn(output.shape, generator=generator)).sum()
               for output in backbone(images, mask, tokens))
    loss.backward()
    for number, token in enumerate(tokens, start=1):
        require(token.grad is not None and token.grad.any(),
                f'mask token {number} has no gradient')
    parameters = dict(backbone.named_parameters())
    missing = [name for name, parameter in parameters.items()
               if parameter.requires_grad and parameter.grad is None]
    require(not missing, f'no gradient reaches {", ".join(missing)}: CMIM '
            'does not use them, and distributed training would wait for them. '
            'Remove them, or set requires_grad to False')
    broken = [
        name for name, parameter in parameters.items()
        if parameter.grad is not None and not parameter.grad.isfinite().all()]
    require(not broken, f'gradients are not finite: {", ".join(broken)}')


class _TensorsInUse(TorchFunctionMode):
    """Remember which tensors PyTorch's functions were given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()

    def __torch_function__(self, function: Callable, types: Sequence,
                           args: tuple = (), kwargs: dict | None = None):
        kwargs = kwargs or {}
        for value in (*args, *kwargs.values()):
            for item in value if isinstance(value, (tuple, list)) else (
                    value, ):
                self.seen.add(id(item))
        return function(*args, **kwargs)


def _check_state(backbone: nn.Module, images: Tensor) -> None:
    backbone.train()
    with torch.no_grad(), _TensorsInUse() as used:
        _plain_forward(backbone, images)
    unused = [
        name for name, tensor in backbone.state_dict(keep_vars=True).items()
        if id(tensor) not in used.seen]
    require(not unused, f'the plain network does not use {", ".join(unused)}: '
            'checkpoints must have its keys alone, or they fit no detector')


def _make_symmetric(backbone: nn.Module) -> None:
    """Mirror-average kernels and reset norms, so that centres are exact."""
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight.data
            weight = (weight + weight.flip(-1)) / 2
            module.weight.data = (weight + weight.flip(-2)) / 2
        elif 'norm' in type(module).__name__.lower():
            weight = getattr(module, 'weight', None)
            if isinstance(weight, torch.Tensor):
                weight.data.fill_(1)


def _check_offset(backbone: nn.Module, in_channels: int, levels: Levels,
                  number: int) -> None:
    """Compare a level's declared centre with where its gradient goes."""
    stride, offset = levels.strides[number - 1], levels.offsets[number - 1]
    coarsest = levels.strides[-1]
    cells = 2 * _PROBE_CELLS
    side = max(2 * coarsest, -(-cells * stride // coarsest) * coarsest)
    place = side // stride // 2
    _make_symmetric(backbone)
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(_PROBE_IMAGES, in_channels, side, side,
                         generator=generator).requires_grad_()
    feature = _all_levels(backbone, images)[number - 1][:, :, place, place]
    direction = torch.randn(feature.shape, generator=generator)
    gradient, = torch.autograd.grad((feature * direction).sum(), images)
    weight = gradient.double().square().sum(dim=1)
    require(weight.any(), f'level {number} does not depend on the image')
    pixels = torch.arange(side, dtype=torch.float64)
    centres = [float((weight.sum(dim=(0, axis)) * pixels).sum() / weight.sum())
               - stride * place for axis in (1, 2)]
    measured = sum(centres) / 2
    require(abs(measured - offset) <= _OFFSET_TOLERANCE * stride,
            f'the first feature of level {number} (stride {stride}) is '
            f'centred at pixel {measured:.1f}, but receptive_field_offset '
            f'says {offset}: 0 is right for convolutions that are padded on '
            'both sides, (stride - 1) / 2 for patches')
