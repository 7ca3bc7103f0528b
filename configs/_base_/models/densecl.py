"""What DenseCL changes in MoCo v2: a second queue, for places.

The keys are taken up by name, ``model = _base_.densecl_model``: a run inherits
all else from a run of MoCo v2.
"""

# ========================== Possibly modified ==========================
# Weight of the dense loss, and iterations before it counts.
loss_lambda = 0.5
start_iters = 1000

# ====================== Unmodified in most cases =======================
densecl_neck = dict(
    _delete_=True,
    type='DenseCLNeck',
    in_channels=512,
    hid_channels=512,
    out_channels=128,
    num_grid=None)
densecl_model = dict(
    type='DenseCL', neck=densecl_neck, loss_lambda=loss_lambda)
densecl_hook = dict(type='DenseCLHook', start_iters=start_iters)
