"""SimCLR with a ResNet-18, as ConCL trains it."""

# ========================== Possibly modified ==========================
# Mean and std per channel (R, G, B), ImageNet's as in ConCL.
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
temperature = 0.1

# ====================== Unmodified in most cases =======================
model = dict(
    type='SimCLR',
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor', mean=mean, std=std),
    backbone=dict(
        type='ResNet',
        depth=18,
        # On several GPUs statistics would tell which images share one.
        norm_cfg=dict(type='SyncBN'),
        zero_init_residual=False),
    neck=dict(
        type='NonLinearNeck',
        in_channels=512,
        hid_channels=512,
        out_channels=128,
        num_layers=2,
        with_avg_pool=True),
    head=dict(
        type='ContrastiveHead',
        loss=dict(type='CrossEntropyLoss'),
        temperature=temperature))
