"""The monitor's means are those of the epoch, and dead triplets are told."""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MessageHub
from mmengine.model import BaseDataPreprocessor, BaseModel
from processes import evaluate_on_ranks
from tiny_runs import TinyModel, tiny_runner
from torch import nn

from mmmedmask.engine.held_out import build_held_out
from mmmedmask.engine.hooks.cross_fitted_genes import CrossFittedGenesHook
from mmmedmask.engine.hooks.triplet_monitor import TripletMonitorHook
from mmmedmask.phantoms.slide_omic_cohort import write_slide_omic_cohort
from mmmedmask.registry import DATASETS, MODELS


class Logger(BaseModel):
    """Logs the numbers that it is given, one after the other."""

    def __init__(self, shares, count=6.):
        super().__init__(data_preprocessor=BaseDataPreprocessor())
        self.weight = nn.Parameter(torch.zeros(1))
        self.shares, self.count = iter(shares), count

    def forward(self, inputs, mode='tensor'):
        zero = self.weight.sum()
        share = next(self.shares)
        return dict(loss_tri=zero + share,
                    tri_active=torch.tensor(float(share)),
                    tri_count=torch.tensor(self.count),
                    d2_ap_img=torch.tensor(2. * share))


class Rests(CrossFittedGenesHook):
    """Stands in the run, as if the model were a GiMP."""

    def before_train(self, runner):
        pass


def watch(tmp_path, model, *hooks):
    """Train for two epochs of four iterations; return what was said."""
    runner = tiny_runner(tmp_path, model, by_epoch=True, max_iters=2, hooks=[
        dict(type='mmmedmask.TripletMonitorHook'), *hooks])
    said = dict(info=[], warning=[])
    for level, lines in said.items():
        setattr(runner.logger, level, lines.append)
    runner.train()
    path, = tmp_path.rglob('vis_data/scalars.json')
    scalars = [json.loads(line) for line in path.read_text().splitlines()]
    epochs = [one for one in scalars if 'epoch/tri_active' in one]
    said['warning'] = [line for line in said['warning'] if 'riplets' in line]
    return said, epochs


def test_means_of_each_epoch_are_logged(tmp_path):
    shares = [.5, .25, 0, .25, 0, 0, .1, .02]
    said, epochs = watch(tmp_path, Logger(shares))
    assert [one['epoch/tri_active'] for one in epochs] == \
        pytest.approx([.25, .03])
    assert [one['epoch/d2_ap_img'] for one in epochs] == \
        pytest.approx([.5, .06])
    assert [one['step'] for one in epochs] == [4, 8]
    lines = [line for line in said['info'] if 'Triplets of' in line]
    assert lines == [
        'Triplets of epoch 1: tri_active 0.25, tri_count 6, d2_ap_img 0.5',
        'Triplets of epoch 2: tri_active 0.03, tri_count 6, d2_ap_img 0.06']
    assert not said['warning']


def test_dead_triplets_are_told_with_what_may_help(tmp_path):
    """One active batch keeps an epoch alive; the second has too few."""
    said, _ = watch(tmp_path, Logger([0, 0, 0, .05, .004, 0, .03, 0]))
    line, = said['warning']
    assert '0.85 % were active in epoch 2, less than 1 %' in line
    # These triplets are of slides alone.
    assert 'larger margin' in line
    assert 'CrossFitted' not in line


@pytest.mark.parametrize(
    ('genes', 'slides', 'hooks', 'wanted'), [
        (4, 0, [], ['CrossFittedGenesHook', 'contrast_head=dict(margin=5)']),
        (-1, -2, [], ['CrossFittedGenesHook']),
        # What the advice is about has been done.
        (4, 0, [Rests()], ['contrast_head=dict(margin=5)']),
        (4, 200, [Rests()], ['by 200 (d2_an_img - d2_ap_img)']),
        (-1, 8, [], ['by 8 (d2_an_img - d2_ap_img)'])])
def test_the_advice_is_about_the_half_that_separates(
        tmp_path, genes, slides, hooks, wanted):
    model = Logger([0] * 8)
    plain = model.forward
    model.forward = lambda inputs, mode='tensor': dict(plain(inputs, mode), **{
        name: torch.tensor(float(value))
        for name, value in dict(d2_ap_ge=1, d2_an_ge=1 + genes, d2_ap_img=2,
                                d2_an_img=2 + slides).items()})
    line = watch(tmp_path, model, *hooks)[0]['warning'][0]
    for words in ('CrossFittedGenesHook', 'contrast_head=dict(margin',
                  'd2_an_img - d2_ap_img'):
        assert (words in line) == any(words in part for part in wanted)
    assert all(part in line for part in wanted)


def test_no_triplets_at_all_have_another_cause(tmp_path):
    said, _ = watch(tmp_path, Logger([0] * 8, count=0.))
    assert len(said['warning']) == 2
    assert 'ClassBalancedBatchSampler' in said['warning'][0]
    assert 'Dead' not in said['warning'][0]


def test_a_model_without_triplets_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"TinyModel logs no tri_active, but "
                       r"\['loss', 'loss_a', 'loss_b'\]; remove"):
        watch(tmp_path, TinyModel())


DATASET = dict(
    type='mmmedmask.SlideOmicDataset', ann_file='cohort.csv', split='train',
    feature_root='features',
    expression=dict(path='expression.tsv', unit='fpkm'), pipeline=[
        dict(type='mmmedmask.LoadSlideFeatures'),
        dict(type='mmmedmask.LoadExpression'),
        dict(type='mmmedmask.PackSlideOmicInputs')])


def held_out_runner(folder, **options):
    """What the hook asks a runner for, with a GiMP on drawn patients."""
    config = dict(DATASET, data_root=str(folder), **options)
    dataset = DATASETS.build(config)
    torch.manual_seed(0)
    model = MODELS.build(dict(
        type='mmmedmask.GiMP', contrast_head=dict(
            type='mmmedmask.TripletHead', margin=20.),
        aggregator=dict(
            type='mmmedmask.NystromAggregator', in_dims=5, embed_dims=8,
            num_heads=2, num_landmarks=4, conv_kernel=5),
        gene_encoder=dict(type='mmmedmask.LinearGeneEncoder', num_genes=40,
                          embed_dims=8)))
    model.data_preprocessor.gene_scale.set(dataset.fit_gene_scale())
    scalars, lines = {}, []
    hub = MessageHub.get_instance('held_out')
    return SimpleNamespace(
        model=model, hooks=[], iter=7, epoch=0, message_hub=hub,
        scalars=scalars,
        cfg=Config(dict(train_dataloader=dict(dataset=config))),
        train_dataloader=SimpleNamespace(dataset=dataset,
                                         collate_fn=pseudo_collate),
        visualizer=SimpleNamespace(
            add_scalars=lambda values, step: scalars.update(
                values | dict(step=step))),
        logger=SimpleNamespace(info=lines.append, warning=lines.append),
        lines=lines)


def test_triplets_of_held_out_patients(tmp_path):
    folder = write_slide_omic_cohort(
        tmp_path / 'cohort', num_cases=30, patches=(20, 30), dims=5,
        num_genes=40, num_pathways=2, split_shares=(.5, .3, .2))
    runner = held_out_runner(folder)
    # Vectors that were given are of training patients; nobody else has one.
    runner.model.gene_cache.give({'nobody': torch.zeros(8)})
    hook = TripletMonitorHook(held_out=dict(split='val'))
    hook.before_train(runner)
    dataset = DATASETS.build(dict(DATASET, data_root=str(folder),
                                  split='val'))
    model = runner.model.eval()
    with torch.no_grad():
        batch = model.data_preprocessor(
            pseudo_collate([dataset[place] for place in range(8)]))
        vectors = model(**batch)['patient'].double()
    labels = [sample.gt_label.item() for sample in batch['data_samples']]
    active = []
    for anchor, positive, negative in itertools.permutations(range(8), 3):
        if labels[anchor] == labels[positive] != labels[negative]:
            near, far = (((vectors[anchor] - vectors[other])**2).sum()
                         for other in (positive, negative))
            active.append(float(near - far + 20 > 0))
    assert len(dataset) == 8
    assert 0 < np.mean(active) < 1
    assert runner.scalars['held_out/tri_active'] == pytest.approx(
        np.mean(active), abs=1e-6)
    assert runner.scalars['step'] == 7
    line, = runner.lines
    assert line.startswith('Triplets of 8 held-out patients before training')
    whole = dict(runner.scalars)
    # Again after an epoch, and as two processes of 4 patients each.
    hook.after_train_iter(runner, 0, outputs=dict(
        tri_active=torch.ones(()), tri_count=torch.ones(())))
    hook.after_train_epoch(runner)
    assert 'held-out patients after epoch 1' in runner.lines[-1]
    assert whole.items() <= runner.scalars.items()

    def work(rank):
        alone = held_out_runner(folder)
        TripletMonitorHook(held_out=dict(split='val')).before_train(alone)
        odd = held_out_runner(folder)
        TripletMonitorHook(held_out=dict(split='val'),
                           num_held_out=7).before_train(odd)
        return alone.scalars, odd.lines

    for scalars, lines in evaluate_on_ranks(work, tmp_path):
        assert scalars == pytest.approx(whole, rel=1e-5)
        # As many for each process.
        assert lines[0].startswith('Triplets of 6 held-out patients')
    few = TripletMonitorHook(held_out=dict(split='val'), num_held_out=4)
    few.before_train(runner)
    assert 'Triplets of 4 held-out' in runner.lines[-1]
    for nothing in ({}, dict(split='train')):
        with pytest.raises(ValueError, match='nothing is held out'):
            TripletMonitorHook(held_out=nothing).before_train(runner)


def test_who_has_no_slides_is_not_held_out(tmp_path):
    """Nothing of them can be measured."""
    folder = write_slide_omic_cohort(
        tmp_path / 'cohort', num_cases=30, patches=(20, 30), dims=5,
        num_genes=40, num_pathways=2, split_shares=(.5, .3, .2),
        cases_without_slides=10)
    runner = held_out_runner(folder, missing_slides='keep')
    hook = TripletMonitorHook(held_out=dict(split='val'))
    hook.before_train(runner)
    has = build_held_out(
        runner.cfg, dict(split='val')).get_num_patches() > 0
    assert 0 < has.sum() < len(has)
    line, = runner.lines
    assert line.startswith(f'Triplets of {has.sum()} held-out patients')
