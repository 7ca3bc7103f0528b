"""P-AMT of Table 3 at the small size: attention masks without the class."""

_base_ = './msmae_vit-mini-p8_1xb64-30e_brain-tumor-mri.py'

model = dict(head=dict(cls_weight=0.0))
