"""SimCLR and BYOL on NCT-CRC: LARS, warm-up, cosine to 0, 200 epochs of
batches of 1,024; the rate is SimCLR's in ConCL.
"""

_base_ = './warm_up_cosine.py'

# ========================= Frequently modified =========================
max_epochs = 200
# For a total batch of 1,024; --auto-scale-lr scales it to yours.
base_lr = 0.6

# ========================== Possibly modified ==========================
weight_decay = 1e-6
warmup_epochs = 10

# ====================== Unmodified in most cases =======================
# Norms and biases: no decay, and the plain rate, not LARS's for the layer.
excluded = dict(decay_mult=0.0, lars_exclude=True)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='LARS', lr=base_lr, momentum=0.9, weight_decay=weight_decay),
    paramwise_cfg=dict(
        custom_keys={
            'bn': excluded,
            'bias': excluded,
            # The norm of a shortcut.
            'downsample.1': excluded,
        }))

warm_up = dict(_base_.warm_up, end=warmup_epochs)
cosine = dict(_base_.cosine, begin=warmup_epochs)
param_scheduler = [warm_up, cosine]
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=1024)
