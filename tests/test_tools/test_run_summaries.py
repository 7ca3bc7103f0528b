"""The scripts that summarise runs."""

import json

from commands import call
from commands import load as load_tool
from matplotlib.figure import Figure
from mmengine.runner import Runner
from shipped_configs import load, without_tests

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


def test_curves_of_probes_while_training(tmp_path):
    for row, values in (('random', (.5, .6)), ('cmim', (.6, .8))):
        for seed, value in enumerate(values):
            folder = tmp_path / f'runs/{row}/seed{seed}'
            folder.mkdir(parents=True)
            (folder / 'manifest.json').write_text(json.dumps(dict(
                users=[f'mine: {row}, pretrain', 'other: no, pretrain'],
                seed=seed, status='done' if row == 'cmim' else 'running')))
            (folder / 'probe.csv').write_text(
                'epoch,probe,value,random,plain\n'
                f'0,gray/knn,.5,.5,.25\n0,rgb/knn,.4,.4,.3\n'
                f'2,gray/knn,{value},.5,.25\n')
    name = 'analysis_tools/plot_probe_curves.py'
    asked = ('--probes', 'gray/knn', '--tiles', '1000', '--out',
             tmp_path / 'out.png')
    call(name, tmp_path / 'runs', '--recipe', 'mine', *asked)
    assert (tmp_path / 'out.png').stat().st_size > 1000
    # What is not finished is not there.
    assert (tmp_path / 'out.csv').read_text().split() == [
        'probe,row,epoch,seed,score', 'gray/knn,cmim,0,0,50.00',
        'gray/knn,cmim,0,1,50.00', 'gray/knn,cmim,2,0,60.00',
        'gray/knn,cmim,2,1,80.00']
    assert "no finished run of third below" in call(
        name, tmp_path / 'runs', '--recipe', 'third', *asked, status=1)


def test_legend_of_probe_curves_lies_beside_them(tmp_path, monkeypatch):
    """It covers no interval, and names what has one colour in all panels."""
    figures = []
    monkeypatch.setattr(Figure, 'savefig',
                        lambda figure, file: figures.append(figure))
    seeds = {0: {0: 50., 1: 60.}, 2: {0: 55., 1: 75.}}
    load_tool('analysis_tools/plot_probe_curves.py').draw(
        {'a': {'one': seeds, 'two': seeds}, 'b': {'two': seeds}},
        {'a': [50.], 'b': [60.]}, {'a': [52.], 'b': [58.]}, 1000, tmp_path)
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
    """The command finds a run's config and checkpoint, and draws its curve."""
    cfg = without_tests(shrink_config(
        load('abmil_1xb8-coslr-70e_tcga-nsclc'), tmp_path, drawn_data))
    Runner.from_cfg(cfg).train()
    picture = tmp_path / 'exchange.png'
    tool = 'analysis_tools/exchange_patches.py'
    printed = call(tool, cfg.work_dir, '--names', 'abmil', '--out', picture,
                   '--block', 2, '--places', 3)
    assert '| abmil |' in printed
    lines = picture.with_suffix('.csv').read_text().splitlines()
    assert [line.split(',')[:2] for line in lines[1:]] == [
        ['abmil', '0.0'], ['abmil', '0.5'], ['abmil', '1.0']]
    assert picture.stat().st_size > 0
    assert 'has no test_dataloader' in call(
        tool, cfg.work_dir, '--out', picture, '--split', 'test', status=1)
    (tmp_path / 'empty').mkdir()
    assert 'has no config' in call(tool, tmp_path / 'empty', '--out', picture,
                                   status=1)
