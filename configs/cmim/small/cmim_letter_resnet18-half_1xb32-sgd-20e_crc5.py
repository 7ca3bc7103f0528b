"""CMIM as the paper's text has it: SGD, the mean of the squared error of
plain pixels, patches of 32.
"""

_base_ = './cmim_resnet18-half_1xb32-adamw-20e_crc5.py'

# ========================= Frequently modified =========================
patch_size = 32
base_lr = 0.03

# ====================== Unmodified in most cases =======================
model = dict(
    data_preprocessor=dict(patch_size=patch_size),
    neck=dict(out_stride=patch_size),
    head=dict(norm_pix=False, patch_size=patch_size))
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=base_lr, momentum=0.9, weight_decay=1e-4))
param_scheduler = [_base_.crc5_cosine]
