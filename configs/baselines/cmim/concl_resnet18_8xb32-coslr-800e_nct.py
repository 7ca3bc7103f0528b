"""ConCL for 800 epochs, the row of CMIM's Table 1."""

_base_ = './concl_resnet18_8xb32-coslr-200e_nct.py'

train_cfg = dict(max_epochs=800)
