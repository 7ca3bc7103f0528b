"""Largest value of a slide's patches, and a linear class head."""

_base_ = './mil_mean-pool.py'

# ====================== Unmodified in most cases =======================
model = dict(aggregator=dict(type='mmmedmask.MaxPool'))
