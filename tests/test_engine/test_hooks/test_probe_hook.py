"""The probe during training: its scores, floors, files, and its silence."""

import copy
import csv
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import ConcatDataset
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import EarlyStoppingHook
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from PIL import Image
from processes import evaluate_on_ranks
from tiny_runs import (
    TinyImages,
    TinyModel,
    copies,
    dataset,
    image_runner,
    msmae_config,
    msmae_model,
    noting,
    tiny_runner,
    write_images,
)
from torchvision.models import resnet18

from mmmedmask.datasets import LabelledImages, TileFolder
from mmmedmask.datasets.coco_instances import encode_mask
from mmmedmask.datasets.probe_sets import (
    ProbeSet,
    load_image,
    read_probe_sets,
)
from mmmedmask.engine import probing
from mmmedmask.engine.frozen_features import FrozenFeatures
from mmmedmask.engine.hooks import BestCheckpointHook, probe_hook
from mmmedmask.engine.hooks.probe_hook import (
    BAG_PIPELINE,
    COLUMNS,
    ProbeHook,
)
from mmmedmask.engine.probing import (
    BagProbe,
    DenseProbe,
    ImageProbe,
    build_probes,
    score_encoder,
)
from mmmedmask.evaluation.probes import ProbeScore
from mmmedmask.models.layers.feature_norm import FeatureNorm
from mmmedmask.phantoms.slide_omic_cohort import write_slide_omic_cohort
from mmmedmask.util.atomic_files import write_csv
from mmmedmask.util.input_units import InputUnits
from mmmedmask.util.table_files import read_table


def read_probe_scores(file):
    """Read the scores of ``probe.csv``."""
    kinds = dict.fromkeys(COLUMNS, float) | dict(epoch=int, probe=str)
    return [{name: kinds[name](cell) for name, cell in row.items()}
            for _, row in read_table(file).rows()]


def draw_disc(file, bright, random):
    """A disc on a ground, of equal mean colour for both classes."""
    rows, columns = np.mgrid[:32, :32]
    row, column = random.integers(10, 22, 2)
    disc = (rows - row)**2 + (columns - column)**2 < 60
    image = np.where(disc == bright, 170, 90) + random.integers(
        -15, 16, (32, 32))
    image = image - image.mean() + 128
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack([image] * 3, axis=-1).clip(0, 255).astype(
        np.uint8)).save(file)


@pytest.fixture(scope='module')
def discs(tmp_path_factory):
    """Folders per split and class, and a COCO set with the discs as masks."""
    folder = tmp_path_factory.mktemp('discs')
    random = np.random.default_rng(0)
    for split, count in (('training', 12), ('test', 10)):
        for name in ('bright', 'dark'):
            for number in range(count):
                draw_disc(folder / split / name / f'{number}.png',
                          name == 'bright', random)
    return folder


@pytest.fixture(scope='module')
def squares(tmp_path_factory):
    """Images with bright squares, their masks in COCO's format."""
    folder = tmp_path_factory.mktemp('squares')
    random = np.random.default_rng(1)
    (folder / 'images').mkdir()
    (folder / 'annotations').mkdir()
    for split in ('train', 'test'):
        images, annotations = [], []
        for number in range(4):
            mask = np.zeros((32, 40), bool)
            top, left = random.integers(0, 16, 2)
            mask[top:top + 14, left:left + 14] = True
            gray = np.where(mask, 150, 100) + random.integers(
                -60, 61, mask.shape)
            name = f'{split}{number}.png'
            Image.fromarray(np.stack([gray] * 3, -1).astype(np.uint8)).save(
                folder / 'images' / name)
            images.append(dict(id=number, file_name=name, height=32, width=40))
            annotations.append(dict(id=number, image_id=number, category_id=1,
                                    segmentation=encode_mask(mask)))
        (folder / 'annotations' / f'{split}.json').write_text(
            json.dumps(dict(images=images, annotations=annotations)))
    return folder


def run(config_file, work_dir, hooks=(), epochs=3, **changes):
    """Train the tiny classifier with hooks."""
    config = Config.fromfile(config_file)
    config.merge_from_dict({
        'work_dir': str(work_dir), 'train_cfg.max_epochs': epochs,
        'train_cfg.val_interval': 100, 'custom_hooks': list(hooks),
        'optim_wrapper.optimizer.lr': 0.05, **changes})
    runner = Runner.from_cfg(config)
    runner.train()
    return runner


def probe(discs, squares, **options):
    return dict(type='mmmedmask.ProbeHook', data=str(discs),
                dense=str(squares), interval=2, few=[1, None], **options)


def test_scores_floors_table_picture_and_best(tiny_classification, discs,
                                              squares, tmp_path, monkeypatch):
    run(tiny_classification, tmp_path,
        [probe(discs, squares, colors=['rgb', 'gray'])],
        **{'default_hooks.checkpoint.save_best': 'probe/rgb/knn',
           'default_hooks.checkpoint.rule': 'greater'})
    with (tmp_path / 'probe.csv').open(newline='') as stream:
        rows = list(csv.DictReader(stream))
    names = ['rgb/knn', 'rgb/logistic', 'gray/knn', 'gray/logistic',
             'pixels/dense_1', 'pixels/dense_all']
    assert [(int(row['epoch']), row['probe']) for row in rows] == [
        (epoch, name) for epoch in (0, 2, 3) for name in names]
    for row in rows:
        assert float(row['low']) <= float(row['value']) <= float(row['high'])
        assert float(row['chance']) == 0.5
    # All images are gray already, and each has the mean of all others.
    by_name = {row['probe']: row for row in rows if row['epoch'] == '3'}
    assert by_name['rgb/knn']['value'] == by_name['gray/knn']['value']
    # The brightness of a pixel tells something of its mask.
    assert float(by_name['pixels/dense_all']["plain"]) > 0.6
    assert Image.open(tmp_path / 'probe.png').size[0] > 1000
    with monkeypatch.context() as patched:
        drawn = {}
        patched.setattr(probe_hook, 'draw_curves', lambda curves, **settings:
                        drawn.update(settings))
        probe_hook.draw_probes(read_probe_scores(tmp_path / 'probe.csv'))
        assert list(drawn['references']) == names
        for name, floors in drawn['references'].items():
            assert floors == pytest.approx({
                label: 100 * float(by_name[name][column]) for label, column in
                (('random weights', 'random'), ('colour', 'plain'),
                 ('chance', 'chance'))})
    assert list(tmp_path.glob('best_probe_rgb_knn_epoch_[23].pth'))


class Scripted(ProbeHook):
    """A probe of given values: of random weights, then one per look."""

    images = ProbeSet((Path('a/0.png'), ))

    def __init__(self, values):
        super().__init__(interval=5)
        self.values = iter(values)
        self.scored = {}

    def _build_probes(self, runner, model):
        floor = ProbeScore('knn', .5, 0, 1, .5)
        return dict(rgb=SimpleNamespace(
            plain_floor=lambda: [floor], floor_name='colour',
            train=self.images, test=self.images))

    def _score(self, model, encoder):
        self.scored = copies(encoder.state_dict())
        return {'rgb/knn': ProbeScore('knn', next(self.values), 0, 1, .5)}


class Half(BaseMetric):
    """A metric that is the same each time."""

    def process(self, data_batch, data_samples):
        self.results.append(.5)

    def compute_metrics(self, results):
        return dict(half=results[0])


def run_scripted(monkeypatch, work_dir, values, val_interval=1, hooks=(),
                 kind='mmmedmask.SafeCheckpointHook', by_epoch=True,
                 save_best='probe/rgb/knn', length=2, checkpoint=None,
                 **settings):
    """Train for ten epochs, the best told by a scripted probe, and give it.

    The data's length is twice the iterations of an epoch.
    """
    monkeypatch.setattr('mmmedmask.engine.hooks.probe_hook.untrained_encoder',
                        lambda model, seed: torch.nn.Identity())
    cycle = dict(by_epoch=True, max_epochs=10) if by_epoch else dict(
        by_epoch=False, max_iters=10)
    probe = Scripted(values)
    best = [BestCheckpointHook()] if isinstance(save_best, str) else []
    tiny_runner(
        work_dir, TinyModel(), [probe, *best, *hooks],
        by_epoch=by_epoch, length=length,
        cfg=dict(model=dict()),
        train_cfg=dict(cycle, val_interval=val_interval), val_cfg=dict(),
        val_dataloader=dict(
            dataset=TinyImages(2), batch_size=2, num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate')),
        val_evaluator=Evaluator(Half()), default_hooks=dict(checkpoint=dict(
            type=kind, interval=1, by_epoch=by_epoch, save_best=save_best,
            rule='greater') | (checkpoint or {})), **settings).train()
    return probe


def assert_best_is(work_dir, *names):
    assert {file.name for file in work_dir.glob('best_*.pth')} == {*names}
    if len(names) == 1:
        assert (work_dir / 'best.pth').samefile(work_dir / names[0])


@pytest.mark.parametrize('val_interval', [1, 3, 5])
@pytest.mark.parametrize('kind', ['CheckpointHook',
                                  'mmmedmask.SafeCheckpointHook'])
def test_the_best_is_of_the_epoch_that_was_scored(monkeypatch, tmp_path, kind,
                                                  val_interval):
    """Scores count after epochs 5 and 10, random weights never."""
    run_scripted(monkeypatch, tmp_path / 'high', [.5, .6, .9, .8],
                 val_interval, kind=kind)
    assert_best_is(tmp_path / 'high', 'best_probe_rgb_knn_epoch_5.pth')
    run_scripted(monkeypatch, tmp_path / 'low', [.5, .6, .1, .2],
                 val_interval, kind=kind)
    assert_best_is(tmp_path / 'low', 'best_probe_rgb_knn_epoch_10.pth')


@pytest.mark.parametrize(('moment', 'epoch', 'values'), [
    ('before_val', 5, [.5, .8]), ('before_train_iter', 5, [.5, .8]),
    # A run that goes on between two probes begins with one.
    ('before_train_iter', 7, [.5, .7, .8])])
def test_a_resumed_run_finds_the_same_best(monkeypatch, tmp_path, moment,
                                           epoch, values):
    """Killed before and after the checkpoint was offered a score."""
    def stop(runner, **_):
        if runner.epoch == epoch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_scripted(monkeypatch, tmp_path, [.5, .6, .9],
                     hooks=[noting(moment, stop)[0]])
    run_scripted(monkeypatch, tmp_path, values, resume=True)
    assert_best_is(tmp_path, 'best_probe_rgb_knn_epoch_5.pth')


@pytest.mark.parametrize(('moment', 'iteration', 'first', 'values'), [
    # Of weights in the middle of epoch 6 there is no score.
    ('before_train_iter', 11, [.5, .6, .9], [.5, .8]),
    # Epoch 5 is over but for its probe.
    ('after_train_epoch', 10, [.5, .6], [.5, .9, .8])])
def test_a_run_that_goes_on_within_an_epoch(monkeypatch, tmp_path, moment,
                                            iteration, first, values):
    def stop(runner, **_):
        if runner.iter == iteration:
            raise KeyboardInterrupt

    settings = dict(length=4, checkpoint=dict(by_epoch=False))
    seeded = dict(type='mmmedmask.SeededDrawsHook')
    with pytest.raises(KeyboardInterrupt):
        run_scripted(monkeypatch, tmp_path, first, hooks=[
            noting(moment, stop)[0], seeded], **settings)
    run_scripted(monkeypatch, tmp_path, values, hooks=[seeded], resume=True,
                 **settings)
    assert_best_is(tmp_path, 'best_probe_rgb_knn_iter_10.pth')
    assert scripted_scores(tmp_path) == [(0, .6), (5, .9), (10, .8)]


def scripted_scores(folder):
    return [(row['epoch'], row['value'])
            for row in read_probe_scores(folder / 'probe.csv')]


def test_tables_of_other_runs_and_images_are_set_aside(monkeypatch, tmp_path):
    one, other = tmp_path / 'one', tmp_path / 'other'
    run_scripted(monkeypatch, one, [.5, .6, .9, .8])
    run_scripted(monkeypatch, other, [.5, .1, .2, .3])
    go_on = dict(resume=True, load_from=str(one / 'epoch_5.pth'))
    run_scripted(monkeypatch, other, [.5, .7], **go_on)
    assert scripted_scores(other) == [(0, .6), (5, .9), (10, .7)]
    monkeypatch.setattr(Scripted, 'images', ProbeSet((Path('a/1.png'), )))
    run_scripted(monkeypatch, other, [.5, .4, .3], **go_on)
    assert scripted_scores(other) == [(5, .4), (10, .3)]
    run_scripted(monkeypatch, other, [.5, .4, .3, .2])
    assert [scripted_scores(other / 'superseded' / number)[-1]
            for number in '123'] == [(10, .3), (10, .7), (10, .3)]


def test_scores_on_other_images_are_not_compared(monkeypatch, tmp_path):
    """The best is looked for anew, and early stopping waits anew."""
    def train(values, **go_on):
        stopper = EarlyStoppingHook('probe/rgb/knn', 'greater', strict=False)
        note, waited = noting('before_train_iter', lambda runner, **_: (
            stopper.best_score, stopper.wait_count))
        run_scripted(monkeypatch, tmp_path, values, hooks=[stopper, note],
                     **go_on)
        return waited[0]

    best = 'best_probe_rgb_knn_epoch_{}.pth'.format
    go_on = dict(resume=True, load_from=str(tmp_path / 'epoch_7.pth'))
    train([.5, .6, .9, .8])
    assert_best_is(tmp_path, best(5))
    assert train([.5, .8, .7], **go_on)[0] == .9
    assert_best_is(tmp_path, best(5))
    monkeypatch.setattr(Scripted, 'images', ProbeSet((Path('a/1.png'), )))
    assert train([.5, .1, .3], **go_on) == (.1, 0)
    assert_best_is(tmp_path, best(10))
    assert (tmp_path / 'superseded/2' / best(5)).is_file()


@pytest.mark.parametrize('save_best', [
    'probe/rgb/knn', ['probe/rgb/knn', 'half']])
def test_nor_does_the_hook_of_mmengine(monkeypatch, tmp_path, save_best):
    settings = dict(kind='CheckpointHook', save_best=save_best)
    run_scripted(monkeypatch, tmp_path, [.5, .6, .9, .8], **settings)
    monkeypatch.setattr(Scripted, 'images', ProbeSet((Path('a/1.png'), )))
    run_scripted(monkeypatch, tmp_path, [.5, .1, .3], resume=True,
                 load_from=str(tmp_path / 'epoch_7.pth'), **settings)
    assert (tmp_path / 'best_probe_rgb_knn_epoch_10.pth').is_file()


def test_states_of_earlier_versions_keep_their_table(monkeypatch, tmp_path):
    """They have no rows of it."""
    run_scripted(monkeypatch, tmp_path, [.5, .6, .9, .8])
    file = tmp_path / 'epoch_5.pth'
    state = torch.load(file, weights_only=False)
    del state['message_hub']['runtime_info']['probe.csv']
    torch.save(state, file)
    run_scripted(monkeypatch, tmp_path, [.5, .7], resume=True,
                 load_from=str(file))
    assert scripted_scores(tmp_path) == [(0, .6), (5, .9), (10, .7)]
    # Later checkpoints are set aside, and a fresh start does it with all.
    assert not (tmp_path / 'superseded/1/probe.csv').exists()
    run_scripted(monkeypatch, tmp_path, [.5, .4, .3, .2])
    place = tmp_path / 'superseded' / '2'
    assert scripted_scores(place)[-1] == (10, .7)
    assert (place / 'epoch_10.pth').is_file()


def test_averaged_weights_are_scored_as_checkpoints_hold_them(monkeypatch,
                                                              tmp_path):
    probe = run_scripted(monkeypatch, tmp_path, [.5, .6, .1, .2],
                         hooks=[dict(type='EMAHook', momentum=.5)])
    best, = tmp_path.glob('best_*.pth')
    saved = torch.load(best, weights_only=False)['state_dict']
    for name, value in probe.scored.items():
        assert torch.equal(saved[f'backbone.{name}'], value), name


def test_the_best_by_a_probe_and_by_a_metric(monkeypatch, tmp_path):
    run_scripted(monkeypatch, tmp_path, [.5, .6, .9, .8], 3,
                 save_best=['probe/rgb/knn', 'half'])
    assert_best_is(tmp_path, 'best_probe_rgb_knn_epoch_5.pth',
                   'best_half_epoch_10.pth')


def test_the_best_where_iterations_count(monkeypatch, tmp_path):
    """The probe looks before and after: only its last score is offered."""
    run_scripted(monkeypatch, tmp_path, [.5, .6, .4], by_epoch=False)
    assert_best_is(tmp_path, 'best_probe_rgb_knn_iter_10.pth')


def test_a_probe_that_there_is_not_is_no_best(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="save_best is 'probe/gray/knn', and"):
        run_scripted(monkeypatch, tmp_path, [.5, .6],
                     save_best='probe/gray/knn')


@pytest.mark.usefixtures('quick_probes')
def test_training_is_the_same_to_the_bit_and_a_resumed_run_keeps_its_rows(
        tiny_classification, discs, squares, tmp_path):
    hooks = [probe(discs, squares)]
    plain, probed = (
        run(tiny_classification, folder, some, epochs=2).model.state_dict()
        for folder, some in ((tmp_path / 'plain', []), (tmp_path, hooks)))
    for name, value in plain.items():
        assert torch.equal(value, probed[name]), name
    before = read_probe_scores(tmp_path / 'probe.csv')
    run(tiny_classification, tmp_path, hooks, epochs=4, resume=True)
    after = read_probe_scores(tmp_path / 'probe.csv')
    assert after[:len(before)] == before
    assert sorted({row['epoch'] for row in after}) == [0, 2, 4]


def test_two_ranks_score_as_one_process(discs, squares, tmp_path):
    torch.manual_seed(0)
    encoder = resnet18(weights=None)
    encoder.eval()

    def scores(rank=0):
        mean = (120., ) * 3
        # BatchNorm is left as it is: batches of ranks are others.
        features = FrozenFeatures(encoder, mean, mean)
        train, test = read_probe_sets(discs)
        masked = read_probe_sets(squares)
        return [score.value
                for probe in (ImageProbe(train, test, batch_size=5),
                              ImageProbe(train, test, batch_size=5,
                                         color='standardized'),
                              DenseProbe(*masked, few=(1, None)))
                for score in (*probe.run(features), *probe.plain_floor())]

    alone = pytest.approx(scores(), abs=1e-6)
    assert evaluate_on_ranks(scores, tmp_path) == [alone, alone]


def test_ranks_without_an_image_or_a_patient(discs, cohort, tmp_path):
    """Of two to test on, the third rank has none."""
    torch.manual_seed(0)
    encoder = resnet18(weights=None)
    encoder.eval()

    def scores(rank=0):
        train, test = read_probe_sets(discs)
        image = ImageProbe(train, test.thin(2), batch_size=5)
        bags, aggregator = bag_probe(cohort)
        usable = bags.usable
        bags.usable = lambda which: usable(which)[:2 if which == 'test'
                                                  else None]
        return [score.value for score in (
            *image.run(FrozenFeatures(encoder, *[(120., ) * 3] * 2)),
            *image.plain_floor(), *bags.run(aggregator),
            *bags.plain_floor())]

    alone = pytest.approx(scores(), abs=1e-6, nan_ok=True)
    assert evaluate_on_ranks(scores, tmp_path, 3) == [alone] * 3


def test_an_error_of_one_rank_is_one_of_all(discs, squares, cohort, tmp_path):
    """Nobody waits for a rank that has failed."""
    torch.manual_seed(0)
    encoder = resnet18(weights=None)
    train, test = read_probe_sets(discs)
    pixels = np.zeros((2, 32, 40, 3), np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f'{number}.png')

    def changed(part, *places):
        paths = list(part.paths)
        for number, place in enumerate(places):
            paths[place] = tmp_path / f'{number % 2}.png'
        return replace(part, paths=tuple(paths))

    def fail(rank, failing):
        """Fail on one rank as an argument is used there."""
        if rank == failing:
            raise ZeroDivisionError('of this rank')

    def errors(rank):
        mean = (120., ) * 3
        bags, aggregator = bag_probe(cohort, norm_features=True)
        bag = bags.preprocessor.forward
        bags.preprocessor.forward = lambda *args: fail(rank, 1) or bag(*args)
        masked = DenseProbe(*read_probe_sets(squares), few=(1, ))
        samples = masked.samples
        masked.samples = lambda which: fail(rank, 0) or samples(which)
        features = FrozenFeatures(encoder, mean, mean)
        one, half, rest = (
            ImageProbe(train, changed(test, 1)),
            ImageProbe(changed(train, *range(1, len(train.paths), 2)), test),
            ImageProbe(train, test))
        texts = []
        for work in (
                lambda: one.run(features), lambda: half.run(features),
                lambda: masked.run(features), lambda: bags.run(aggregator),
                lambda: score_encoder(encoder, InputUnits(), dict(rgb=half)),
                lambda: rest._score(lambda batch: fail(
                    rank, 1) or probing.color_vectors(batch)),
                lambda: probing._on_main(lambda: fail(rank, 0))):
            with pytest.raises(Exception) as caught:  # noqa: PT011
                work()
            texts.append(str(caught.value))
        return [*texts, rest.run(features)[0].name]

    size = re.escape('images to probe on have different sizes, such as')
    both = evaluate_on_ranks(errors, tmp_path)
    for rank, (one, half, masked, bags, measured, encoded, main,
               last) in enumerate(both):
        told = 'rank {} has failed: '.format
        assert re.search(size, one)
        assert (told(1) in one) == (rank == 0)
        assert re.match(size, half)
        assert last == 'knn'
        for text, failing in ((masked, 0), (bags, 1), (encoded, 1),
                              (main, 0)):
            assert text == (
                'of this rank' if rank == failing else
                f'{told(failing)}ZeroDivisionError: of this rank')
        assert re.search(size, measured)


def test_scores_do_not_depend_on_what_else_is_probed(discs, squares, tmp_path):
    for number, file in enumerate(sorted(discs.rglob('*.png'))):
        image = np.array(Image.open(file)).astype(float)
        image *= np.random.default_rng(number).uniform(0.4, 1.2, 3)
        target = tmp_path / file.relative_to(discs)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(target)
    torch.manual_seed(0)
    encoder = resnet18(weights=None)
    units = SimpleNamespace(mean=torch.full((3, ), 120.),
                            std=torch.full((3, ), 60.))

    def scores(encoder=encoder, **options):
        return {name: score.value for name, score in score_encoder(
            encoder, units, probing.build_probes(**options)).items()}

    data, dense = str(tmp_path), str(squares)
    colors = ['rgb', 'gray', 'jitter']
    expected = scores(data=data, dense=dense, colors=colors)
    assert scores(data=data, dense=dense, colors=colors[::-1]) == expected
    # Nor on the mode in which the encoder is.
    for color in colors:
        found = scores(copy.deepcopy(encoder).eval(), data=data, dense=None,
                       colors=[color])
        assert found == {name: expected[name] for name in found}
        assert len(found) == 2
    found = scores(data=None, dense=dense)
    assert found == {name: expected[name] for name in found}
    assert len(found) >= 2


def test_the_jitter_does_not_name_the_class(tmp_path):
    """With as many images in each class of both splits, places name it."""
    random = np.random.default_rng(0)
    for split in ('training', 'test'):
        for name in 'abcd':
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(60):
                Image.fromarray(random.integers(
                    100, 150, (8, 8, 3), np.uint8)).save(
                        tmp_path / split / name / f'{number}.png')
    train, test = read_probe_sets(tmp_path)
    neighbours, _ = ImageProbe(train, test, color='jitter').plain_floor()
    # Chance is 25 %; with shared draws it is above 60.
    assert neighbours.value < 0.4
    # An image's jitter is its own, wherever it stands in the list.
    order = np.random.default_rng(1).permutation(len(train.paths))
    other = replace(train, paths=tuple(train.paths[place] for place in order),
                    labels=train.labels[order])
    first, second = (torch.cat(list(
        ImageProbe(some, test, color='jitter').batches('train')))
        for some in (train, other))
    assert torch.equal(first[order.tolist()], second)


def test_what_is_not_an_image_gives_no_sample_and_no_class(discs, tmp_path):
    copied = shutil.copytree(discs, tmp_path / 'discs')
    train, _ = read_probe_sets(copied)
    split = train.paths[0].parents[1]
    (train.paths[0].parent / 'Thumbs.db').write_bytes(b'a list of pictures')
    (train.paths[0].parent / '._a.png').write_bytes(b'of another system')
    (split / '.ipynb_checkpoints').mkdir()
    again, _ = read_probe_sets(copied)
    assert (again.paths, again.classes) == (train.paths, train.classes)
    (split / 'no_image').mkdir()
    with pytest.raises(FileNotFoundError, match='no_image holds no image'):
        read_probe_sets(copied)


def test_images_that_statistics_are_measured_on(discs, squares, tmp_path):
    train, test = read_probe_sets(discs)
    odd = replace(train, paths=train.paths[:23], labels=train.labels[:23])
    probe = ImageProbe(odd, test, batch_size=5)
    batches = list(probe.training_batches())
    assert [len(batch) for batch in batches] == [5, 5, 5, 4, 4]
    # At random: classes lie one after the other in the list.
    first = [bool((image == batches[0]).flatten(1).all(1).any())
             for image in torch.stack([load_image(path)
                                       for path in odd.paths])]
    assert sum(first) == 5
    assert any(first[:12])
    assert any(first[12:])
    masked = read_probe_sets(squares)
    middles, = DenseProbe(*masked, max_images=3).training_batches()
    assert middles.shape == (3, 3, 32, 40)
    with pytest.raises(ValueError, match='give the probe a size'):
        list(ImageProbe(replace(masked[0], paths=(
            masked[0].paths[0], test.paths[0])), test).training_batches())
    few = ImageProbe(odd.thin(1), test)
    (tmp_path / 'few').mkdir()
    assert evaluate_on_ranks(
        lambda rank: [len(batch) for batch in few.training_batches()],
        tmp_path / 'few') == [[1]] * 2
    # All ranks bring as many batches and images.
    assert evaluate_on_ranks(
        lambda rank: [len(batch) for some in (
            probe, DenseProbe(*masked, max_images=3))
            for batch in some.training_batches()],
        tmp_path) == [[4, 4, 3, 1]] * 2


@pytest.mark.usefixtures('quick_probes')
def test_folders_that_are_not_there(tiny_classification, discs, tmp_path):
    lost = probe(discs, tmp_path / 'no')
    with pytest.raises(FileNotFoundError, match='no folder .*no'):
        run(tiny_classification, tmp_path, [lost], epochs=1)
    for place, (data, expected) in enumerate([
            (discs, {'rgb/knn', 'rgb/logistic'}), (tmp_path / 'x', None)]):
        folder = tmp_path / str(place)
        hook = lost | dict(data=str(data), optional=True)
        # Runs of one second would have one name, and so one log.
        runner = run(tiny_classification, folder, [hook], epochs=1,
                     experiment_name=f'lost_{place}')
        log = next(Path(runner.log_dir).glob('*.log')).read_text()
        assert f'there is no folder or table {tmp_path / "no"}' in log
        assert ('ProbeHook rests: there is nothing' in log) == (
            expected is None)
        assert (folder / 'probe.csv').is_file() == (expected is not None)
        if expected:
            assert {row['probe'] for row in read_probe_scores(
                folder / 'probe.csv')} == expected
    with pytest.raises(ValueError, match='save_best names a probe'):
        run(tiny_classification, tmp_path / '2', [hook], epochs=1,
            **{'default_hooks.checkpoint.save_best': 'probe/rgb/knn',
               'default_hooks.checkpoint.rule': 'greater'})


@pytest.mark.usefixtures('quick_probes')
def test_the_labels_of_the_training_set(tmp_path):
    write_images(tmp_path / 'data', 12)
    splits = tmp_path / 'data' / 'splits' / 'paper'
    header, *rows = (splits / 'train.csv').read_text().splitlines(True)
    for part, some in (('train', rows[:8]), ('val', rows[8:])):
        (splits / f'{part}.csv').write_text(header + ''.join(some))
    runner = image_runner(
        tmp_path, msmae_model(), dataset(tmp_path / 'data'), epochs=1,
        # All labels are probed, though an epoch sees a batch alone.
        loader=dict(num_batch_per_epoch=1),
        hooks=[ProbeHook(size=16, max_images=8)])
    runner.cfg.model = msmae_config()
    runner.train()
    rows = read_probe_scores(tmp_path / 'probe.csv')
    assert {row['probe'] for row in rows} == {'rgb/knn', 'rgb/logistic'}
    assert {row['epoch'] for row in rows} == {0, 1}


def write_splits(root, number=8, **splits):
    """Draw images; of each split the last ``val`` are to test."""
    write_images(root, number)
    header, *rows = (root / 'splits/paper/train.csv').read_text(
        ).splitlines(True)
    shutil.rmtree(root / 'splits')
    for name, val in splits.items():
        folder = root / 'splits' / name.replace('_', '-')
        folder.mkdir(parents=True)
        for part, some in (('train', [row for row in rows if row not in [
                rows[place] for place in val]]),
                           ('val', [rows[place] for place in val])):
            (folder / f'{part}.csv').write_text(header + ''.join(some))


@pytest.mark.usefixtures('quick_probes')
@pytest.mark.parametrize(('data', 'split', 'expected'), [
    (LabelledImages, None, None),
    (LabelledImages, 'splits/paper', '2 of 3 .* with their labels'),
    (TileFolder, None, '3 of 3 .* without labels: new')])
def test_the_split_of_the_training_set_is_probed(
        tmp_path, monkeypatch, data, split, expected):
    """The paper's test images are trained on in the other split."""
    root = tmp_path / 'data'
    write_splits(root, grouped=(5, 6, 7), other=(3, 4, 5), paper=(0, 1, 5))
    lines = []
    for module in ('engine.probing', 'datasets.probe_sets'):
        monkeypatch.setattr(f'mmmedmask.{module}.print_log',
                            lambda line, **_: lines.append(line))
    train = data(str(root), split_folder='splits/other') \
        if data is LabelledImages else data(str(root / 'images'))
    runner = SimpleNamespace(train_dataloader=SimpleNamespace(
        dataset=ConcatDataset([train])))
    rgb = ProbeHook(str(root), split_folder=split)._build_probes(
        runner, None)['rgb']
    folder = split or ('splits/other' if data is LabelledImages
                       else 'splits/grouped')
    assert (rgb.train.paths, rgb.test.paths) == tuple(
        part.paths for part in read_probe_sets(root, folder))
    assert f'{root} is probed on {folder}: fitted on train, ' in lines[0]
    trained = [line for line in lines if 'training set' in line]
    assert len(trained) == (expected is not None)
    assert re.search(expected or '', ''.join(trained))


@pytest.mark.parametrize(('splits', 'expected'), [
    (('grouped', 'paper'), 'grouped'), (('lesion', 'paper'), 'lesion'),
    (('official', 'clean', 'clean_train'), 'clean-train'),
    (('paper', 'patient'), 'patient'), (('mine', 'paper'), 'paper'),
    (('mine', ), 'mine'), (('mine', 'yours'), None), ((), None)])
def test_a_split_that_leaks_nothing_is_probed(tmp_path, splits, expected):
    write_splits(tmp_path, **{
        name: (place, 7) for place, name in enumerate(splits)})
    if expected is None:
        with pytest.raises(FileNotFoundError, match=re.escape(
                f'has the splits {sorted(splits)}, and none of')):
            read_probe_sets(tmp_path)
        return
    chosen, named = (read_probe_sets(tmp_path, name)
                     for name in (None, f'splits/{expected}'))
    assert chosen[1].paths == named[1].paths
    place = splits.index(expected.replace('-', '_'))
    assert [path.stem for path in chosen[1].paths] == [str(place), '7']


@pytest.fixture(scope='module')
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp('cohort')
    write_slide_omic_cohort(folder, 20, num_genes=40)
    # Drawn slides have a mean of zero; these have one that tells the class.
    with (folder / 'cohort.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row['label'] == rows[0]['label']:
            file = folder / 'features' / f'{row["slide_id"]}.h5'
            with h5py.File(file, 'r+') as slide:
                slide['features'][...] += 1
    return folder


def bag_probe(cohort, case_agg='concat', **options):
    """A probe of the drawn cohort, and an aggregator."""
    splits = [DATASETS.build(dict(
        type='mmmedmask.SlideOmicDataset', data_root=str(cohort),
        ann_file='cohort.csv', feature_root='features', modalities=['slides'],
        pipeline=BAG_PIPELINE, case_agg=case_agg, split=split))
        for split in ('train', 'test')]
    torch.manual_seed(0)
    aggregator = MODELS.build(dict(
        type='mmmedmask.NystromAggregator', num_heads=2, embed_dims=8,
        in_dims=splits[0].get_data_info(0)['dims'], **options))
    return BagProbe(*splits, MODELS.build(dict(
        type='mmmedmask.SlideOmicDataPreprocessor'))), aggregator


@pytest.mark.parametrize('norm_features', [False, True])
def test_bags_of_two_ranks_are_scored_as_by_one(cohort, tmp_path,
                                                norm_features):
    def scores(rank=0):
        probe, aggregator = bag_probe(cohort, norm_features=norm_features)
        usable = probe.usable
        # An odd number: one rank has a bag more.
        probe.usable = lambda which: usable(which)[
            1 - len(usable(which)) % 2:]
        return list(zip(*((score.name, score.value) for score in (
            *probe.run(aggregator), *probe.plain_floor())), strict=True))

    names, alone = scores()
    assert names == ('knn', 'logistic') * 2
    # The mean of the patches tells the class.
    assert alone[3] == 1
    assert evaluate_on_ranks(scores, tmp_path) == [
        [list(names), pytest.approx(alone)]] * 2


@pytest.mark.parametrize('norm_features', [False, True])
def test_vectors_of_bags_are_those_of_the_aggregator(cohort, monkeypatch,
                                                     norm_features):
    probe, aggregator = bag_probe(cohort, norm_features=norm_features)
    aggregator.train()
    seen = {}
    monkeypatch.setattr(
        probing, 'score_vectors', lambda vectors, labels, classes, *rest:
        seen.update(vectors=vectors, labels=labels, classes=classes))
    probe.run(aggregator)
    assert aggregator.training
    aggregator.eval()
    if norm_features:
        # Each training bag is seen once, as in a first epoch.
        norm, = (module for module in aggregator.modules()
                 if isinstance(module, FeatureNorm))
        assert not norm.num_patches
        norm.train()
        for index in range(len(probe.train)):
            norm(probe.train[index]['inputs']['patches'].float())
        norm.eval()
    for which, data in (('train', probe.train), ('test', probe.test)):
        assert len(data) == len(seen['vectors'][which])
        for index in range(len(data)):
            patches = data[index]['inputs']['patches'].float()[None]
            with torch.no_grad():
                expected = aggregator(patches)[0][0]
            torch.testing.assert_close(
                seen['vectors'][which][index], expected, atol=1e-4, rtol=1e-4)
            assert seen['labels'][which][index] == data.get_data_info(
                index)['gt_label']
    assert seen['classes'] == 2


def test_floor_of_bags_is_mean_and_deviation(cohort, monkeypatch):
    probe, _ = bag_probe(cohort)
    seen = {}
    monkeypatch.setattr(probing, 'score_vectors',
                        lambda vectors, *rest: seen.update(vectors))
    probe.plain_floor()
    for which, data in (('train', probe.train), ('test', probe.test)):
        bags = [data[index]['inputs']['patches'].double().numpy()
                for index in range(len(data))]
        np.testing.assert_allclose(
            seen[which], [[*bag.mean(axis=0), *bag.std(axis=0)]
                          for bag in bags], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('case_agg', ['concat', 'separate'])
def test_slides_of_a_patient_stay_together(tmp_path, monkeypatch, case_agg):
    """In folds and in resamples; one bag per patient needs no groups."""
    write_slide_omic_cohort(tmp_path, 10, slides_per_case=(2, 2),
                            num_genes=40)
    probe, aggregator = bag_probe(tmp_path, case_agg)
    seen = []
    monkeypatch.setattr(probing, 'score_vectors', lambda *arguments:
                        seen.append(arguments[3]))
    probe.run(aggregator)
    probe.plain_floor()
    cases = {which: [data.get_data_info(index)['case_id']
                     for index in range(len(data))]
             for which, data in (('train', probe.train),
                                 ('test', probe.test))}
    if case_agg == 'concat':
        cases = dict.fromkeys(cases)
    else:
        assert len(cases['train']) == 2 * len(set(cases['train']))
    assert seen == [cases, cases]


def test_neighbours_see_colours_that_differ_a_little(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    for split in ('train', 'test'):
        for name, gray in (('light', 130), ('dark', 120)):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(12):
                image = random.normal(gray, 1) + random.normal(
                    0, 5, (16, 16, 3))
                Image.fromarray(image.astype(np.uint8)).save(
                    tmp_path / split / name / f'{number}.png')
    sets = read_probe_sets(tmp_path)
    scores = {color: [score.value for score in
                      ImageProbe(*sets, color=color).plain_floor()]
              for color in ('rgb', 'gray', 'standardized')}
    assert scores['rgb'] == scores['gray'] == [1, 1]
    # Brightness is what they differ by, and gray keeps it.
    assert max(scores['standardized']) < 0.8
    monkeypatch.setattr('mmmedmask.engine.probing.REFERENCE_IMAGES', 2)
    mean, _ = ImageProbe(*sets).reference
    paths = sets[0].paths[0], sets[0].paths[-1]
    assert torch.allclose(mean.flatten(), sum(
        load_image(path).float().mean(dim=(1, 2)) for path in paths) / 2)


def test_what_cannot_be_probed_is_refused(tiny_classification, squares,
                                          tmp_path):
    with pytest.raises(ValueError, match='an? [A-Za-z]+, has no labels'):
        run(tiny_classification, tmp_path, [dict(type='mmmedmask.ProbeHook')])
    with pytest.raises(ValueError, match='masks but no classes'):
        run(tiny_classification, tmp_path,
            [dict(type='mmmedmask.ProbeHook', data=str(squares))])
    with pytest.raises(ValueError, match="bags='val' .* 'x', 'max_images': 5"):
        ProbeHook('x', bags='val', max_images=5)


def test_sets_are_found_and_refused_by_name(discs, squares, tmp_path):
    train, test = read_probe_sets(discs)
    assert train.classes == test.classes == ('bright', 'dark')
    assert np.bincount(train.labels).tolist() == [12, 12]
    assert np.bincount(test.labels).tolist() == [10, 10]
    few = train.thin(6)
    assert np.bincount(few.labels).tolist() == [3, 3]
    assert few.paths[0] == train.paths[0]
    assert few.paths[5] == train.paths[-1]
    # In a list whose classes take turns no class is left out.
    turns = replace(train, labels=np.arange(24) % 2)
    assert np.bincount(turns.thin(12).labels).tolist() == [6, 6]
    assert list(turns.thin(12).paths) == sorted(turns.thin(12).paths,
                                                key=train.paths.index)
    masked, _ = read_probe_sets(squares)
    assert masked.mask(0).shape == (32, 40)
    assert len(masked.thin(3).masks) == 3
    assert masked.thin(99) is masked
    assert masked.mask(0).sum() == 14 * 14
    (tmp_path / 'tran' / 'a').mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match='Did you mean tran'):
        read_probe_sets(tmp_path)
    with pytest.raises(FileNotFoundError, match='no folder'):
        read_probe_sets(tmp_path / 'nowhere')
    for split, names in (('train', 'ab'), ('test', 'ac')):
        for name in names:
            draw_disc(tmp_path / 'other' / split / name / '0.png', True,
                      np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"\['a', 'b'\].*\['a', 'c'\]"):
        read_probe_sets(tmp_path / 'other')


@pytest.mark.parametrize(('options', 'message'), [
    (dict(size=0), 'size must be at least 1, got 0'),
    (dict(dense_size=1.5), 'dense_size must be an integer, got 1.5'),
    (dict(max_images=-1), 'max_images must be at least 1, got -1'),
    (dict(few=(True, )), 'few must be an integer, got True'),
    (dict(few=('1', )), "few must be an integer, got '1'")])
def test_numbers_of_probes_are_checked(discs, options, message):
    with pytest.raises(ValueError, match=message):
        build_probes(str(discs), None, **options)


@pytest.mark.parametrize(('text', 'message'), [
    ('{', r'train.json is not json: '),
    ('{"images": []}', 'train.json lists no images')])
def test_a_broken_list_of_images_is_named(tmp_path, text, message):
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations' / 'train.json').write_text(text)
    with pytest.raises(ValueError, match=message):
        read_probe_sets(tmp_path)


def test_an_image_is_of_one_split(discs, tmp_path):
    shutil.copytree(discs, tmp_path / 'discs')
    for split in ('paper', 'other'):
        (tmp_path / 'discs' / 'splits' / split).mkdir(parents=True)
    (tmp_path / 'discs' / 'classes.txt').write_text('a\nb\n')
    image = next((tmp_path / 'discs').rglob('*.png')).relative_to(
        tmp_path / 'discs')
    for part in ('train', 'val'):
        write_csv(tmp_path / f'discs/splits/other/{part}.csv',
                  ('path', 'label', 'group'), [(image, 'a', 'g')])
    with pytest.raises(ValueError, match='1 images are to train and to test'):
        read_probe_sets(tmp_path / 'discs', 'splits/other')


def test_a_table_lists_images_of_any_place(discs, squares, tmp_path,
                                           monkeypatch):
    lines = []
    monkeypatch.setattr('mmmedmask.datasets.probe_sets.print_log',
                        lambda line, **_: lines.append(line))
    whole = read_probe_sets(discs)
    rows = [dict(path=os.path.relpath(path, tmp_path), split=split,
                 label=part.classes[label], group=path.stem)
            for split, part in zip(('train', 'test'), whole, strict=True)
            for path, label in zip(part.paths, part.labels, strict=True)]

    def write(rows):
        write_csv(tmp_path / 'tiles.csv', rows[0], (row.values()
                                                    for row in rows))
        return tmp_path / 'tiles.csv'

    # In any order.
    listed = read_probe_sets(write(rows[::-1]))
    for part, other in zip(whole, listed, strict=True):
        assert [path.resolve() for path in other.paths] == [
            path.resolve() for path in part.paths[::-1]]
        assert other.classes == part.classes
        assert other.labels.tolist() == part.labels[::-1].tolist()
        assert other.groups == tuple(path.stem for path in other.paths)
    assert 'groups to test are in training, too, such as 0' in lines[0]
    # Without groups, which make other folds.
    plain = write([{name: value for name, value in row.items()
                    if name != 'group'} for row in rows])
    floors = [[(score.name, score.value)
               for score in build_probes(str(source), None)[
                   'rgb'].plain_floor()] for source in (discs, plain)]
    assert floors[0] == floors[1]
    # Masks alone are enough for a dense probe.
    masks = []
    for split, part in zip(('train', 'test'), read_probe_sets(squares),
                           strict=True):
        for place, path in enumerate(part.paths):
            name = f'{split}_{place}.png'
            Image.fromarray(part.mask(place)).save(tmp_path / name)
            masks.append(dict(path=path, split=split, mask=name))
    grouped = [row | dict(group='one' if row['split'] == 'test' else 'all')
               for row in masks]
    by_image, by_group = (
        build_probes(None, str(write(rows)), few=(None, ))['pixels']
        .plain_floor()[0] for rows in (masks, grouped))
    assert by_image.value == by_group.value == by_group.low == by_group.high
    assert by_image.low < by_image.high
    masks[0]['mask'] = 'NA'
    dense = build_probes(None, str(write(masks)))['pixels']
    assert dense.train.labels is None
    assert len(list(dense.samples('train'))) == len(dense.train.paths) - 1
    for wrong, message in (
            ([rows[0] | dict(split='val')], "line 2: split .*'val'"),
            ([rows[0] | dict(label='')], 'line 2: label must not be empty'),
            ([rows[0] | dict(group='')], 'line 2: group must not be empty'),
            ([rows[0] | dict(group='NA')], "empty, got 'NA'"),
            ([rows[0] | dict(label='NULL')], "empty, got 'NULL'"),
            ([rows[0] | dict(path='')], 'line 2: path must not be empty'),
            ([rows[0], rows[0]], 'line 3: .* is listed in line 2 already'),
            (rows[:12], r"0 to test, of \[\]"),
            ([dict(path='a', split='train')], 'neither a column label nor')):
        with pytest.raises(ValueError, match=message):
            read_probe_sets(write(wrong))


def test_versions_of_an_image(discs, tmp_path):
    random = np.random.default_rng(0)
    file = tmp_path / 'colour.png'
    pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    plain = load_image(file)
    assert torch.equal(plain, torch.from_numpy(pixels).permute(2, 0, 1))
    gray = load_image(file, color='gray')
    expected = (pixels @ np.array([0.299, 0.587, 0.114])).round()
    assert np.array_equal(gray[0], expected)
    assert torch.equal(gray[0], gray[2])
    jittered = load_image(file, color='jitter', seed=1)
    assert torch.equal(jittered, load_image(file, color='jitter', seed=1))
    assert not torch.equal(jittered, load_image(file, color='jitter', seed=2))
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (
        [120.0, 130.0, 140.0], [20.0, 30.0, 25.0]))
    standard = load_image(file, color='standardized',
                          reference=(mean, deviation))
    for index, channel in enumerate(np.moveaxis(pixels, 2, 0).astype(float)):
        expected = (channel - channel.mean()) / channel.std(ddof=1) \
            * deviation[index].item() + mean[index].item()
        assert np.array_equal(standard[index], expected.round())
    with pytest.raises(ValueError, match='needs a reference'):
        load_image(file, color='standardized')
    assert load_image(file, size=4).shape == (3, 4, 4)
    assert load_image(file, size=4).dtype == torch.uint8
    Image.fromarray(pixels.astype(np.uint16)[..., 0]).save(tmp_path / 'd.png')
    with pytest.raises(ValueError, match='uint16 and 1 channels'):
        load_image(tmp_path / 'd.png')
