"""The ablation "emb. masking" on CRC5: one view, no colour."""

_base_ = './cmim_resnet18-half_1xb32-adamw-20e_crc5.py'

model = dict(data_preprocessor=dict(same_view=True, color=None))
