"""The scripts that summarise runs."""

import json

from commands import call
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
    # Any scalars that are logged together, such as those of SETR.
    write_run(tmp_path / 'setr/seed0', ['lesion/iou', 'lesion/dice'],
              [.1, .2], [.35, .45])
    output = call(tool, tmp_path / 'setr', '--metrics', 'lesion/dice',
                  'lesion/iou')
    assert '| runs | n | lesion/dice | lesion/iou |' in output
    assert '| setr | 1 | 45.0 | 35.0 |' in output
    # A folder without an evaluation is named.
    assert str(tmp_path / 'setr') in call(tool, tmp_path / 'setr', status=1)


def test_probes_are_compared_seed_by_seed(tmp_path):
    for row, values in (('random', (.5, .6, .7)), ('cmim', (.6, .8, .7))):
        for seed, value in enumerate(values):
            folder = tmp_path / f'runs/{row}/seed{seed}'
            folder.mkdir(parents=True)
            (folder / 'manifest.json').write_text(json.dumps(dict(
                users=[f'mine: {row}, pretrain'], seed=seed, status='done',
                results=dict(last={'probe/gray/knn': value}))))
    curves = tmp_path / 'curves.csv'
    curves.write_text(
        'encoder,place,probe,value,low,high\n'
        'cmim@500,0,gray/knn,.55,0,1\ncmim@500,1,gray/knn,.65,0,1\n'
        'color,0,gray/knn,.3,0,1\n')
    name = 'analysis_tools/plot_probe_curves.py'
    asked = ('--curves', curves, '--tiles', '1000', '--out',
             tmp_path / 'out.png')
    call(name, tmp_path / 'runs', '--recipe', 'mine', *asked)
    assert (tmp_path / 'out.png').stat().st_size > 1000
    assert 'no finished run of other' in call(
        name, tmp_path / 'runs', '--recipe', 'other', *asked, status=1)


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
    (tmp_path / 'empty').mkdir()
    assert 'has no config' in call(tool, tmp_path / 'empty', '--out', picture,
                                   status=1)
