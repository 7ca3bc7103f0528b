"""MSMAE in bfloat16. The paper's float16 is tools/train.py's --amp."""

_base_ = './msmae_vit-base-p16_1xb64-coslr-300e_messidor2.py'

optim_wrapper = dict(type='mmmedmask.Bfloat16OptimWrapper')
