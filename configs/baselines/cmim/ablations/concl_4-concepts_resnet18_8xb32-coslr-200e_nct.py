"""ConCL with 4 concepts per tile."""

_base_ = '../concl_resnet18_8xb32-coslr-200e_nct.py'

model = dict(num_concepts=4)
