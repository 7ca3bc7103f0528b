"""Runtime for glands in 300 iterations, for CPU cores."""

_base_ = './gland_runtime.py'

# ====================== Unmodified in most cases =======================
default_hooks = dict(
    checkpoint=dict(interval=300), precise_bn=dict(num_batches=20))
