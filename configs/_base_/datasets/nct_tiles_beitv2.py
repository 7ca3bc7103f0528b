"""NCT-CRC-HE-100K-NONORM for BEiT v2: a tile, the same tile for the tokenizer
and a mask of blocks, with mmpretrain's transforms.

The tokenizer's picture differs in its normalisation alone.
"""

_base_ = './nct_tiles.py'

# ========================== Possibly modified ==========================
# Side of the images in pixels, and patches along it.
image_size = 224
grid_size = 14
# Masked patches of an image: 75 of 196, in blocks of 16 to 75.
num_masked = 75
min_block = 16

# ====================== Unmodified in most cases =======================
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            _base_.load_tile,
            dict(
                type='mmmedmask.ColorJitter',
                brightness=0.4,
                contrast=0.4,
                saturation=0.4,
                hue=0.0),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(
                type='RandomResizedCropAndInterpolationWithTwoPic',
                size=image_size,
                second_size=image_size,
                interpolation='bicubic',
                second_interpolation='bicubic',
                scale=(0.2, 1.0)),
            dict(
                type='BEiTMaskGenerator',
                input_size=(grid_size, grid_size),
                num_masking_patches=num_masked,
                max_num_patches=num_masked,
                min_num_patches=min_block),
            dict(type='PackInputs', meta_keys=('img_path', 'sample_idx')),
        ]))
