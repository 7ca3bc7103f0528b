"""Crops and masks for SimMIM, for any data set of labelled images.

A child hands ``masked_pipeline`` to the training set.
"""

# ========================== Possibly modified ==========================
# Side of the images in pixels: a multiple of 32 times the window of the Swin
# transformer (7), and the same as in fine-tuning, so that every tensor of the
# checkpoint fits. SimMIM itself pre-trains at 192 with windows of 6, and
# interpolates afterwards.
view_size = 224
view_ratio_range = (0.67, 1.0)
# Share of the 7 x 7 blocks of 32 pixels that is masked: 30 of 49.
view_mask_ratio = 0.6

# ====================== Unmodified in most cases =======================
load_view = dict(
    type='mmmedmask.LoadTile',
    in_channels=3,
    gray_to_rgb=True,
    drop_alpha=True)
crop = dict(
    type='mmmedmask.RandomResizedCrop',
    scale=view_size,
    crop_ratio_range=view_ratio_range,
    interpolation='bicubic')
flip = dict(type='mmmedmask.RandomFlip', prob=0.5)
mask = dict(
    type='SimMIMMaskGenerator',
    input_size=view_size,
    mask_patch_size=32,
    model_patch_size=4,
    mask_ratio=view_mask_ratio)
pack = dict(type='PackInputs', meta_keys=('img_path', 'sample_idx'))
masked_pipeline = [load_view, crop, flip, mask, pack]
