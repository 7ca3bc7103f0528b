"""ResNet-18 at the small size, on Brain Tumor MRI, from scratch."""

_base_ = './resnet18_simclr_1xb64-6e_brain-tumor-mri.py'

model = dict(
    backbone=dict(
        init_cfg=[
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', layer='_BatchNorm', val=1)
        ]))
default_hooks = dict(load_check=dict(allow_scratch=True))
