"""Table 8c, 45 % masked and 40 % thrown away; the default is 45 and 30."""

_base_ = '../msmae_vit-base-p16_1xb64-coslr-300e_messidor2.py'

model = dict(mask_ratio=0.45, throw_ratio=0.40)
