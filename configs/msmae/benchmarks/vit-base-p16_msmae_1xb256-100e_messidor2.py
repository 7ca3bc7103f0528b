"""ViT-B/16 on Messidor-2 from MSMAE, trained on visible tokens."""

_base_ = [
    '../../_base_/models/vit-base-p16_msmae-cls.py',
    '../../_base_/datasets/messidor2_cls.py',
    '../../_base_/schedules/msmae_adamw_finetune_100e.py',
    '../../_base_/msmae_finetune_runtime.py',
]

# ========================= Frequently modified =========================
# A pre-training run's checkpoint, or one that convert_mae_checkpoint.py made.
checkpoint = ('work_dirs/msmae_vit-base-p16_1xb64-coslr-300e_messidor2/'
              'epoch_300.pth')
data_root = 'data/messidor2/'
# 'splits/patient' keeps both eyes of a patient on one side.
split_folder = 'splits/paper'
batch_size = 256  # per GPU
# For a total batch of 256; --auto-scale-lr scales it to yours.
base_lr = 1e-3
max_epochs = 100
# Shares of the tokens that are left out of training; 0 and 0 train on all.
mask_ratio = 0.45
throw_ratio = 0.30

# ========================== Possibly modified ==========================
# First epoch with maps, and epochs from one refresh to the next (Table 5).
begin = 0
interval = 20

# ====================== Unmodified in most cases =======================
source = dict(data_root=data_root, split_folder=split_folder)
train_dataloader = dict(batch_size=batch_size, dataset=source)
val_dataloader = dict(dataset=source)
test_dataloader = val_dataloader
val_evaluator = dict(data_root=data_root)
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=base_lr))
train_cfg = dict(max_epochs=max_epochs)
model = dict(
    backbone=dict(
        img_size=_base_.image_size, init_cfg=dict(checkpoint=checkpoint)),
    head=dict(num_classes=_base_.num_classes),
    mask_ratio=mask_ratio,
    throw_ratio=throw_ratio)
default_hooks = dict(
    attention_mask=dict(
        begin=begin,
        interval=interval,
        pipeline=_base_.whole_image_pipeline,
        num_workers=_base_.num_workers))
