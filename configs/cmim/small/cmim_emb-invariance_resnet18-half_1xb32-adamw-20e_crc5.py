"""The ablation "emb. invariance" on CRC5: SparK's sparse encoder.

Masked patches are cells of its last map, 32 pixels.
"""

_base_ = './cmim_resnet18-half_1xb32-adamw-20e_crc5.py'

# ========================= Frequently modified =========================
patch_size = 32

# ====================== Unmodified in most cases =======================
model = dict(
    data_preprocessor=dict(patch_size=patch_size),
    backbone=dict(type='mmmedmask.CMIMSparseResNet'),
    neck=dict(out_stride=patch_size),
    head=dict(patch_size=patch_size))
