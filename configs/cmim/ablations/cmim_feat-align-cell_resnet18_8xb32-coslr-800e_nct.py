"""Features warped as if they sat at the centres of their cells.

The literal form of Eq. 4; our default warps them where their receptive fields
are centred (docs/methods/cmim.md).
"""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

model = dict(neck=dict(feat_align='cell'))
