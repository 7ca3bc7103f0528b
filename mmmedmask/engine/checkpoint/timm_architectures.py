"""How timm calls the architecture of a backbone, for a folder that it loads.

Names and shapes tell it, but for heads and image of a vision transformer.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from mmmedmask.engine.checkpoint.naming import backbone_family

#: Blocks of each stage, and whether they have three convolutions.
RESNETS = {((2, 2, 2, 2), False): 18, ((3, 4, 6, 3), False): 34,
           ((3, 4, 6, 3), True): 50, ((3, 4, 23, 3), True): 101,
           ((3, 8, 36, 3), True): 152}
#: Its name behind the depth, and arguments: it has no resnet18c.
VARIANTS = dict(
    resnet=('', {}), resnetv1d=('d', {}),
    resnetv1c=('', dict(stem_type='deep', stem_width=32)))
#: Channels behind the stem of timm's ResNets.
RESNET_WIDTH = 64


def timm_architecture(tensors: Mapping[str, Tensor],
                      network: nn.Module | None = None) -> tuple[str, dict]:
    """What ``timm.create_model`` takes for a backbone of mmpretrain's names.

    A name, and arguments by which it differs. None in timm is a ValueError,
    and a vision transformer without the ``network`` of the tensors.
    """
    family = backbone_family(tensors)
    if family == 'vit':
        return _vision_transformer(tensors, network)
    if family == 'convnext':
        return 'convnext_tiny', dict(
            depths=[_count_parts(tensors, f'stages.{stage}.')
                    for stage in range(4)],
            dims=[len(tensors[f'stages.{stage}.0.norm.weight'])
                  for stage in range(4)],
            in_chans=tensors['downsample_layers.0.0.weight'].shape[1],
            conv_mlp=tensors['stages.0.0.pointwise_conv1.weight'].ndim == 4)
    blocks = tuple(_count_parts(tensors, f'layer{stage}.')
                   for stage in range(1, 5))
    depth = RESNETS.get((blocks, 'layer1.0.conv3.weight' in tensors))
    width = tensors['layer1.0.conv1.weight'].shape[1]
    if depth is None or width != RESNET_WIDTH:
        raise ValueError(
            f'timm and torchvision have no {family} with {blocks} blocks and '
            f'{width} channels behind the stem; they have {RESNET_WIDTH} '
            f'channels and {[counts for counts, _ in RESNETS]} blocks')
    stem = 'conv1.weight' if family == 'resnet' else 'stem.0.conv.weight'
    suffix, arguments = VARIANTS[family]
    return (f'resnet{depth}{suffix}',
            dict(in_chans=tensors[stem].shape[1], **arguments))


def _count_parts(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Count the blocks, or layers, whose names begin with a prefix."""
    return len({name[len(prefix):].split('.')[0]
                for name in tensors if name.startswith(prefix)})


def _vision_transformer(tensors: Mapping[str, Tensor],
                        network: nn.Module | None) -> tuple[str, dict]:
    if network is None:
        raise ValueError(
            'the heads of a vision transformer are not in its tensors, and '
            'the checkpoint has no config: name one with config=, --config '
            'on the command line')
    weight = tensors['patch_embed.projection.weight']
    has_token = 'cls_token' in tensors
    norms = [name for name in ('ln1', 'ln2') if f'{name}.weight' in tensors]
    if len(norms) > 1:
        raise ValueError('timm has a norm behind the last layer or one behind '
                         'the mean of the patches, this transformer has both')
    return 'vit_base_patch16_224', dict(
        img_size=tuple(network.img_size), patch_size=tuple(weight.shape[2:]),
        in_chans=weight.shape[1], embed_dim=weight.shape[0],
        depth=_count_parts(tensors, 'layers.'),
        num_heads=network.layers[0].attn.num_heads,
        mlp_ratio=len(tensors['layers.0.ffn.layers.0.0.weight'])
        / weight.shape[0], qkv_bias='layers.0.attn.qkv.bias' in tensors,
        class_token=has_token, global_pool='token' if has_token
        and norms != ['ln2'] else 'avg', final_norm=bool(norms))
