"""The held-out loss beside its floors: the numbers, and no trace of it."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.hooks import EMAHook
from mmengine.registry import MODELS
from tiny_runs import (
    TinyCMIM,
    TinyModel,
    assert_same_training,
    dataset,
    heard,
    msmae_model,
    tiny_runner,
    train_watched,
    write_images,
)

from mmmedmask.datasets import TileFolder
from mmmedmask.datasets.transforms import LoadTile, PackTile
from mmmedmask.engine.held_out import build_held_out
from mmmedmask.engine.hooks import LossFloorsHook, ReconstructionPanelHook
from mmmedmask.engine.wrapped_datasets import list_sources
from mmmedmask.phantoms.slide_omic_cohort import write_slide_omic_cohort
from mmmedmask.visualization.curves import read_scalars

PIPELINE = [dict(type='mmmedmask.LoadTile'), dict(type='mmmedmask.PackTile')]


@pytest.fixture(scope='module')
def tiles(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tiles')
    generator = np.random.default_rng(0)
    for split, count in (('train', 8), ('held_out', 6)):
        (folder / split).mkdir()
        for number in range(count):
            coarse = generator.integers(0, 256, (5, 5, 3), np.uint8)
            cv2.imwrite(str(folder / split / f'{number}.png'),
                        cv2.resize(coarse, (80, 80)))
    return folder


def train(tiles, work_dir, *hooks, **settings):
    data = TileFolder(str(tiles / 'train'), pipeline=[LoadTile(), PackTile()])
    return train_watched(work_dir, TinyCMIM, data, hooks=hooks, batch_size=4,
                         **settings)


def floors_hook(tiles, **options):
    return LossFloorsHook(
        dict(type='mmmedmask.TileFolder', data_root=str(tiles / 'held_out'),
             pipeline=PIPELINE), batch_size=4, **options)


def test_loss_and_constant_floor_are_those_of_a_loop(tiles, tmp_path):
    hook = floors_hook(tiles)
    runner = train(tiles, tmp_path, hook)[0]
    model = runner.model
    model.eval()
    runner.message_hub.update_info('iter', 0)

    def targets(name):
        data = TileFolder(str(tiles / name), pipeline=[LoadTile(), PackTile()])
        for index in range(len(data)):
            inputs = model.data_preprocessor(
                pseudo_collate([data[index]]), True)['inputs']
            with torch.no_grad():
                prediction, weight = model.reconstruct(inputs)
            yield inputs['key'], prediction, weight.expand_as(prediction)

    trained = list(targets('train'))
    weights = sum(weight.sum(dim=(0, 2, 3)) for *_, weight in trained)
    mean = sum((key * weight).sum(dim=(0, 2, 3))
               for key, _, weight in trained) / weights
    loss = floor = count = 0.0
    for key, prediction, weight in targets('held_out'):
        loss += float(((prediction - key)**2 * weight).sum())
        floor += float(((mean.view(1, 3, 1, 1) - key)**2 * weight).sum())
        count += float(weight.sum())
    assert hook._loss == pytest.approx(loss / count, rel=1e-4)
    assert hook._floors['constant'] == pytest.approx(floor / count, rel=1e-4)


def test_training_is_the_same_to_the_bit(tiles, tmp_path):
    assert_same_training(train(tiles, tmp_path / 'plain'), train(
        tiles, tmp_path / 'watched', floors_hook(tiles)))


def test_the_average_of_the_weights_is_looked_at(tiles, tmp_path):
    """By panels, too: it is what validation and checkpoints have."""

    class Drawing(ReconstructionPanelHook):
        def draw(self, model, heading):
            drawn.append(model)
            return super().draw(model, heading)

    drawn = []
    floors, ema = floors_hook(tiles), EMAHook(momentum=.5)
    runner = train(tiles, tmp_path, ema, floors, Drawing())[0]
    average = ema.ema_model.module
    assert drawn == [runner.model, average]
    before = floors._loss
    runner.model.load_state_dict(average.state_dict())
    runner.hooks.remove(ema)
    floors._measure(runner)
    assert floors._loss == before


def test_a_model_of_the_colour_says_so(tiles, tmp_path, caplog):
    hook = floors_hook(tiles)
    runner = train(tiles, tmp_path, hook)[0]
    warned = []
    runner.logger.warning = warned.append
    hook._loss = 1.01 * hook._floors['color']
    hook.after_train(runner)
    assert 'has learned no more than that' in warned[0]
    assert 'weights of' not in warned[0]
    # What the run has already is no advice.
    for kind, norm_pix in ((torch.optim.SGD, False),
                           (torch.optim.AdamW, 'channel')):
        runner.optim_wrapper.optimizer = kind(runner.model.parameters(), .1)
        runner.model.head.norm_pix = norm_pix
        hook.after_train(runner)
        text = warned.pop()
        assert ('AdamW' in text, 'normalised per patch' in text) == (
            kind is torch.optim.SGD, not norm_pix)
    # A second loss stands beside it.
    for name in ('loss_rec', 'loss_tri'):
        runner.message_hub.update_scalar(f'train/{name}', 1.)
    hook.after_train(runner)
    assert 'other weights of loss_rec and loss_tri' in warned[1]
    hook._loss = 0.99 * hook._floors['color']
    hook.after_train(runner)
    assert len(warned) == 2


def test_a_model_that_cannot_reconstruct_rests(tiles, tmp_path, caplog):
    warned = heard(tiny_runner(tmp_path, TinyModel(), [floors_hook(tiles)]))
    assert warned[0] == ('LossFloorsHook rests: TinyModel reconstructs no '
                         'masked pixels or patches')


def test_without_held_out_tiles(tiles, tmp_path):
    lost = floors_hook(tiles, optional=True)
    lost.held_out['data_root'] = str(tmp_path / 'no')
    with pytest.raises(FileNotFoundError, match='no'):
        train(tiles, tmp_path / '1', LossFloorsHook(
            lost.held_out, batch_size=4))
    runners = [train(tiles, tmp_path / str(place), hook, log_level='INFO',
                     epochs=1)[0]
               for place, hook in enumerate([
                   lost, LossFloorsHook(batch_size=4), floors_hook(tiles)], 2)]
    logs = [next(Path(runner.log_dir).glob('*.log')).read_text()
            for runner in runners]
    assert 'LossFloorsHook: no held-out samples' in logs[0]
    for log, own in zip(logs, (True, True, False), strict=True):
        assert ('on training samples: no held_out' in log) == own
        assert ('Loss on training samples after epoch 1' in log) == own
        assert ('eld-out loss' in log) != own


@pytest.mark.parametrize(('share', 'own'), [(.4, False), (1e-9, True)])
def test_the_share_that_is_not_trained_on_is_measured(tiles, tmp_path, share,
                                                      own):
    data = dict(type='mmmedmask.TileFolder', held_out_share=share,
                data_root=str(tiles / 'train'), pipeline=PIPELINE)
    hook = LossFloorsHook(batch_size=4)
    runner = train_watched(
        tmp_path, TinyCMIM, data, [hook], epochs=1, batch_size=2,
        log_level='INFO', cfg=dict(train_dataloader=dict(dataset=data)))[0]
    trained, measured = (
        {source.info['img_path'] for source in list_sources(dataset)}
        for dataset in (runner.train_dataloader.dataset, hook._dataset))
    assert measured
    assert (trained == measured) if own else not trained & measured
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert ('no held-out samples: held_out_share=1e-09' in log) == own
    assert ('eld-out loss after' in log) != own


@pytest.mark.parametrize(('before', 'warned'), [(0, True), (.4, False)])
def test_a_resumed_run_with_another_share_says_so(tiles, before, warned):
    """Its weights know what is left out now."""
    then, now = (Config(dict(train_dataloader=dict(dataset=dict(
        type='mmmedmask.TileFolder', held_out_share=share,
        data_root=str(tiles / 'train'))))) for share in (before, .4))
    warnings = []
    runner = SimpleNamespace(_resume=True, cfg=now, logger=SimpleNamespace(
        warning=warnings.append))
    for text in (then.pretty_text, 'no config'):
        LossFloorsHook().after_load_checkpoint(
            runner, dict(meta=dict(cfg=text)))
    assert ['was [0] in the checkpoint and is [0.4]' in warning
            for warning in warnings] == [True] * warned


@pytest.mark.parametrize('way', ['config', 'built', 'slice'])
def test_views_are_the_same_each_time(tmp_path, way):
    """Also of training samples, whose own views are others in each epoch."""
    data = dataset(write_images(tmp_path / 'data'))
    settings = dict(loader=dict(num_batch_per_epoch=1)) if way == 'slice' \
        else dict(cfg=dict(train_dataloader=dict(dataset=data))) \
        if way == 'config' else {}
    hooks = [LossFloorsHook(batch_size=4),
             dict(type='mmmedmask.TransformEpochHook')]
    runner = train_watched(tmp_path / 'run', msmae_model, data, hooks, lr=0,
                           epochs=3, **settings)[0]
    losses = [loss for _, loss in read_scalars(runner.log_dir, 'floors/loss')]
    assert losses == losses[:1] * 4
    # A slice has what is trained on alone.
    assert len(hooks[0]._dataset) == (3 if way == 'slice' else 7)


@pytest.mark.parametrize('wrapper', ['RepeatDataset', 'ConcatDataset'])
def test_held_out_samples_of_a_wrapped_set(tmp_path, wrapper):
    """What wraps the training set does not wrap the held-out one."""
    for name, count in (('train', 7), ('other', 4)):
        write_images(tmp_path / name, count)
    inner = dataset(tmp_path / 'train')
    data = dict(type=wrapper, **(dict(times=2, dataset=inner) if wrapper ==
                                 'RepeatDataset' else
                                 dict(datasets=[inner, inner])))
    hook = LossFloorsHook(dict(data_root=str(tmp_path / 'other')),
                          batch_size=4)
    train_watched(tmp_path / 'run', msmae_model, data, [hook], epochs=1,
                  cfg=dict(train_dataloader=dict(dataset=data)))
    assert len(hook._dataset) == 4


def test_patients_without_slides_are_not_asked_for(tmp_path):
    folder = write_slide_omic_cohort(
        tmp_path / 'cohort', num_cases=24, patches=(8, 12), dims=6,
        num_genes=40, num_pathways=2, split_shares=(.5, .3, .2),
        cases_without_slides=11)
    data = dict(
        type='mmmedmask.SlideOmicDataset', data_root=str(folder),
        ann_file='cohort.csv', feature_root='features', split='train',
        expression=dict(path='expression.tsv', unit='fpkm'),
        missing_slides='keep', pipeline=[
            dict(type='mmmedmask.LoadSlideFeatures'),
            dict(type='mmmedmask.GenerateSequenceMask'),
            dict(type='mmmedmask.PackSlideOmicInputs')])
    hook = LossFloorsHook(dict(split='test'), batch_size=1)
    runner = train_watched(
        tmp_path / 'run', lambda: MODELS.build(dict(
            type='mmmedmask.GiMP', aggregator=dict(
                type='mmmedmask.NystromAggregator', in_dims=6, embed_dims=8,
                num_layers=1, num_heads=2),
            mpm_head=dict(type='mmmedmask.MPMHead'))), data,
        [hook, dict(type='mmmedmask.TransformEpochHook')], epochs=1,
        batch_size=12, cfg=dict(train_dataloader=dict(dataset=data)))[0]
    patches = build_held_out(runner.cfg, dict(split='test')).get_num_patches()
    assert 0 < len(hook._dataset) == (patches > 0).sum() < len(patches)


def test_shares_are_logged_and_stand_above_the_panels(tiles, tmp_path,
                                                      monkeypatch):
    headings = []
    monkeypatch.setattr(ReconstructionPanelHook, 'draw',
                        lambda self, model, heading: headings.append(heading)
                        or np.zeros((8, 8, 3), np.uint8))
    hook = floors_hook(tiles)
    runner = train(tiles, tmp_path, ReconstructionPanelHook(1), hook)[0]
    share = hook._loss / hook._floors['color']
    assert headings[-1] == (
        f'After {runner.iter} iterations: held-out loss {share:.2f} of the '
        'best guess from the visible colour')
    assert len(headings) == 3
    assert not [key for keys in runner.message_hub.state_dict().values()
                for key in keys if 'floor' in key]
    rows = read_scalars(runner.log_dir, 'floors/loss_over_color')
    assert rows[-1] == (runner.iter, pytest.approx(share))
    assert len(rows) == 3
