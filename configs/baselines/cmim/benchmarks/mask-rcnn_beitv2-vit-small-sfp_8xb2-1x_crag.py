"""CRAG, ViT-S/16 from BEiT v2 weights (Table 1)."""

_base_ = './mask-rcnn_mae-vit-small-sfp_8xb2-1x_crag.py'

checkpoint = \
    'work_dirs/beitv2_vit-small-p16_8xb32-coslr-800e_nct/epoch_800.pth'

# Biases and scales of layers are BEiT's, so the class is, too.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmmedmask.BEiTFeatureViT',
        arch='deit-small',
        img_size=224,
        patch_size=16,
        drop_path_rate=_base_.drop_path_rate,
        window_size=_base_.window_size,
        layer_scale_init_value=0.1,
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')))
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(gamma=dict(decay_mult=0.0))))
default_hooks = dict(load_check=dict(allowed_unused=['mask_token']))
