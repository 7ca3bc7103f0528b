"""Runtime for fine-tuning after MSMAE: checks, attention masks.

A child gives ``attention_mask`` the pipeline of whole images.
"""

_base_ = './labelled_finetune_runtime.py'

# ========================== Possibly modified ==========================
# First epoch with maps, and epochs from one refresh to the next (Table 5).
begin = 0
interval = 20

# ====================== Unmodified in most cases =======================
default_hooks = dict(
    load_check=dict(
        # Average pooling has a norm of its own in place of the last one.
        allowed_missing=['ln2.*'],
        allowed_unused=['ln1.*']),
    attention_mask=dict(
        type='mmmedmask.AttentionMaskHook', begin=begin, interval=interval))
