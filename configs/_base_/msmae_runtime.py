"""Runtime for MSMAE's pre-training: attention masks, pictures of them, the
loss beside guesses without a model.

A child gives both hooks of attention the pipeline of whole images.
"""

_base_ = './pretrain_runtime.py'

# ========================== Possibly modified ==========================
# Epochs of random masking, and epochs from one refresh of the maps to the
# next (Table 4).
begin = 40
interval = 40

# ====================== Unmodified in most cases =======================
default_hooks = dict(
    loss_floors=dict(
        type='mmmedmask.LossFloorsHook', held_out=dict(split='val')),
    attention_panel=dict(type='mmmedmask.AttentionPanelHook'),
    attention_mask=dict(
        type='mmmedmask.AttentionMaskHook', begin=begin, interval=interval))
