"""CLAM with a branch for each class."""

_base_ = './mil_clam-sb.py'

# ====================== Unmodified in most cases =======================
model = dict(
    aggregator=dict(type='mmmedmask.CLAM_MB'),
    head=dict(type='mmmedmask.ClasswiseSlideOmicHead'))
