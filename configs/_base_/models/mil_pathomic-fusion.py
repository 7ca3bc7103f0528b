"""Pathomic Fusion (IEEE TMI 2020): bilinear gates and a skip connection.

The paper has a network for a region of interest and one for its graph of
cells; a slide has ABMIL here, as in PORPOISE.
"""

_base_ = './mil_porpoise.py'

# ====================== Unmodified in most cases =======================
model = dict(fusion=dict(gate='bilinear', skip=True))
