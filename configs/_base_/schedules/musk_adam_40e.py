"""Adam for bags of molecules, after ABMIL's: rate and decay are its own.

Its 100 epochs have a bag in each step; ours have fewer steps of more bags.
"""

# ========================= Frequently modified =========================
max_epochs = 40
lr = 5e-4
weight_decay = 5e-3

# ====================== Unmodified in most cases =======================
optim_wrapper = dict(
    optimizer=dict(type='Adam', lr=lr, weight_decay=weight_decay))
# A constant rate.
param_scheduler = []
train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
val_cfg = None
test_cfg = dict()
