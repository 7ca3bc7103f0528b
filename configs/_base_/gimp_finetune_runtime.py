"""Runtime for GiMP's fine-tuning: both encoders must have been loaded."""

_base_ = './genes_runtime.py'

# ====================== Unmodified in most cases =======================
default_hooks = dict(
    load_check=dict(
        type='mmmedmask.LoadCheckHook',
        modules=['aggregator', 'gene_encoder'],
        # Nothing is masked any more.
        allowed_unused=['mask_token']))
