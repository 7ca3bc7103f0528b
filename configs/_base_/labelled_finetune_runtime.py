"""Runtime for fine-tuning mmpretrain's models: all of the backbone's tensors
have to come from the checkpoint, and all of the checkpoint's be used.
"""

_base_ = './msmae_finetune_runtime.py'

default_hooks = dict(
    load_check=dict(
        allowed_missing=[],
        # Of SimMIM, which alone has it.
        allowed_unused=['mask_token']))
