"""Features of frozen encoders, of any of our host libraries, for probes."""

import copy
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from mmpretrain.models.backbones.convnext import ConvNeXtBlock
from mmpretrain.models.backbones.sparse_convnext import SparseConvNeXtBlock
from mmpretrain.models.utils import LayerNorm2d, sparse_modules, to_2tuple
from torch import Tensor, nn

from mmmedmask.engine.hooks.precise_bn import (
    active_batch_norms,
    update_bn_statistics,
)
from mmmedmask.util.input_units import input_units
from mmmedmask.util.nested import split_init
from mmmedmask.util.silence import without_log

BLOCK_LISTS = ('layers', 'blocks', 'encoder.layers', 'stages')
"""Where transformers and ConvNeXts keep their blocks or stages."""
DENSE_KINDS = {
    sparse_modules.SparseConv2d: nn.Conv2d,
    sparse_modules.SparseMaxPooling: nn.MaxPool2d,
    sparse_modules.SparseAvgPooling: nn.AvgPool2d,
    sparse_modules.SparseBatchNorm2d: nn.BatchNorm2d,
    sparse_modules.SparseSyncBatchNorm2d: nn.SyncBatchNorm,
    sparse_modules.SparseLayerNorm2D: LayerNorm2d,
    SparseConvNeXtBlock: ConvNeXtBlock}


def encoder_of(model: nn.Module) -> nn.Module:
    """Find what a model trains: its ``backbone``, or GiMP's ``aggregator``."""
    for name in ('backbone', 'aggregator'):
        encoder = getattr(model, name, None)
        if encoder is not None:
            return encoder
    raise ValueError(f'{type(model).__name__} has neither a backbone nor an '
                     'aggregator to look at; remove the hook or loop')


def build_untrained(model: Mapping, seed: int) -> nn.Module:
    """Build a config's model at random weights.

    These are the weights that a run with this seed starts from, but for what
    it loads: nothing is read from a file. A teacher that BEiT asks for its
    targets is left out, and so is what that draws.
    """
    config = copy.deepcopy(dict(model))
    # Some teachers are read while they are built.
    config.pop('target_generator', None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = MODELS.build(config)
        for module in built.modules():
            if init_cfg := getattr(module, 'init_cfg', None):
                module.init_cfg = split_init(init_cfg)[1] or None
        with without_log():
            built.init_weights()
    return built


def untrained_encoder(model: Mapping, seed: int) -> nn.Module:
    """Give the encoder of :func:`build_untrained`.

    What the whole model draws for its parts is in it, too.
    """
    return encoder_of(build_untrained(model, seed))


def encoder_stages(encoder: nn.Module) -> dict[str, nn.Module]:
    """Find the stages of an encoder by their names, from input to output.

    ResNets have ``layer1`` to ``layer4``, ConvNeXts ``stages``; in a
    transformer each block is a stage. Without any it is a ValueError.
    """
    layers = {name: module for name, module in encoder.named_children()
              if re.fullmatch(r'layer\d+', name)}
    if layers:
        return layers
    modules = dict(encoder.named_modules())
    for place in BLOCK_LISTS:
        blocks = modules.get(place)
        if isinstance(blocks, nn.ModuleList | nn.Sequential):
            return {f'{place}.{name}': block
                    for name, block in blocks.named_children()}
    raise ValueError(
        f'{type(encoder).__name__} has no stages: expected children layer1, '
        f'layer2, ... or one of {", ".join(BLOCK_LISTS)}')


class FrozenFeatures:
    """Maps of an encoder's stages, with nothing of it changed.

    Works on a copy in evaluation mode, which sees whole images: what masks
    in pre-training is told not to. Transformers give the map of their last
    block; CNNs, and transformers in stages, those of all stages.

    Args:
        encoder: Takes normalised images (B, C, H, W).
        mean: Of the channels, in the images' units; as ``std``.
        images: Batches of images as :meth:`maps` takes them, on which
            BatchNorm statistics are measured again: those of pre-training
            are of masked views. None keeps them.
        device: Where the copy runs; None takes that of the encoder.
        data_range: Largest value of the images that the encoder was trained
            on. None is 255, or 65535 where the mean is above that; where it
            is below 0, images of 8 bits are a ValueError.
        bgr: Whether the encoder takes the channels B, G, R.

    Raises:
        ValueError: If the encoder has no stages, or later, if a stage gives
            neither a map nor patch tokens, or images have other channels or
            a size that the encoder does not take.
    """

    def __init__(self, encoder: nn.Module, mean: Sequence[float],
                 std: Sequence[float], images: Iterable[Tensor] | None = None,
                 device: str | torch.device | None = None,
                 data_range: float | None = None, bgr: bool = False) -> None:
        if device is None:
            device = next(encoder.parameters()).device
        self.encoder = copy.deepcopy(encoder).to(device).requires_grad_(False)
        self._options = show_whole_images(self.encoder)
        self.device = torch.device(device)
        self.units = input_units(SimpleNamespace(
            mean=mean, std=std, data_range=data_range, bgr=bgr))
        self.mean, self.std = (
            torch.tensor(values, device=device).view(1, -1, 1, 1)
            for values in (self.units.mean, self.units.std))
        stages = encoder_stages(self.encoder)
        self._maps: list[tuple[Tensor, Sequence[int] | None]] = []
        self._grid: Sequence[int] | None = None
        embedding = _patch_layer(self.encoder)
        if embedding is not None:
            embedding.register_forward_hook(self._keep_grid)
        pyramid = embedding is None or 'stages.0' in stages
        for stage in list(stages.values())[0 if pyramid else -1:]:
            stage.register_forward_hook(self._keep)
        # Frozen stages see to it themselves that they stay as they are.
        self.encoder.train()
        if images is not None and active_batch_norms(self.encoder):
            update_bn_statistics(self.encoder, images,
                                 lambda _, batch: self._run(batch),
                                 others_rest=True)
            self._maps.clear()
        self.encoder.eval()

    def _run(self, images: Tensor) -> None:
        try:
            self.encoder(self.normalize(images), **self._options)
        except (AssertionError, RuntimeError) as error:
            size = image_size(self.encoder)
            if size is None or size == tuple(images.shape[-2:]):
                raise
            raise ValueError(
                f'the encoder is for images of {size} pixels and fails at '
                f'{tuple(images.shape[-2:])} ({error}): give --size {size[0]} '
                f'(for images with masks --dense-size {size[0]})') from error

    def _keep(self, module: nn.Module, inputs: tuple, output) -> None:
        grid = None
        if isinstance(output, tuple | list):
            # Swin's stages say how many rows and columns their tokens have.
            output, grid = output[0], (*output[1:], None)[0]
        self._maps.append((output, grid))

    def _keep_grid(self, module: nn.Module, inputs: tuple, output: Tensor
                   ) -> None:
        # Some pad images that patches do not divide, and some cut them.
        self._grid = output.shape[-2:]

    def normalize(self, images: Tensor) -> Tensor:
        """Bring images to the device and the encoder's units.

        Images of 8 bits and RGB, as probes read them, become what an encoder
        of another range or of gray tiles was trained on.
        """
        scale = self.units.known_range('an image of 8 bits') / 255 \
            if images.dtype == torch.uint8 else 1.
        images = images.to(self.device).float() * scale
        channels = self.mean.shape[1]
        if channels == 1:
            images = images.mean(dim=1, keepdim=True)
        if images.shape[1] != channels:
            raise ValueError(
                f'the encoder takes {channels} channels, the images have '
                f'{images.shape[1]}: they cannot be probed; switch the probe '
                'off (default_hooks.probe=None)')
        if self.units.bgr:
            images = images.flip(1)
        return (images - self.mean) / self.std

    @torch.inference_mode()
    def maps(self, images: Tensor) -> list[Tensor]:
        """Compute the maps (B, D, h, w) of the stages, finest first.

        Images are (B, C, H, W), any type, in the units of ``mean``.
        """
        self._maps.clear()
        self._run(images)
        outputs, self._maps = self._maps, []
        return [self._as_map(value, grid, images.shape[-2:])
                for value, grid in outputs]

    def _as_map(self, value: Tensor, grid: Sequence[int] | None,
                size: Sequence[int]) -> Tensor:
        if value.ndim == 4:
            return _channels_first(value, size, self.encoder).float()
        grid = grid or self._grid
        if value.ndim != 3 or grid is None:
            raise ValueError(
                f'a stage of {type(self.encoder).__name__} gives the shape '
                f'{tuple(value.shape)}, expected a map or patch tokens')
        height, width = grid
        # Class and register tokens come first.
        patches = value[:, value.shape[1] - height * width:]
        return patches.transpose(1, 2).reshape(
            len(value), -1, height, width).float()

    def vectors(self, images: Tensor) -> Tensor:
        """Average every map over its places; shape (B, D1 + D2 + ...)."""
        return torch.cat([level.mean(dim=(2, 3)) for level in
                          self.maps(images)], dim=1)

    def pixels(self, images: Tensor, points: Tensor) -> Tensor:
        """Interpolate the maps at points; see :func:`sample_maps`."""
        return sample_maps(self.maps(images), points)


def _channels_first(level: Tensor, size: Sequence[int],
                    encoder: nn.Module) -> Tensor:
    """Bring a map to (B, D, h, w): timm's Swin gives (B, h, w, D).

    A map has the proportions of its images (H, W), up to one cell.
    """
    for order in ((0, 1, 2, 3), (0, 3, 1, 2)):
        view = level.permute(order)
        height, width = view.shape[2:]
        if height <= size[0] and width <= size[1] and abs(
                height * size[1] - width * size[0]) <= max(size):
            return view
    raise ValueError(f'a stage of {type(encoder).__name__} gives the shape '
                     f'{tuple(level.shape)} for images of {tuple(size)}, '
                     'expected a map with their proportions')


def sample_maps(maps: Sequence[Tensor], points: Tensor) -> Tensor:
    """Interpolate maps (B, D, h, w) at points, bilinearly.

    Points are (x, y) in [-1, 1], where -1 and 1 are the outer edges of the
    image, (B, P, 2). Returns (B, P, D1 + D2 + ...).
    """
    sampled = [F.grid_sample(level, points[:, None].to(level), mode='bilinear',
                             padding_mode='border',
                             align_corners=False)[:, :, 0] for level in maps]
    return torch.cat(sampled, dim=1).transpose(1, 2)


def color_vectors(images: Tensor) -> Tensor:
    """The mean and deviation of each channel of images, (B, 2 C).

    What a probe gets from these is the floor of every encoder.
    """
    values = images.float().flatten(2)
    return torch.cat([values.mean(dim=2), values.std(dim=2)], dim=1)


def draw_points(size: tuple[int, int], count: int,
                generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw pixels of an image (h, w), all in random order, or ``count``.

    Returns their rows and columns, (P, 2), and their centres as
    :func:`sample_maps` takes them, (P, 2).
    """
    height, width = size
    places = torch.randperm(height * width, generator=generator)[:count]
    rows, columns = places // width, places % width
    points = torch.stack([(2 * columns + 1) / width - 1,
                          (2 * rows + 1) / height - 1], dim=1)
    return torch.stack([rows, columns], dim=1), points


def show_whole_images(encoder: nn.Module) -> dict:
    """Let an encoder see all places; give the options of its call for that.

    In place, mmpretrain's sparse layers, SparK's, become dense: outside of a
    training step they would work with the mask of the last. Other encoders
    draw masks, or demand one, unless they are told not to.
    """
    for module in encoder.modules():
        if type(module) in DENSE_KINDS:
            module.__class__ = DENSE_KINDS[type(module)]
    masks = 'mask' in inspect.signature(encoder.forward).parameters
    return dict(mask=None) if masks else {}


def image_size(encoder: nn.Module) -> tuple[int, int] | None:
    """Size (h, w) of the images that a transformer is made for."""
    embedding = getattr(encoder, 'patch_embed', None)
    for module, name in ((encoder, 'img_size'), (encoder, 'image_size'),
                         (embedding, 'img_size'),
                         (embedding, 'init_input_size')):
        if size := getattr(module, name, None):
            return to_2tuple(size)
    return None


def _patch_layer(encoder: nn.Module) -> nn.Conv2d | None:
    """The convolution that makes a transformer's patches; None for a CNN."""
    embedding = getattr(encoder, 'patch_embed', None)
    layers = (getattr(embedding, 'projection', None),
              getattr(embedding, 'proj', None),
              getattr(encoder, 'conv_proj', None))
    return next((layer for layer in layers
                 if isinstance(layer, nn.Conv2d)), None)
