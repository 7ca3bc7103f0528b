"""Export the encoder of a run to files that other libraries read."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mmmedmask.config_files import load_config
from mmmedmask.engine.checkpoint import model_card, writing
from mmmedmask.engine.checkpoint.foreign_networks import compare_networks
from mmmedmask.engine.checkpoint.naming import NAMINGS, rename_backbone
from mmmedmask.engine.checkpoint.onnx_files import write_onnx
from mmmedmask.engine.checkpoint.reading import (
    get_state_dict,
    keep_versions,
    normalize_prefix,
    read_checkpoint,
    refuse_not_finite,
    select_prefix,
)
from mmmedmask.engine.checkpoint.timm_architectures import timm_architecture
from mmmedmask.engine.frozen_features import image_size
from mmmedmask.util.atomic_files import write_json, write_text
from mmmedmask.util.checks import check_choice
from mmmedmask.util.input_units import units_of_config

FORMATS = (writing.SAFETENSORS, '.pth', '.onnx')
"""Endings of a target; the first is added where there is none."""

HF = 'hf'
"""The naming of a folder that timm loads: ``local-dir:FOLDER``."""

FOREIGN = ('torchvision', 'timm', HF)
"""Namings whose networks are compared."""

# Side of an image where no config says it.
_SIDE = 224


def exported_files(target: str | Path,
                   naming: str = 'openmmlab') -> list[Path]:
    """Name what :func:`export_backbone` writes: the weights, then the card.

    Example:
        >>> [file.name for file in exported_files('resnet18')]
        ['resnet18.safetensors', 'resnet18.safetensors.md']
    """
    target = Path(target)
    if naming == HF:
        return [target / name for name in (
            'model.safetensors', 'config.json', 'README.md')]
    target = writing.with_ending(target, FORMATS)
    return [target, target.with_name(f'{target.name}.md')]


def export_backbone(
        source: str | Path, target: str | Path, naming: str = 'openmmlab',
        prefix: str = 'backbone.', target_prefix: str | None = None,
        config: str | Path | None = None, licence: str | None = None) -> dict:
    """Extract, rename and save a backbone, with a card of its model.

    The files hold tensors and plain data alone. ``.safetensors`` and ``.pth``
    hold the tensors, ``.onnx`` the network, for batches of any number of
    images of any size: for a vision transformer, of any number of patches.
    Transformers with windows or relative positions keep their size. Where
    there is a config, tensors with the names of timm or torchvision are
    loaded into the network there and its features compared; ``compared`` in
    ``meta`` and the card say which it is, or why not. Gives ``state_dict``
    and ``meta`` of what was written.

    Args:
        source: A checkpoint of a runner, or a file with a bare dictionary of
            tensors. It is read without running code.
        target: The file to write, whose ending is one of ``FORMATS``; a
            folder for the naming ``'hf'``.
        naming: Whose names the tensors get, one of mmmedmask's namings, or
            ``'hf'``: timm's, in a folder for the hub.
        prefix: The backbone's prefix in the source; ``''`` takes everything.
        target_prefix: The prefix in the target. None means ``backbone.`` for
            OpenMMLab's namings and none for the others.
        config: Config of the run. None takes the one in the checkpoint.
        licence: Licence of the weights for the card, an SPDX name.

    Raises:
        ModuleNotFoundError: If an ONNX file lacks the extra ``export``.
        ValueError: If nothing has the prefix, values are not finite, the
            weights do not fit the config, the naming does not know the
            architecture, its network computes something else, a config is
            needed and there is none, or ``'hf'`` has no range of values.

    Example:
        >>> torch.save({'backbone.conv1.weight': torch.zeros(2)}, 'run.pth')
        >>> list(export_backbone('run.pth', 'encoder')['state_dict'])
        ['backbone.conv1.weight']
        >>> Path('encoder.safetensors.md').read_text().splitlines()[2]
        'license: other'
    """
    source = Path(source)
    check_choice('naming', naming, (*NAMINGS, HF))
    files = exported_files(target, naming)
    checkpoint = read_checkpoint(source)
    tensors = get_state_dict(checkpoint)
    backbone = select_prefix(tensors, prefix)
    if not backbone:
        starts = sorted({name.split('.')[0] for name in tensors})
        raise ValueError(f'no tensor in {str(source)!r} has the prefix '
                         f'{prefix!r}; their names begin with {starts}')
    refuse_not_finite(backbone, f'under {prefix!r} in {str(source)!r}')
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, dict) else {}
    text = meta.get('cfg')
    settings = load_config(config) if config is not None else \
        model_card.read_config_text(text) if isinstance(text, str) else None
    foreign = naming in FOREIGN and files[0].suffix != '.onnx'
    network, unknown = None, 'there is no config of the run'
    if (foreign or normalize_prefix(prefix) == 'backbone.') and (
            (settings or {}).get('model') or {}).get('backbone'):
        try:
            network = _loaded(backbone, settings)
        except (KeyError, ImportError):
            unknown = 'its backbone is not registered here'
    library = 'timm' if naming == HF else naming
    renamed = rename_backbone(backbone, library)
    compared = None
    if foreign:
        compared = f'not compared with {library}: {unknown}' \
            if network is None else _compared(library, backbone, renamed,
                                              network, settings)
    timm_config = _timm_config(backbone, settings, network) \
        if naming == HF else None
    if target_prefix is None:
        target_prefix = 'backbone' if naming in NAMINGS[:2] else ''
    start = normalize_prefix(target_prefix)
    renamed = {f'{start}{name}': tensor for name, tensor in renamed.items()}
    if naming == 'openmmlab':
        renamed = keep_versions(renamed, backbone,
                                lambda name: f'{start}{name}')
    origin = writing.describe_source(
        source, source_prefix=prefix, naming=naming, compared=compared,
        config_sha256=hashlib.sha256(text.encode()).hexdigest()
        if isinstance(text, str) else None,
        **{key: meta.get(key) for key in (
            'experiment_name', 'epoch', 'iter', 'seed', 'mmengine_version')})
    facts = model_card.describe_run(checkpoint, settings, licence)
    described = {files[0].name: f'the tensors, as {library} names them' +
                 (f'; {compared}' if compared else '')}
    if files[0].suffix == '.onnx':
        names = _write_network(files[0], backbone, settings)
        described = {files[0].name: 'normalised images (B, C, H, W) to '
                     f'{", ".join(names)}'}
        written = {'state_dict': renamed, 'meta': origin}
    else:
        written = writing.save_weights(files[0], renamed, origin)
    if naming == HF:
        write_json(files[1], timm_config)
        described[files[1].name] = 'the architecture and its normalisation'
    write_text(files[-1], model_card.write_card(
        facts, described, _usage(files[0], naming, start),
        'timm' if library == 'timm' else 'pytorch',
        any(name.endswith('running_mean') for name in backbone)))
    return written


def build_backbone(config: Config, name: str) -> nn.Module:
    """Build the backbone of a config, in evaluation mode; it loads nothing.

    The ``default_scope`` of the config is used from here on. Errors call the
    config ``name``.

    Example:
        >>> _ = MODELS.register_module('ExampleBackbone', True, nn.Flatten)
        >>> build_backbone(Config(dict(model=dict(
        ...     backbone=dict(type='ExampleBackbone')))), 'my config')
        Flatten(start_dim=1, end_dim=-1)
    """
    backbone = (config.get('model') or {}).get('backbone')
    if not backbone:
        raise ValueError(f'{name!r} has no model with a backbone to encode '
                         'with')
    init_default_scope(config.get('default_scope') or 'mmengine')
    built = MODELS.build({key: value for key, value in backbone.items()
                          if key != 'init_cfg'})
    # Backbones of mmpretrain return nothing from it.
    built.eval()
    return built


def _loaded(backbone: Mapping[str, Tensor],
            settings: Config | None) -> nn.Module:
    if settings is None:
        raise ValueError(
            'the checkpoint has no config, and its network cannot be built: '
            'name one with config=, --config on the command line')
    network = build_backbone(settings, 'the config')
    try:
        network.load_state_dict(backbone)
    except RuntimeError as error:
        raise ValueError(
            f'the weights do not fit the config: {error}') from None
    return network


def _write_network(path: Path, backbone: Mapping[str, Tensor],
                   settings: Config | None) -> list[str]:
    network = _loaded(backbone, settings)
    from mmpretrain.models import VisionTransformer
    size = image_size(network)
    if size is None:
        size, step = (_SIDE, _SIDE), 32
    elif isinstance(network, VisionTransformer) and not hasattr(
            network, 'rope'):
        # Its position embeddings are resized.
        step = size[0] // network.patch_resolution[0]
    else:
        step = None
    return write_onnx(path, network, len(units_of_config(settings).mean),
                      size, step)


def _compared(library: str, backbone: Mapping[str, Tensor],
              renamed: Mapping[str, Tensor], network: nn.Module,
              settings: Config) -> str:
    try:
        call = compare_networks(library, backbone, renamed, network)
    except ModuleNotFoundError as error:
        return f'not compared: {error}'
    except ValueError as error:
        raise ValueError(
            f'{library} cannot have this backbone: {error}. Its options are '
            f"{settings['model']['backbone']}; naming 'openmmlab' takes all"
        ) from None
    return f'compared with {call}: all stages are the same'


def _timm_config(backbone: Mapping[str, Tensor], settings: Config | None,
                 network: nn.Module | None) -> dict:
    architecture, arguments = timm_architecture(backbone, network)
    units = units_of_config(settings or {})
    if units.bgr:
        raise ValueError('timm gives images in the order R, G, B, and the '
                         'config trains on B, G, R (as mmcv loads them, and '
                         "without bgr_to_rgb): naming 'timm' takes it")
    size = arguments.get('img_size', (_SIDE, _SIDE))
    # timm divides images by their largest value first.
    largest = units.known_range("the naming 'hf'")
    mean, std = ([value / largest for value in values]
                 for values in (units.mean, units.std))
    return dict(
        architecture=architecture, num_classes=0, model_args=arguments,
        pretrained_cfg=dict(
            input_size=[arguments['in_chans'], *size],
            fixed_input_size='img_size' in arguments, interpolation='bicubic',
            crop_pct=1.0, mean=mean, std=std, num_classes=0))


def _usage(file: Path, naming: str, prefix: str) -> str:
    if naming == HF:
        return ('import timm\nmodel = timm.create_model('
                f"'local-dir:{file.parent.name}', pretrained=True)")
    if file.suffix == '.onnx':
        return ('import onnxruntime\nsession = onnxruntime.InferenceSession('
                f"'{file.name}')\nfeatures, *_ = session.run(None, "
                "{'images': images})")
    if naming in NAMINGS[:2]:
        prefix = f', prefix={prefix!r}' if prefix else ''
        return (
            '# In a config, of OpenMMLab too; the hook ends a run whose '
            'backbone\n# is not that of the file.\n'
            "custom_imports = dict(imports=['mmmedmask'], "
            'allow_failed_imports=False)\n'
            'model = dict(backbone=dict(init_cfg=dict(\n'
            f"    type='Pretrained', checkpoint='{file.name}'{prefix})))\n"
            'default_hooks = dict(load_check=dict('
            "type='mmmedmask.LoadCheckHook'))")
    if file.suffix == '.pth':
        return ("import torch\ntensors = torch.load("
                f"'{file.name}', weights_only=True)['state_dict']")
    return ('from safetensors.torch import load_file\n'
            f"tensors = load_file('{file.name}')")
