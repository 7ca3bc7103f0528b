"""The scripts that tabulate classification runs and lesion coverage."""

import shutil

import numpy as np
from commands import call

from mmmedmask.evaluation.predictions import Predictions, write_predictions


def write_run(folder, right, paths=None):
    """Predictions on ten images, the first ``right`` of them right."""
    labels = np.arange(10) % 2
    guess = np.where(np.arange(10) < right, labels, 1 - labels)
    folder.mkdir(parents=True)
    write_predictions(
        folder / 'predictions.csv',
        Predictions(
            paths=paths or [f'/data/set/{index}.png' for index in range(10)],
            labels=labels, scores=np.eye(2)[guess], classes=['a', 'b']))


def summarize(*arguments, status=0):
    return call('analysis_tools/summarize_classification.py', *arguments,
                status=status)


def test_mean_and_spread_over_seeds(tmp_path):
    write_run(tmp_path / 'a/seed0/20260101_000000', 2)
    write_run(tmp_path / 'a/seed0/20260102_000000', 8)
    write_run(tmp_path / 'a/seed1/20260101_000000', 6)
    write_run(tmp_path / 'b/20260101_000000', 10)
    output = summarize(tmp_path / 'a', tmp_path / 'b')
    assert ('| runs | n | images | top-1 | balanced accuracy | AUC | F1 |'
            in output)
    assert '| a | 2 | 10 | 70.0 ± 14.1 | 70.0 ± 14.1 | 70.0 ± 14.1 ' in output
    assert '| b | 1 | 10 | 100.0 | 100.0 | 100.0 | 100.0 |' in output


def test_last_evaluation_counts_until_another_is_tested(tmp_path):
    """Evaluations replace the csv; a later test has its own folder."""
    for right in (9, 4):
        shutil.rmtree(tmp_path / 'a', ignore_errors=True)
        write_run(tmp_path / 'a/20260101_000000', right)
    assert '40.0' in summarize(tmp_path / 'a')
    write_run(tmp_path / 'a/20260101_000001', 9)
    assert '| a | 1 | 10 | 90.0 |' in summarize(tmp_path / 'a')


def test_tests_of_a_reproduced_run_are_no_runs(tmp_path):
    """The test of the last weights before that of the best, before none."""
    for place, right, expected in (('', 2, '20.0'), ('test_best/', 4, '40.0'),
                                   ('test/', 6, '60.0')):
        write_run(tmp_path / f'a/seed0/{place}20260101_000000', right)
        (tmp_path / 'a/seed0/manifest.json').touch()
        assert f'| a | 1 | 10 | {expected} |' in summarize(tmp_path / 'a')
    # Without a manifest beside it, test is a name as any other.
    write_run(tmp_path / 'b/20260101_000000', 5)
    write_run(tmp_path / 'b/test/20260101_000000', 5)
    assert '| b | 2 | 10 | 50.0' in summarize(tmp_path / 'b')


def test_subset_and_kappa(tmp_path):
    write_run(tmp_path / 'a', 8)
    split = tmp_path / 'val.csv'
    split.write_text('path,label,group\n' + ''.join(
        f'set/{index}.png,{"ab"[index % 2]},{index}\n'
        for index in (0, 1, 2, 9)))
    output = summarize(tmp_path / 'a', '--subset', split, '--graded')
    # Right are 0, 1, 2, wrong is 9: recalls 1 and 1/2.
    assert '| a | 1 | 4 | 75.0 | 75.0 | 75.0 | 73.3 | 50.0 |' in output
    assert '| a | 1 | 10 | 80.0 |' in summarize(tmp_path / 'a')


def test_scores_that_are_not_defined(tmp_path):
    write_run(tmp_path / 'a', 8)
    (tmp_path / 'val.csv').write_text('path,label\n0.png,a\n2.png,a\n')
    output = summarize(tmp_path / 'a', '--subset', tmp_path / 'val.csv')
    assert '| a | 1 | 2 | 100.0 | 100.0 | – | 100.0 |' in output


def test_what_does_not_fit(tmp_path):
    assert 'empty holds no predictions.csv' in summarize(
        tmp_path / 'empty', status=1)
    write_run(tmp_path / 'a/seed0', 8)
    write_run(tmp_path / 'a/seed1', 8, [f'{i}.png' for i in range(5, 15)])
    assert 'different images' in summarize(tmp_path / 'a', status=1)
    (tmp_path / 'val.csv').write_text('path,label\n0.png,a\n')
    assert '1 of 1 images' in summarize(
        tmp_path / 'a', '--subset', tmp_path / 'val.csv', status=1)
    assert 'does not exist' in summarize(
        tmp_path / 'a', '--subset', tmp_path / 'no/file', status=1)


def write_coverage(folder, *gains):
    folder.mkdir(parents=True)
    names = ('attention_share', 'lesion_share', 'attention_gain', 'pointing',
             'pointing_chance', 'masked', 'masked_chance')
    lines = [','.join(('moment', *names, 'num_images'))]
    for moment, gain in zip(('start', 'refresh', 'end'), gains, strict=True):
        lines.append(f'{moment},{gain / 10},.1,{gain},.5,.1,,,7')
    (folder / 'lesion_coverage.csv').write_text('\n'.join(lines) + '\n')


def test_lesion_coverage_over_seeds(tmp_path):
    for seed, end in enumerate((1.0, 2.0, 3.0)):
        write_coverage(tmp_path / f'a/seed{seed}', 1.0, 9.0, end)
    write_coverage(tmp_path / 'b', 1.0, 9.0, 2.0)
    # Of a run that another one has taken the place of.
    write_coverage(tmp_path / 'b/superseded/1', 1.0, 9.0, 5.0)
    name = 'analysis_tools/summarize_lesion_coverage.py'
    output = call(name, tmp_path / 'a', tmp_path / 'b')
    # 4.303 / sqrt(3) = 2.484.
    assert ('| a | end | 3 | 7 | 20.00 [-4.84, 44.84] | '
            '10.00 [10.00, 10.00] | 2.00 [-0.48, 4.48] | ' in output)
    assert '| a | start | 3 | 7 | 10.00 [10.00, 10.00] |' in output
    assert ('| b | end | 1 | 7 | 20.00 | 10.00 | 2.00 | 50.00 | 10.00 | – | '
            '– |' in output)
    (tmp_path / 'c').mkdir()
    assert 'holds no lesion_coverage.csv' in call(
        name, tmp_path / 'c', status=1)
    # A run that masks by its maps, and one that went on after its end.
    table = tmp_path / 'b/lesion_coverage.csv'
    text = table.read_text()
    write_coverage(tmp_path / 'd/1', 1.0, 9.0, 4.0)
    (tmp_path / 'd/2').mkdir()
    other = tmp_path / 'd/2/lesion_coverage.csv'
    other.write_text(text.replace(',,,7', ',.5,.25,7'))
    table.write_text(f'{text}refresh,.9,.1,9,.5,.1,,,7\n')
    (tmp_path / 'b').rename(tmp_path / 'd/3')
    output = call(name, tmp_path / 'd')
    assert ('| d | end | 2 | 7 | 30.00 | 10.00 | 3.00 | 50.00 | 10.00 | '
            '50.00 (1) | 25.00 (1) |' in output)
    assert '| d | start | 3 | 7 |' in output
    # A table of somebody else.
    other.write_text('moment,a\nend,1\n')
    assert f'{other} lacks the columns' in call(name, tmp_path / 'd', status=1)
    # Others than the same images are not averaged.
    other.write_text(text.replace(',7', ',8'))
    output = call(name, tmp_path / 'd', status=1)
    assert 'on one number of images, got 7 in' in output
    assert f'8 in {other}' in output
