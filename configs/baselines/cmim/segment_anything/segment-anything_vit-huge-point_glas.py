"""Segment Anything with the centre of each true box, on GlaS."""

_base_ = './segment-anything_vit-huge-automatic_glas.py'

model = dict(prompts='point')
