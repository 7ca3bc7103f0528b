"""Fine-tuning as the released code does: tokens left out by chance.

With the paper's batch and length; the code's defaults are 64 and 2 epochs.
"""

_base_ = '../benchmarks/vit-base-p16_msmae_1xb256-100e_messidor2.py'

# ========================= Frequently modified =========================
checkpoint = ('work_dirs/msmae_released-code_vit-base-p16_1xb64-coslr-300e_'
              'messidor2/epoch_300.pth')

# ====================== Unmodified in most cases =======================
model = dict(
    backbone=dict(init_cfg=dict(checkpoint=checkpoint)), masking='random')
default_hooks = dict(
    attention_mask=None)
