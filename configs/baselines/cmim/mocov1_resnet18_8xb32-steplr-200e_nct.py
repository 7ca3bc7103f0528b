"""MoCo v1, ResNet-18, 200 epochs on NCT-CRC-HE-100K, as ConCL trains it.

Learning rate 0.03 for batches of 8 x 32, 200 epochs; data/NCT.
"""

_base_ = [
    '../../_base_/models/mocov2_resnet18.py',
    '../../_base_/datasets/nct_tiles_mocov1.py',
    '../../_base_/schedules/concl_sgd_200e.py',
    '../../_base_/pretrain_runtime.py',
]

# ========================= Frequently modified =========================
# Epochs at which the rate is divided by 10, in runs of any length.
milestones = [120, 160]

# ========================== Possibly modified ==========================
temperature = 0.07

# ====================== Unmodified in most cases =======================
model = dict(
    neck=dict(
        _delete_=True,
        type='LinearNeck',
        in_channels=512,
        out_channels=128,
        # Averages the map first.
        gap_dim=2,
        norm_cfg=None),
    head=dict(temperature=temperature))
steps = dict(
    type='MultiStepLR', milestones=milestones, gamma=0.1, by_epoch=True)
param_scheduler = [steps]
