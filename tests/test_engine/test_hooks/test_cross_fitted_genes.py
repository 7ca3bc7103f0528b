"""GiMP's triplets get vectors of encoders that have not seen the patient."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from mmmedmask.datasets import SlideOmicDataset
from mmmedmask.engine.hooks import CrossFittedGenesHook
from mmmedmask.models.gimp.cross_fitting import cross_fit_vectors
from mmmedmask.models.gimp.gene_cache import GeneVectorCache
from mmmedmask.phantoms.slide_omic_cohort import write_slide_omic_cohort
from mmmedmask.registry import MODELS

ENCODER = dict(type='mmmedmask.LinearGeneEncoder', num_genes=40, embed_dims=8)
MODEL = dict(
    type='mmmedmask.GiMP',
    aggregator=dict(type='mmmedmask.NystromAggregator', in_dims=5,
                    embed_dims=8, num_heads=2, num_landmarks=4, conv_kernel=5),
    gene_encoder=ENCODER, mpm_head=dict(type='mmmedmask.MPMHead'),
    contrast_head=dict(type='mmmedmask.TripletHead'))


@pytest.fixture(scope='module')
def cohort(tmp_path_factory):
    return write_slide_omic_cohort(
        tmp_path_factory.mktemp('cohort'), num_cases=30, patches=(20, 30),
        dims=5, num_genes=40, num_pathways=2, cases_without_genes=3)


def make_runner(cohort, tmp_path, seed=0, **model):
    """What the hook asks a runner for."""
    dataset = SlideOmicDataset(
        'cohort.csv', data_root=str(cohort), split='train',
        feature_root='features', missing_genes='keep',
        expression=dict(path='expression.tsv', unit='fpkm'))
    config = {**MODEL, **model}
    built = MODELS.build(config)
    built.data_preprocessor.gene_scale.set(dataset.fit_gene_scale())
    return SimpleNamespace(
        model=built, cfg=Config(dict(model=config)), seed=seed,
        train_dataloader=SimpleNamespace(dataset=dataset),
        work_dir=str(tmp_path), logger=logging.getLogger())


def test_training_sees_vectors_of_other_folds(cohort, tmp_path, monkeypatch):
    options = dict(num_folds=3, max_epochs=2, batch_size=4, base_lr=.01)
    runner = make_runner(cohort, tmp_path)
    CrossFittedGenesHook(**options).before_train(runner)
    model, dataset = runner.model, runner.train_dataloader.dataset
    infos = [dataset.get_data_info(place) for place in range(len(dataset))]
    known = [info for info in infos if info['expression'] is not None]
    assert 0 < len(infos) - len(known)
    genes = model.data_preprocessor.gene_scale(torch.stack(
        [torch.from_numpy(info['expression']) for info in known]))
    want = cross_fit_vectors(
        ENCODER, genes, torch.tensor([info['gt_label'] for info in known]),
        3, 0, max_epochs=2, batch_size=4, base_lr=.01, weight_decay=.01)
    inputs = dict(genes=genes, has_genes=torch.ones(len(known)).bool())
    samples = [dict(case_id=info['case_id']) for info in known]
    assert torch.equal(model.train().encode_genes(inputs, samples), want)
    # Whoever is not trained on is encoded by the model's own.
    torch.testing.assert_close(model.eval().encode_genes(inputs, samples),
                               model.gene_encoder(genes))
    # A patient without genes has those of zero, as ever.
    inputs['has_genes'][0] = False
    inputs['genes'] = genes * inputs['has_genes'][:, None]
    torch.testing.assert_close(model.train().encode_genes(inputs, samples)[0],
                               model.gene_encoder(torch.zeros(1, 40))[0])
    samples[1] = dict(case_id='new')
    with pytest.raises(ValueError, match=r"cases \['new'\] have genes, but"):
        model.encode_genes(inputs, samples)


def test_a_run_that_goes_on_uses_its_file_again(cohort, tmp_path, monkeypatch):
    """Unless something that the vectors are made of has changed."""
    calls = []

    def count(*arguments, **options):
        calls.append(options)
        return cross_fit_vectors(*arguments, **options)

    monkeypatch.setattr('mmmedmask.engine.hooks.cross_fitted_genes.'
                        'cross_fit_vectors', count)
    hook = CrossFittedGenesHook(num_folds=2, max_epochs=1)
    for _ in range(2):
        runner = make_runner(cohort, tmp_path)
        hook.before_train(runner)
    assert len(calls) == 1
    hook.before_train(make_runner(cohort, tmp_path, seed=1))
    CrossFittedGenesHook(num_folds=2, max_epochs=2).before_train(runner)
    CrossFittedGenesHook(num_folds=3, max_epochs=2).before_train(runner)
    assert len(calls) == 4


def test_files_of_genes_and_damaged_vectors_count(cohort, tmp_path,
                                                  monkeypatch):
    calls = []
    monkeypatch.setattr(
        'mmmedmask.engine.hooks.cross_fitted_genes.cross_fit_vectors',
        lambda *arguments, **options: calls.append(arguments)
        or cross_fit_vectors(*arguments, **options))
    hook = CrossFittedGenesHook(num_folds=2, max_epochs=1)
    genes, sets = tmp_path / 'genes.txt', tmp_path / 'sets.csv'
    encoder = dict(
        type='mmmedmask.GroupMSA', num_genes=40, embed_dims=8, num_heads=2,
        num_fragments=10, num_groups=2, gene_sets=str(sets),
        gene_list=str(genes))
    genes.write_text('\n'.join(f'g{number}' for number in range(40)))
    for text in ('a,b\ng1,g2\n', 'a,b\ng3,g4\n', 'a,b\ng1,g2\n'):
        sets.write_text(text)
        hook.before_train(make_runner(cohort, tmp_path, gene_encoder=encoder))
    assert len(calls) == 2
    for content in (b'', b'junk'):
        for file in tmp_path.glob('*.pth'):
            file.write_bytes(content)
        hook.before_train(make_runner(cohort, tmp_path, gene_encoder=encoder))
    assert len(calls) == 4


@pytest.mark.parametrize(('model', 'message'), [
    (dict(gene_encoder=None), 'needs mmmedmask.GiMP with a gene_encoder'),
    (dict(freeze_gene_encoder=False), 'that is frozen: take it out by')])
def test_needs_a_frozen_gene_encoder(cohort, tmp_path, model, message):
    with pytest.raises(ValueError, match=message):
        CrossFittedGenesHook().before_train(
            make_runner(cohort, tmp_path, **model))


def test_needs_the_config_and_enough_patients(cohort, tmp_path):
    runner = make_runner(cohort, tmp_path)
    with pytest.raises(ValueError, match='num_folds=20 needs as many'):
        CrossFittedGenesHook(num_folds=20).before_train(runner)
    runner.cfg = Config()
    with pytest.raises(ValueError, match='config of the run, which is None'):
        CrossFittedGenesHook().before_train(runner)


def test_given_vectors_are_for_training_alone():
    cache, encoder = GeneVectorCache(), torch.nn.Linear(3, 2)
    genes = torch.randn(2, 3)
    cache.give({'a': torch.ones(2), 'b': torch.zeros(2)})
    assert cache(encoder, genes, ['a', 'b'], True).tolist() == [[1, 1], [0, 0]]
    torch.testing.assert_close(
        cache(encoder, genes, ['a', 'b']), encoder(genes))
    cache.clear()
    assert cache(encoder, genes, ['b', 'a'], True).tolist() == [[0, 0], [1, 1]]
