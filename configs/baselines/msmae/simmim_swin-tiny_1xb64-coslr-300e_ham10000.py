"""SimMIM, Swin-T, 300 epochs on HAM10000.

Learning rate 2.5e-5 for batches of 1 x 64, 300 epochs, mask ratio 0.6;
data/ham10000.
"""

_base_ = [
    '../../_base_/models/simmim_swin-tiny.py',
    '../../_base_/datasets/ham10000_images.py',
    '../../_base_/datasets/labelled_masks_simmim.py',
    '../../_base_/schedules/simmim_adamw_300e.py',
    '../../_base_/masked_runtime.py',
]

train_dataloader = dict(dataset=dict(pipeline=_base_.masked_pipeline))
