"""Names of backbone tensors in mmpretrain, mmdet, torchvision and timm.

* Plain ResNets are alike in all four.
* ResNetV1c/V1d: another stem everywhere, torchvision does not have them;
  in V1d mmdet and timm keep a pooling slot in front of every shortcut
  convolution, mmpretrain only where the stride is 2.
* ConvNeXt (v1): mmdet has none of its own (it uses mmpretrain's).
* Plain vision transformers: timm's names are those of MAE's own code.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from mmmedmask.engine.checkpoint.mae_conversion import pair_names
from mmmedmask.util.checks import check_choice

NAMINGS = ('openmmlab', 'mmdet', 'torchvision', 'timm')
FAMILIES = ('resnet', 'resnetv1c', 'resnetv1d', 'convnext', 'vit')
#: Layers of a ConvNeXt block: mmpretrain, timm, place in torchvision's.
CONVNEXT_LAYERS = {'depthwise_conv': ('conv_dw', 0), 'norm': ('norm', 2),
                   'pointwise_conv1': ('mlp.fc1', 3),
                   'pointwise_conv2': ('mlp.fc2', 5)}


def backbone_family(state_dict: Mapping[str, Tensor]) -> str:
    """Recognise the family of a backbone that is named as in mmpretrain."""
    if 'downsample_layers.0.0.weight' in state_dict:
        if any('.grn.' in name for name in state_dict):
            raise ValueError('ConvNeXt V2 (global response normalisation) '
                             'cannot be renamed, only the first version can')
        return 'convnext'
    if 'conv1.weight' in state_dict and 'layer1.0.conv1.weight' in state_dict:
        return 'resnet'
    if 'layers.0.attn.qkv.weight' in state_dict:
        return 'vit'
    if 'stem.0.conv.weight' in state_dict:
        # The pooling in front takes index 0 of V1d's strided shortcuts.
        pooled = 'layer2.0.downsample.2.weight' in state_dict
        return 'resnetv1d' if pooled else 'resnetv1c'
    raise ValueError(
        f'unknown backbone: its first tensors are {list(state_dict)[:3]}, '
        f'valid are the families {FAMILIES} as mmpretrain names them')


def rename_backbone(state_dict: Mapping[str, Tensor],
                    naming: str) -> dict[str, Tensor]:
    """Rename a backbone's tensors from mmpretrain to another library.

    Values are kept, except that torchvision stores ConvNeXt's layer scale as
    ``(C, 1, 1)``. The norms that mmpretrain's ConvNeXt puts on the outputs of
    its first three stages exist nowhere else and are left out.

    Args:
        state_dict: Named as in mmpretrain, without a prefix.
        naming: One of ``NAMINGS``; ``'openmmlab'`` changes nothing.

    Raises:
        ValueError: If the naming is unknown or the library does not have the
            architecture.
    """
    check_choice('naming', naming, NAMINGS)
    family = None if naming == 'openmmlab' else backbone_family(state_dict)
    if family in (None, 'resnet'):
        return dict(state_dict)
    if family == 'convnext':
        return _rename_convnext(state_dict, naming)
    if family == 'vit':
        return _rename_vit(state_dict, naming)
    return _rename_deep_stem(state_dict, naming, family)


def _rename_deep_stem(state_dict: Mapping[str, Tensor], naming: str,
                      family: str) -> dict[str, Tensor]:
    if naming == 'torchvision':
        raise ValueError(
            f'torchvision has no {family} (deep stem); export it with '
            "naming='timm' (resnet*c, resnet*d) or 'openmmlab'")
    renamed = {}
    for name, value in state_dict.items():
        stem = re.fullmatch(r'stem\.(\d)\.(conv|bn)\.(.+)', name)
        shortcut = re.fullmatch(r'(layer1\.0\.downsample)\.(\d)\.(.+)', name)
        if stem:
            # conv, norm and ReLU, three times, in one flat sequence.
            index = 3 * int(stem[1]) + (stem[2] == 'bn')
            place = f'stem.{index}' if naming != 'timm' else \
                'bn1' if index == 7 else f'conv1.{index}'
            name = f'{place}.{stem[3]}'
        elif shortcut and family == 'resnetv1d':
            name = f'{shortcut[1]}.{int(shortcut[2]) + 1}.{shortcut[3]}'
        renamed[name] = value
    return renamed


def _rename_convnext(state_dict: Mapping[str, Tensor],
                     naming: str) -> dict[str, Tensor]:
    if naming == 'mmdet':
        raise ValueError(
            'mmdet has no ConvNeXt of its own: use the openmmlab naming with '
            "type='mmpretrain.ConvNeXt' in the detector")
    timm = naming == 'timm'
    last = max(int(name.split('.')[1]) for name in state_dict
               if name.startswith('stages.'))
    renamed = {}
    for name, value in state_dict.items():
        norm = re.fullmatch(r'norm(\d)\.(.+)', name)
        down = re.fullmatch(r'downsample_layers\.(\d)\.(.+)', name)
        if norm:
            if int(norm[1]) != last:
                continue
            name = f'{"head.norm" if timm else "classifier.0"}.{norm[2]}'
        elif down and timm:
            name = f'stages.{down[1]}.downsample.{down[2]}' \
                if int(down[1]) else f'stem.{down[2]}'
        elif down:
            # features alternates between downsampling (even) and stages.
            name = f'features.{2 * int(down[1])}.{down[2]}'
        else:
            _, stage, block, layer, *rest = name.split('.')
            theirs, place = CONVNEXT_LAYERS.get(layer, (layer, None))
            start = f'features.{2 * int(stage) + 1}.{block}'
            if timm:
                name = '.'.join(['stages', stage, 'blocks', block, theirs,
                                 *rest])
            elif layer == 'gamma':
                name = f'{start}.layer_scale'
                value = value.reshape(-1, 1, 1)
            else:
                name = f'{start}.block.{place}.{rest[0]}'
        renamed[name] = value
    return renamed


def _rename_vit(state_dict: Mapping[str, Tensor],
                naming: str) -> dict[str, Tensor]:
    if naming != 'timm':
        raise ValueError(
            f'{naming} has no plain vision transformer with these names: '
            "export it with naming='timm' or 'openmmlab'")
    layers = {name.split('.')[1] for name in state_dict
              if name.startswith('layers.')}
    names = {ours.removeprefix('backbone.'): theirs
             for ours, theirs in pair_names(len(layers), 0).items()}
    unknown = sorted(set(state_dict) - set(names))
    if unknown:
        raise ValueError(f'timm has no names for {unknown[:4]} of this '
                         'transformer, which is not a plain one')
    return {names[name]: value for name, value in state_dict.items()}
