"""Brain Tumor MRI at 64 pixels for fine-tuning, for CPU cores."""

_base_ = './brain_tumor_mri_cls.py'

# ========================= Frequently modified =========================
batch_size = 64
num_workers = 0

# ========================== Possibly modified ==========================
image_size = 64

# ====================== Unmodified in most cases =======================
crop_image = dict(_base_.crop_image, scale=image_size)
resize_image = dict(_base_.resize_image, scale=image_size)
whole_image_pipeline = [_base_.load_image, resize_image, _base_.pack_image]
loader = dict(
    batch_size=batch_size, num_workers=num_workers, persistent_workers=False)
train_dataloader = dict(
    **loader,
    dataset=dict(
        pipeline=[
            _base_.load_image, crop_image, _base_.flip_image,
            _base_.pack_image
        ]))
val_dataloader = dict(
    **loader,
    dataset=dict(
        pipeline=[_base_.load_image, resize_image, _base_.pack_test_image]))
test_dataloader = val_dataloader
