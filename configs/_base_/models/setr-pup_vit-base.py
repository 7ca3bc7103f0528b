"""SETR-PUP with ViT-B/16 and one output channel, for lesions.

mmseg's SETR-PUP (an input LayerNorm per head, three auxiliary heads) with
our ViT, whose parameters have the names of MSMAE's checkpoints. The loss is
Eq. 9 of MSMAE; auxiliary heads count 0.4, as in SETR.
"""

_base_ = 'mmseg::_base_/models/setr_pup.py'

# ========================= Frequently modified =========================
# Weights of the backbone; child configs set their own.
checkpoint = None
embed_dims = 768
# The layers whose output the auxiliary heads and, at last, the head get.
out_indices = (3, 5, 7, 11)

# ========================== Possibly modified ==========================
img_size = 224  # pixels, a side of the square
patch_size = 16
threshold = 0.5

# ====================== Unmodified in most cases =======================
binary = dict(
    in_channels=embed_dims,
    num_classes=2,
    out_channels=1,
    threshold=threshold)
auxiliary = dict(
    **binary,
    loss_decode=dict(
        type='mmmedmask.BCEDiceLoss', bce_weight=0.2, dice_weight=0.4))

# Images are loaded in RGB; those that patches do not divide are padded.
data_preprocessor = dict(
    bgr_to_rgb=False,
    size_divisor=patch_size,
    test_cfg=dict(size_divisor=patch_size))
model = dict(
    pretrained=None,
    data_preprocessor=data_preprocessor,
    backbone=dict(
        _delete_=True,
        type='mmmedmask.MSMAEViT',
        arch='base',
        img_size=img_size,
        patch_size=patch_size,
        out_indices=out_indices,
        out_type='featmap',
        final_norm=False,
        fixed_pos_embed=False,
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')),
    decode_head=dict(
        **binary,
        loss_decode=dict(
            _delete_=True,
            type='mmmedmask.BCEDiceLoss',
            bce_weight=0.5,
            dice_weight=1.0)),
    auxiliary_head=[
        dict(head, **auxiliary) for head in _base_.model.auxiliary_head
    ])
