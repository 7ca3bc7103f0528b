"""Table 8c, 75 % masked and 0 % thrown away; the default is 45 and 30."""

_base_ = '../msmae_vit-base-p16_1xb64-coslr-300e_messidor2.py'

model = dict(mask_ratio=0.75, throw_ratio=0.00)
