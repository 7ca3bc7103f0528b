"""What the released code does, at the small size.

Maps are made and not used: after the first epochs 45 % are masked and 30 %
thrown away by chance. The class loss has a softmax before its own, and class
and mask token decay. See docs/methods/msmae.md.
"""

_base_ = './msmae_vit-mini-p8_1xb64-30e_brain-tumor-mri.py'

# As many as the ablation's 41 of 300 epochs begin later than 40.
begin = _base_.begin + 1

model = dict(masking='random', head=dict(softmax_twice=True))
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            'cls_token': dict(decay_mult=1.0),
            'mask_token': dict(decay_mult=1.0)
        }))
default_hooks = dict(attention_mask=dict(begin=begin))
