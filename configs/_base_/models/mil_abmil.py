"""ABMIL (ICML 2018), gated, and a linear class head."""

_base_ = './mil_mean-pool.py'

# ========================== Possibly modified ==========================
attention_dims = 128

# ====================== Unmodified in most cases =======================
model = dict(
    aggregator=dict(type='mmmedmask.ABMIL', attention_dims=attention_dims))
