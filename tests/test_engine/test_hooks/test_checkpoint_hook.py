"""A kill or a full disk at any moment leaves a run that ends the same.

The runs have dropout, augmentations from the global generators, a schedule,
momentum and a best checkpoint.
"""

import errno
import logging.handlers
import os
import random
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.fileio import LocalBackend
from mmengine.model import BaseModel, BaseTTAModel
from mmengine.runner import Runner
from processes import run_forked
from tiny_runs import NUMBERS, heard, noting
from torch import nn

from mmmedmask.engine.checkpoint.loaded_state import refuse_another_model
from mmmedmask.engine.checkpoint.reading import read_checkpoint
from mmmedmask.engine.hooks import SeededDrawsHook, seeded_draws

#: Metric after each epoch: the best ones are those after 1, 2 and 4.
SCORES = (.3, .5, .4, .7, .6)
EPOCHS = 3


class Noisy(torch.utils.data.Dataset):
    """Samples with noise of all three global generators."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(inputs=torch.full((3, ), float(index)) + torch.rand(3)
                    + np.random.rand() + random.random())


class TinyNet(BaseModel):
    """A layer with dropout that counts its iterations."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Sequential(nn.Linear(3, 4), nn.Dropout(.5))
        self.register_buffer('count', torch.zeros(()))

    def forward(self, inputs, mode='tensor'):
        inputs = torch.stack(list(inputs))
        if mode == 'predict':
            return [self.count.item()] * len(inputs)
        self.count += 1
        return dict(loss=self.layer(inputs).square().mean())


class Twice(BaseTTAModel):
    """Test-time augmentation."""

    def merge_preds(self, data_samples_list):
        return data_samples_list[0]


class Scripted(BaseMetric):
    """A metric that says after which epoch it is asked."""

    default_prefix = 'a'

    def process(self, data_batch, data_samples):
        self.results.append(data_samples[0])

    def compute_metrics(self, results):
        return dict(score=SCORES[int(results[0]) // 2 - 1])


def loader(shuffle, workers=0):
    return dict(dataset=Noisy(), batch_size=2, num_workers=workers,
                sampler=dict(type='DefaultSampler', shuffle=shuffle))


def build(work_dir, epochs=EPOCHS, resume=False, hooks=(), workers=0,
          checkpoint=None, **settings):
    """Build a run; resumed, it finds the way on by itself."""
    return Runner(**dict(
        model=TinyNet(),
        work_dir=str(work_dir),
        train_dataloader=loader(True, workers),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=.1, momentum=.9)),
        param_scheduler=dict(
            type='CosineAnnealingLR', convert_to_iter_based=True),
        val_dataloader=loader(False),
        val_cfg=dict(),
        val_evaluator=Evaluator(Scripted()),
        default_hooks=dict(checkpoint=dict(
            type='mmmedmask.SafeCheckpointHook', max_keep_ckpts=1,
            interval=1, save_best='a/score', rule='greater')
            | (checkpoint or {})),
        custom_hooks=[dict(type='mmmedmask.SeededDrawsHook'), *hooks],
        resume=resume,
        randomness=dict(seed=3),
        default_scope='mmengine',
        log_level='ERROR',
        experiment_name=f'safe_{next(NUMBERS)}') | settings)


def train(work_dir, level='warning', **settings):
    """Train, and return what was logged at a level."""
    return '\n'.join(heard(build(work_dir, **settings), level))


def interrupt(work_dir, moment, iteration=4, hooks=(), **settings):
    """Train to ``moment``, such as ``before_val``, at some iterations."""
    def stop(runner, **_):
        if runner.iter == iteration:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(work_dir, hooks=[*hooks, noting(moment, stop)[0]], **settings)


def names(folder):
    return sorted(path.name for path in Path(folder).glob('*.pth'))


def flat(value, path=''):
    """All numbers and texts of a checkpoint by their place."""
    if isinstance(value, dict):
        value = value.items()
    elif isinstance(value, list | tuple):
        value = enumerate(value)
    else:
        return {path: value}
    return {place: inner for key, part in value
            for place, inner in flat(part, f'{path}/{key}').items()}


def parts_of(checkpoint):
    """What the ends of equal runs have to share."""
    known = checkpoint['message_hub']['runtime_info']
    return flat([*map(checkpoint.get, (
        'state_dict', 'optimizer', 'param_schedulers')), *map(known.get, (
            'best_score', 'keep_ckpt_ids', 'validated_iter'))])


def assert_same_end(folder, wanted):
    """Compare files, weights, optimizer, schedules and records, by bit."""
    assert names(folder) == names(wanted)
    assert not list(Path(folder).glob('.*'))
    for pointer in ('last_checkpoint', 'best_checkpoint'):
        if not Path(wanted, pointer).is_file():
            assert not Path(folder, pointer).is_file()
            continue
        ours, theirs = (Path(Path(place, pointer).read_text())
                        for place in (folder, wanted))
        assert ours.name == theirs.name
        assert Path(folder, ours.name).is_file()
    for name in names(wanted):
        ours, theirs = (parts_of(read_checkpoint(Path(place, name)))
                        for place in (folder, wanted))
        assert ours.keys() == theirs.keys()
        for place, value in theirs.items():
            same = torch.equal(ours[place], value) if isinstance(
                value, torch.Tensor) else ours[place] == value
            assert same, (name, place)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A run that nothing disturbs."""
    folder = tmp_path_factory.mktemp('whole')
    train(folder)
    assert names(folder) == ['best_a_score_epoch_2.pth', 'epoch_3.pth']
    return folder


def watch(monkeypatch, act):
    """Call ``act`` before every operation on files that outlives a kill.

    A file is written in two halves, so that a kill may leave one.
    """
    for name in ('replace', 'unlink', 'fsync', 'rename', 'mkdir'):
        original = getattr(os, name)

        def watched(*arguments, _original=original, _name=name, **options):
            act(_name)
            return _original(*arguments, **options)

        monkeypatch.setattr(os, name, watched)

    def put(self, obj, path):
        content = bytes(obj)
        with open(path, 'wb') as stream:
            for part in (content[:len(content) // 2],
                         content[len(content) // 2:]):
                act('write')
                stream.write(part)
                stream.flush()

    monkeypatch.setattr(LocalBackend, 'put', put)


def test_a_kill_between_any_two_operations_loses_nothing(
        whole, tmp_path, monkeypatch):
    """What is on the disk before each operation is what a kill leaves."""
    snapshots = []
    with monkeypatch.context() as patch:
        copying = []

        def snapshot(name):
            if not copying:
                copying.append(name)
                place = tmp_path / f'{len(snapshots)}_{name}'
                shutil.copytree(tmp_path / 'run', place)
                snapshots.append(place)
                copying.clear()

        (tmp_path / 'run').mkdir()
        watch(patch, snapshot)
        train(tmp_path / 'run', log_level='CRITICAL')
    kinds = {place.name.partition('_')[2] for place in snapshots}
    assert kinds >= {'replace', 'unlink', 'fsync', 'write'}
    assert len(snapshots) > 40
    for place in snapshots:
        pointer = place / 'best_checkpoint'
        if pointer.is_file():
            assert (place / Path(pointer.read_text()).name).is_file()
        train(place, resume=True)
        assert_same_end(place, whole)


@pytest.mark.parametrize('operation', ['write', 'fsync', 'replace'])
def test_a_full_disk_ends_the_run_and_it_goes_on(whole, tmp_path, operation):
    """Each operation of that kind fails once; the run is then resumed."""
    for number in range(1, 4):
        folder = tmp_path / str(number)
        seen = []

        def fail(name, number=number, seen=seen):
            seen.append(name)
            if seen.count(operation) == 2 * number - 1 and name == operation:
                raise OSError(errno.ENOSPC, 'No space left on device')

        with pytest.MonkeyPatch.context() as patch:
            watch(patch, fail)
            with pytest.raises(OSError, match='No space left'):
                train(folder)
        assert not list(folder.glob('.*'))
        train(folder, resume=True)
        assert_same_end(folder, whole)


def test_forty_kills(whole, tmp_path):
    """Killed at random operations, again and again, to the same end."""
    draw = random.Random(5)
    kills, round_number = 0, 0
    while kills < 40:
        folder = tmp_path / str(round_number)
        round_number += 1
        status = -signal.SIGKILL
        while status == -signal.SIGKILL:
            left = [draw.randint(1, 30 if kills < 40 else 10**6)]

            def attempt(folder=folder, left=left):
                def count(name):
                    left[0] -= 1
                    if left[0] == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

                watch(pytest.MonkeyPatch(), count)
                train(folder, resume=True)

            status, = run_forked(attempt)
            kills += status == -signal.SIGKILL
        assert status == 0
        assert_same_end(folder, whole)


@pytest.mark.parametrize(('epochs', 'save_best'), [
    (2, 'auto'), (EPOCHS, 'a/score')])
def test_kills_before_deletions_leave_nothing(tmp_path, monkeypatch, epochs,
                                              save_best):
    """Up to three in a row; after the last one the run may be over."""
    wanted, unlink = tmp_path / 'wanted', os.unlink
    settings = dict(epochs=epochs, checkpoint=dict(save_best=save_best))
    train(wanted, **settings)
    todo = [(tmp_path / 'run', 0)]
    while todo:
        folder, kills = todo.pop()

        def snapshot(path, folder=folder, kills=kills, **options):
            path = Path(path)
            if path.parent == folder and path.name in names(folder) \
                    and kills < 3:
                place = tmp_path / f'{folder.name}_{len(todo)}'
                shutil.copytree(folder, place)
                todo.append((place, kills + 1))
            unlink(path, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, 'unlink', snapshot)
            train(folder, resume=True, **settings)
        assert_same_end(folder, wanted)


def test_a_kill_in_validation_is_made_up_for(whole, tmp_path):
    interrupt(tmp_path, 'before_val')
    # Epoch 2, which is the best, has a state and was not validated.
    assert names(tmp_path) == ['best_a_score_epoch_1.pth', 'epoch_2.pth']
    # A finished run has nothing to make up for.
    for epochs in ([2, 3], []):
        hook, visited = noting('before_val', lambda runner: runner.epoch)
        train(tmp_path, resume=True, hooks=[hook])
        assert visited == epochs
        assert_same_end(tmp_path, whole)


def test_a_lost_best_checkpoint_is_refused(tmp_path):
    train(tmp_path)
    (tmp_path / 'best_a_score_epoch_2.pth').unlink()
    with pytest.raises(ValueError, match=r'epoch_3\.pth, whose best '
                       r'checkpoint best_a_score_epoch_2\.pth is not in'):
        train(tmp_path, resume=True, epochs=4)
    train(tmp_path, resume=True, epochs=4, checkpoint=dict(save_best=None))


def test_states_at_intervals_keep_the_best_that_they_name(tmp_path):
    """Between two states, the best of the older one may not go."""
    def look(runner, **_):
        if runner.epoch == 4:
            shutil.copytree(tmp_path / 'run', tmp_path / 'killed')
        return names(tmp_path / 'run')

    hook, seen = noting('after_val', look, 'LOWEST')
    interval = dict(epochs=5, checkpoint=dict(interval=3))
    train(tmp_path / 'run', hooks=[hook], **interval)
    best = 'best_a_score_epoch_{}.pth'.format
    assert seen == [[best(1)], [best(2)], [best(2), 'epoch_3.pth'],
                    [best(2), best(4), 'epoch_3.pth'],
                    [best(4), 'epoch_5.pth']]
    assert names(tmp_path / 'run') == seen[-1]
    train(tmp_path / 'killed', resume=True, **interval)
    assert_same_end(tmp_path / 'killed', tmp_path / 'run')


def test_another_run_in_the_folder_is_set_aside(tmp_path):
    train(tmp_path, epochs=2)
    shutil.copy(tmp_path / 'epoch_2.pth', tmp_path / 'epoch_9.pth')
    # From epoch 2 on, epoch 9 is not of this run.
    train(tmp_path, epochs=3, resume=True)
    assert names(tmp_path / 'superseded' / '1') == [
        'best_a_score_epoch_2.pth', 'epoch_9.pth']
    # A fresh start mixes nothing.
    before = names(tmp_path)
    train(tmp_path, epochs=1, checkpoint=dict(save_best=None))
    assert names(tmp_path) == ['epoch_1.pth']
    assert names(tmp_path / 'superseded' / '2') == before
    assert not list(tmp_path.glob('best_checkpoint*'))


def test_each_run_is_set_aside_in_a_folder_of_its_own(tmp_path):
    """Of other lengths, so that no names are the same."""
    runs = []
    for epochs in (3, 4, 2):
        train(tmp_path, epochs=epochs, checkpoint=dict(save_best=None))
        runs.append(names(tmp_path))
    assert runs == [[f'epoch_{epochs}.pth'] for epochs in (3, 4, 2)]
    assert [names(tmp_path / 'superseded' / number)
            for number in '12'] == runs[:2]


def test_going_back_to_a_run_finds_it_as_it_was(tmp_path, monkeypatch):
    """Beside files of the same names, of a run between."""
    def contents(folder):
        return {path.name: path.read_bytes() for path in folder.glob('*.pth')}

    monkeypatch.setitem(globals(), 'SCORES', (.3, .5, .4, .2))
    keep = dict(checkpoint=dict(max_keep_ckpts=3))
    train(tmp_path, **keep)
    first = contents(tmp_path)
    train(tmp_path, randomness=dict(seed=4), **keep)
    second = contents(tmp_path)
    assert first.keys() == second.keys()
    places = [tmp_path / 'superseded' / number for number in '12']
    train(tmp_path, resume=True, epochs=4,
          load_from=str(places[0] / 'epoch_3.pth'))
    assert [contents(place) for place in places] == [first, second]
    assert names(tmp_path) == ['best_a_score_epoch_2.pth', 'epoch_4.pth']
    assert contents(tmp_path)['best_a_score_epoch_2.pth'] == first[
        'best_a_score_epoch_2.pth']


def test_going_on_elsewhere_takes_the_best_along(whole, tmp_path):
    train(tmp_path / 'a', epochs=2, param_scheduler=dict(
        type='CosineAnnealingLR', T_max=6, end=6, by_epoch=False))
    train(tmp_path / 'b', resume=True,
          load_from=str(tmp_path / 'a' / 'epoch_2.pth'))
    assert names(tmp_path / 'b') == names(whole)
    assert names(tmp_path / 'a') == ['best_a_score_epoch_2.pth', 'epoch_2.pth']


@pytest.mark.parametrize('interval', [1, 10])
@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_run_that_is_stopped_early_is_over(tmp_path, interval, by_epoch):
    settings = dict(checkpoint=dict(interval=interval, by_epoch=by_epoch))
    hook, epochs = noting('before_train_epoch', lambda runner: runner.epoch)

    def run(**more):
        stop = dict(type='EarlyStoppingHook', monitor='a/score', patience=1,
                    rule='greater')
        return train(tmp_path, hooks=[hook, stop], **settings, **more)

    run(epochs=5)
    # The third score is below the second.
    assert epochs == [0, 1, 2]
    last = Path((tmp_path / 'last_checkpoint').read_text()).name
    assert last == ('epoch_3.pth' if by_epoch else 'iter_6.pth')
    before = names(tmp_path)
    assert 'stopped early at iteration 6, so it is over' in run(
        epochs=5, resume=True)
    assert (epochs, names(tmp_path)) == ([0, 1, 2], before)
    assert not (tmp_path / 'superseded').exists()
    run(epochs=6, resume=True)
    assert epochs[3:4] == [3]


@pytest.mark.parametrize(('scores', 'patience'), [
    ((.9, .8, .7, .6, .5, .4), 3),
    # The state of epoch 2 is saved again, with what is then the best.
    ((.3, .9, .8, .7, .6, .5), 2)])
def test_early_stopping_goes_on_waiting(tmp_path, monkeypatch, scores,
                                        patience):
    monkeypatch.setitem(globals(), 'SCORES', scores)
    stop = dict(type='EarlyStoppingHook', monitor='a/score', rule='greater',
                patience=patience)
    settings = dict(epochs=6, hooks=[stop])
    train(tmp_path / 'a', **settings)
    assert names(tmp_path / 'a')[-1] == 'epoch_4.pth'
    interrupt(tmp_path / 'b', 'before_train_iter', **settings)
    train(tmp_path / 'b', resume=True, **settings)
    assert_same_end(tmp_path / 'b', tmp_path / 'a')


def test_early_stops_are_told_by_epochs_and_of_their_own_run(tmp_path):
    """Not by iterations, which other batches change, nor of a run before."""
    stop = dict(type='EarlyStoppingHook', monitor='a/score', patience=1,
                rule='greater')
    assert 'stopped early' in train(
        tmp_path / 'a', 'info', epochs=9, hooks=[stop])
    assert 'stopped early' not in train(tmp_path / 'b', 'info', epochs=2)
    text = train(tmp_path / 'b', epochs=3, resume=True)
    assert 'it is over' not in text
    assert names(tmp_path / 'b')[-1] == 'epoch_3.pth'


@pytest.mark.parametrize(('done', 'checkpoint'), [
    (6, {}), *((done, dict(by_epoch=False, interval=done, save_last=False))
               for done in (5, 6))])
def test_a_longer_schedule_is_that_of_a_longer_run(tmp_path, done, checkpoint):
    """And the log says so; the same length changes nothing."""
    schedules = [
        dict(type='LinearLR', start_factor=.1, end=1,
             convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', begin=1, convert_to_iter_based=True),
        dict(type='MultiStepLR', milestones=[2], gamma=.5),
        dict(type='CosineAnnealingMomentum', convert_to_iter_based=True)]

    def rates(runner, **_):
        group = runner.optim_wrapper.param_groups[0]
        return group['lr'], group['momentum']

    (one, straight), (other, longer) = (
        noting('before_train_iter', rates) for _ in range(2))
    train(tmp_path / 'a', epochs=5, param_scheduler=schedules, hooks=[one])
    train(tmp_path / 'b', epochs=3, param_scheduler=schedules,
          checkpoint=checkpoint)
    said = train(tmp_path / 'b', epochs=5, param_scheduler=schedules,
                 hooks=[other], resume=True, checkpoint=checkpoint)
    np.testing.assert_allclose(longer, straight[done:], rtol=1e-12)
    assert 'T_max 4 there, 8 here' in said


@pytest.mark.parametrize('schedule', [
    dict(type='CosineAnnealingLR', convert_to_iter_based=True),
    dict(type='LinearLR', start_factor=.1, end=10, by_epoch=False)])
@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize(('before', 'after', 'epoch', 'iterations'), [
    (2, 1, 2, (8, 12)), (1, 2, 1, (2, 6))])
def test_iterations_of_other_batches_are_counted_anew(
        tmp_path, monkeypatch, before, after, epoch, iterations, by_epoch,
        schedule):
    """The end is saved, and it is that of the schedule."""
    # The best is that of the interruption, after four iterations.
    monkeypatch.setitem(globals(), 'SCORES', (.3, .9, .5, .4, .3, .2))

    def settings(size, interval):
        return dict(param_scheduler=schedule, train_dataloader=dict(
            loader(True), batch_size=size), checkpoint=dict(
                by_epoch=by_epoch, interval=interval))

    hook, ends = noting('after_train', lambda runner: (
        runner.iter, runner.optim_wrapper.param_groups[0]['lr']))
    train(tmp_path / 'whole', hooks=[hook], **settings(after, 7))
    interrupt(tmp_path / 'run', 'before_train_iter', **settings(before, 1))
    said = train(tmp_path / 'run', resume=True, hooks=[hook],
                 **settings(after, 7))
    now, end = iterations
    assert f'its iteration 4 is {now} now, where {epoch} epochs are over' \
        in said
    assert [done for done, _ in ends] == [end] * 2
    assert ends[1][1] == pytest.approx(ends[0][1], abs=1e-12)
    assert names(tmp_path / 'run') == (
        [f'best_a_score_epoch_{epoch}.pth', 'epoch_3.pth'] if by_epoch
        else ['best_a_score_iter_4.pth', f'iter_{end}.pth'])


@pytest.mark.parametrize(('change', 'message'), [
    (dict(model=None), r'epoch_3.pth is of another model.*size mismatch'),
    (dict(optim_wrapper=dict(optimizer=dict(type='AdamW', lr=.1)),
          param_scheduler=None),
     r"another optimizer: it has .*'momentum'.*AdamW has not"),
    (dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=.1, momentum=.9),
                             paramwise_cfg=dict(bias_lr_mult=2.))),
     r'has \[2\] parameters in its groups, the config has \[1, 1\]')])
def test_a_state_of_another_model_is_refused(tmp_path, change, message):
    train(tmp_path)
    if 'model' in change:
        change = dict(model=TinyNet())
        change['model'].layer[0] = nn.Linear(3, 5)
    with pytest.raises(ValueError, match=f'(?s){message}.*load_from'):
        train(tmp_path, resume=True, epochs=4, **change)


def test_weights_of_another_model_are_not_tested(tmp_path):
    """MMEngine would test what it has drawn, with a warning in the log."""
    train(tmp_path / 'a')
    file = str(tmp_path / 'a' / 'epoch_3.pth')

    def build_test(load_from, width=4):
        model = TinyNet()
        model.layer[0] = nn.Linear(3, width)
        return build(tmp_path / 'b', model=model, load_from=load_from,
                     test_dataloader=loader(False), test_cfg=dict(),
                     test_evaluator=Evaluator(Scripted()))

    assert build_test(file).test() == {'a/score': .4}
    with pytest.raises(ValueError, match='(?s)size mismatch.*name a checkp'):
        build_test(file, 5).test()
    other = str(tmp_path / 'other.pth')
    torch.save({'backbone.weight': torch.zeros(1)}, other)
    with pytest.raises(ValueError, match='other.pth .*lacks .*layer.0.weight'):
        build_test(other).test()
    # Of test-time augmentation the model within counts.
    refuse_another_model(SimpleNamespace(
        model=Twice(module=TinyNet()), _train_loop=None, _resume=False,
        _load_from=file), read_checkpoint(file))
    # To train on, something has to fit.
    with pytest.raises(ValueError, match='0 of 3 tensors of the model are in'):
        build_test(other).train()
    torch.save({'layer.0.bias': torch.ones(4), 'x': torch.ones(1)}, other)
    said = train(tmp_path / 'b', level='info', load_from=other)
    assert '1 of 3 tensors of the model are in' in said


def test_another_rate_counts_and_other_settings_are_told(tmp_path):
    steps = dict(type='MultiStepLR', milestones=[4], gamma=.1)
    hook, rates = noting(
        'before_train_iter',
        lambda runner, **_: runner.optim_wrapper.param_groups[0]['lr'])
    train(tmp_path, param_scheduler=steps)
    said = train(tmp_path, epochs=5, resume=True, param_scheduler=steps,
                 hooks=[hook], optim_wrapper=dict(optimizer=dict(
                     type='SGD', lr=.5, momentum=.9, weight_decay=.01)))
    np.testing.assert_allclose(rates, [.5] * 2 + [.05] * 2)
    assert 'base_values [0.1] there, [0.5] here' in said
    assert 'weight_decay of the optimizer is 0.01 in the config and 0 in' \
        in said


def test_a_schedule_that_ended_is_told(tmp_path):
    fixed = dict(type='LinearLR', end=2)
    for epochs, resume in ((3, False), (4, True)):
        said = train(tmp_path, epochs=epochs, param_scheduler=fixed,
                     resume=resume)
        assert f'end at iteration 4 of {2 * epochs}, from' in said
    assert 'end at iteration' not in train(tmp_path)


def test_schedules_by_measured_values_are_not_replayed(tmp_path):
    plateau = dict(type='ReduceOnPlateauLR', monitor='a/score')
    interrupt(tmp_path, 'before_train_epoch', param_scheduler=plateau)
    train(tmp_path, param_scheduler=plateau, resume=True)
    with pytest.raises(ValueError, match=r'\(patience 10 there, 2 here\), '
                       'and ReduceOnPlateauLR goes by values'):
        train(tmp_path, param_scheduler=plateau | dict(patience=2),
              resume=True)
    with pytest.raises(ValueError, match='ReduceOnPlateauLR goes by values'):
        train(tmp_path, param_scheduler=[plateau, dict(
            type='LinearLR', end=2)], resume=True)


def test_workers_and_epochs_change_no_draw(whole, tmp_path):
    """Batches are the same with workers, other ones in each epoch."""
    hook, batches = noting(
        'before_train_iter', lambda runner, batch_idx, data_batch:
        torch.stack(list(data_batch['inputs'])))
    train(tmp_path, workers=2, hooks=[hook])
    assert_same_end(tmp_path, whole)
    noise = [batch - batch.floor() for batch in batches]
    assert len({tuple(part.flatten().tolist())
                for part in noise}) == 2 * EPOCHS


class ByParity:
    """Batches of even or of odd samples, as detectors sort by shape."""

    def __init__(self, sampler, batch_size):
        self.sampler, self.batch_size = sampler, batch_size

    def __len__(self):
        return len(self.sampler) // self.batch_size

    def __iter__(self):
        buckets = [[], []]
        for index in self.sampler:
            bucket = buckets[index % 2]
            bucket.append(index)
            if len(bucket) == self.batch_size:
                yield bucket[:]
                bucket.clear()


@pytest.mark.parametrize('sampler', [
    dict(sampler=dict(type='InfiniteSampler', shuffle=True)),
    # MMEngine would skip samples, which are not in the order of batches.
    dict(sampler=dict(type='InfiniteSampler', shuffle=True),
         batch_sampler=dict(type=ByParity)),
    # Begins anew after two iterations.
    dict(sampler=dict(type='DefaultSampler', shuffle=True)),
])
def test_iterations_resume_to_the_bit(tmp_path, sampler, monkeypatch):
    monkeypatch.setattr('time.sleep', lambda seconds: None)
    settings = dict(
        train_dataloader=loader(True, 1) | sampler,
        train_cfg=dict(by_epoch=False, max_iters=6, val_interval=2),
        param_scheduler=dict(type='CosineAnnealingLR', by_epoch=False),
        checkpoint=dict(by_epoch=False, interval=2))
    train(tmp_path / 'a', **settings)
    interrupt(tmp_path / 'b', 'after_train_iter', **settings)
    train(tmp_path / 'b', resume=True, **settings)
    assert names(tmp_path / 'a') == ['best_a_score_iter_4.pth', 'iter_6.pth']
    assert_same_end(tmp_path / 'b', tmp_path / 'a')


@pytest.mark.parametrize('validates', [True, False])
def test_a_state_of_the_last_iteration_ends_its_epoch(tmp_path, validates):
    """Nothing is trained twice, and a schedule of epochs goes on."""
    settings = dict(checkpoint=dict(by_epoch=False, interval=2),
                    param_scheduler=dict(type='ExponentialLR', gamma=.5))
    if not validates:
        settings |= dict(val_dataloader=None, val_cfg=None, val_evaluator=None)
        settings['checkpoint']['save_best'] = None
    train(tmp_path / 'a', **settings)
    interrupt(tmp_path / 'b', 'after_train_epoch', **settings)
    # The second time, it has ended.
    for _ in range(2):
        train(tmp_path / 'b', resume=True, **settings)
        assert_same_end(tmp_path / 'b', tmp_path / 'a')


def test_a_state_within_an_epoch_goes_on_with_states_by_epochs(whole,
                                                               tmp_path):
    interrupt(tmp_path, 'before_train_iter', 5,
              checkpoint=dict(by_epoch=False))
    hook, visited = noting('before_val', lambda runner: runner.iter)
    said = train(tmp_path, resume=True, hooks=[hook])
    assert visited == [6]
    assert 'not go on' not in said
    ours, theirs = (parts_of(read_checkpoint(folder / 'epoch_3.pth'))
                    for folder in (tmp_path, whole))
    for place, value in theirs.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(ours[place], value), place


@pytest.mark.parametrize('interval', [2, 3])
def test_validations_are_those_of_the_loop(tmp_path, interval):
    """None in the middle of an epoch, of state 3, and at its end one."""
    settings = dict(checkpoint=dict(by_epoch=False, interval=interval))
    moment = 'before_val' if interval == 2 else 'before_train_iter'
    interrupt(tmp_path, moment, **settings)
    hook, visited = noting('before_val', lambda runner: runner.iter)
    train(tmp_path, resume=True, hooks=[hook], **settings)
    assert visited == [4, 6]


@pytest.mark.parametrize(('scores', 'rule', 'best'), [
    ((.5, .7, .7), 'greater', 3), ((.7, .7, .5), 'greater', 2),
    ((.3, .3, .4), 'less', 2), ((.5, .7, float('nan')), 'greater', 2)])
def test_the_latest_of_equal_scores_is_the_best(tmp_path, monkeypatch, scores,
                                                rule, best):
    monkeypatch.setitem(globals(), 'SCORES', scores)
    train(tmp_path / 'a', checkpoint=dict(rule=rule))
    assert names(tmp_path / 'a') == [f'best_a_score_epoch_{best}.pth',
                                     'epoch_3.pth']
    interrupt(tmp_path / 'b', 'after_val_epoch', checkpoint=dict(rule=rule))
    train(tmp_path / 'b', resume=True, checkpoint=dict(rule=rule))
    assert_same_end(tmp_path / 'b', tmp_path / 'a')


def test_the_best_by_another_metric_is_looked_for_anew(tmp_path):
    """That by the same one goes on, beside others or alone."""
    class Two(Scripted):
        def compute_metrics(self, results):
            scores = super().compute_metrics(results)
            return scores | dict(loss=2 - scores['score'])

    def go_on(epochs, save_best, rule):
        said = train(tmp_path, epochs=epochs, resume=True,
                     val_evaluator=Evaluator(Two()),
                     checkpoint=dict(save_best=save_best, rule=rule))
        return said, {path.name: Path(path.read_text()).name
                      for path in tmp_path.glob('best_checkpoint*')}

    go_on(3, 'a/loss', 'less')
    said, bests = go_on(4, 'a/score', 'greater')
    assert bests == {'best_checkpoint': 'best_a_score_epoch_4.pth'}
    assert 'count any more: best_a_loss_epoch_2.pth (less a/loss)' in said
    said, bests = go_on(5, ['a/score', 'a/loss'], ['greater', 'less'])
    assert bests == {'best_checkpoint_a_score': 'best_a_score_epoch_4.pth',
                     'best_checkpoint_a_loss': 'best_a_loss_epoch_5.pth'}
    assert 'any more' not in said
    # What was called otherwise is not missed.
    hub = read_checkpoint(tmp_path / 'epoch_5.pth')['message_hub']
    assert {name for name in hub['resumed_keys'] if 'best' in name} <= set(
        hub['runtime_info'])
    said, bests = go_on(5, 'a/score', 'greater')
    assert bests == {'best_checkpoint': 'best_a_score_epoch_4.pth'}
    assert set(bests.values()) < set(names(tmp_path))
    # The state names it as the best by another rule.
    go_on(5, 'a/loss', 'greater')
    assert 'best_a_loss_epoch_5.pth' in names(tmp_path)


def test_without_ema_the_weights_themselves_go_on(tmp_path):
    def weights(runner):
        return runner.model.layer[0].weight.detach().clone()

    last, ended = noting('after_train', weights)
    train(tmp_path, hooks=[dict(type='EMAHook', momentum=.1), last])
    first, begun = noting('before_train', weights)
    said = train(tmp_path, resume=True, epochs=4, hooks=[first])
    assert torch.equal(*ended, *begun)
    assert 'the config no EMAHook' in said


def test_accumulated_gradients_go_on(tmp_path):
    """Of three iterations, an epoch has two."""
    settings = dict(optim_wrapper=dict(
        optimizer=dict(type='SGD', lr=.1), accumulative_counts=3))
    train(tmp_path / 'a', **settings)
    interrupt(tmp_path / 'b', 'before_train_epoch', **settings)
    state = read_checkpoint(tmp_path / 'b' / 'epoch_2.pth')
    assert len(state['accumulated_gradients']) == 2
    # Of another number of iterations they are not part of a step.
    shutil.copytree(tmp_path / 'b', tmp_path / 'c')
    hook, gradients = noting(
        'before_train_iter',
        lambda runner, **_: runner.model.layer[0].weight.grad)
    said = train(tmp_path / 'c', resume=True, hooks=[hook],
                 optim_wrapper=settings['optim_wrapper'] | dict(
                     accumulative_counts=2))
    assert gradients[0] is None
    assert 'are others, 3 there and 2 here' in said
    # Older states do not tell it.
    del state['accumulative_counts']
    torch.save(state, tmp_path / 'b' / 'epoch_2.pth')
    runner = build(tmp_path / 'b', resume=True, log_level='INFO', **settings)
    handler = logging.handlers.BufferingHandler(10**4)
    runner.logger.addHandler(handler)
    runner.train()
    lines = [record.getMessage() for record in handler.buffer]
    assert 'The gradients of 1 iterations are taken from the checkpoint.' \
        in lines
    assert not [line for line in lines if 'not divisible' in line]
    states = [read_checkpoint(tmp_path / folder / 'epoch_3.pth')
              for folder in 'ab']
    assert 'accumulated_gradients' not in states[0]
    for name, value in states[0]['state_dict'].items():
        assert torch.equal(value, states[1]['state_dict'][name])


def test_a_seed_that_was_drawn_is_taken_up(tmp_path):
    drawn = dict(randomness=dict(seed=None))
    train(tmp_path / 'a', epochs=1, **drawn)
    shutil.copytree(tmp_path / 'a', tmp_path / 'b')
    for folder in ('a', 'b'):
        train(tmp_path / folder, epochs=2, resume=True, **drawn)
    assert_same_end(tmp_path / 'a', tmp_path / 'b')


def test_a_metric_that_is_not_reported(tmp_path):
    with pytest.raises(ValueError, match=r"'acc', and validation reports "
                       r'a/score'):
        train(tmp_path, checkpoint=dict(save_best='acc'))


def test_ranks_draw_differently(monkeypatch):
    drawn = []
    for rank in (0, 1, 0):
        monkeypatch.setattr(seeded_draws, 'get_rank', lambda rank=rank: rank)
        SeededDrawsHook().before_train_iter(SimpleNamespace(seed=1, iter=7), 0)
        drawn.append((torch.rand(()).item(), np.random.rand(),
                      random.random()))
    assert drawn[0] == drawn[2]
    assert not set(drawn[0]) & set(drawn[1])


@pytest.mark.parametrize('save_best', ['a/score', 'auto'])
def test_a_run_without_a_best_says_so(tmp_path, monkeypatch, save_best):
    monkeypatch.setitem(globals(), 'SCORES', [float('nan')] * EPOCHS)
    said = train(tmp_path, checkpoint=dict(save_best=save_best))
    assert not (tmp_path / 'best_checkpoint').exists()
    assert 'there is no best checkpoint' in said
