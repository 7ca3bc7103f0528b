"""Runtime for CMIM's pre-training: pictures of the views and of what the model
makes of them; a loss that is not finite ends the run.
"""

_base_ = './default_runtime.py'

# ========================== Possibly modified ==========================
checkpoint_interval = 10
panel_interval = 50

# ====================== Unmodified in most cases =======================
default_hooks = dict(
    checkpoint=dict(interval=checkpoint_interval, max_keep_ckpts=3),
    nan_guard=dict(type='mmmedmask.NaNGuardHook'),
    reconstruction_panel=dict(
        type='mmmedmask.ReconstructionPanelHook', interval=panel_interval))
