"""ResNet-50 on HAM10000, from scratch, as long as the ViT-B."""

_base_ = './resnet50_simclr_1xb256-100e_ham10000.py'

model = dict(
    backbone=dict(
        init_cfg=[
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', layer='_BatchNorm', val=1)
        ]))
default_hooks = dict(load_check=dict(allow_scratch=True))
train_cfg = dict(max_epochs=300)
