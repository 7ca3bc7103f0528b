"""GiMP's aggregator on musk1, from its start."""

_base_ = './gimp_mpm-only_nystrom-mini_1xb8-40e-finetune_musk1.py'

model = dict(aggregator=dict(init_cfg=None))
default_hooks = dict(load_check=None)
