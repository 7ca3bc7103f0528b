"""MAE on BUSI at the small size, before the small SETR of Table 2.

Learning rate 5e-4 for batches of 1 x 16, 200 epochs, mask ratio 0.75;
data/busi.
"""

_base_ = './msmae_vit-mini-p8_1xb16-200e_busi.py'

model = dict(head=dict(cls_weight=0.0))
default_hooks = dict(
    attention_mask=None)
