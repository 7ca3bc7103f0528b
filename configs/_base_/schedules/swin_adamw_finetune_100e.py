"""MSMAE's fine-tuning (Table 5) for a Swin transformer.

Its 12 blocks have the rates of a ViT-B's; its position biases, too, are not
decayed.
"""

_base_ = './msmae_adamw_finetune_100e.py'

optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={'.relative_position_bias_table': dict(decay_mult=0.0)}))
