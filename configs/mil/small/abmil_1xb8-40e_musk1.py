"""Gated ABMIL on musk1; small enough for a CPU.

Learning rate 5e-4 for batches of 1 x 8, 40 epochs; data/musk1.
"""

_base_ = [
    '../../_base_/models/mil_abmil.py',
    '../../_base_/datasets/musk1.py',
    '../../_base_/schedules/musk_adam_40e.py',
    '../../_base_/musk_runtime.py',
]

# ====================== Unmodified in most cases =======================
model = dict(
    aggregator=dict(in_dims=166, embed_dims=128, attention_dims=64))
