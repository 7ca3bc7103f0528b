"""Runs survive whatever ends them, and are never mixed.

The steps are done in this process, which can so end at many points;
test_engine.py has real processes, and test_recipe_chain.py a real chain.
"""

import dataclasses
import json
import shutil
import statistics
from pathlib import Path

import pytest
from commands import run
from PIL import Image
from tiny_place import start_here
from tiny_recipe import classify, tiny_recipe, write_data, write_recipe

import mmmedmask.experiments.run_job as run_job_module
from mmmedmask.experiments.commands import run_steps, shell_line
from mmmedmask.experiments.execute import find_problems
from mmmedmask.experiments.fingerprints import DataFingerprints
from mmmedmask.experiments.manifest import MANIFEST_FILE, read_manifest
from mmmedmask.experiments.plan import Axis, plan_runs
from mmmedmask.experiments.results_table import collect_cells, write_tables
from mmmedmask.experiments.run_files import (
    log_folder_names,
    read_logged,
    read_metrics,
)
from mmmedmask.experiments.run_job import start_command
from mmmedmask.experiments.schema import read_recipe

# What a pre-training needs that a table shows.
TESTED = """
test_dataloader = train_dataloader
test_evaluator = dict(type='Accuracy')
test_cfg = dict()
"""


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
    failures = place.run(plan, start_command)
    assert [one.title for one in failures] == [
        'tiny_scratch, seed 0', 'tiny_scratch, seed 1']
    for text in failures.values():
        assert 'train ended with status 1' in text
        assert 'CUDA error: the cat is on the keyboard' in text
    recipe = plan.tables[0][0]
    text = write_tables(plan, recipe, 'the command')
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
    rows = (plan.folder / 'tiny.csv').read_text().splitlines()
    assert rows[1].startswith('tiny,ours,Ours,accuracy,12.5,')
    assert rows[1].endswith(',paper')
    assert rows[2].startswith('tiny,scratch,From scratch,accuracy,10.25,,,0,2,'
                              ',,seed 0: failed; seed 1: failed,')
    # A part of the seeds is said to be a part.
    more = place.plan((0, 1, 2))
    text = write_tables(more, recipe, 'the command')
    assert '(2 of 3: missing)' in text
    # Some of the rows do not replace the table of all.
    assert (plan.folder / 'tiny.csv').read_text().splitlines() == rows
    assert 'ours' in (plan.folder / 'tiny_ours.csv').read_text()
    assert (plan.folder / 'tiny_ours.md').read_text() == text
    monkeypatch.delenv('TINY_FAIL')
    assert place.run(plan) == {}


def test_rows_are_compared_run_by_run(place):
    place.change(against='scratch')
    plan = place.plan((0, 1, 2), ('ours', 'scratch'))
    assert place.run(plan) == {}
    recipe = plan.tables[0][0]
    cells = {cell.row.name: list(cell.values.values())
             for cell in collect_cells(plan, recipe)}
    pairs = [a - b for a, b in zip(cells['ours'], cells['scratch'],
                                   strict=True)]
    text = write_tables(plan, recipe, 'the command')
    part = text.partition('## Less From scratch, run by run')[2]
    # The quantile of Student's t with two degrees of freedom.
    mean, half = sum(pairs) / 3, 4.30265 * statistics.stdev(pairs) / 3**.5
    assert (f'| Ours | {mean:+.2f} [{mean - half:+.2f}, '
            f'{mean + half:+.2f}] (3) |') in part
    assert '| From scratch |' not in part
    with Image.open(plan.folder / 'tiny.png') as picture:
        assert len(picture.convert('RGB').getcolors(2**24)) > 10
    # One run has no interval; without the other row nothing is compared.
    text = write_tables(place.plan((0, ), ('ours', 'scratch')), recipe, '')
    assert f'| Ours | {pairs[0]:+.2f} (1) |' in text
    text = write_tables(place.plan(), recipe, '')
    assert 'run by run' not in text
    assert ('No differences to From scratch: it is not among the rows.'
            in text)


def test_a_metric_that_is_not_there_is_said(place):
    column, = tiny_recipe()['columns']
    place.change(columns=[dict(column, metric='accuracy/top5')])
    plan = place.plan()
    assert place.run(plan) == {}
    cell, = collect_cells(plan, plan.tables[0][0])
    assert cell.mean is None
    assert cell.problems == {
        Axis(0, None): "no metric 'accuracy/top5' among accuracy/top1"}


def test_a_row_may_have_metrics_of_its_own(place):
    ours, scratch = tiny_recipe()['rows']
    floor = dict(scratch, name='floor', title='Floor', paper={},
                 metrics=dict(accuracy='accuracy/floor'))
    place.change(rows=[ours, scratch, floor])
    plan = place.plan((0, ), ('scratch', 'floor'))
    # The floor stands in the log of a run that is trained once.
    assert len(plan.runs) == 1
    assert place.run(plan) == {}
    scores, floors = collect_cells(plan, plan.tables[0][0])
    assert list(scores.values) == [Axis(0, None)]
    assert floors.problems == {
        Axis(0, None): "no metric 'accuracy/floor' among accuracy/top1"}


def test_other_scales_are_marked_everywhere(place):
    for scale, mark in (('small', "small: not the paper's setting"),
                        ('smoke', 'smoke: drawn data, two iterations')):
        plan = place.plan((0, 1), ('ours', 'scratch'), scale=scale)
        recipe, _ = plan.tables[0]
        text = write_tables(plan, recipe, 'command')
        title, *lines = [line for line in text.splitlines()
                         if line.startswith(('#', '| Ours', '| From'))]
        assert mark in title
        assert len(lines) == 2
        assert all(mark in line for line in lines)
        for cell in collect_cells(plan, recipe):
            cell = dataclasses.replace(
                cell, values={Axis(0, None): cell.paper + 1})
            assert cell.difference('paper') == pytest.approx(1)
            assert cell.difference(scale) is None
        rows = (plan.folder / 'tiny.csv').read_text().splitlines()[1:]
        assert len(rows) == 2
        assert all(mark in row for row in rows)


def test_failures_stop_what_needs_them_alone(place, monkeypatch, capsys):
    monkeypatch.setenv('TINY_FAIL', 'tiny_pretrain')
    plan = place.plan((0, ), ('ours', 'scratch'))
    failures = place.run(plan)
    assert [one.name for one in failures] == ['tiny_pretrain',
                                              'tiny_downstream']
    assert failures[plan.runs[1]] == \
        'not run, since tiny_pretrain, seed 0 failed'
    assert read_manifest(plan.runs[0].folder)['status'] == 'failed'
    assert read_manifest(plan.runs[2].folder)['status'] == 'done'
    assert f'FAILED {plan.runs[0].title}' in capsys.readouterr().err


def test_a_folder_of_something_else_is_refused(place):
    plan = place.plan()
    pretrain, downstream = plan.runs
    assert place.run(plan) == {}
    assert find_problems(plan) == []
    (place.data / 'images' / 'new.png').write_text('x')
    problem, = find_problems(plan)
    assert problem.startswith(f'{downstream.folder} was made with other data')
    assert 'changed in data/images.' in problem
    assert 'other data' in place.run(plan)[downstream]
    (place.data / 'images' / 'new.png').unlink()
    # Tables and failures of one plan look at the data once.
    assert plan.fingerprints is plan.fingerprints is not None
    plan = place.plan()
    pretrain, downstream = plan.runs
    file = downstream.folder / MANIFEST_FILE
    manifest = json.loads(file.read_text())
    for changed, message in (
            (dict(digest='f' * 64),
             f"{downstream.folder} was made with digest 'fff"),
            (dict(format=99), 'another version of the recipe runner')):
        file.write_text(json.dumps(manifest | changed))
        problem, = find_problems(plan)
        assert message in problem
    # One that was edited by hand.
    file.write_text(json.dumps(
        {key: manifest[key] for key in manifest if key != 'sources'}))
    problem, = find_problems(plan)
    assert problem.startswith(f"{file} lacks ['sources']: move its folder")
    file.write_text(json.dumps(manifest))
    # A source that has been made anew.
    shutil.rmtree(pretrain.folder)
    assert find_problems(plan) == []
    failures = place.run(plan)
    assert list(failures) == [downstream]
    assert 'which has been made anew' in failures[downstream]
    # What is there is no result of this chain.
    cell, = collect_cells(plan, plan.tables[0][0])
    assert cell.values == {}
    assert 'since made anew' in cell.problems[Axis(0, None)]


def test_a_table_of_runs_of_different_data_says_so(place):
    plan = place.plan((0, 1))
    assert place.run(place.plan((0, ))) == {}
    assert 'Not the same data' not in place.table(plan)[1]
    (place.data / 'images' / 'new.png').write_text('x')
    assert place.run(place.plan((1, ))) == {}
    plan = place.plan((0, 1))
    line, = [line for line in place.table(plan)[1].splitlines()
             if 'Not the same data' in line]
    assert ('data/images changed between the runs (tiny_downstream, seed 0) '
            'and (tiny_downstream, seed 1).') in line


def test_results_of_other_data_are_not_shown(place):
    """Of another data root; where there is none they cannot be compared."""
    plan = place.plan()
    assert place.run(plan) == {}
    other = shutil.copytree(place.data, place.folder / 'other')
    problems = []
    for change in (None, 'tiles/a/new.png', 'images/new.png'):
        if change:
            (other / change).touch()
        cell, = collect_cells(place.plan(data_root=other), plan.tables[0][0])
        problems.append(list(cell.problems.values()))
        if change:
            (other / change).unlink()
    assert problems == [[], ['other data'], ['other data']]
    shutil.rmtree(other)
    cell, = collect_cells(place.plan(data_root=other), plan.tables[0][0])
    assert len(cell.values) == 1


def test_missing_data_and_weights_are_said_with_their_source(place):
    recipe = tiny_recipe(classify(load_from='data/weights/teacher.pth'))
    recipe['rows'][0]['weights'] = [{
        'path': 'data/weights/teacher.pth', 'from': 'https://example.org'}]
    place.recipe_file = write_recipe(place.folder, recipe)
    plan = place.plan()
    weights = (f'{place.data}/weights/teacher.pth is not there: needed by '
               'tiny_downstream. It comes from https://example.org')
    assert find_problems(plan) == [weights]
    shutil.rmtree(place.data)
    data = [f'{place.data}/{path} is not there: needed by tiny_{config}. It '
            f'comes from docs/datasets.md#{path.partition("/")[0]}'
            for path, config in (('tiles/a', 'pretrain'),
                                 ('tiles/b', 'pretrain'),
                                 ('images', 'downstream'))]
    assert find_problems(plan) == [*data, weights]
    write_data(place.data)
    (place.data / 'weights').mkdir()
    (place.data / 'weights' / 'teacher.pth').touch()
    (place.data / 'weights' / 'other.pth').touch()
    assert find_problems(plan) == []


def test_a_column_may_show_what_a_training_logged(place):
    column, = tiny_recipe()['columns']
    begin, end = (dict(name=when, title=when, stage='pretrain',
                       metric='epoch', logged=when)
                  for when in ('first', 'last'))
    place.change(columns=[begin, column, end])
    plan = place.plan((0, ), ('ours', ))
    assert place.run(plan) == {}
    # The first stage has nothing to test, and needs nothing.
    assert place.tools_called() == [
        'train.py', 'export_backbone.py', 'train.py', 'test.py']
    cells = collect_cells(plan, plan.tables[0][0])
    assert [*cells[0].values.values()] == [1]
    assert [*cells[2].values.values()] == [3]
    # A run whose manifest was written before there was such a column.
    run = plan.runs[0]
    manifest = read_manifest(run.folder)
    del manifest['logged']
    (run.folder / 'manifest.json').write_text(json.dumps(manifest))
    assert [[*cell.values.values()] for cell in collect_cells(
        plan, plan.tables[0][0])[::2]] == [[1], [3]]
    # Its log may be gone, or it may not have trained to its end.
    for logs in run.folder.glob('2026*'):
        shutil.rmtree(logs)
    assert collect_cells(plan, plan.tables[0][0])[0].problems == {
        Axis(0, None): "no metric 'epoch' among none"}
    del manifest['steps']['train']['ended']
    (run.folder / 'manifest.json').write_text(json.dumps(manifest))
    assert collect_cells(plan, plan.tables[0][0])[0].problems == {
        Axis(0, None): 'missing'}
    place.change(columns=[begin, column], options=dict(
        pretrain=dict(train_cfg=None)))
    with pytest.raises(ValueError, match='tiny_pretrain.py trains nothing'):
        place.plan()


def test_logged_values_are_those_of_the_first_and_the_last_step(tmp_path):
    def write(name, *lines, end=''):
        folder = tmp_path / name / 'vis_data'
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text(''.join(
            json.dumps(line) + '\n' for line in lines) + end)

    assert read_logged(tmp_path) == dict(first={}, last={})
    write('20260101_000000', {'loss': 3., 'time': 1., 'step': 10},
          {'tri/active': .5, 'step': 10}, {'loss': 2., 'step': 20},
          {'loss': 9., 'step': 30}, end='{"loss": 8., "st')
    # It was killed, and goes on after step 20.
    write('20260101_000001', {'loss': 1., 'step': 30},
          {'loss': float('nan'), 'step': 40})
    assert read_logged(tmp_path) == dict(
        first={'loss': 3., 'tri/active': .5},
        last={'loss': 'nan', 'tri/active': .5})


def test_metrics_are_those_of_the_last_test(tmp_path):
    def write(name, value):
        (tmp_path / name).mkdir()
        (tmp_path / name / f'{name}.json').write_text(json.dumps(
            {'a/b': value, 'time': 1., 'confusion': [[1]], 'ok': True,
             'auc': float('nan')}))

    with pytest.raises(ValueError, match='has left no metrics'):
        read_metrics(tmp_path)
    write('20260101_000000', .5)
    write('20260101_000001', .75)
    assert read_metrics(tmp_path) == {'a/b': .75, 'auc': 'nan'}
    known = log_folder_names(tmp_path)
    with pytest.raises(ValueError, match='has left no metrics'):
        read_metrics(tmp_path, known)
    # In another time zone, or after the clock was set back.
    write('20251231_230000', .25)
    assert read_metrics(tmp_path, known)['a/b'] == .25


def test_commands_by_hand_fill_the_same_folders(place, undisturbed):
    results, _ = undisturbed
    plan = place.plan()
    for one in plan.runs:
        for step in run_steps(one, place.tools):
            run('bash', '-ec', shell_line(step.command))
    before = len(place.tools_called())
    assert place.run(plan) == {}
    assert place.results(plan) == results
    # They are done again, but the training had nothing left to do.
    assert len(place.tools_called()) == before + 4
    assert ('before the first start of tiny_pretrain, seed 0; '
            'tiny_downstream, seed 0.') in place.table(plan)[1]
    hidden = place.plan(work_dir='hidden')
    hidden.runs[0].folder.mkdir(parents=True)
    (hidden.runs[0].folder / '.manifest.part.json').touch()
    assert place.run(hidden) == {}
    assert 'before the first start' not in place.table(hidden)[1]


class Killed(BaseException):
    """Ends a job at once, as a kill does."""


def test_ends_anywhere_and_goes_on(place, undisturbed, monkeypatch):
    """A fault before and after every step and every note of one."""
    results, table = undisturbed
    write = run_job_module.write_json
    left = None

    def moment():
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    def faulty_write(file, content):
        moment()
        write(file, content)
        moment()

    def faulty_start(*arguments):
        moment()
        start_here(*arguments)
        moment()

    monkeypatch.setattr(run_job_module, 'write_json', faulty_write)
    environment = run_job_module.describe_environment()
    monkeypatch.setattr(run_job_module, 'describe_environment',
                        lambda: environment)
    left = 1000
    place.run(place.plan(work_dir='counted'), faulty_start)
    moments = 1000 - left
    assert moments >= 28
    for number in range(1, moments + 1):
        left = number
        plan = place.plan(work_dir=f'runs_{number}')
        with pytest.raises(Killed):
            place.run(plan, faulty_start)
        left = 1000
        assert place.run(plan, faulty_start) == {}
        assert place.results(plan) == results
        assert place.table(plan) == table
        assert {read_manifest(one.folder)['status']
                for one in plan.runs} == {'done'}


def test_data_that_change_while_it_runs_are_no_result(place):
    plan = place.plan()
    pretrain, downstream = plan.runs

    def start(run, step, *arguments):
        start_here(run, step, *arguments)
        if step.kind == 'export':
            (place.data / 'tiles' / 'b' / 'more.png').touch()

    failures = place.run(plan, start)
    assert 'the data have changed while it ran: data/tiles/b. Delete' in \
        failures[pretrain]
    assert failures[downstream].startswith('not run')
    assert read_manifest(pretrain.folder)['status'] == 'failed'
    # Nor are they when the data are again what they were.
    (place.data / 'tiles' / 'b' / 'more.png').unlink()
    problem, = find_problems(plan)
    assert 'was made with data that changed while it ran' in problem
    assert 'changed while it ran' in place.run(plan)[pretrain]


def test_more_is_done_where_more_is_wanted(place):
    plan = place.plan()
    assert place.run(plan) == {}
    place.change(classify('best'))
    before = len(place.tools_called())
    more = place.plan()
    assert more.runs[1].folder == plan.runs[1].folder
    assert place.run(more) == {}
    assert place.tools_called()[before:] == ['test.py']
    # An exported file that is gone is exported again.
    (plan.runs[0].folder / 'backbone.pth').unlink()
    assert place.run(more) == {}
    assert place.tools_called()[before + 1:] == ['export_backbone.py']


def test_a_test_is_done_once_for_all_tables(place):
    """One table shows the pre-training, another starts from it."""
    probed = tiny_recipe(name='probed', small={}, columns=[dict(
        name='probe', title='Probe', stage='pretrain',
        metric='accuracy/top1')])
    probed['rows'] = [dict(name='ours', title='Ours', paper={},
                           stages=dict(pretrain='tiny_pretrain'))]
    files = [write_recipe(place.folder, probed), place.recipe_file]
    config = place.recipe_file.parents[1] / 'tiny_pretrain.py'
    config.write_text(config.read_text() + TESTED)
    probes, chain = map(read_recipe, files)

    def tools_called(*recipes):
        before = len(place.tools_called())
        plan = plan_runs([(recipe, [recipe.row('ours')])
                          for recipe in recipes], 'paper',
                         place.folder / 'runs', place.data, seeds=(0, ))
        assert place.run(plan) == {}
        return place.tools_called()[before:]

    assert tools_called(chain) == [
        'train.py', 'export_backbone.py', 'train.py', 'test.py']
    assert tools_called(probes) == ['test.py']
    assert tools_called(chain, probes) == tools_called(probes) == []
    shutil.rmtree(place.folder / 'runs')
    assert tools_called(probes) == ['train.py', 'test.py']
    assert tools_called(chain) == ['export_backbone.py', 'train.py', 'test.py']
    assert tools_called(probes) == tools_called(probes, chain) == []


def test_a_training_may_end_early(place, monkeypatch):
    """As by EarlyStoppingHook; one that failed or goes on has not."""
    plan = place.plan()
    pretrain = plan.runs[0]
    monkeypatch.setenv('TINY_STOP_AFTER', '2')
    train, export = run_steps(pretrain, place.tools)
    run('bash', '-ec', shell_line(train.command))
    assert run_steps(pretrain, place.tools)[1] == export
    assert export.command[2].endswith('epoch_3.pth')
    monkeypatch.setenv('TINY_STOP_AFTER', '1')
    assert place.run(plan) == {}
    assert run_steps(pretrain, place.tools)[1].command[2].endswith(
        'epoch_2.pth')
    downstream = plan.runs[1]
    assert b'from exported tiny_pretrain seed 0+++' in (
        downstream.folder / 'epoch_1.pth').read_bytes()
    assert f'{downstream.folder}/epoch_1.pth' in read_manifest(
        downstream.folder)['steps']['test']['command']
    assert place.run(plan) == {}


def test_checkpoints_that_are_gone_are_said(place):
    plan = place.plan()
    assert place.run(plan) == {}
    folder = plan.runs[1].folder
    # As earlier versions left it: the error says what to do.
    pointer = folder / 'best_checkpoint'
    best = pointer.read_text()
    pointer.unlink()
    place.change(classify('best'))
    plan = place.plan()
    failed, = place.run(plan).values()
    for part in (str(pointer), 'is missing', Path(best).name, 'delete'):
        assert part in failed
    pointer.write_text(Path(best).name)
    assert place.run(plan) == {}
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    del manifest['steps']['test']
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    (folder / 'epoch_2.pth').unlink()
    place.change()
    failed, = place.run(place.plan()).values()
    assert 'has ended without its last checkpoint (epoch_2.pth)' in failed
