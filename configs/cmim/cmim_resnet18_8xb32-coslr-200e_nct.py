"""CMIM for 200 epochs (Table 4)."""

_base_ = './cmim_resnet18_8xb32-coslr-800e_nct.py'

max_epochs = 200

train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        end=max_epochs,
        eta_min=0.0,
        by_epoch=True,
        convert_to_iter_based=True)
]
