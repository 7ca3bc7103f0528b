"""ConCL's supervised ResNet-18 on NCT-CRC: SGD for 100 epochs of batches of
256, a tenth of the rate after 80.
"""

# ========================= Frequently modified =========================
max_epochs = 100
milestones = [80]
# For a total batch of 256; --auto-scale-lr scales it to yours.
base_lr = 0.1

# ====================== Unmodified in most cases =======================
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=base_lr, momentum=0.9, weight_decay=1e-4))
steps = dict(
    type='MultiStepLR', milestones=milestones, gamma=0.1, by_epoch=True)
param_scheduler = [steps]
train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=256)
