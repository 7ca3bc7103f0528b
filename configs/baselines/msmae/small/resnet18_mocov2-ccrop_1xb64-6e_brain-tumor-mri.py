"""A classifier from ContrastiveCrop at the small size, on Brain Tumor MRI."""

_base_ = './resnet18_simclr_1xb64-6e_brain-tumor-mri.py'

checkpoint = ('work_dirs/mocov2-ccrop_resnet18_1xb64-30e_brain-tumor-mri/'
              'epoch_30.pth')

model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))
