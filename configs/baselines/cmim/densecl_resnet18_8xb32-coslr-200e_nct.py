"""DenseCL, ResNet-18, 200 epochs on NCT-CRC-HE-100K, as ConCL trains it.

MoCo v2 with a second queue for places. The dense loss starts after 1,000
iterations, as in mmselfsup; ConCL has it from the first one.
"""

_base_ = './mocov2_resnet18_8xb32-coslr-200e_nct.py'

# ========================== Possibly modified ==========================
# Weight of the dense loss, and iterations before it counts.
loss_lambda = 0.5
start_iters = 1000

# ====================== Unmodified in most cases =======================
model = dict(
    type='DenseCL',
    neck=dict(
        _delete_=True,
        type='DenseCLNeck',
        in_channels=512,
        hid_channels=512,
        out_channels=128,
        num_grid=None),
    loss_lambda=loss_lambda)
default_hooks = dict(
    densecl=dict(type='DenseCLHook', start_iters=start_iters))
