"""Runtime for all our configs: hooks, environment, logging, seed.

Types are MMEngine's own, or ours with their scope, so that configs of any
host library can inherit it. A config whose host is mmdet or mmseg sets
``default_scope``, and the host's visualizer and visualization hook if it
wants pictures; one that counts iterations sets ``by_epoch=False`` where it
stands here.
"""

default_scope = 'mmpretrain'

# With this, the train.py of mmpretrain, mmdet or mmseg trains our configs.
custom_imports = dict(imports=['mmmedmask'], allow_failed_imports=False)

# One seed for weights, data order and masks; None draws one.
randomness = dict(seed=0, deterministic=False)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='mmmedmask.SafeCheckpointHook', by_epoch=True, interval=1,
        max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    seeded_draws=dict(type='mmmedmask.SeededDrawsHook'),
    # A test, a validation or a resumed run with classes in another order.
    class_names=dict(type='mmmedmask.ClassNamesHook'),
    # Of several processes: the same statistics of BatchNorm wherever used.
    shared_statistics=dict(type='mmmedmask.SharedStatisticsHook'))

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # On a machine without GPUs, tools/train.py uses gloo instead.
    dist_cfg=dict(backend='nccl'))

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(
    type='Visualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(type='LogProcessor', window_size=10, by_epoch=True)

log_level = 'INFO'
load_from = None
resume = False
