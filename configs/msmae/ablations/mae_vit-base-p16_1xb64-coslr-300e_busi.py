"""MAE on BUSI: random masking, without the class.

Learning rate 2.5e-4 for batches of 1 x 64, 300 epochs, mask ratio 0.75;
data/busi.
"""

_base_ = '../msmae_vit-base-p16_1xb64-coslr-300e_busi.py'

model = dict(head=dict(cls_weight=0.0))
# Without maps, 75 % of the tokens are masked at random.
default_hooks = dict(
    attention_mask=None)
