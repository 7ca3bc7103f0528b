"""Shrink configs of MSMAE's baselines on labelled images.

MoCo v3, SimMIM, Swin transformers, ResNet-50 (SimCLR, MoCo v2, classifiers)
and ContrastiveCrop. Networks become narrow; a classifier and what it starts
from stay alike, so that the checkpoint of one fits the other.
"""

from mmengine.config import Config

from mmmedmask.shrinking.transformers import DIMS, tiny_arch
from mmmedmask.util.nested import nested_dicts

#: Width of the first stage of a ResNet; the last has 8 times as many, times
#: how many times a block widens, by depth.
RESNET_CHANNELS = 4
EXPANSIONS = {18: 1, 50: 4}
#: Width of the first stage of a Swin transformer; the last has 8 times that.
SWIN_DIMS = 8
SWIN_ARCH = dict(
    embed_dims=SWIN_DIMS, depths=[2, 2, 2, 2], num_heads=[1, 1, 2, 2])
#: Width of projections, and what comes out of them.
HIDDEN, OUT = 16, 8
#: Side of views.
SIDE = 96
DATASET = 'mmmedmask.LabelledImages'


def shrink_labelled_baseline(cfg: Config) -> None:
    """Make a baseline narrow; other models are left as they are.

    Args:
        cfg: The config, changed in place.
    """
    backbone = cfg.model.get('backbone') or {}
    kind = backbone.get('type')
    if kind == 'MoCoV3ViT':
        backbone['arch'] = tiny_arch()
        _set_width(cfg.model, DIMS)
    # Small configs have a small one already, with other windows.
    if kind in ('SwinTransformer', 'SimMIMSwinTransformer') \
            and isinstance(backbone['arch'], str):
        backbone['arch'] = dict(SWIN_ARCH)
        _set_width(cfg.model, 8 * SWIN_DIMS)
    if kind == 'ResNet' and backbone.get('depth') in EXPANSIONS \
            and cfg.train_dataloader.dataset.type == DATASET:
        backbone.update(
            stem_channels=RESNET_CHANNELS, base_channels=RESNET_CHANNELS)
        _set_width(
            cfg.model, 8 * RESNET_CHANNELS * EXPANSIONS[backbone['depth']])
    for hook in nested_dicts(cfg.get('custom_hooks')):
        if hook.get('type') == 'mmmedmask.ContrastiveCropHook':
            hook.update(begin=0, num_workers=0)
            for node in nested_dicts([hook, cfg.train_dataloader]):
                if node.get('type') in ('mmmedmask.ContrastiveCrop',
                                        'mmmedmask.ResizeImage'):
                    node['scale'] = SIDE


def _set_width(model: dict, width: int) -> None:
    """Fit neck and head to a backbone with another width."""
    for part in (model.get('neck'), model.get('head')):
        if part is not None and 'in_channels' in part:
            part['in_channels'] = width
        for node in nested_dicts(part):
            if 'hid_channels' in node:
                node.update(hid_channels=HIDDEN, out_channels=OUT)
                if node is not part:
                    node['in_channels'] = OUT
    if 'feat_dim' in model:
        model['feat_dim'] = OUT
