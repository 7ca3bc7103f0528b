"""Runtime for masked baselines: that of pre-training, and the loss beside
guesses without a model, on the images of the split ``val``.
"""

_base_ = './pretrain_runtime.py'

# ====================== Unmodified in most cases =======================
default_hooks = dict(
    loss_floors=dict(
        type='mmmedmask.LossFloorsHook', held_out=dict(split='val')))
