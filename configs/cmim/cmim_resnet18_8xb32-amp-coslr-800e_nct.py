"""CMIM in bfloat16, channels-last, with a compiled encoder: the fast run."""

_base_ = './cmim_resnet18_8xb32-coslr-800e_nct.py'

model = dict(channels_last=True, compile_encoder=True)
optim_wrapper = dict(type='mmmedmask.Bfloat16OptimWrapper')
