"""Table 3, III: from MSMAE, trained on all tokens (without F-SAM)."""

_base_ = '../benchmarks/vit-base-p16_msmae_1xb256-100e_messidor2.py'

model = dict(mask_ratio=0.0, throw_ratio=0.0)
default_hooks = dict(
    attention_mask=None)
