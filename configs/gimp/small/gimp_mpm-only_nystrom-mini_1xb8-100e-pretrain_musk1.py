"""Masked patches alone, on the training bags of a fold of musk1.

Learning rate 1e-3 for batches of 1 x 8, 100 epochs, mask ratio 0.5;
data/musk1.
"""

_base_ = [
    '../../_base_/models/gimp_groupmsa-nystrom.py',
    '../../_base_/datasets/musk1.py',
    '../../_base_/schedules/gimp_adamw_100e.py',
    '../../_base_/pretrain_runtime.py',
]

# ========================= Frequently modified =========================
max_epochs = 100
base_lr = 1e-3
# Patches of a run; smaller bags are repeated.
length = 16
mask_ratio = 0.5

# ====================== Unmodified in most cases =======================
model = dict(
    data_preprocessor=dict(init_cfg=None),
    aggregator=dict(
        in_dims=166, embed_dims=64, num_heads=4, num_landmarks=32),
    gene_encoder=None,
    contrast_head=None)
train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(_base_.load_features, max_open=128),
        dict(type='mmmedmask.ContiguousSubsequence', length=length),
        dict(type='mmmedmask.GenerateSequenceMask', ratio=mask_ratio),
        _base_.pack_inputs,
    ]))
test_dataloader = None
test_evaluator = None
optim_wrapper = dict(optimizer=dict(lr=base_lr))
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(
    checkpoint=dict(interval=max_epochs),
    # The folds hold nothing out but test bags, and nothing is chosen by them.
    probe=dict(
        type='mmmedmask.ProbeHook', bags='test', interval=max_epochs),
    loss_floors=dict(
        type='mmmedmask.LossFloorsHook',
        held_out=dict(split='test'),
        interval=max_epochs,
        batch_size=8))
