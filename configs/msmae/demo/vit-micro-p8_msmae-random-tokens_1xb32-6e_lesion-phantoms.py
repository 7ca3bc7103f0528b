"""Fine-tuning at the size of the demo, after MSMAE on drawn lesions.

Trained on 16 of 64 tokens that are drawn at random (F-RM in the paper's Table
3), tested on all. Attention would hide the one patch that tells the class.

Learning rate 1e-3 for batches of 1 x 32, 6 epochs, mask ratio 0.45;
demo_output/data/lesion_phantoms.
"""

_base_ = [
    '../../_base_/models/vit-base-p16_msmae-cls.py',
    '../../_base_/datasets/labelled_images_cls.py',
    '../../_base_/schedules/msmae_adamw_finetune_100e.py',
    '../../_base_/labelled_finetune_runtime.py',
]

# ========================= Frequently modified =========================
# Both are written by tools/demo.py.
checkpoint = 'demo_output/msmae/pretraining/epoch_12.pth'
data_root = 'demo_output/data/lesion_phantoms/'
max_epochs = 6
batch_size = 32
base_lr = 1e-3

# ========================== Possibly modified ==========================
image_size = 64
patch_size = 8
num_classes = 4
arch = dict(
    embed_dims=64, num_layers=1, num_heads=2, feedforward_channels=256)
crop_ratio_range = (0.6, 1.0)
mean = [159.0, 97.0, 79.0]
std = [39.0, 30.0, 27.0]

# ====================== Unmodified in most cases =======================
crop_image = dict(
    _base_.crop_image, scale=image_size, crop_ratio_range=crop_ratio_range)
resize_image = dict(
    _base_.resize_image, scale=image_size, interpolation='bicubic')
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    **loader,
    batch_size=batch_size,
    dataset=dict(
        data_root=data_root,
        pipeline=[
            _base_.load_image, crop_image, _base_.flip_image,
            _base_.pack_image
        ]))
val_dataloader = dict(
    **loader,
    batch_size=128,
    dataset=dict(
        data_root=data_root,
        pipeline=[_base_.load_image, resize_image, _base_.pack_test_image]))
test_dataloader = val_dataloader
val_evaluator = dict(data_root=data_root)
test_evaluator = val_evaluator
model = dict(
    data_preprocessor=dict(mean=mean, std=std),
    backbone=dict(
        arch=dict(_delete_=True, **arch),
        img_size=image_size,
        patch_size=patch_size,
        drop_path_rate=0.0,
        # One patch of 64 decides: a mean over all would drown it.
        out_type='cls_token',
        final_norm=True,
        init_cfg=dict(checkpoint=checkpoint)),
    head=dict(num_classes=num_classes, in_channels=arch['embed_dims']),
    masking='random')
optim_wrapper = dict(optimizer=dict(lr=base_lr))
cosine = dict(_base_.cosine, eta_min_ratio=None, begin=1)
param_scheduler = [dict(_base_.warm_up, start_factor=0.01, end=1), cosine]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
default_hooks = dict(
    logger=dict(interval=4),
    checkpoint=dict(interval=max_epochs, save_best=None),
    load_check=dict(allowed_unused=[]))
log_processor = dict(window_size=4)
