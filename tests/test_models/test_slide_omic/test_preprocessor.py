"""Padded bags, scaled genes, and the scale's way through checkpoints."""

import math

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.runner import load_state_dict
from mmpretrain.structures import DataSample
from refusals import refuses

from mmmedmask.models.slide_omic import GeneScale
from mmmedmask.registry import MODELS

GENES = tuple(f'ENSG{place:011d}' for place in range(4))


def scale(genes=GENES, **changes):
    """What fit_gene_scale() gives; the last gene was constant."""
    std = torch.arange(1., len(genes) + 1)
    std[-1] = 0
    return dict(gene_ids=list(genes), mean=torch.arange(len(genes)) / 2,
                std=std, unit='fpkm', log2_offset=0., clip=10., num_cases=7,
                cases_hash='0' * 32) | changes


def build(state=None, **arguments):
    model = MODELS.build(
        dict(type='mmmedmask.SlideOmicDataPreprocessor', **arguments))
    if state is not None:
        model.gene_scale.set(state)
    return model


def sample(count=None, genes=None, dims=3, coords=True, mask=None):
    """One packed patient with random patches; coordinates, or others."""
    inputs = dict(patches=None, coords=None, mask=mask, genes=genes)
    if count is not None:
        inputs['patches'] = torch.randn(count, dims)
        inputs['coords'] = torch.randint(0, 9, (count, 2)) \
            if coords is True else coords
    return dict(inputs=inputs, data_samples=DataSample().set_gt_label(1))


def expression(*values):
    return torch.tensor(values, dtype=torch.float32)


def run(model, *samples):
    return model(pseudo_collate(list(samples)))['inputs']


def test_a_bag_alone_is_not_copied():
    """A whole bag of 150,000 patches is more than half a gigabyte."""
    one = sample(5)
    got = run(build(), one)['patches']
    assert got.shape == (1, 5, 3)
    assert got.data_ptr() == one['inputs']['patches'].data_ptr()


def test_pads_at_the_end_and_says_what_is_valid():
    samples = [sample(5), sample(2), sample(None), sample(0)]
    for one, count in zip(samples, (5, 2, None, 0), strict=True):
        if count is not None:
            one['inputs']['mask'] = torch.arange(count) % 2 == 0
    got = build()(pseudo_collate(samples))
    inputs = got['inputs']
    assert set(inputs) == {'patches', 'valid', 'mask', 'coords', 'genes',
                           'has_genes', 'has_patches'}
    assert inputs['patches'].shape == (4, 5, 3)
    assert inputs['valid'].tolist() == [
        [True] * 5, [True, True, False, False, False], [False] * 5,
        [False] * 5]
    assert inputs['has_patches'].tolist() == [True, True, False, False]
    assert inputs['coords'].dtype == torch.int64
    assert inputs['coords'].shape == (4, 5, 2)
    assert inputs['mask'].dtype == torch.bool
    for row, one in enumerate(samples):
        for key in ('patches', 'coords', 'mask'):
            bag = one['inputs'][key]
            count = 0 if bag is None else len(bag)
            for place in range(5):
                want = bag[place] if place < count else 0
                assert (inputs[key][row, place] == want).all()
    assert inputs['genes'] is None
    assert inputs['has_genes'].tolist() == [False] * 4
    assert [one.gt_label.item() for one in got['data_samples']] == [1] * 4


def test_what_nobody_has_is_none():
    inputs = run(build(scale()), sample(genes=expression(1, 2, 3, 4)))
    assert inputs['has_patches'].tolist() == [False]
    for key in ('patches', 'valid', 'mask', 'coords'):
        assert inputs[key] is None
    assert run(build(), sample(2), sample(3))['mask'] is None


def test_coordinates_are_given_only_if_all_bags_have_them():
    assert run(build(), sample(2), sample(3, coords=None))['coords'] is None
    assert run(build(), sample(2), sample())['coords'].shape == (2, 2, 2)


@pytest.mark.parametrize('count', [1, 2])
def test_whole_batches_of_default_collate_do_as_well(count):
    """And halves, which become float32."""
    patches = torch.randn(count, 4, 3).half()
    got = build()(dict(inputs=dict(patches=patches)))
    assert torch.equal(got['inputs']['patches'], patches.float())
    assert got['inputs']['valid'].all()
    assert got['data_samples'] is None


def naive(values, state, log2=True):
    """The scale, in NumPy."""
    mean, std = state['mean'].numpy(), state['std'].numpy()
    values = np.log2(np.add(values, 1)) if log2 else values
    with np.errstate(all='ignore'):
        scaled = np.where(std == 0, 0, (values - mean) / std).clip(-10, 10)
    return np.nan_to_num(scaled).tolist()


@pytest.mark.parametrize('unit', ['fpkm', 'log2_fpkm', 'zscore'])
def test_scales_missing_and_clipped_genes(unit):
    state = scale(unit=unit)
    rows = [[0., 3., math.nan, 5.], [1e9, 1., 1e5, math.nan]]
    got = run(build(state), sample(genes=expression(*rows[0])), sample(2),
              sample(genes=expression(*rows[1])))
    assert got['genes'].dtype == torch.float32
    assert got['has_genes'].tolist() == [True, False, True]
    want = [naive(rows[0], state, unit == 'fpkm'), [0.] * 4,
            naive(rows[1], state, unit == 'fpkm')]
    assert torch.allclose(got['genes'], torch.tensor(want), atol=1e-6)
    assert got['genes'][0, 2] == 0
    assert got['genes'][2, 0] == 10
    assert not got['genes'][1].any()


def test_scale_is_float32_whatever_runs_around_it():
    model, one = build(scale()), sample(genes=expression(.1, .2, .3, .4))
    want = run(model, one)['genes']
    with torch.autocast('cpu', torch.bfloat16):
        got = run(model, one)['genes']
    assert got.dtype == torch.float32
    assert torch.equal(got, want)


@pytest.mark.parametrize(('state', 'samples', 'message'), [
    (None, lambda: [sample(genes=expression(1, 2, 3, 4))], 'GeneStatsHook'),
    (scale(), lambda: [sample(genes=expression(1, 2, 3))],
     'samples have 3 genes, the scale of genes is of 4'),
    (scale(), lambda: [sample(genes=expression(1, 2, 3)),
                       sample(genes=expression(1, 2))],
     r'one G for all patients, got \[\(3,\), \(2,\)\]'),
    (None, lambda: [sample(2), sample(2, dims=4)],
     r'one D for all bags.*\[\(2, 3\), \(2, 4\)\]'),
    (None, lambda: [sample(2, mask=torch.ones(3) > 0)],
     r'mask of a bag of 2 patches must have the shape \(2,\), got \(3,\)'),
    (None, lambda: [sample(2, mask=torch.ones(2) > 0), sample(2)],
     '1 of 2 bags have a mask'),
    (None, lambda: [sample(2, coords=torch.zeros(3, 2))],
     'coords of a bag of 2 patches')])
def test_what_does_not_fit_is_refused(state, samples, message):
    with pytest.raises(ValueError, match=message):
        run(build(state), *samples())


@pytest.mark.parametrize('inputs', [torch.zeros(1, 2, 3), dict(images=[1])])
def test_refuses_batches_of_other_pipelines(inputs):
    with pytest.raises(ValueError, match='PackSlideOmicInputs'):
        build()(dict(inputs=inputs))


def test_refuses_other_initialisations():
    with pytest.raises(ValueError, match="got {'type': 'Normal'}"):
        build(init_cfg=dict(type='Normal'))
    with pytest.raises(ValueError, match=r"got \[{'type': 'Pretrained'"):
        build(init_cfg=[dict(type='Pretrained', checkpoint='a.pth')])


test_refuses_incomplete_scales = refuses(
    lambda **changes: GeneScale().set(scale(**changes)), [
    (dict(mean=torch.zeros(3)), r'mean must have .*\(4,\), got \(3,\): one'),
    (dict(gene_ids=[]), 'at least one gene'),
    (dict(more=1), "'unit'.*got .*'more'")])


class TestCheckpoint:
    def test_without_a_scale_there_is_nothing_in_it(self):
        assert not build().state_dict()

    @pytest.mark.parametrize('load', [
        lambda model, state: model.load_state_dict(state, strict=True),
        lambda model, state: load_state_dict(model, state, strict=True)])
    def test_carries_scale_and_genes(self, load):
        state = scale(log2_offset=.001, clip=5.)
        stored = build(state).state_dict()
        assert all(isinstance(one, torch.Tensor) for one in stored.values())
        model = build()
        load(model, stored)
        assert model.gene_scale.gene_ids == GENES
        got = model.gene_scale.state()
        for name, value in state.items():
            same = (torch.equal(got[name], value)
                    if isinstance(value, torch.Tensor)
                    else list(got[name]) == value if name == 'gene_ids'
                    else got[name] == value)
            assert same, name
        row = sample(genes=expression(4, 3, 2, 1))
        assert torch.equal(run(model, row)['genes'],
                           run(build(state), row)['genes'])

    def test_is_a_copy(self):
        stored = build(scale()).state_dict()
        model = build()
        model.load_state_dict(stored)
        stored['gene_scale.mean'] += 1
        assert torch.equal(model.gene_scale.mean, scale()['mean'])

    def test_replaces_the_numbers_of_the_same_genes(self):
        model = build(scale())
        other = scale(mean=torch.full((4, ), 3.), num_cases=9)
        model.load_state_dict(build(other).state_dict())
        assert model.gene_scale.state()['num_cases'] == 9
        assert (model.gene_scale.mean == 3).all()

    @pytest.mark.parametrize(('genes', 'message'), [
        (GENES[::-1], 'another order, from place 0 on'),
        ((*GENES[:3], 'ENSG7'), rf'lacks 1 \({GENES[3]}\) and adds 1 '
                                r'\(ENSG7\)'),
        (GENES[:3], r'has 3 genes, which are not the 4')])
    def test_of_other_genes_is_refused(self, genes, message):
        stored = build(scale(genes)).state_dict()
        with pytest.raises(ValueError, match=message) as error:
            load_state_dict(build(scale()), stored)
        assert 'the checkpoint that is loaded' in str(error.value)

    def test_without_a_scale_leaves_that_of_the_model(self):
        model = build(scale())
        load_state_dict(model, build().state_dict())
        assert model.gene_scale.gene_ids == GENES

    def test_of_an_earlier_stage_by_init_cfg(self, tmp_path):
        path = tmp_path / 'stage0.pth'
        stored = build(scale()).state_dict()
        torch.save(dict(state_dict={
            f'data_preprocessor.{key}': value
            for key, value in stored.items()}), path)
        init_cfg = dict(type='Pretrained', checkpoint=str(path),
                        prefix='data_preprocessor.')
        model = build(init_cfg=init_cfg)
        assert not model.gene_scale.is_set
        model.init_weights()
        assert model.gene_scale.gene_ids == GENES
        torch.save(dict(state_dict={'data_preprocessor.other':
                                    torch.ones(1)}), path)
        with pytest.raises(ValueError, match='has no scale of genes'):
            build(init_cfg=init_cfg).init_weights()


def test_checks_the_genes_of_a_data_set():
    model = build(scale())
    model.gene_scale.check_genes(list(GENES), 'train')
    with pytest.raises(ValueError, match='val has 0 genes.*gene_list'):
        model.gene_scale.check_genes([], 'val')
