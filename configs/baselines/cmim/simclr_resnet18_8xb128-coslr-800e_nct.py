"""SimCLR for 800 epochs, the row of CMIM's Table 1."""

_base_ = './simclr_resnet18_8xb128-coslr-200e_nct.py'

train_cfg = dict(max_epochs=800)
