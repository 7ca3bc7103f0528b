"""TransMIL as published: the class token is in the convolution of the values.

The class token then reads the first patches of each file:
docs/methods/gimp.md.
"""

_base_ = '../transmil_1xb8-coslr-70e_tcga-nsclc.py'

model = dict(
    aggregator=dict(class_token_in_conv=True, conv_start='uniform'))
