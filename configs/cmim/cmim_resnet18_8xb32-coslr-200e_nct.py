"""CMIM for 200 epochs (Table 4)."""

_base_ = './cmim_resnet18_8xb32-coslr-800e_nct.py'

train_cfg = dict(max_epochs=200)
