"""What the released code does: the maps are made and not used.

After 41 epochs 45 % of the tokens are masked and 30 % thrown away by chance,
the class loss has a softmax before its own, and class and mask token decay.
"""

_base_ = '../msmae_vit-base-p16_1xb64-coslr-300e_messidor2.py'

begin = 41

model = dict(masking='random', head=dict(softmax_twice=True))
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            cls_token=dict(decay_mult=1.0), mask_token=dict(decay_mult=1.0))))
default_hooks = dict(attention_mask=dict(begin=begin))
