"""The main run on two GPUs: a step of the optimiser for every 4 batches."""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

# ========================= Frequently modified =========================
# 2 GPUs with 32 images, 4 times: the 256 that the rate is for.
accumulative_counts = 4

# ====================== Unmodified in most cases =======================
optim_wrapper = dict(accumulative_counts=accumulative_counts)
