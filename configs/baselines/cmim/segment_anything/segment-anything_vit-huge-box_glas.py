"""Segment Anything with each true box, on GlaS."""

_base_ = './segment-anything_vit-huge-automatic_glas.py'

model = dict(prompts='box')
