"""Build an encoder of tiles with weights whose origin is known.

Weights come from a file or from torchvision, every tensor has to fit, and
random ones have to be asked for.
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torchvision
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmmedmask.apis.backbone_export import build_backbone
from mmmedmask.config_files import load_config
from mmmedmask.engine.checkpoint import matching
from mmmedmask.engine.checkpoint.reading import (
    get_state_dict,
    keep_versions,
    listing,
    read_checkpoint,
    select_prefix,
)
from mmmedmask.engine.checkpoint.writing import sha256_of
from mmmedmask.engine.frozen_features import (
    image_size,
    show_whole_images,
    untrained_encoder,
)
from mmmedmask.models.layers import tile_encoders
from mmmedmask.util.checks import check_choice
from mmmedmask.util.input_units import InputUnits, units_of_config
from mmmedmask.util.silence import without_log

TIMM_PREFIX = 'timm:'
LOCAL_FOLDER = f'{TIMM_PREFIX}{tile_encoders.LOCAL_DIR}'
CONFIG_ENCODER = 'cmim'
TORCHVISION_DEFAULT = 'IMAGENET1K_V1'
# Of torchvision's DenseNets in its files; a name had more dots once.
_OLD_DENSE_LAYER = re.compile(r'(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)')
# What autocast is told.
_PRECISIONS = {'float32': None, 'bfloat16': torch.bfloat16,
               'float16': torch.float16}


def build_tile_encoder(
        name: str, weights: str | None = None,
        config: str | Path | None = None, random_seed: int | None = None,
        input_size: int | None = None) -> tile_encoders.TileEncoder:
    """Build an encoder.

    Args:
        name: ``'resnet50-block3'`` and other names of torchvision, see
            :func:`~mmmedmask.models.layers.tile_encoders.torchvision_network`;
            ``'timm:NAME'``; ``'timm:local-dir:FOLDER'`` for a folder of
            timm's, such as our exports, with its units and weights; or
            ``'cmim'`` for the backbone of a pre-training or classification
            config of ours. A transformer whose output are tokens, as in
            pre-training, gives its class token.
        weights: A file, whose tensors may have a prefix. It may hold more
            beside the network, such as heads and decoders, and nothing more
            within it. For torchvision also a name of its own weights, of
            which ``'IMAGENET1K_V1'`` is the default and is downloaded. These
            bring their units, as a file or by name.
        config: The config of ``'cmim'``.
        random_seed: Draw the weights with this seed instead, for tests and
            as a baseline.
        input_size: Side in pixels that tiles are resized to; None leaves
            them, unless the encoder takes one size only.

    Returns:
        The encoder. Its attribute ``weights_id`` tells where the weights come
        from: ``'sha256:...'``, ``'torchvision:...'`` or ``'random:SEED'``.

    Raises:
        ValueError: If the name is not known, or weights are missing, too
            many or do not fit.
        FileNotFoundError, ModuleNotFoundError: Without the file, or timm.

    Example:
        >>> build_tile_encoder('resnet18-block3', random_seed=0).dims
        256
    """
    if weights is not None and random_seed is not None:
        raise ValueError(
            f'either weights ({weights!r}) or random ones, not both')
    if (config is not None) != (name == CONFIG_ENCODER):
        raise ValueError(
            f'the encoder {CONFIG_ENCODER!r} needs the config it was trained '
            f'with, and no other takes one; got encoder {name!r} and config '
            f'{None if config is None else str(config)!r}')
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0 if random_seed is None else random_seed)
        network, units = _build_network(name, config)
        classifier = units.pop('classifier', ())
        if random_seed is not None and name == CONFIG_ENCODER:
            with without_log():
                network.init_weights()
    if random_seed is not None:
        identity = f'random:{random_seed}'
    else:
        identity, own_units = _load_weights(network, name, weights, classifier)
        units.update(own_units)
    if input_size is not None:
        units['input_size'] = input_size
    encoder = tile_encoders.TileEncoder(
        network.to(memory_format=torch.channels_last), name, **units)
    encoder.weights_id = identity
    if weights is not None and Path(weights).is_file():
        _compare_units(Path(weights).with_name('config.json'), encoder)
    return encoder.requires_grad_(False)


def build_config_encoder(
        config: str | Path, weights: str | None = None,
        random_seed: int = 0) -> tuple[nn.Module, InputUnits]:
    """Build what a config trains, of any architecture, in training mode.

    Args:
        config: A config with a backbone, of ours or of a host library.
        weights: A checkpoint; None leaves the weights that a run of the
            config with ``random_seed`` starts from.

    Returns:
        The encoder, and the units of its images.

    Raises:
        ValueError: If the config has no backbone, or a tensor is missing.

    Example:
        >>> from mmmedmask.config_files import model_index
        >>> name = 'cmim_resnet18_1xb32-coslr-800e_tile-folder'
        >>> build_config_encoder(model_index()[name])[1].data_range
        255.0
    """
    settings = load_config(config)
    if not (settings.get('model') or {}).get('backbone'):
        raise ValueError(f'{str(config)!r} has no model with a backbone to '
                         'encode with')
    init_default_scope(settings.get('default_scope') or 'mmengine')
    network = untrained_encoder(settings.model, random_seed)
    if weights is not None:
        _load_all(network, get_state_dict(read_checkpoint(weights)),
                  str(weights))
    return network, units_of_config(settings)


def _build_network(name: str,
                   config: str | Path | None) -> tuple[nn.Module, dict]:
    """Build a network with random weights, and say what belongs to it."""
    if name == CONFIG_ENCODER:
        return _backbone_of_config(config)
    if name.startswith(TIMM_PREFIX):
        network, units = tile_encoders.timm_network(
            name.removeprefix(TIMM_PREFIX))
        if name.startswith(LOCAL_FOLDER):
            units['config_id'] = _digest(Path(
                name.removeprefix(LOCAL_FOLDER), 'config.json').read_bytes())
        return network, units
    return tile_encoders.torchvision_network(name)


def _backbone_of_config(path: str | Path) -> tuple[nn.Module, dict]:
    config = load_config(path)
    backbone = build_backbone(config, str(path))
    units = units_of_config(config)
    if units.data_range != 255:
        raise ValueError(f'{str(path)!r} is for images of another range than '
                         f'8 bits (data_range '
                         f'{units.data_range or "not known"})')
    if getattr(backbone, 'out_type', None) == 'raw' \
            and getattr(backbone, 'cls_token', None) is not None:
        backbone.out_type = 'cls_token'
    size = image_size(backbone) or (None, None)
    described = {name: value for name, value in config.model.backbone.items()
                 if name != 'init_cfg'}
    return backbone, dict(
        mean=units.mean, std=units.std, bgr=units.bgr,
        options=show_whole_images(backbone),
        probe_size=size[0] if size[0] == size[1] else None,
        config_id=_digest(json.dumps(
            described, sort_keys=True, default=str).encode()))


def _digest(content: bytes) -> str:
    return f'sha256:{hashlib.sha256(content).hexdigest()[:16]}'


def weights_file(name: str, weights: str | None) -> str | None:
    """Name the weights of an encoder: as given, or those of its folder.

    Example:
        >>> weights_file('timm:local-dir:export', None)
        'export/model.safetensors'
    """
    if weights is None and name.startswith(LOCAL_FOLDER):
        return str(Path(name.removeprefix(LOCAL_FOLDER))
                   / 'model.safetensors')
    return weights


def _load_weights(network: nn.Module, name: str, weights: str | None,
                  classifier: Sequence[str]) -> tuple[str, dict]:
    """Load weights; say which they are, and the units of torchvision's."""
    own = _torchvision_weights(name)
    if weights is None and TORCHVISION_DEFAULT in own:
        weights = TORCHVISION_DEFAULT
    weights = weights_file(name, weights)
    known = own.get(weights)
    if known is not None:
        tensors = _download(name.removesuffix(tile_encoders.BLOCK3_SUFFIX),
                            known)
        identity = f'torchvision:{weights}'
    elif weights is None:
        raise ValueError(
            f'the encoder {name!r} needs a file with weights: give it with '
            '--weights FILE, or ask for random ones with --random-weights')
    elif not Path(weights).is_file():
        hint = f', and torchvision has only {sorted(own)}' if own else ''
        raise FileNotFoundError(
            f'there is no file with weights {weights!r}{hint}')
    else:
        tensors = get_state_dict(read_checkpoint(weights))
        digest = sha256_of(weights)
        identity = f'sha256:{digest[:16]}'
        # The names of torchvision's files end with the start of theirs.
        known = next((choice for choice in own.values() if digest.startswith(
            Path(choice.url).stem.rpartition('-')[2])), None)
    if known is None:
        _load_all(network, tensors, str(weights), classifier)
        return identity, {}
    tensors = keep_versions({_OLD_DENSE_LAYER.sub(r'\1', part): tensor
                             for part, tensor in tensors.items()}, tensors)
    _load_all(network, tensors, str(weights), classifier)
    return identity, tile_encoders.torchvision_units(network, known)


def _torchvision_weights(name: str) -> Mapping[str, object]:
    if name.startswith(TIMM_PREFIX) or name == CONFIG_ENCODER:
        return {}
    return torchvision.models.get_model_weights(
        name.removesuffix(tile_encoders.BLOCK3_SUFFIX)).__members__


def _download(base: str, weights: object) -> dict[str, Tensor]:
    address = f'torchvision://{base}.{weights.name.lower()}'
    try:
        return get_state_dict(read_checkpoint(address))
    except (OSError, RuntimeError) as error:
        raise ValueError(f'cannot download the weights {weights.name} from '
                         f'{weights.url} ({error}): download the file '
                         'elsewhere and give it with --weights FILE, or ask '
                         'for random ones with --random-weights') from error


def _compare_units(file: Path, encoder: tile_encoders.TileEncoder) -> None:
    """Warn if a config of timm beside weights says other units."""
    try:
        units = json.loads(file.read_text('utf-8'))
        units = units.get('pretrained_cfg', units)
        same = all(np.allclose(
            np.multiply(255, units[name]), getattr(encoder, name).flatten(),
            rtol=1e-3, atol=1e-2) for name in ('mean', 'std'))
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        # Beside weights may lie any file of this name.
        return
    if not same:
        print_log(
            f'{file} says a mean of {units["mean"]} and a deviation of '
            f'{units["std"]} for the weights beside it, and the encoder '
            f'{encoder.name!r} takes others: name it '
            f"'{LOCAL_FOLDER}{file.parent}'", logger='current',
            level=logging.WARNING)


def _load_all(network: nn.Module, tensors: Mapping[str, Tensor],
              source: str, classifier: Sequence[str] = ()) -> None:
    """Load every tensor of a network, whatever prefix it has.

    What the checkpoint has more may lie beside the network, or in the parts
    of a ``classifier`` that was cut off. More within a part that the network
    has is of another one, deeper or with layers that this one lacks.
    """
    prefix, _ = matching.suggest_prefix(network.state_dict(), tensors)
    report = matching.compare_modules([network], tensors, prefix)
    given = select_prefix(tensors, prefix)
    complete = len(report.matched) == report.expected
    if complete and not hasattr(given, '_metadata'):
        # All names and shapes are those of today.
        given = keep_versions(given, network.state_dict())
    if not complete and (report.shapes or report.not_finite
                         or not matching.adapts([network], given)):
        raise ValueError(
            f'{source!r} does not fit the encoder, {len(report.matched)} of '
            f'{report.expected} tensors match:\n{report.describe()}')
    own = {name for name, _ in network.named_buffers()} | set(classifier)
    unused = [name for name in network.load_state_dict(
        given, strict=False).unexpected_keys
        if hasattr(network, name.partition('.')[0])
        and own.isdisjoint((name, name.partition('.')[0]))]
    if unused:
        raise ValueError(
            f'{source!r} is of another encoder, deeper or with more layers: '
            f'{len(unused)} tensors of parts that this one has, too, are '
            f'used by nothing ({listing(unused)}). Name the encoder that the '
            'file is of')


def encoder_settings(encoder: tile_encoders.TileEncoder,
                     precision: str) -> dict:
    """List all of an encoder that decides about its features.

    Files of features note it as plain values.

    Example:
        >>> encoder = build_tile_encoder('resnet18-block3', random_seed=0)
        >>> encoder_settings(encoder, 'float32')['mean']
        [123.675, 116.28, 103.53]
    """
    return dict(
        encoder=encoder.name, weights=encoder.weights_id,
        input_size=encoder.input_size, precision=precision,
        mean=_noted(encoder.mean), std=_noted(encoder.std),
        bgr=encoder.bgr, config=encoder.config_id)


def unnoted_settings(encoder: tile_encoders.TileEncoder) -> dict:
    """Say with which units a file was made that does not note them.

    An earlier version took ImageNet's for all networks of torchvision, and
    for those of timm theirs. Of other encoders only the order of channels is
    known.

    Example:
        >>> encoder = build_tile_encoder('resnet18-block3', random_seed=0)
        >>> unnoted_settings(encoder)['mean']
        [123.675, 116.28, 103.53]
    """
    base = encoder.name.removesuffix(tile_encoders.BLOCK3_SUFFIX)
    if base in torchvision.models.list_models(module=torchvision.models):
        units = tile_encoders.IMAGENET_MEAN, tile_encoders.IMAGENET_STD
    elif base.startswith(TIMM_PREFIX) and encoder.config_id is None:
        units = encoder.mean, encoder.std
    else:
        return dict(bgr=False)
    return dict(bgr=False, mean=_noted(units[0]), std=_noted(units[1]))


def _noted(values: object) -> list[float]:
    return [float(f'{value:.6g}')
            for value in torch.as_tensor(values).flatten().tolist()]


def encode_tiles(encoder: tile_encoders.TileEncoder, tiles: np.ndarray,
                 precision: str = 'float32') -> np.ndarray:
    """Encode RGB tiles, uint8 (B, H, W, 3), as float32 (B, D).

    It runs on the encoder's device, in the precision ``'float32'``,
    ``'bfloat16'`` or ``'float16'``.

    Example:
        >>> encoder = build_tile_encoder('resnet18-block3', random_seed=0)
        >>> encode_tiles(encoder, np.zeros((2, 32, 32, 3), np.uint8)).shape
        (2, 256)
    """
    check_choice('precision', precision, _PRECISIONS)
    device = encoder.mean.device
    # (B, H, W, 3) in memory is (B, 3, H, W) in channels_last.
    batch = torch.from_numpy(tiles).to(device).permute(0, 3, 1, 2)
    dtype = _PRECISIONS[precision]
    with torch.inference_mode(), torch.autocast(
            device.type, dtype, enabled=dtype is not None):
        features = encoder(batch)
    return features.float().cpu().numpy()
