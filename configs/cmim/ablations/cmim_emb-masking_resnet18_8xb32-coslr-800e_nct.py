"""Table 2, "emb. masking": dense encoder and stem token, nothing else.

One view (t2 = t1) and no colour; the loss is on the masked pixels.
"""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

model = dict(data_preprocessor=dict(same_view=True, color=None))
