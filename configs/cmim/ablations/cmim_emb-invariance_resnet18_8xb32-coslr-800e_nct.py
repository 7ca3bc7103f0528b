"""Table 2, "emb. invariance": SparK's sparse encoder, CMIM's warp.

A mask token per level is put in before the warp. The paper leaves the decoder
open; it is CMIM's.
"""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

model = dict(backbone=dict(type='mmmedmask.CMIMSparseResNet'))
