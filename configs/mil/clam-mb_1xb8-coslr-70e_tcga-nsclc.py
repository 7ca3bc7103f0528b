"""CLAM-MB, slides of TCGA-NSCLC: a row of GiMP's Table 1."""

_base_ = [
    '../_base_/models/mil_clam-mb.py',
    '../_base_/datasets/slide_omic_nsclc.py',
    '../_base_/schedules/gimp_adamw_finetune_70e.py',
    '../_base_/slide_omic_runtime.py',
]

# ====================== Unmodified in most cases =======================
slides = dict(dataset=dict(modalities=['slides'], expression=None))
train_dataloader = slides
val_dataloader = slides
test_dataloader = slides
