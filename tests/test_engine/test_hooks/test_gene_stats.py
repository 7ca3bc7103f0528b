"""Who fits the scale of genes, to whom, and who takes it over."""

import inspect

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from slide_omic_files import draw_fpkm
from torch import nn

from mmmedmask.datasets.expression.gene_names import names_hash
from mmmedmask.engine.hooks import GeneStatsHook
from mmmedmask.phantoms.slide_files import draw_genes
from mmmedmask.registry import MODELS

GENES = draw_genes(12)
SPLITS = dict(train=[f'p{place}' for place in range(6)],
              val=['p6', 'p7'], test=['p8', 'p9'])
CASES = [case for cases in SPLITS.values() for case in cases]
#: Parts of models that take a gene_list: where they stand, and their sizes.
LISTED = dict(
    GroupMSA=('gene_encoder', dict(embed_dims=8, num_fragments=4,
                                   num_groups=2, num_heads=2)),
    MCAT=('aggregator', dict(in_dims=4, embed_dims=8, num_heads=2)))


class GeneModel(BaseModel):
    """A linear layer on scaled genes, which it remembers."""

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor=MODELS.build(
            data_preprocessor or
            dict(type='mmmedmask.SlideOmicDataPreprocessor')))
        self.linear = nn.Linear(len(GENES), 2)
        self.seen = []

    def forward(self, inputs, data_samples=None, mode='tensor'):
        self.seen.append(inputs['genes'])
        scores = self.linear(inputs['genes'])
        if mode == 'loss':
            return dict(loss=scores.square().mean())
        return data_samples


@pytest.fixture
def cohort(tmp_path):
    """A cohort csv and expression whose scale differs between the sets."""
    values = draw_fpkm(len(CASES), len(GENES))
    values[len(SPLITS['train']):] *= 50
    write_genes(tmp_path / 'rna.tsv', GENES, values)
    lines = ['case_id,slide_id,label,split']
    lines += [f'{case},s{case},{"ab"[int(case[1:]) % 2]},{split}'
              for split, cases in SPLITS.items() for case in cases]
    (tmp_path / 'cohort.csv').write_text('\n'.join(lines) + '\n')
    return tmp_path, values


def write_genes(path, genes, values):
    lines = ['\t'.join(['gene_id', *CASES])]
    lines += ['\t'.join([gene, *map(str, column.tolist())])
              for gene, column in zip(genes, values.T, strict=True)]
    path.write_text('\n'.join(lines) + '\n')


def loader(root, split, **changes):
    dataset = dict(type='mmmedmask.SlideOmicDataset', ann_file='cohort.csv',
                   data_root=str(root), split=split, modalities=['genes'],
                   expression=dict(path='rna.tsv', unit='fpkm'),
                   test_mode=split != 'train',
                   pipeline=[dict(type='mmmedmask.LoadExpression'),
                             dict(type='mmmedmask.PackSlideOmicInputs')])
    return dict(batch_size=3, num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False),
                collate_fn=dict(type='pseudo_collate'),
                dataset={**dataset, **changes})


def runner(root, work_dir='run', model=None, epochs=1, hooks=(), clip=10.,
           train=None, **changes):
    settings = dict(model=model or GeneModel(), work_dir=str(root / work_dir),
                    train_dataloader=train or loader(root, 'train'),
                    train_cfg=dict(by_epoch=True, max_epochs=epochs),
                    optim_wrapper=dict(optimizer=dict(type='SGD', lr=.01)),
                    custom_hooks=[GeneStatsHook(clip), *hooks],
                    default_scope='mmengine',
                    experiment_name=f'genes_{root.name}_{work_dir}_{id(root)}')
    return Runner(**{**settings, **changes})


def scale_of(model):
    return model.data_preprocessor.gene_scale


def logged(caplog, start='Scale of genes'):
    return [record.getMessage() for record in caplog.records
            if record.getMessage().startswith(start)]


def catch(run, caplog):
    """Let caplog see the logger, which hands nothing on by itself."""
    run.logger.addHandler(caplog.handler)
    return run


def trained(root, **changes):
    run = runner(root, **changes)
    run.train()
    return run


def test_fits_to_the_training_cases_alone(cohort, caplog):
    root, values = cohort
    run = catch(runner(root, clip=3.), caplog)
    run.train()
    logs = np.log2(values[:len(SPLITS['train'])].astype(np.float64) + 1)
    state = scale_of(run.model).state()
    assert np.allclose(state['mean'], logs.mean(axis=0), atol=1e-5)
    assert np.allclose(state['std'], logs.std(axis=0), atol=1e-5)
    assert state['num_cases'] == 6
    assert state['cases_hash'] == names_hash(sorted(SPLITS['train']))
    assert state['clip'] == 3
    want = (logs - logs.mean(axis=0)) / logs.std(axis=0)
    got = torch.cat(run.model.seen).double().numpy()
    assert np.allclose(got, want.clip(-3, 3), atol=1e-4)
    (text, ) = logged(caplog)
    assert 'fitted to 6 training cases' in text
    assert state['cases_hash'] in text
    assert (root / 'run/genes.txt').read_text().split() == GENES


def test_follows_wrappers_and_fits_copies(cohort):
    root, _ = cohort
    repeated = loader(root, 'train')
    repeated['dataset'] = dict(type='RepeatDataset', times=2,
                               dataset=repeated['dataset'])
    run = trained(root, train=repeated, hooks=[dict(type='EMAHook')])
    assert scale_of(run.model).state()['num_cases'] == 6
    ema = next(hook for hook in run.hooks
               if type(hook).__name__ == 'EMAHook').ema_model
    assert torch.equal(scale_of(ema.module).mean, scale_of(run.model).mean)


def test_some_batches_of_an_epoch_are_enough(cohort):
    """MMEngine wraps the set then."""
    root, _ = cohort
    run = trained(root, train=dict(loader(root, 'train'),
                                   num_batch_per_epoch=1))
    assert run.iter == 1
    assert scale_of(run.model).state()['num_cases'] == 6


def test_a_scale_fitted_late_is_in_copies_too(cohort):
    """EMAHook has copied the model before a checkpoint is loaded."""
    root, _ = cohort
    torch.save(dict(state_dict=GeneModel().state_dict()), root / 'plain.pth')
    run = trained(root, load_from=str(root / 'plain.pth'), epochs=2,
                  hooks=[dict(type='EMAHook')])
    copy = next(hook for hook in run.hooks
                if type(hook).__name__ == 'EMAHook').ema_model.module
    mine, others = (dict(model.named_buffers()) for model in (run.model, copy))
    assert set(mine) == set(others)
    for name, values in mine.items():
        assert torch.equal(others[name], values), name
    assert scale_of(copy).gene_ids == tuple(GENES)
    assert scale_of(run.model).state()['num_cases'] == 6


def test_a_resumed_run_keeps_the_scale(cohort, caplog):
    root, values = cohort
    first = scale_of(trained(root).model).state()
    # Another table under the same name would give another scale.
    write_genes(root / 'rna.tsv', GENES, values * 3)
    run = catch(runner(root, epochs=2, resume=True), caplog)
    run.train()
    assert run.epoch == 2
    assert torch.equal(scale_of(run.model).mean, first['mean'])
    (text, ) = logged(caplog)
    assert 'kept that of the checkpoint, fitted to 6 cases' in text
    assert text.endswith('They are this training set.')


def test_a_later_stage_takes_the_scale_over(cohort, caplog):
    root, _ = cohort
    path = str(root / 'run/epoch_1.pth')
    first = scale_of(trained(root).model).state()
    fewer = loader(root, 'train', indices=4)
    preprocessor = dict(type='mmmedmask.SlideOmicDataPreprocessor',
                        init_cfg=dict(type='Pretrained', checkpoint=path,
                                      prefix='data_preprocessor.'))
    for name, changes in (('init_cfg', dict(model=GeneModel(preprocessor))),
                          ('load_from', dict(load_from=path))):
        caplog.clear()
        run = catch(runner(root, name, train=fewer, **changes), caplog)
        run.train()
        assert torch.equal(scale_of(run.model).mean, first['mean']), name
        (text, ) = logged(caplog)
        assert 'fitted to 6 cases' in text
        assert 'not the 4 cases of this training set' in text
        assert not (root / name / 'genes.txt').exists()


def test_a_resumed_checkpoint_without_a_scale_is_refused(cohort):
    root, _ = cohort
    trained(root)
    path = root / 'run/epoch_1.pth'
    checkpoint = torch.load(path, weights_only=False)
    checkpoint['state_dict'] = {
        key: value for key, value in checkpoint['state_dict'].items()
        if 'gene_scale' not in key}
    torch.save(checkpoint, path)
    run = runner(root, epochs=2, resume=True)
    with pytest.raises(ValueError, match='has no scale of genes'):
        run.train()


def evaluation(root, split='test', **changes):
    # No metric: these runs look at the model alone.
    return {f'{split}_dataloader': loader(root, split, **changes),
            f'{split}_cfg': dict(), f'{split}_evaluator': []}


def only_testing(root, load_from='run/epoch_1.pth', **changes):
    """A run that tests alone."""
    return runner(root, 'test', load_from=load_from and str(root / load_from),
                  train_cfg=None, train_dataloader=None, optim_wrapper=None,
                  **evaluation(root, **changes))


def test_a_test_works_from_the_checkpoint(cohort):
    root, values = cohort
    first = scale_of(trained(root).model).state()
    run = only_testing(root)
    run.test()
    logs = np.log2(values[-2:].astype(np.float64) + 1)
    want = (logs - first['mean'].numpy()) / first['std'].numpy()
    assert np.allclose(run.model.seen[0].numpy(), want.clip(-10, 10),
                       atol=1e-4)


def test_a_test_without_a_scale_is_refused(cohort):
    with pytest.raises(ValueError, match='the test set has genes, but'):
        only_testing(cohort[0], load_from=None).test()


def test_other_genes_are_refused_everywhere(cohort):
    root, values = cohort
    trained(root)
    checkpoint = str(root / 'run/epoch_1.pth')
    other = dict(gene_list=GENES[::-1])
    with pytest.raises(ValueError,
                       match=r'the training set .* another order.*genes.txt'):
        trained(root, work_dir='other', load_from=checkpoint,
                train=loader(root, 'train', **other))
    with pytest.raises(ValueError, match='the validation set'):
        trained(root, work_dir='val', **evaluation(root, 'val', **other))
    for changes, message in (
            (dict(gene_list=[*GENES[:-1], 'ENSG00000000009'], max_missing=.1),
             r'the test set .*lacks 1 .*adds 1 \(ENSG0+9\)'),
            (dict(expression=dict(path='rna.tsv', unit='fpkm_uq')),
             'holds fpkm_uq .* to fpkm ')):
        with pytest.raises(ValueError, match=message):
            only_testing(root, **changes).test()


def test_every_part_with_a_gene_list_is_guarded(cohort):
    assert set(LISTED) == {
        name for name, kind in MODELS.module_dict.items()
        if 'gene_list' in inspect.signature(kind).parameters}
    root, _ = cohort
    for name, (place, sizes) in LISTED.items():
        for genes in (GENES, GENES[::-1]):
            model = GeneModel()
            setattr(model, place, MODELS.build(dict(
                type=f'mmmedmask.{name}', num_genes=len(GENES),
                gene_list=genes, **sizes)))
            run = runner(root, f'{name}{genes[0]}', model)
            if genes == GENES:
                run.train()
                continue
            with pytest.raises(ValueError, match="gene_list of the model's "
                               f'{name} .* another order'):
                run.train()


def test_a_set_without_genes_is_named(cohort, caplog):
    """Where the model has what encodes them."""
    root, _ = cohort
    data = [dict(inputs=dict(genes=None, patches=None, coords=None),
                 data_samples=None)]
    for encodes in (False, True):
        model = GeneModel()
        if encodes:
            model.gene_encoder = nn.Identity()
        run = catch(runner(root, str(encodes), model, train=dict(
            loader(root, 'train'), dataset=data)), caplog)
        GeneStatsHook().before_train(run)
        assert len(logged(caplog, 'GeneStatsHook fits no scale')) == encodes
    text, = logged(caplog, 'GeneStatsHook fits no scale')
    assert 'a list, neither is nor wraps' in text


def test_what_cannot_be_fitted_is_refused(cohort):
    root, _ = cohort
    two = loader(root, 'train')
    two['dataset'] = dict(type='ConcatDataset', datasets=[
        two['dataset'], loader(root, 'val')['dataset']])
    model = GeneModel(dict(type='mmengine.BaseDataPreprocessor'))
    for changes, message in (
            (dict(train=two), '2 data sets of the training'),
            (dict(train=loader(root, 'train', test_mode=True)),
             'training cases alone'),
            (dict(model=model), 'got BaseDataPreprocessor')):
        with pytest.raises(ValueError, match=message):
            trained(root, **changes)
