"""MoCo v1 for 800 epochs, the row of CMIM's Table 1.

As in ConCL the rate falls after 120 and 160 epochs here, too.
"""

_base_ = './mocov1_resnet18_8xb32-steplr-200e_nct.py'

train_cfg = dict(max_epochs=800)
