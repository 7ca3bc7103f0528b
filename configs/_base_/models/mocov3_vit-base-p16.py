"""MoCo v3 with a ViT-B/16.

The patch embedding stays as it was drawn, which keeps the training stable
(section 4.2 of MoCo v3), and the position embedding is fixed; fine-tuning
trains both.
"""

# ========================== Possibly modified ==========================
# As in fine-tuning.
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
temperature = 0.2

# ====================== Unmodified in most cases =======================
projection = dict(
    type='NonLinearNeck',
    in_channels=256,
    hid_channels=4096,
    out_channels=256,
    with_bias=False,
    with_last_bn=True,
    with_last_bn_affine=False,
    with_last_bias=False,
    with_avg_pool=False)
model = dict(
    type='MoCoV3',
    base_momentum=0.01,
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor', mean=mean, std=std, to_rgb=True),
    backbone=dict(
        type='MoCoV3ViT',
        arch='base',
        img_size=224,
        patch_size=16,
        stop_grad_conv1=True),
    neck=dict(projection, in_channels=768, num_layers=3),
    head=dict(
        type='MoCoV3Head',
        predictor=dict(projection, num_layers=2),
        loss=dict(type='CrossEntropyLoss', loss_weight=2 * temperature),
        temperature=temperature))
# mmpretrain fixes the position embedding when it initialises the weights, and
# by then several GPUs expect a gradient of it.
find_unused_parameters = True
