"""Every hook names an argument that it cannot use, and what would be valid."""

import pytest

from mmmedmask.registry import HOOKS

PIPELINE = [dict(type='mmmedmask.LoadTile')]


@pytest.mark.parametrize(('kind', 'arguments', 'message'), [
    ('AttentionMask', dict(begin=-1), 'begin.*-1'),
    ('AttentionMask', dict(interval=0), 'interval.*0'),
    ('AttentionMask', dict(batch_size=0), 'batch_size.*0'),
    ('AttentionMask', dict(num_workers=-2), 'num_workers.*-2'),
    ('AttentionMask', dict(pipeline=None), 'pipeline.*ResizeImage.*None'),
    ('AttentionMask', dict(pipeline=[]), r'pipeline.*\[\]'),
    ('AttentionMask', dict(save_state='yes'), "save_state.*'yes'"),
    ('AttentionPanel', dict(indices='abc'), "indices.*list.*'abc'"),
    ('AttentionPanel', dict(indices=[]), r'indices.*list.*\[\]'),
    ('AttentionPanel', dict(indices=[-1]), 'indices.*at least 0, got -1'),
    ('AttentionPanel', dict(channels=3), 'channels.*list.*got 3'),
    ('AttentionPanel', dict(window=(9., 1.)), r'window.*ascending.*\(9.0'),
    ('ContrastiveCrop', dict(threshold=1., begin=1, interval=2),
     r'must be in \[0, 1\), got 1.0'),
    ('CrossFittedGenes', dict(base_lr=0.), 'base_lr must be positive'),
    ('GeneStats', dict(clip=0), 'clip must be positive, got 0'),
    ('LesionCoverage', dict(num_images=0), 'num_images must be .*, got 0'),
    ('LesionCoverage', dict(num_draws=0), 'num_draws must be .*, got 0'),
    ('LesionCoverage', dict(batch_size=0), 'batch_size must be .*, got 0'),
    ('LoadCheck', dict(modules=()), 'at least one module'),
    ('LoadCheck', dict(allowed_unused='fc.*'), "got the string 'fc"),
    ('LoadCheck', dict(allowed_missing='fc.*'), "got the string 'fc"),
    ('LossFloors', dict(interval=0), 'interval must be at least 1, got 0'),
    ('NaNGuard', dict(interval=0), 'at least 1, got 0'),
    ('PreciseBN', dict(num_batches=0), 'at least 1, got 0'),
    ('PreciseBN', dict(forward='features'), "got 'features'"),
    ('Probe', dict(data='x', colors=['sepia']), "got 'sepia'"),
    ('Probe', dict(data='x', size=-1), 'size must be at least 1, got -1'),
    ('Probe', dict(data='x', dense_size=0), 'dense_size .* 1, got 0'),
    ('Probe', dict(data='x', max_images=0), 'max_images .* 1, got 0'),
    ('Probe', dict(data='x', few=[0]), 'few must be at least 1, got 0'),
    ('Probe', dict(data='x', few=[]), r'at least one number.*got \[\]'),
    ('Probe', dict(data='x', seed='a'), "seed must be an integer, got 'a'"),
    ('ReconstructionPanel', dict(channels=[-1]), 'channels.*got -1'),
    ('ReconstructionPanel', dict(num_samples=0), 'at least 1, got 0'),
    ('ReconstructionPanel', dict(min_side=0), 'min_side .* 1, got 0'),
    ('SafeCheckpoint', dict(interval=0.5), 'interval must be an integer'),
    ('SafeCheckpoint', dict(interval=0), 'interval must be -1 or positive'),
    ('SafeCheckpoint', dict(max_keep_ckpts=0), 'max_keep_ckpts must be -1'),
    ('SafeCheckpoint', dict(save_best=3), 'save_best = 3'),
    ('SafeCheckpoint', dict(save_best='a/b', rule='more'), "rule = 'more'"),
    ('SafeCheckpoint', dict(save_best='unheard'), 'Cannot infer the rule'),
    ('SafeCheckpoint', dict(out_dir='s3://bucket'),
     "local folder, got 's3://bucket'")])
def test_bad_arguments(kind, arguments, message):
    if kind in ('AttentionMask', 'ContrastiveCrop'):
        arguments = dict(pipeline=PIPELINE) | arguments
    with pytest.raises(ValueError, match=message):
        HOOKS.build(dict(type=f'mmmedmask.{kind}Hook', **arguments))
