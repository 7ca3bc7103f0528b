"""Stages on a drawn cohort that train in a second: genes, then both."""

import os
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmmedmask.phantoms.slide_omic_cohort import write_slide_omic_cohort

STAGE = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmmedmask'], allow_failed_imports=False)
genes = dict(
    type='mmmedmask.SNN', num_genes=30, embed_dims=4, hidden_dims=(8, ))
model = dict(
    type='mmmedmask.SlideOmicClassifier',
    data_preprocessor=dict(type='mmmedmask.SlideOmicDataPreprocessor'),
    head=dict(type='mmmedmask.SlideOmicHead', num_classes=2),
    {model})
dataset = dict(
    type='mmmedmask.SlideOmicDataset', data_root={root!r},
    ann_file='cohort.csv', feature_root='features',
    modalities={modalities},
    expression=dict(path='expression.tsv', unit='fpkm'),
    pipeline=[dict(type='mmmedmask.LoadExpression'),
              {load} dict(type='mmmedmask.PackSlideOmicInputs')])
loader = dict(
    batch_size=4, num_workers=0, collate_fn=dict(type='pseudo_collate'))
train_dataloader = dict(
    **loader, dataset=dict(**dataset, split='train'),
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    **loader, dataset=dict(**dataset, split='val', test_mode=True),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = dict(
    **loader, dataset=dict(**dataset, split='test', test_mode=True),
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = test_evaluator = dict(
    type='mmmedmask.SlideClassification', num_bootstrap=20)
train_cfg = dict(by_epoch=True, max_epochs=3, val_interval=1)
val_cfg = test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.01))
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=100),
    checkpoint=dict(type='mmmedmask.SafeCheckpointHook', interval=1,
                    max_keep_ckpts=1, save_best='slide/auc', rule='greater'))
custom_hooks = {hooks}
visualizer = dict(
    type='Visualizer', name='visualizer',
    vis_backends=[dict(type='LocalVisBackend')])
log_level = 'WARNING'
randomness = dict(seed=0)
"""

GENES = dict(
    model='gene_encoder=genes', load='', modalities=['genes'],
    hooks="[dict(type='mmmedmask.GeneStatsHook'), dict(type='NoteCases')]")
BOTH = dict(
    model="""aggregator=dict(
        type='mmmedmask.MeanPool', in_dims=8, embed_dims=4),
    gene_encoder=dict(**genes, init_cfg=dict(
        type='Pretrained', checkpoint='missing.pth',
        prefix='gene_encoder.')),
    freeze_gene_encoder=True""",
    load="dict(type='mmmedmask.LoadSlideFeatures'),",
    modalities=['slides', 'genes'],
    hooks="""[dict(type='mmmedmask.GeneStatsHook'),
    dict(type='mmmedmask.LoadCheckHook', modules='gene_encoder'),
    dict(type='NoteCases')]""")


@HOOKS.register_module(force=True)
class NoteCases(Hook):
    """Note epochs and patients of a run in its folder; maybe end it."""

    def before_train_epoch(self, runner):
        if runner.epoch == int(os.environ.get('TINY_STOP_BEFORE', -1)):
            os._exit(9)
        self._note(runner, 'epochs', [str(runner.epoch)])

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self._note(runner, 'cases', [
            sample.case_id for sample in data_batch['data_samples']])

    before_val_iter = before_train_iter

    @staticmethod
    def _note(runner, name, lines):
        with Path(runner.work_dir, f'{name}.txt').open('a') as stream:
            stream.writelines(f'{line}\n' for line in lines)


def write_stages(folder, num_cases=24):
    """Draw a cohort; write the configs of the stages."""
    write_slide_omic_cohort(
        folder / 'data', num_cases=num_cases, patches=(4, 8), dims=8,
        num_genes=30, num_pathways=2, pathway_size=4)
    paths = []
    for name, parts in (('genes', GENES), ('both', BOTH)):
        text = STAGE
        for key, value in (*parts.items(), ('root', folder / 'data')):
            text = text.replace(f'{{{key}}}', str(value)).replace(
                f'{{{key}!r}}', repr(str(value)))
        paths.append(folder / f'{name}.py')
        paths[-1].write_text(text)
    return paths
