"""The ablation "emb. masking" at the same small size: one view, no colour."""

_base_ = './cmim_resnet18_1xb32-coslr-30e_he-tiles.py'

model = dict(data_preprocessor=dict(same_view=True, color=None))
