"""Views whose stains change, too, in optical density (Macenko).

Four of five queries get other amounts of haematoxylin and eosin.
"""

_base_ = '../cmim_resnet18_8xb32-coslr-800e_nct.py'

model = dict(
    data_preprocessor=dict(
        color=dict(stain_prob=0.8, stain_factor=0.2, stain_shift=0.05)))
