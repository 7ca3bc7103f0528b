"""MSMAE's fine-tuning (Table 5) for a ResNet: one rate for all layers."""

_base_ = './msmae_adamw_finetune_100e.py'

optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
