"""NCT-CRC-HE-100K-NONORM for CMIM: workers only decode; views, colour and
masks are drawn on the device.
"""

_base_ = './nct_tiles.py'

# ====================== Unmodified in most cases =======================
train_pipeline = [_base_.load_tile, _base_.pack_tile]
train_dataloader = dict(
    collate_fn=dict(type='mmmedmask.collate_tiles'),
    dataset=dict(pipeline=train_pipeline))
