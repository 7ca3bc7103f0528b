"""Runtime for CMIM's pre-training: pictures of the views and of what the model
makes of them, the loss beside guesses without a model, how far the encoder
moves; a loss that is not finite ends the run.

A child with tiles that are not trained on names them in
``loss_floors.held_out``.
"""

_base_ = './default_runtime.py'

# ========================== Possibly modified ==========================
checkpoint_interval = 10
panel_interval = 50

# ====================== Unmodified in most cases =======================
default_hooks = dict(
    checkpoint=dict(interval=checkpoint_interval, max_keep_ckpts=3),
    loss_floors=dict(type='mmmedmask.LossFloorsHook'),
    movement=dict(type='mmmedmask.MovementHook'),
    nan_guard=dict(type='mmmedmask.NaNGuardHook'),
    reconstruction_panel=dict(
        type='mmmedmask.ReconstructionPanelHook', interval=panel_interval))
