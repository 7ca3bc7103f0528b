"""The main run, whose checkpoints hold a moving average of its weights."""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

# ========================= Frequently modified =========================
# Share of the newest weights: an average over some 5,000 steps.
ema_momentum = 2e-4

# ====================== Unmodified in most cases =======================
default_hooks = dict(
    ema=dict(type='EMAHook', momentum=ema_momentum, update_buffers=True))
