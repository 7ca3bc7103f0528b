"""TCGA-NSCLC, whole bags of slides without genes."""

_base_ = './slide_omic_nsclc.py'

# ====================== Unmodified in most cases =======================
slides = dict(dataset=dict(modalities=['slides'], expression=None))
train_dataloader = slides
val_dataloader = slides
test_dataloader = slides
