"""Table 8c, 30 % masked and 45 % thrown away; the default is 45 and 30."""

_base_ = '../msmae_vit-base-p16_1xb64-coslr-300e_messidor2.py'

model = dict(mask_ratio=0.30, throw_ratio=0.45)
