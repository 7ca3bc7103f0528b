"""ConCL that clusters from the first step on."""

_base_ = '../concl_resnet18_8xb32-coslr-200e_nct.py'

model = dict(warm_up_epochs=0)
