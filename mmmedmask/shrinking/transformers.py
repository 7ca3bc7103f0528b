"""Shrink configs of mmpretrain's vision transformers and their teachers.

Masked image modelling (MAE, EVA, BEiT v2), classifiers, and detectors with a
plain transformer. Images keep their size, so that grids and masks are those
of the config; everything is narrow and shallow.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmpretrain.models.selfsup import VQKD
from mmpretrain.models.utils.clip_generator_helper import CLIP

from mmmedmask.util.nested import nested_dicts

DIMS = 16
HEADS = 2
#: BEiT v2 reads the fourth layer from the end.
LAYERS = 4
#: Codes of a tokenizer, and channels of CLIP's features.
CODES = 32
CLIP_DIMS = 8
TRANSFORMERS = ('VisionTransformer', 'MAEViT', 'BEiTViT', 'BEiTPretrainViT',
                'BEiTFeatureViT')
MODELS = ('BEiT', 'EVA', 'ImageClassifier', 'MAE', 'MaskRCNN')


def tiny_arch() -> dict:
    """Return an architecture for any of mmpretrain's transformers."""
    return dict(
        embed_dims=DIMS,
        num_layers=LAYERS,
        # BEiTV2Neck reads this name.
        depth=LAYERS,
        num_heads=HEADS,
        feedforward_channels=2 * DIMS)


def shrink_transformer(cfg: Config, data_dir: Path) -> None:
    """Make a model with a plain transformer narrow and shallow.

    Others, and models that are not in ``MODELS``, are left as they are.

    Args:
        cfg: The config, changed in place.
        data_dir: Where the weights of drawn teachers go; what is there is
            used again.
    """
    model = cfg.model
    backbone = model.get('backbone') or {}
    kind = str(backbone.get('type')).split('.')[-1]
    if model.type not in MODELS or kind not in TRANSFORMERS:
        return
    model.backbone.arch = tiny_arch()
    neck, head = model.get('neck') or {}, model.get('head') or {}
    if neck.get('type') == 'MAEPretrainDecoder':
        neck.update(
            embed_dim=DIMS,
            decoder_embed_dim=DIMS,
            decoder_depth=1,
            decoder_num_heads=HEADS)
    if neck.get('type') == 'BEiTV2Neck':
        neck.backbone_arch = tiny_arch()
    if neck.get('type') == 'mmmedmask.SimpleFeaturePyramid':
        neck.in_channels = DIMS
    if head.get('type') == 'BEiTV2Head':
        head.update(embed_dims=DIMS, num_embed=CODES)
    if 'in_channels' in head:
        head.in_channels = DIMS
    for node in nested_dicts(model):
        if node.get('type') == 'VQKD':
            _shrink_vqkd(node, data_dir / 'teachers' / 'vqkd.pth')
        if node.get('type') == 'CLIPGenerator':
            node['tokenizer_path'] = str(data_dir / 'teachers' / 'clip.pth')
            neck.predict_feature_dim = CLIP_DIMS
            write_clip(node['tokenizer_path'])


def _shrink_vqkd(teacher: dict, path: Path) -> None:
    teacher.update(num_embed=CODES, init_cfg=None)
    teacher['encoder_config']['arch'] = tiny_arch()
    write_vqkd(path, teacher)
    teacher['init_cfg'] = dict(type='Pretrained', checkpoint=str(path))


def write_vqkd(path: str | Path, teacher: dict) -> None:
    """Write random weights of BEiT v2's tokenizer, unless they are there.

    Args:
        path: The file.
        teacher: Config of the ``VQKD``.
    """
    path = Path(path)
    if path.exists():
        return
    options = {key: value for key, value in teacher.items() if key != 'type'}
    tokenizer = VQKD(**options)
    codebook = tokenizer.quantize.embedding
    codebook.weight.data.copy_(
        F.normalize(torch.randn_like(codebook.weight), dim=-1))
    # Otherwise the first batch would fill it.
    codebook.initted.fill_(True)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({'state_dict': tokenizer.state_dict()}, path)


def write_clip(path: str | Path) -> None:
    """Write random weights of a small CLIP, unless they are there.

    Named as OpenAI's file, from which mmpretrain reads the architecture.

    Args:
        path: The file.
    """
    path = Path(path)
    if path.exists():
        return
    # A head of both transformers has 64 channels.
    clip = CLIP(
        embed_dim=CLIP_DIMS,
        image_resolution=224,
        vision_layers=2,
        vision_width=64,
        vision_patch_size=16,
        context_length=4,
        vocab_size=8,
        transformer_width=64,
        transformer_heads=1,
        transformer_layers=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(clip.state_dict(), path)
