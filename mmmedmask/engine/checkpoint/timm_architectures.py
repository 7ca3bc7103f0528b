"""How timm calls the architecture of a backbone, for a folder that it loads.

Everything but the number of heads is read from names and shapes.
"""

from collections.abc import Mapping
from math import isqrt

from torch import Tensor

from mmmedmask.engine.checkpoint.naming import backbone_family

#: Blocks of each stage, and whether they have three convolutions.
RESNETS = {
    ((2, 2, 2, 2), False): 18, ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50, ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}
SUFFIXES = dict(resnet='', resnetv1c='c', resnetv1d='d')
#: Channels behind the stem of timm's ResNets.
RESNET_WIDTH = 64


def timm_architecture(tensors: Mapping[str, Tensor],
                      num_heads: int | None = None) -> tuple[str, dict]:
    """What ``timm.create_model`` takes for a backbone of mmpretrain's names.

    Returns:
        A name, and arguments by which the architecture differs from it.

    Raises:
        ValueError: If timm has no such architecture.
    """
    family = backbone_family(tensors)
    if family == 'vit':
        return _vision_transformer(tensors, num_heads)
    if family == 'convnext':
        return 'convnext_tiny', dict(
            depths=_count(tensors, 'stages.{}.'),
            dims=[len(tensors[f'stages.{stage}.0.norm.weight'])
                  for stage in range(4)],
            in_chans=tensors['downsample_layers.0.0.weight'].shape[1])
    blocks = tuple(_count({
        name.removeprefix('layer'): value for name, value in tensors.items()
        if name.startswith('layer')}, '{}.', first=1))
    depth = RESNETS.get((blocks, 'layer1.0.conv3.weight' in tensors))
    width = tensors['layer1.0.conv1.weight'].shape[1]
    if depth is None or width != RESNET_WIDTH:
        raise ValueError(
            f'timm has no {family} with {blocks} blocks and {width} channels '
            f'behind the stem; it has {RESNET_WIDTH} channels and '
            f'{[found for found, _ in RESNETS]} blocks')
    stem = 'conv1.weight' if family == 'resnet' else 'stem.0.conv.weight'
    return (f'resnet{depth}{SUFFIXES[family]}',
            dict(in_chans=tensors[stem].shape[1]))


def _count(tensors: Mapping[str, Tensor], prefix: str,
           first: int = 0) -> list[int]:
    """Blocks of the four stages whose names begin with a prefix."""
    counts = []
    for stage in range(first, first + 4):
        start = prefix.format(stage)
        counts.append(len({name[len(start):].split('.')[0]
                           for name in tensors if name.startswith(start)}))
    return counts


def _vision_transformer(tensors: Mapping[str, Tensor],
                        num_heads: int | None) -> tuple[str, dict]:
    if num_heads is None:
        raise ValueError('the heads of a vision transformer are not in its '
                         'tensors: its config is needed')
    weight = tensors['patch_embed.projection.weight']
    places = tensors['pos_embed'].shape[1] - int('cls_token' in tensors)
    side, dims = isqrt(places), weight.shape[0]
    if side**2 != places or weight.shape[2] != weight.shape[3]:
        raise ValueError(f'timm takes square images, got {places} patches of '
                         f'{tuple(weight.shape[2:])} pixels')
    norms = [name for name in ('ln1', 'ln2') if f'{name}.weight' in tensors]
    if len(norms) > 1:
        raise ValueError('timm has a norm behind the last layer or one behind '
                         'the mean of the patches, this transformer has both')
    depth = len({name.split('.')[1] for name in tensors
                 if name.startswith('layers.')})
    return 'vit_base_patch16_224', dict(
        img_size=side * weight.shape[2],
        patch_size=weight.shape[2],
        in_chans=weight.shape[1],
        embed_dim=dims,
        depth=depth,
        num_heads=num_heads,
        mlp_ratio=len(tensors['layers.0.ffn.layers.0.0.weight']) / dims,
        class_token='cls_token' in tensors,
        global_pool='avg' if norms == ['ln2'] or 'cls_token' not in tensors
        else 'token',
        final_norm=bool(norms))
