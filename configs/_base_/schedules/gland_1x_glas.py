"""GlaS, 1x: 5,000 iterations of 16 images (ConCL's Detectron2 recipe)."""

# ========================= Frequently modified =========================
max_iters = 5000
milestones = [4000]
# For 8 GPUs x 2 images. ConCL never rescales it; with another total batch
# --auto-scale-lr does so linearly.
base_lr = 0.02

# ====================== Unmodified in most cases =======================
# Evaluated once, after the last iteration.
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# The warm-up is 1,000 iterations in every schedule.
warm_up = dict(
    type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000)
steps = dict(
    type='MultiStepLR', milestones=milestones, gamma=0.1, by_epoch=False)
param_scheduler = [warm_up, steps]

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=base_lr, momentum=0.9, weight_decay=1e-4),
    # Weights and biases of norm layers are not decayed.
    paramwise_cfg=dict(norm_decay_mult=0.0))

auto_scale_lr = dict(base_batch_size=16)
