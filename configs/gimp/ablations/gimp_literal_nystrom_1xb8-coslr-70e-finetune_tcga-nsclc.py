"""Slides alone as Eq. 1 and 2 are written: the class token is convolved.

It then reads the first patches of each file: docs/methods/gimp.md. Nothing
follows the linear embedding.
"""

_base_ = './gimp_scratch_nystrom_1xb8-coslr-70e-finetune_tcga-nsclc.py'

model = dict(
    aggregator=dict(
        class_token_in_conv=True, conv_start='uniform', embed_relu=False))
