"""The scripts that summarise runs."""

import json
from pathlib import Path

import pytest
from commands import call
from commands import load as load_tool
from matplotlib.figure import Figure
from mmengine.runner import Runner
from shipped_configs import load, without_tests

from mmmedmask.experiments import manifest
from mmmedmask.shrinking.shrink import shrink_config


def write_run(folder, keys, *values):
    """Write a log as MMEngine does: losses, evaluations, losses."""
    log = folder / '20260101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    lines = [dict(zip(keys, row, strict=True)) for row in values]
    lines = [dict(loss=1.0), *lines, dict(loss=1.0)]
    log.write_text('\n'.join(map(json.dumps, lines)))


def test_summary_of_detection_runs(tmp_path):
    """Mean and sample deviation over seeds, from the last evaluation."""
    tool = 'analysis_tools/summarize_detection.py'
    boxes, masks = 'coco/bbox_mAP', 'coco/segm_mAP'
    keys = [boxes, f'{boxes}_75', masks, f'{masks}_75']
    for run, value in (('a/seed0', .1), ('a/seed1', .14), ('b/seed0', .5)):
        write_run(tmp_path / run, keys, [.9] * 4, [value, .2, .3, .4])
    output = call(tool, tmp_path / 'a', tmp_path / 'b')
    assert '| a | 2 | 12.0 ± 2.8 | 20.0 ± 0.0 |' in output
    assert '| b | 1 | 50.0 | 20.0 | 30.0 | 40.0 |' in output
    # A detector of boxes has no masks; what is asked for has to be there.
    write_run(tmp_path / 'boxes/seed0', keys[:2], [.9] * 2, [.5, .2])
    output = call(tool, tmp_path / 'boxes')
    assert '| boxes | 1 | 50.0 | 20.0 | – | – |' in output
    assert f'no scalars.json with {boxes}, {masks}; has' in call(
        tool, tmp_path / 'boxes', '--metrics', boxes, masks, status=1)
    # pycocotools says -1 where nothing is to be found; others say NaN.
    small = f'{boxes}_s'
    for number, value in enumerate((.2, -1., float('nan'), .4)):
        write_run(tmp_path / f'c/seed{number}', [boxes, small], [.5, value])
    write_run(tmp_path / 'd/seed0', [boxes, small], [.5, -1])
    output = call(tool, tmp_path / 'c', tmp_path / 'd', '--metrics', boxes,
                  small)
    assert '| c | 4 | 50.0 ± 0.0 | 30.0 ± 14.1 (2) |' in output
    assert '| d | 1 | 50.0 | – |' in output
    # Any scalars that are logged together, such as those of SETR.
    write_run(tmp_path / 'setr/seed0', ['lesion/iou', 'lesion/dice'],
              [.1, .2], [.35, .45])
    output = call(tool, tmp_path / 'setr', '--metrics', 'lesion/dice',
                  'lesion/iou')
    assert '| runs | n | lesion/dice | lesion/iou |' in output
    assert '| setr | 1 | 45.0 | 35.0 |' in output
    # A folder without an evaluation is named.
    assert str(tmp_path / 'setr') in call(tool, tmp_path / 'setr', status=1)


def test_a_log_that_is_cut(tmp_path):
    """A run that was killed counts to its last whole line."""
    tool = 'analysis_tools/summarize_detection.py'
    write_run(tmp_path / 'a', ['lesion/dice'], [.5])
    log, = (tmp_path / 'a').rglob('scalars.json')
    text = log.read_text()
    log.write_text(f'{text}\n{{"lesion/dice": .')
    assert '| a | 1 | 50.0 |' in call(
        tool, tmp_path / 'a', '--metrics', 'lesion/dice')
    for wrong in ('{"loss": .', '3'):
        log.write_text(f'{text}\n{wrong}\n')
        assert f'{log}, line 4 must be a JSON object, got {wrong!r}' in call(
            tool, tmp_path / 'a', '--metrics', 'lesion/dice', status=1)


RECIPE = """
name: mine
title: Mine
paper: none
seeds: [0, 1]
columns: [{name: knn, title: kNN, stage: pretrain, metric: probe/gray/knn}]
rows:
  - {name: cmim, title: CMIM, stages: &config {pretrain: a}, small: false}
  - {name: random, title: Random, stages: *config, small: false}
  - name: colour
    title: The colour
    stages: *config
    metrics: {knn: probe/gray/knn/colour}
    small: false
"""
# Row: epochs, iterations per epoch, the floor of random weights.
PROBED = {'cmim': (4, 5, .5), 'random': (2, 1, .3)}


def write_probed_run(folder, row, seed, value, status='done'):
    """Write what a run leaves that ProbeHook has looked at; batches of 8."""
    epochs, length, floor = PROBED[row]
    log = folder / '20260101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(json.dumps({'loss': 1., 'step': 99}) + '\n' + json.dumps(
        {'probe/gray/knn': value, 'step': epochs * length}))
    (folder / 'a.py').write_text('train_dataloader = dict(batch_size=8)')
    rows = [row, 'colour'] if row == 'random' else [row]
    (folder / 'manifest.json').write_text(json.dumps(dict.fromkeys(
        manifest._KEYS) | dict(
            format=manifest.FORMAT, seed=seed, status=status, gpus=2,
            users=[*(f'mine: {name}, pretrain' for name in rows),
                   'other: no, pretrain'])))
    (folder / 'probe.csv').write_text(
        'epoch,probe,value,random,plain\n'
        f'0,gray/knn,.5,{floor},.25\n0,rgb/knn,.4,.4,.3\n'
        f'{epochs},gray/knn,{value},{floor},.25\n')


def test_curves_of_probes_while_training(tmp_path, monkeypatch):
    for row, values in (('cmim', (.6, .8)), ('random', (.5, .5))):
        for seed, value in enumerate(values):
            write_probed_run(tmp_path / f'runs/{row}/seed{seed}', row, seed,
                             value)
    write_probed_run(tmp_path / 'runs/late', 'cmim', 2, .9, 'running')
    # A stage that starts from a row, and is not probed.
    after = tmp_path / 'runs/after'
    write_probed_run(after, 'cmim', 0, .1)
    (after / 'probe.csv').unlink()
    recipe = tmp_path / 'mine.yml'
    recipe.write_text(RECIPE)
    name = 'analysis_tools/plot_probe_curves.py'
    asked = ('--recipe', recipe, '--probes', 'gray/knn', '--out',
             tmp_path / 'new/out.png')
    call(name, tmp_path / 'runs', *asked, '--rows', 'cmim')
    assert (tmp_path / 'new/out.png').stat().st_size > 1000
    # What is not finished is not there.
    assert (tmp_path / 'new/out.csv').read_text().split() == [
        'probe,row,epoch,seed,score', 'gray/knn,cmim,0,0,50.00',
        'gray/knn,cmim,0,1,50.00', 'gray/knn,cmim,4,0,60.00',
        'gray/knn,cmim,4,1,80.00']
    figures = []
    monkeypatch.setattr(Figure, 'savefig',
                        lambda figure, file: figures.append(figure))
    call(name, tmp_path / 'runs', *asked)
    # Each row at its own tiles, its floor in its colour; none of a floor row.
    panel, = figures[0].axes
    curves = [curve[0] for curve in panel.containers]
    floors = [line for line in panel.lines if line.get_linestyle() == '--']
    assert [curve.get_xdata()[-1] for curve in curves] == pytest.approx(
        [4 * 5 * 16, 2 * 1 * 16 + .01 * 320])
    assert [line.get_ydata()[0] for line in floors] == [50, 30]
    assert [line.get_color() for line in floors] == [
        curve.get_color() for curve in curves]


@pytest.mark.parametrize(('rows', 'fault', 'message'), [
    ('colour', None, "['colour'] have metrics of other rows' runs"),
    ('grey', None, "mine has no row 'grey'"),
    ('random', None, 'no finished run of mine below'),
    ('cmim', 'again', "row 'cmim' has two runs of seed 0"),
    ('cmim', 'config', 'a has no config'),
    ('cmim', 'configs', 'a has the configs a.py, b.py: leave the one'),
    ('cmim', 'manifest', 'a/manifest.json is not json'),
    ('cmim', 'table', 'a/probe.csv lacks the columns'),
    ('cmim', 'log', 'does not tell how many tiles it has seen')])
def test_curves_that_would_be_wrong_are_refused(tmp_path, rows, fault,
                                                message):
    write_probed_run(tmp_path / 'a', 'cmim', 0, .5)
    if fault == 'again':
        write_probed_run(tmp_path / 'b', 'cmim', 0, .5)
    elif fault == 'config':
        (tmp_path / 'a/a.py').unlink()
    elif fault == 'configs':
        (tmp_path / 'a/b.py').touch()
    elif fault == 'manifest':
        (tmp_path / 'a/manifest.json').write_text('')
    elif fault == 'table':
        (tmp_path / 'a/probe.csv').write_text('epoch,score\n1,2\n')
    elif fault == 'log':
        next(tmp_path.glob('a/*/vis_data/scalars.json')).unlink()
    recipe = tmp_path / 'mine.yml'
    recipe.write_text(RECIPE)
    assert message in call(
        'analysis_tools/plot_probe_curves.py', tmp_path, '--recipe', recipe,
        '--probes', 'gray/knn', '--rows', rows, '--out', tmp_path / 'out.png',
        status=1)


def test_legend_of_probe_curves_lies_beside_them(tmp_path, monkeypatch):
    """It covers no interval, and names what has one colour in all panels."""
    figures = []
    monkeypatch.setattr(Figure, 'savefig',
                        lambda figure, file: figures.append(figure))
    seeds = {0: {0: 50., 1: 60.}, 2: {0: 55., 1: 75.}}
    load_tool('analysis_tools/plot_probe_curves.py').draw(
        {'a': {'one': seeds, 'two': seeds}, 'b': {'two': seeds}},
        dict(one=500, two=500), {'a': {'one': [50.], 'two': [60.]}, 'b': {}},
        {'a': [52.], 'b': [58.]}, tmp_path)
    figure, = figures
    figure.draw_without_rendering()
    legend, = figure.legends
    assert not legend.get_window_extent().count_overlaps(
        [panel.get_tightbbox() for panel in figure.axes])
    assert [text.get_text() for text in legend.get_texts()] == [
        'one', 'two', 'random weights', 'colour alone']
    first, second = figure.axes
    assert first.containers[1][0].get_color() == second.containers[
        0][0].get_color() != first.containers[0][0].get_color()
    assert first.get_ylabel() == 'score in points of 100'


def test_exchanged_patches_of_a_run(tmp_path, drawn_data):
    """The command finds a run's config and checkpoint, and draws its curve.

    Of whole bags, though the run trains on one patch of each.
    """
    cfg = without_tests(shrink_config(
        load('abmil_subsample_1xb8-coslr-70e_tcga-nsclc'), tmp_path,
        drawn_data))
    draw_patches, = (step for step in cfg.train_dataloader.dataset.pipeline
                     if step.type == 'mmmedmask.RandomSubsample')
    draw_patches.max_patches = 1
    Runner.from_cfg(cfg).train()
    picture = tmp_path / 'exchange.png'
    tool = 'analysis_tools/exchange_patches.py'
    printed = call(tool, cfg.work_dir, '--names', 'abmil', '--out', picture,
                   '--block', 2, '--places', 3)
    assert '| abmil |' in printed
    lines = picture.with_suffix('.csv').read_text().splitlines()
    assert [line.split(',')[:3] for line in lines[1:]] == [
        ['abmil', '0', '0.0'], ['abmil', '0', '0.5'], ['abmil', '0', '1.0']]
    assert picture.stat().st_size > 0
    assert 'has no test_dataloader' in call(
        tool, cfg.work_dir, '--out', picture, '--split', 'test', status=1)
    # One of its checkpoints; without states, its best weights are it.
    last, = Path(cfg.work_dir).glob('epoch_*.pth')
    last.rename(last.with_name(f'best_auc_{last.name}'))
    Path(cfg.work_dir, 'last_checkpoint').unlink()
    best, = Path(cfg.work_dir).glob('best_*.pth')
    printed = call(tool, cfg.work_dir, best, '--out', picture, '--block', 2,
                   '--places', 3)
    rows = [line.strip('| ').split(' | ')
            for line in printed.splitlines()[-2:]]
    assert [row[0] for row in rows] == [
        'run', f'{Path(cfg.work_dir).name}/{best.stem}']
    assert rows[0][1:] == rows[1][1:]
    # Runs of one name are the seeds of a model.
    printed = call(tool, cfg.work_dir, best, '--names', 'a', 'a', '--out',
                   picture, '--block', 2, '--places', 3)
    name, number, untouched, *_ = printed.splitlines()[-1].strip('| ').split(
        ' | ')
    assert (name, number) == ('a', '2')
    assert len(set(untouched.split(', '))) == 1
    assert [line.split(',')[1] for line in picture.with_suffix(
        '.csv').read_text().splitlines()[1:]] == ['0'] * 3 + ['1'] * 3
    other = tmp_path / 'other' / Path(cfg.work_dir).name
    other.mkdir(parents=True)
    assert 'runs in different folders have one name' in call(
        tool, cfg.work_dir, other, '--out', picture, status=1)
    assert 'there is no run or checkpoint' in call(
        tool, best.with_name('absent.pth'), '--out', picture, status=1)
    (tmp_path / 'empty').mkdir()
    assert 'has no config' in call(tool, tmp_path / 'empty', '--out', picture,
                                   status=1)
    Path(cfg.work_dir, 'other.py').touch()
    assert 'other.py: leave the one there' in call(
        tool, cfg.work_dir, '--out', picture, status=1)


@pytest.mark.parametrize('tool', ['exchange_patches.py',
                                  'plot_probe_curves.py'])
def test_outputs_are_checked_before_runs_are_read(tool, tmp_path):
    command = (f'analysis_tools/{tool}', tmp_path, *(
        ['--recipe', 'a', '--probes', 'b'] if tool[0] == 'p' else []), '--out')
    assert '--out: must end with .png or' in call(
        *command, 'out.csv', status=2)
    (tmp_path / 'scores.csv').write_text('epoch,score\n1,2\n')
    assert "overwrite another table, whose first line is 'epoch,score'" in \
        call(*command, tmp_path / 'scores.png', status=1)
