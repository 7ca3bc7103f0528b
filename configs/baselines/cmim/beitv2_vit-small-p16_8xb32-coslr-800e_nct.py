"""BEiT v2, ViT-S/16, 800 epochs on NCT-CRC-HE-100K (Table 1).

mmpretrain's BEiT v2 with the rates of its 300-epoch recipe; size of the
batch, epochs and data are CMIM's. Positions are absolute: the relative
position bias of the original belongs to a 14 x 14 grid, and a detector has
another one for every image.

Learning rate 1.875e-4 for batches of 8 x 32, 800 epochs, mask ratio 0.38;
data/NCT.
"""

_base_ = [
    '../../_base_/datasets/nct_tiles_beitv2.py',
    '../../_base_/schedules/mim_adamw_800e.py',
    '../../_base_/pretrain_runtime.py',
]

# ========================= Frequently modified =========================
# The tokenizer, see below where it comes from.
teacher_checkpoint = 'data/weights/vqkd_encoder.pth'
# 1.5e-3 for 2,048 images.
base_lr = 1.5e-3 * 256 / 2048

# ========================== Possibly modified ==========================
warmup_epochs = 10
drop_path_rate = 0.0
layer_scale_init_value = 0.1
# Mean and std per channel (R, G, B), ImageNet's as in ConCL.
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]

# ====================== Unmodified in most cases =======================
teacher_source = (
    'https://download.openmmlab.com/mmselfsup/1.x/target_generator_ckpt/'
    'vqkd_encoder.pth (or the same path below https://mmassets.onedl.ai): '
    'encoder and codebook of BEiT v2\'s tokenizer, '
    'vqkd_encoder_base_decoder_3x768x12_clip of '
    'https://github.com/microsoft/unilm/tree/master/beit2, named as '
    'mmpretrain names them')
# ViT-S. mmpretrain's neck reads the depth under another name.
arch = dict(
    embed_dims=384,
    num_layers=12,
    depth=12,
    num_heads=6,
    feedforward_channels=1536)
model = dict(
    type='BEiT',
    data_preprocessor=dict(
        type='TwoNormDataPreprocessor',
        mean=mean,
        std=std,
        # The tokenizer wants [-1, 1].
        second_mean=[127.5, 127.5, 127.5],
        second_std=[127.5, 127.5, 127.5]),
    backbone=dict(
        type='BEiTPretrainViT',
        arch=arch,
        patch_size=16,
        # The ninth layer and the last: what the neck joins.
        out_indices=[-4, -1],
        drop_path_rate=drop_path_rate,
        final_norm=False,
        out_type='raw',
        use_abs_pos_emb=True,
        use_shared_rel_pos_bias=False,
        layer_scale_init_value=layer_scale_init_value,
        init_cfg=[
            dict(type='TruncNormal', std=0.02, layer='Linear'),
            dict(type='TruncNormal', std=0.02, layer='Conv2d'),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0)
        ]),
    neck=dict(
        type='BEiTV2Neck',
        num_layers=2,
        early_layers=9,
        backbone_arch=arch,
        drop_path_rate=drop_path_rate,
        layer_scale_init_value=layer_scale_init_value),
    head=dict(
        type='BEiTV2Head',
        embed_dims=384,
        num_embed=8192,
        loss=dict(type='CrossEntropyLoss')),
    target_generator=dict(
        type='mmmedmask.FrozenTeacher',
        teacher=dict(
            type='VQKD',
            encoder_config=dict(
                arch='base',
                img_size=224,
                patch_size=16,
                out_type='featmap',
                final_norm=True,
                use_abs_pos_emb=True,
                use_rel_pos_bias=False,
                use_shared_rel_pos_bias=False,
                layer_scale_init_value=0.0),
            init_cfg=dict(
                type='Pretrained', checkpoint=teacher_checkpoint)),
        source=teacher_source))

# Not decayed are norms, biases, tokens, positions and scales of layers.
optim_wrapper = dict(
    optimizer=dict(lr=base_lr, betas=(0.9, 0.98)),
    clip_grad=dict(max_norm=3.0),
    paramwise_cfg=dict(
        custom_keys=dict(
            q_bias=dict(decay_mult=0.0),
            v_bias=dict(decay_mult=0.0),
            pos_embed=dict(decay_mult=0.0),
            gamma=dict(decay_mult=0.0))))
param_scheduler = [
    dict(_base_.warm_up, end=warmup_epochs),
    # 1e-5 of 1.5e-3.
    dict(_base_.cosine, eta_min_ratio=1 / 150, begin=warmup_epochs),
]

# A tokenizer that was not loaded would give random targets without a word.
default_hooks = dict(
    load_check=dict(
        type='mmmedmask.LoadCheckHook',
        modules=['target_generator.teacher'],
        # What a file of the whole tokenizer holds besides.
        allowed_unused=['decoder.*', 'decode_task_layer.*']))
