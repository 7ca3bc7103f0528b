"""Runs survive whatever ends them, and are never mixed.

The tools are small scripts that leave files as MMEngine does, so that real
processes can be killed at many points; test_recipe_chain.py has a real chain.
"""

import dataclasses
import io
import json
import multiprocessing
import os
import runpy
import signal
import sys
import time
import zipfile

import pytest
from commands import run
from tiny_recipe import (
    read_calls,
    tiny_recipe,
    write_data,
    write_recipe,
    write_tools,
)

import mmmedmask.experiments.execute as execute_module
from mmmedmask.experiments.commands import run_steps, shell_line
from mmmedmask.experiments.execute import Execution, SubprocessExecutor
from mmmedmask.experiments.manifest import (
    MANIFEST_FILE,
    DataFingerprints,
    RunLockedError,
    lock_run,
    read_manifest,
)
from mmmedmask.experiments.plan import plan_runs
from mmmedmask.experiments.preflight import find_problems
from mmmedmask.experiments.progress import History, Reporter, duration
from mmmedmask.experiments.results_table import collect_cells, write_tables
from mmmedmask.experiments.run_files import (
    mend_checkpoints,
    read_metrics,
    training_progress,
)
from mmmedmask.experiments.schema import read_recipe

FORK = multiprocessing.get_context('fork')


class Place:
    """A folder with a recipe, data and tools."""

    def __init__(self, folder):
        self.folder = folder
        self.data = write_data(folder / 'data')
        self.tools = write_tools(folder / 'tools')
        self.calls_file = folder / 'calls.jsonl'
        self.recipe_file = write_recipe(folder)
        self.output = io.StringIO()

    def plan(self, seeds=(0, ), rows=('ours', ), work_dir='runs'):
        recipe = read_recipe(self.recipe_file)
        return plan_runs([(recipe, [recipe.row(row) for row in rows])],
                         'paper', self.folder / work_dir, seeds)

    def execution(self, plan, executor=None):
        return Execution(
            plan, self.data, self.tools, executor or SubprocessExecutor(),
            Reporter(self.output, 0), History(self.folder / 'runs' / 'paper'),
            DataFingerprints(self.data))

    def run(self, plan, executor=None):
        execution = self.execution(plan, executor)
        execution.execute()
        return execution.failures

    def results(self, plan):
        return [read_manifest(run.folder)['results'] for run in plan.runs]

    def tools_called(self):
        return [call[0] for call in read_calls(self.calls_file)]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv('TINY_CALLS', str(tmp_path / 'calls.jsonl'))
    monkeypatch.setattr(execute_module, 'POLL_SECONDS', .01)
    monkeypatch.setattr(execute_module, 'WAIT_SECONDS', .02)
    monkeypatch.setattr(execute_module, 'NOTE_SECONDS', .02)
    return Place(tmp_path)


@pytest.fixture
def undisturbed(place):
    """Results of the chain when nothing happens."""
    plan = place.plan(work_dir='undisturbed')
    assert place.run(plan) == {}
    calls = len(place.tools_called())
    return place.results(plan), calls


def test_a_chain_is_run_once(place):
    plan = place.plan((0, 1), ('ours', 'scratch'))
    assert place.run(plan) == {}
    assert place.tools_called() == [
        'train.py', 'export_backbone.py', 'train.py', 'test.py', 'train.py',
        'test.py'] * 2
    manifest = read_manifest(plan.runs[1].folder)
    assert manifest['status'] == 'done'
    assert set(manifest['steps']) == {'train', 'test'}
    assert manifest['steps']['train']['command'].startswith('python ')
    assert manifest['load_checks'] == [dict(
        what='backbone against x under y', matched=62, expected=62,
        percent=100.0)]
    assert manifest['sources'][0]['id'] == read_manifest(
        plan.runs[0].folder)['id']
    assert manifest['data'] == DataFingerprints(place.data).of_run(
        plan.runs[1])
    start, = manifest['starts']
    assert start['versions']['torch']
    assert start['hardware']['cores'] >= 1
    assert manifest['seconds'] == pytest.approx(sum(
        step['seconds'] for step in manifest['steps'].values()), abs=.01)
    # The stages got what those before had made.
    weights = (plan.runs[1].folder / 'epoch_2.pth').read_bytes()
    assert b'tiny_downstream seed 0 from exported tiny_pretrain seed 0+++++' \
        in weights

    assert place.run(plan) == {}
    assert len(place.tools_called()) == 12
    more = place.plan((0, 1, 2), ('ours', 'scratch'))
    assert place.run(more) == {}
    assert len(place.tools_called()) == 18


def test_the_table_has_what_there_is(place, monkeypatch):
    monkeypatch.setenv('TINY_FAIL', 'tiny_scratch')
    plan = place.plan((0, 1), ('ours', 'scratch'))
    failures = place.run(plan)
    assert [one.title for one in failures] == [
        'tiny_scratch, seed 0', 'tiny_scratch, seed 1']
    for text in failures.values():
        assert 'train ended with status 1' in text
        assert 'CUDA error: the cat is on the keyboard' in text
    recipe = plan.tables[0][0]
    text = write_tables(plan, recipe, place.folder, failures, 'the command')
    # .1 + .01 * seed + .001 * length of what the file says, in percent.
    values = [place.results(plan)[number]['last']['accuracy/top1'] * 100
              for number in (1, 4)]
    assert values[1] - values[0] == pytest.approx(1)
    mean = sum(values) / 2
    assert f'| Ours | 12.50 / {mean:.2f} ± 0.71 (2) / {mean - 12.5:+.2f} |' \
        in text
    assert '| From scratch | 10.25 / failed / – |' in text
    assert '- The paper says 12 where 21 is meant.' in text
    assert 'Made by `the command`.' in text
    rows = (place.folder / 'tiny.csv').read_text().splitlines()
    assert rows[1].startswith('tiny,ours,Ours,accuracy,12.5,')
    assert rows[1].endswith(',paper')
    assert rows[2].startswith('tiny,scratch,From scratch,accuracy,10.25,,,'
                              '0,2,,,')
    assert 'seed 0: failed; seed 1: failed' in rows[2]
    # A part of the seeds is said to be a part.
    more = place.plan((0, 1, 2))
    text = write_tables(more, recipe, place.folder, {}, 'the command')
    assert '(2 of 3: missing)' in text
    # Some of the rows do not replace the table of all.
    assert (place.folder / 'tiny.csv').read_text().splitlines() == rows
    assert 'ours' in (place.folder / 'tiny_ours.csv').read_text()
    assert (place.folder / 'tiny_ours.md').read_text() == text
    monkeypatch.delenv('TINY_FAIL')
    assert place.run(plan) == {}


def test_a_metric_that_is_not_there_is_said(place):
    recipe = tiny_recipe()
    recipe['columns'][0]['metric'] = 'accuracy/top5'
    place.recipe_file = write_recipe(place.folder, recipe)
    plan = place.plan()
    assert place.run(plan) == {}
    cell, = collect_cells(plan, plan.tables[0][0], {})
    assert cell.mean is None
    assert cell.problems == {
        0: "no metric 'accuracy/top5' among accuracy/top1"}


def test_other_scales_are_marked_everywhere(place):
    recipe = read_recipe(place.recipe_file)
    for scale, mark in (('small', "small: not the paper's setting"),
                        ('smoke', 'smoke: drawn data, two iterations')):
        plan = plan_runs([(recipe, recipe.rows)], scale, place.folder)
        text = write_tables(plan, recipe, place.folder, {}, 'command')
        title, *lines = [line for line in text.splitlines()
                         if line.startswith(('#', '| Ours', '| From'))]
        assert mark in title
        assert len(lines) == 2
        assert all(mark in line for line in lines)
        for cell in collect_cells(plan, recipe, {}):
            cell = dataclasses.replace(cell, values={0: cell.paper + 1})
            assert cell.difference('paper') == pytest.approx(1)
            assert cell.difference(scale) is None
        rows = (place.folder / 'tiny.csv').read_text().splitlines()[1:]
        assert len(rows) == 2
        assert all(mark in row for row in rows)


class Killed(BaseException):
    """Ends the runner at once, as a kill does."""


class Faults:
    """Counts the moments at which a runner can end, and ends it at one."""

    def __init__(self, at=None):
        self.at = at
        self.seen = 0

    def moment(self):
        if self.seen == self.at:
            self.at = None
            raise Killed
        self.seen += 1


class FaultyExecutor:
    """Runs the tools in this process, which is faster."""

    def __init__(self, faults):
        self.faults = faults

    def run_step(self, run, step, lock, watch):
        self.faults.moment()
        watch()
        command = list(step.command)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, 'argv', command[1:])
            runpy.run_path(command[1], run_name='__main__')
        self.faults.moment()


def test_ends_anywhere_and_goes_on(place, undisturbed, monkeypatch):
    """A fault before and after every step and every note of one."""
    results, _ = undisturbed
    write = execute_module.write_json
    faults = Faults()

    def faulty_write(file, content):
        faults.moment()
        write(file, content)
        faults.moment()

    monkeypatch.setattr(execute_module, 'write_json', faulty_write)
    # Notes of the time come at random.
    monkeypatch.setattr(execute_module, 'NOTE_SECONDS', 1e9)
    environment = execute_module.describe_environment()
    monkeypatch.setattr(execute_module, 'describe_environment',
                        lambda: environment)
    place.run(place.plan(work_dir='counted'), FaultyExecutor(faults))
    moments = faults.seen
    assert moments >= 26
    for moment in range(moments):
        faults.at, faults.seen = moment, 0
        plan = place.plan(work_dir=f'runs_{moment}')
        with pytest.raises(Killed):
            place.run(plan, FaultyExecutor(faults))
        assert place.run(plan, FaultyExecutor(faults)) == {}
        assert place.results(plan) == results
        assert {read_manifest(one.folder)['status']
                for one in plan.runs} == {'done'}


def kill_when(process, condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        assert process.is_alive()
        time.sleep(.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()


@pytest.mark.parametrize('moment', ['first epoch', 'second epoch', 'export',
                                    'downstream', 'test'])
def test_a_killed_runner_is_followed_by_another(place, undisturbed, moment,
                                                monkeypatch):
    results, _ = undisturbed
    before = len(place.tools_called())
    plan = place.plan()
    pretrain, downstream = plan.runs
    monkeypatch.setenv('TINY_SLEEP', '.15')
    conditions = {
        'first epoch': lambda: (pretrain.folder / 'train.log').is_file(),
        'second epoch': lambda: (pretrain.folder / 'epoch_1.pth').is_file(),
        'export': lambda: 'export' in (
            read_manifest(pretrain.folder) or {'steps': {}})['steps'],
        'downstream': lambda: (downstream.folder / 'epoch_1.pth').is_file(),
        'test': lambda: (downstream.folder / 'test').is_dir(),
    }
    process = FORK.Process(target=place.run, args=(plan, ))
    process.start()
    kill_when(process, conditions[moment])
    # The command that it had started goes on; the next runner waits for it.
    assert place.run(plan) == {}
    assert place.results(plan) == results
    called = place.tools_called()[before:]
    assert called.count('train.py') in (2, 3)
    # A training is never started twice at a time.
    assert called.count('test.py') in (1, 2)


def test_a_training_that_was_killed_goes_on(place, undisturbed, monkeypatch):
    results, _ = undisturbed
    plan = place.plan()
    pretrain = plan.runs[0]
    monkeypatch.setenv('TINY_SLEEP', '.2')
    process = FORK.Process(target=place.run, args=(plan, ))
    process.start()
    kill_when(process, (pretrain.folder / 'epoch_1.pth').is_file)
    holder = (pretrain.folder / 'run.lock').read_text()
    assert 'train of tiny_pretrain, seed 0' in holder
    # Now the command, too, while the next epoch runs.
    os.kill(int(holder.split()[1]), signal.SIGKILL)
    assert place.run(plan) == {}
    assert place.results(plan) == results
    manifest = read_manifest(pretrain.folder)
    assert manifest['steps']['train']['tries'] == 2
    assert len(manifest['starts']) == 2
    # Time that was noted before the kill counts.
    assert manifest['steps']['train']['seconds'] > .2


def test_two_runners_share_the_work(place, undisturbed, monkeypatch):
    results, calls = undisturbed
    monkeypatch.setenv('TINY_SLEEP', '.1')
    plan = place.plan((0, 1), ('ours', 'scratch'))
    before = len(place.tools_called())
    others = [FORK.Process(target=place.run, args=(plan, ))
              for _ in range(2)]
    for process in others:
        process.start()
    assert place.run(plan) == {}
    for process in others:
        process.join(20)
        assert process.exitcode == 0
    called = place.tools_called()[before:]
    assert sorted(called) == sorted(
        ['train.py', 'export_backbone.py', 'train.py', 'test.py', 'train.py',
         'test.py'] * 2)
    assert place.results(plan)[:2] == results
    assert 'has it, skipped for now' in place.output.getvalue()


def test_a_lock_says_who_has_it(tmp_path):
    with lock_run(tmp_path / 'run'):
        with pytest.raises(RunLockedError, match=f'process {os.getpid()} on'):
            with lock_run(tmp_path / 'run'):
                pass
    with lock_run(tmp_path / 'run'):
        pass


def test_ctrl_c_ends_the_command(place, monkeypatch):
    monkeypatch.setenv('TINY_SLEEP', '30')
    plan = place.plan()

    def interrupted():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            place.run(plan)
        except KeyboardInterrupt:
            os._exit(77)

    process = FORK.Process(target=interrupted)
    process.start()
    log = plan.runs[0].folder / 'train.log'
    while not place.tools_called() or not log.is_file():
        time.sleep(.01)
    time.sleep(.1)
    os.kill(process.pid, signal.SIGINT)
    process.join(10)
    assert process.exitcode == 77
    assert read_manifest(plan.runs[0].folder)['status'] == 'interrupted'
    # The lock is free, so the command has ended.
    with lock_run(plan.runs[0].folder):
        pass


def test_failures_stop_what_needs_them_alone(place, monkeypatch):
    monkeypatch.setenv('TINY_FAIL', 'tiny_pretrain')
    plan = place.plan((0, ), ('ours', 'scratch'))
    failures = place.run(plan)
    assert [one.stage.name for one in failures] == ['pretrain', 'classify']
    assert failures[plan.runs[1]] == \
        'not run, since tiny_pretrain, seed 0 failed'
    assert read_manifest(plan.runs[0].folder)['status'] == 'failed'
    assert read_manifest(plan.runs[2].folder)['status'] == 'done'
    assert f'FAILED {plan.runs[0].title}' in place.output.getvalue()


def test_a_folder_of_something_else_is_refused(place):
    plan = place.plan()
    pretrain, downstream = plan.runs
    assert place.run(plan) == {}

    def problems():
        return find_problems(plan, place.data, DataFingerprints(place.data))

    assert problems() == []
    (place.data / 'images' / 'new.png').write_text('x')
    problem, = problems()
    assert problem.startswith(f'{downstream.folder} was made with other data')
    assert 'changed in images' in problem
    assert 'other data' in place.run(plan)[downstream]
    (place.data / 'images' / 'new.png').unlink()

    file = downstream.folder / MANIFEST_FILE
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps({**manifest, 'digest': 'f' * 64}))
    problem, = problems()
    assert f"{downstream.folder} was made with digest 'fff" in problem
    file.write_text(json.dumps({**manifest, 'format': 99}))
    problem, = problems()
    assert 'another version of the recipe runner' in problem
    file.write_text(json.dumps(manifest))

    # A source that has been made anew.
    for path in pretrain.folder.rglob('*.*'):
        if path.is_file():
            path.unlink()
    assert problems() == []
    failures = place.run(plan)
    assert list(failures) == [downstream]
    assert 'which has been made anew' in failures[downstream]
    # What is there is no result of this chain, with or without failures.
    recipe, _ = plan.tables[0]
    for said in (failures, {}):
        cell, = collect_cells(plan, recipe, said)
        assert cell.values == {}
        assert 'since made anew' in cell.problems[0]


def test_a_checkpoint_that_is_gone_is_said(place):
    plan = place.plan()
    assert place.run(plan) == {}
    file = plan.runs[1].folder / MANIFEST_FILE
    manifest = json.loads(file.read_text())
    del manifest['steps']['test']
    file.write_text(json.dumps(manifest))
    (plan.runs[1].folder / 'epoch_2.pth').unlink()
    assert 'has ended without its last checkpoint (epoch_2.pth)' in \
        place.run(plan)[plan.runs[1]]


def test_missing_data_are_said_at_once(place):
    for path in sorted(place.data.rglob('*'), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    plan = place.plan()
    problems = find_problems(plan, place.data, DataFingerprints(place.data))
    assert problems == [
        f'{place.data}/tiles/a is not there: needed by '
        'tiny_pretrain. It comes from docs/datasets.md#tiles',
        f'{place.data}/tiles/b is not there: needed by '
        'tiny_pretrain. It comes from docs/datasets.md#tiles',
        f'{place.data}/images is not there: needed by '
        'tiny_downstream. It comes from docs/datasets.md#images']


def test_missing_weights_are_said_with_their_source(place):
    recipe = tiny_recipe()
    recipe['rows'][0].update(
        stages=dict(pretrain='tiny_pretrain', classify=dict(
            config='tiny_downstream',
            options={'load_from': 'data/weights/teacher.pth'})),
        weights=[{'path': 'data/weights/teacher.pth',
                  'from': 'https://example.org'}])
    place.recipe_file = write_recipe(place.folder, recipe)
    plan = place.plan()

    def problems():
        return find_problems(plan, place.data, DataFingerprints(place.data))

    assert problems() == [
        f'{place.data}/weights/teacher.pth is not there: needed by '
        'tiny_downstream. It comes from https://example.org']
    (place.data / 'weights').mkdir()
    (place.data / 'weights' / 'teacher.pth').touch()
    (place.data / 'weights' / 'other.pth').touch()
    assert problems() == []


def test_half_a_checkpoint_is_mended(tmp_path):
    def write(name, whole=True):
        with zipfile.ZipFile(tmp_path / name, 'w') as file:
            file.writestr('weights', 'x' * 1000)
        if not whole:
            content = (tmp_path / name).read_bytes()
            (tmp_path / name).write_bytes(content[:500])

    pointer = tmp_path / 'last_checkpoint'
    assert mend_checkpoints(tmp_path) is None
    write('epoch_1.pth')
    write('epoch_2.pth', whole=False)
    pointer.write_text('elsewhere/epoch_1.pth')
    assert mend_checkpoints(tmp_path) == 'epoch_2.pth was not whole, deleted'
    assert pointer.read_text() == 'elsewhere/epoch_1.pth'
    # The old one was deleted, and the new one is not noted.
    write('epoch_9.pth')
    write('epoch_10.pth')
    pointer.write_text('elsewhere/epoch_8.pth')
    assert mend_checkpoints(tmp_path) == 'going on from epoch_10.pth'
    assert pointer.read_text() == str(tmp_path / 'epoch_10.pth')
    pointer.write_text('')
    assert mend_checkpoints(tmp_path) == 'going on from epoch_10.pth'
    for path in tmp_path.glob('epoch_*.pth'):
        path.unlink()
    write('iter_5.pth', whole=False)
    assert 'starting anew' in mend_checkpoints(tmp_path)
    assert not pointer.exists()
    assert list(tmp_path.iterdir()) == []


def test_progress_is_read_from_the_logs(tmp_path):
    assert training_progress(tmp_path, 3) is None
    logs = tmp_path / '20260101_000000'
    (logs / 'vis_data').mkdir(parents=True)
    (logs / 'vis_data' / 'scalars.json').write_text(
        '{"lr": 1, "loss": 2.0, "time": 0.5, "epoch": 2, "step": 15}\n'
        '{"accuracy": 3, "step": 2}\n{"lr": 1, "lo')
    (logs / f'{logs.name}.log').write_text(
        'INFO - Epoch(train)   [2][ 5/10]  lr: 1.0e-3  eta: 0:00:10\n')
    progress = training_progress(tmp_path, 3)
    assert (progress.iteration, progress.total) == (15, 30)
    assert progress.seconds_left == 7.5
    (logs / f'{logs.name}.log').write_text(
        'INFO - Iter(train) [ 15/300]  lr: 1.0e-3\n')
    assert training_progress(tmp_path, None).total == 300


def test_metrics_are_those_of_the_last_test(tmp_path):
    with pytest.raises(ValueError, match='has left no metrics'):
        read_metrics(tmp_path)
    for name, value in (('20260101_000000', .5), ('20260101_000001', .75)):
        (tmp_path / name).mkdir()
        (tmp_path / name / f'{name}.json').write_text(json.dumps(
            {'a/b': value, 'time': 1., 'confusion': [[1]], 'ok': True}))
    assert read_metrics(tmp_path) == {'a/b': .75}
    with pytest.raises(ValueError, match='has left no metrics'):
        read_metrics(tmp_path, after='20260101_000001')


def test_time_left_comes_from_finished_runs(place):
    plan = place.plan((0, 1), ('ours', 'scratch'))
    assert place.run(place.plan((0, ), ('ours', ))) == {}
    history = History(place.folder / 'runs' / 'paper')
    for number in (0, 1):
        run = plan.runs[number]
        seconds = read_manifest(run.folder)['seconds']
        assert history.estimate(run) == pytest.approx(seconds)
    assert history.estimate(plan.runs[2]) is None
    text = history.describe_left(60, plan.runs)
    assert text.endswith('and 2 runs of unknown time left')
    assert text.startswith('about 1 min')
    assert history.describe_left(None, []) == 'this step left'
    assert [duration(one) for one in (5, 90, 3600 * 2 + 300, 3e5)] == [
        '5 s', '2 min', '2 h 5 min', '3.5 d']


def test_commands_by_hand_fill_the_same_folders(place, undisturbed):
    results, _ = undisturbed
    plan = place.plan()
    for one in plan.runs:
        for step in run_steps(one, place.data, place.tools):
            run('bash', '-ec', shell_line(step.command))
    before = len(place.tools_called())
    assert place.run(plan) == {}
    assert place.results(plan) == results
    # They are done again, but the training had nothing left to do.
    assert len(place.tools_called()) == before + 4
    assert read_manifest(plan.runs[0].folder)['found_files']


def test_a_terminal_has_one_line_that_changes():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    reporter = Reporter(stream)
    reporter.status('one')
    reporter.status('two')
    reporter.say('three')
    assert stream.getvalue() == 'one\r\x1b[Ktwo\r\x1b[Kthree\n'
    plain = io.StringIO()
    reporter = Reporter(plain, interval=1e9)
    reporter.status('one')
    reporter.status('two')
    reporter.say('three')
    assert plain.getvalue() == '  one\nthree\n'
