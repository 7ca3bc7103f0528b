"""Masked patches alone, on bags of CRC5's tiles as CMIM sees them."""

_base_ = './gimp_mpm-only_nystrom-mini_1xb8-100e-pretrain_lc25000-bags.py'

# ========================= Frequently modified =========================
data_root = 'data/crc5-bags/'
classes = ('AC', 'H', 'S', 'T', 'V')

# ====================== Unmodified in most cases =======================
train_dataloader = dict(
    dataset=dict(data_root=data_root, metainfo=dict(classes=classes)))
