"""F-SAM of Table 3 at the small size: fine-tuned on the visible tokens.

Learning rate 1e-3 for batches of 1 x 64, 6 epochs, mask ratio 0.45;
data/brain_tumor_mri.
"""

_base_ = [
    '../../_base_/models/vit-base-p16_msmae-cls.py',
    '../../_base_/datasets/brain_tumor_mri_64px_cls.py',
    '../../_base_/schedules/small_finetune_6e.py',
    '../../_base_/msmae_finetune_runtime.py',
]

# ========================= Frequently modified =========================
checkpoint = ('work_dirs/msmae_vit-mini-p8_1xb64-30e_brain-tumor-mri/'
              'epoch_30.pth')
interval = 3

# ========================== Possibly modified ==========================
patch_size = 8
arch = dict(
    embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512)

# ====================== Unmodified in most cases =======================
resize_image = dict(_base_.resize_image, interpolation='bicubic')
val_dataloader = dict(
    dataset=dict(
        pipeline=[_base_.load_image, resize_image, _base_.pack_test_image]))
test_dataloader = val_dataloader
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, **arch),
        img_size=_base_.image_size,
        patch_size=patch_size,
        init_cfg=dict(checkpoint=checkpoint)),
    head=dict(
        num_classes=_base_.num_classes, in_channels=arch['embed_dims']))
# To 1e-6 in all layers alike.
cosine = dict(_base_.cosine, eta_min_ratio=None, eta_min=1e-6)
param_scheduler = [_base_.warm_up, cosine]
default_hooks = dict(
    logger=dict(interval=44),
    checkpoint=dict(interval=1, save_best=None),
    attention_mask=dict(
        interval=interval,
        pipeline=[_base_.load_image, resize_image, _base_.pack_image]))
