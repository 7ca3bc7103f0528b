"""CRAG at half the resolution, for a machine without a GPU."""

_base_ = './crag_instance.py'

# ========================= Frequently modified =========================
num_workers = 1

# ========================== Possibly modified ==========================
# (longer, shorter) edge; CRAG pictures measure about 1512 x 1516.
train_scale = [(667, 384), (667, 512)]
test_scale = (667, 384)

# ====================== Unmodified in most cases =======================
train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(_base_.train_pipeline[2], scale=train_scale),
    *_base_.train_pipeline[3:],
]
test_pipeline = [
    _base_.test_pipeline[0],
    dict(_base_.test_pipeline[1], scale=test_scale),
    *_base_.test_pipeline[2:],
]
train_dataloader = dict(
    num_workers=num_workers, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=num_workers, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
