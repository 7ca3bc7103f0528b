"""Segment Anything with each true box, on CRAG."""

_base_ = './segment-anything_vit-huge-automatic_crag.py'

model = dict(prompts='box')
