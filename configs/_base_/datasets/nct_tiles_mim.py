"""NCT-CRC-HE-100K-NONORM for masked image modelling: crops and flips, as MAE
and EVA have them.

These are CMIM's affine views; MAE found colour to do harm, so there is none.
The masks are drawn in the model.
"""

_base_ = './nct_tiles.py'

# ========================== Possibly modified ==========================
# Side of the images in pixels.
image_size = 224
# Share of a tile that a crop keeps.
crop_ratio_range = (0.2, 1.0)

# ====================== Unmodified in most cases =======================
crop = dict(
    type='mmmedmask.RandomResizedCrop',
    scale=image_size,
    crop_ratio_range=crop_ratio_range,
    interpolation='bicubic')
flip = dict(type='mmmedmask.RandomFlip', prob=0.5)
train_pipeline = [_base_.load_tile, crop, flip, _base_.pack_tile]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
