"""MoCo v2 with a ResNet-50, for a few thousand images."""

_base_ = './mocov2_resnet18.py'

# ========================= Frequently modified =========================
# Keys that wait as negatives: fewer than an epoch of the smallest data set
# (1,216 of Messidor-2), so that one of an image is hardly ever a negative of
# this image; a multiple of the total batch. ImageNet has 65,536.
queue_len = 1024

# ====================== Unmodified in most cases =======================
model = dict(
    queue_len=queue_len,
    data_preprocessor=dict(to_rgb=True),
    backbone=dict(depth=50),
    neck=dict(in_channels=2048, hid_channels=2048))
