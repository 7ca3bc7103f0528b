"""ConCL whose instances count half after the warm-up, too."""

_base_ = '../concl_resnet18_8xb32-coslr-200e_nct.py'

model = dict(concept_weight=0.5)
