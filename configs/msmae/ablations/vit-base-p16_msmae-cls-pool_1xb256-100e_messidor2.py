"""Table 8f, the class token instead of the mean of the patch tokens."""

_base_ = '../benchmarks/vit-base-p16_msmae_1xb256-100e_messidor2.py'

model = dict(backbone=dict(out_type='cls_token', final_norm=True))
# Its norm is pre-trained: all tensors of the backbone have to arrive.
default_hooks = dict(
    load_check=dict(allowed_missing=[], allowed_unused=[]))
