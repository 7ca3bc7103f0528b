"""Control: random masks of MAE with the class loss of MSMAE.

Learning rate 5e-4 for batches of 1 x 64, 30 epochs, mask ratio 0.75;
data/brain_tumor_mri.
"""

_base_ = './msmae_vit-mini-p8_1xb64-30e_brain-tumor-mri.py'

default_hooks = dict(
    attention_mask=None)
