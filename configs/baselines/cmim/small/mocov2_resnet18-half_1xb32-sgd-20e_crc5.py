"""MoCo v2 on CRC5 with the rate and the optimiser of its recipe: what CMIM's
rates are compared with.
"""

_base_ = './mocov2_resnet18-half_1xb32-adamw-20e_crc5.py'

# ========================= Frequently modified =========================
base_lr = 0.03

# ====================== Unmodified in most cases =======================
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=base_lr, momentum=0.9, weight_decay=1e-4))
param_scheduler = [_base_.crc5_cosine]
