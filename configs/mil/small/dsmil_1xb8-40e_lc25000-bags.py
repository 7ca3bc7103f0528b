"""DSMIL on bags of LC25000's tiles; small enough for a CPU.

Learning rate 5e-4 for batches of 1 x 8, 40 epochs;
data/lc25000-resnet18-untrained.
"""

_base_ = [
    '../../_base_/models/mil_dsmil.py',
    '../../_base_/datasets/lc25000_bags.py',
    '../../_base_/schedules/musk_adam_40e.py',
    '../../_base_/musk_runtime.py',
]

# ====================== Unmodified in most cases =======================
model = dict(
    aggregator=dict(
        in_dims=512,
        embed_dims=128,
        # Features of a plain ResNet vary little around a large mean.
        norm_features=True))
