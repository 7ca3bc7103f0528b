"""MSMAE that continues from a masked autoencoder's weights.

tools/model_converters/convert_mae_checkpoint.py makes the checkpoint, from
mmpretrain's MAE or one with the names of MAE's own code. The class head starts
anew. Without a decoder in it (--encoder-only), check ``['backbone']`` alone.
"""

_base_ = './msmae_vit-base-p16_1xb64-coslr-300e_messidor2.py'

load_from = 'checkpoints/mae_vit-base-p16_msmae.pth'

default_hooks = dict(
    load_check=dict(
        type='mmmedmask.LoadCheckHook', modules=['backbone', 'neck']))
