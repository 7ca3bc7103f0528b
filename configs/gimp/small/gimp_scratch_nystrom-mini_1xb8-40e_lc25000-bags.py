"""GiMP's aggregator on bags of LC25000's tiles, from its start."""

_base_ = './gimp_mpm-only_nystrom-mini_1xb8-40e-finetune_lc25000-bags.py'

model = dict(aggregator=dict(init_cfg=None))
default_hooks = dict(load_check=None)
