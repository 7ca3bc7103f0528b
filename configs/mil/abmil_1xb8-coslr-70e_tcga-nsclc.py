"""ABMIL, slides of TCGA-NSCLC: a row of GiMP's Table 1.

Learning rate 1e-4 for batches of 1 x 8, 70 epochs; data/tcga_nsclc.
"""

_base_ = [
    '../_base_/models/mil_abmil.py',
    '../_base_/datasets/slides_nsclc.py',
    '../_base_/schedules/gimp_adamw_finetune_70e.py',
    '../_base_/slide_omic_runtime.py',
]
