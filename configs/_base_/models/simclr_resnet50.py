"""SimCLR with a ResNet-50."""

_base_ = './simclr_resnet18.py'

# ====================== Unmodified in most cases =======================
model = dict(
    data_preprocessor=dict(to_rgb=True),
    backbone=dict(depth=50, zero_init_residual=True),
    neck=dict(in_channels=2048, hid_channels=2048))
