"""ConCL with a ResNet-18 encoder, as CMIM's Table 1 compares with it."""

# ========================= Frequently modified =========================
# Side of the three views in pixels.
view_size = 224
# Clusters per tile.
num_concepts = 8
# Weight of the concepts after the warm-up; the rest is that of the instances.
concept_weight = 1.0
# Epochs of plain MoCo before.
warm_up_epochs = 20

# ========================== Possibly modified ==========================
# Mean and std per channel in stored units. These are ImageNet's, as in ConCL.
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
views = dict(scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3), flip_prob=0.5)
# MoCo v2's colours, drawn for query and key apart.
color = dict(
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    jitter_prob=0.8,
    gray_prob=0.2,
    blur_prob=0.5,
    blur_sigma=(0.1, 2.0))
# Keys in each of the two queues.
queue_len = 16384

# ====================== Unmodified in most cases =======================
model = dict(
    type='mmmedmask.ConCL',
    data_preprocessor=dict(
        type='mmmedmask.ConCLDataPreprocessor',
        mean=mean,
        std=std,
        view_size=view_size,
        views=views,
        color=color),
    backbone=dict(
        type='ResNet',
        depth=18,
        in_channels=len(mean),
        # The first is clustered (14 x 14), the last contrasted (7 x 7).
        out_indices=(2, 3),
        zero_init_residual=False),
    neck=dict(
        type='MoCoV2Neck',
        in_channels=512,
        hid_channels=512,
        out_channels=128,
        with_avg_pool=False),
    head=dict(type='mmmedmask.ConCLHead', temperature=0.2),
    queue_len=queue_len,
    feat_dims=128,
    # MoCo's 0.999: the part that is new at each step.
    momentum=0.001,
    num_concepts=num_concepts,
    kmeans_iterations=10,
    concept_weight=concept_weight,
    warm_up_epochs=warm_up_epochs)
