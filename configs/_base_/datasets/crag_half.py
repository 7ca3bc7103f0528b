"""CRAG at half the resolution, for a machine without a GPU."""

_base_ = './crag_instance.py'

# ========================= Frequently modified =========================
num_workers = 1

# ========================== Possibly modified ==========================
# (longer, shorter) edge; CRAG pictures measure about 1512 x 1516.
train_scale = [(667, 384), (667, 512)]
test_scale = (667, 384)

# ====================== Unmodified in most cases =======================
random_resize = dict(_base_.random_resize, scale=train_scale)
resize = dict(_base_.resize, scale=test_scale)
train_dataloader = dict(
    num_workers=num_workers,
    dataset=dict(
        pipeline=[
            _base_.load_image, _base_.load_masks, random_resize, _base_.flip,
            _base_.pack
        ]))
val_dataloader = dict(
    num_workers=num_workers,
    dataset=dict(
        pipeline=[
            _base_.load_image, resize, _base_.load_masks, _base_.pack_test
        ]))
test_dataloader = val_dataloader
