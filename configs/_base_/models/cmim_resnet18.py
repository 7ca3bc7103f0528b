"""CMIM with a ResNet-18 encoder, the model of the paper."""

# ========================= Frequently modified =========================
# Side of the two views and of a mask patch in pixels.
view_size = 224
patch_size = 32
# Share of masked patches; 0.7 is the paper's best (Figure 4).
mask_ratio = 0.7

# ========================== Possibly modified ==========================
# Mean and std per channel in stored units; their number is the number of
# channels. These are ImageNet's, as in ConCL.
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
# The affine family T: ConCL's resized crops and flips.
views = dict(scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3), flip_prob=0.5)
# The colour family C, on the query view only; None switches it off.
color = dict(
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    jitter_prob=0.8,
    gray_prob=0.2,
    blur_prob=0.5,
    blur_sigma=(0.1, 2.0))

# ====================== Unmodified in most cases =======================
model = dict(
    type='mmmedmask.CMIM',
    data_preprocessor=dict(
        type='mmmedmask.CMIMDataPreprocessor',
        mean=mean,
        std=std,
        view_size=view_size,
        patch_size=patch_size,
        mask_ratio=mask_ratio,
        views=views,
        color=color),
    backbone=dict(
        type='mmmedmask.CMIMResNet',
        depth=18,
        in_channels=len(mean),
        # mmpretrain starts residual branches at zero; the paper's code base
        # does not.
        zero_init_residual=False),
    neck=dict(
        type='mmmedmask.CMIMNeck',
        embed_dims=256,
        num_heads=16,
        out_stride=patch_size),
    head=dict(type='mmmedmask.CMIMHead', patch_size=patch_size),
    channels_last=False,
    compile_encoder=False)
