"""AMT on Messidor-2: masks by attention, without labels (P-AMT in Table 3)."""

_base_ = '../msmae_vit-base-p16_1xb64-coslr-300e_messidor2.py'

model = dict(head=dict(cls_weight=0.0))
