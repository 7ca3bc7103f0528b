"""How timm calls the architecture of a backbone, for a folder that it loads.

Everything but the number of heads is read from names and shapes.
"""

from collections.abc import Mapping
from math import isqrt

from torch import Tensor

from mmmedmask.engine.checkpoint.naming import backbone_family

#: Blocks of each stage, and whether they have three convolutions.
RESNETS = {((2, 2, 2, 2), False): 18, ((3, 4, 6, 3), False): 34,
           ((3, 4, 6, 3), True): 50, ((3, 4, 23, 3), True): 101,
           ((3, 8, 36, 3), True): 152}
SUFFIXES = dict(resnet='', resnetv1c='c', resnetv1d='d')
#: Channels behind the stem of timm's ResNets.
RESNET_WIDTH = 64


def timm_architecture(tensors: Mapping[str, Tensor],
                      num_heads: int | None = None) -> tuple[str, dict]:
    """What ``timm.create_model`` takes for a backbone of mmpretrain's names.

    A name, and arguments by which it differs. None in timm is a ValueError.
    """
    family = backbone_family(tensors)
    if family == 'vit':
        return _vision_transformer(tensors, num_heads)
    if family == 'convnext':
        return 'convnext_tiny', dict(
            depths=[_count_parts(tensors, f'stages.{stage}.')
                    for stage in range(4)],
            dims=[len(tensors[f'stages.{stage}.0.norm.weight'])
                  for stage in range(4)],
            in_chans=tensors['downsample_layers.0.0.weight'].shape[1])
    blocks = tuple(_count_parts(tensors, f'layer{stage}.')
                   for stage in range(1, 5))
    depth = RESNETS.get((blocks, 'layer1.0.conv3.weight' in tensors))
    width = tensors['layer1.0.conv1.weight'].shape[1]
    if depth is None or width != RESNET_WIDTH:
        raise ValueError(
            f'timm has no {family} with {blocks} blocks and {width} channels '
            f'behind the stem; it has {RESNET_WIDTH} channels and '
            f'{[counts for counts, _ in RESNETS]} blocks')
    stem = 'conv1.weight' if family == 'resnet' else 'stem.0.conv.weight'
    return (f'resnet{depth}{SUFFIXES[family]}',
            dict(in_chans=tensors[stem].shape[1]))


def _count_parts(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Count the blocks, or layers, whose names begin with a prefix."""
    return len({name[len(prefix):].split('.')[0]
                for name in tensors if name.startswith(prefix)})


def _vision_transformer(tensors: Mapping[str, Tensor],
                        num_heads: int | None) -> tuple[str, dict]:
    if num_heads is None:
        raise ValueError('the heads of a vision transformer are not in its '
                         'tensors: its config is needed')
    weight = tensors['patch_embed.projection.weight']
    has_token = 'cls_token' in tensors
    places = tensors['pos_embed'].shape[1] - has_token
    side, dims = isqrt(places), weight.shape[0]
    if side**2 != places or weight.shape[2] != weight.shape[3]:
        raise ValueError(f'timm takes square images, got {places} patches of '
                         f'{tuple(weight.shape[2:])} pixels')
    norms = [name for name in ('ln1', 'ln2') if f'{name}.weight' in tensors]
    if len(norms) > 1:
        raise ValueError('timm has a norm behind the last layer or one behind '
                         'the mean of the patches, this transformer has both')
    return 'vit_base_patch16_224', dict(
        img_size=side * weight.shape[2], patch_size=weight.shape[2],
        in_chans=weight.shape[1], embed_dim=dims,
        depth=_count_parts(tensors, 'layers.'), num_heads=num_heads,
        mlp_ratio=len(tensors['layers.0.ffn.layers.0.0.weight']) / dims,
        class_token=has_token, global_pool='token' if has_token
        and norms != ['ln2'] else 'avg', final_norm=bool(norms))
