"""SimMIM with a Swin-T, windows of 7 at 224 pixels."""

# ========================== Possibly modified ==========================
# As in fine-tuning.
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]

# ====================== Unmodified in most cases =======================
model = dict(
    type='SimMIM',
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor', mean=mean, std=std, to_rgb=False),
    backbone=dict(
        type='SimMIMSwinTransformer',
        arch='tiny',
        img_size=224,
        drop_path_rate=0.0,
        stage_cfgs=dict(block_cfgs=dict(window_size=7))),
    neck=dict(type='SimMIMLinearDecoder', in_channels=768, encoder_stride=32),
    head=dict(
        type='SimMIMHead',
        patch_size=4,
        loss=dict(type='PixelReconstructionLoss', criterion='L1', channel=3)))
