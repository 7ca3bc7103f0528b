"""Scores against scikit-learn and by hand, intervals, files, runs."""

import json
import tracemalloc
from functools import partial

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmpretrain.structures import DataSample
from naive_scores import draw_predictions, evaluate_by, expected_scores
from PIL import Image
from sklearn.metrics import roc_auc_score

from mmmedmask.apis import build_runner, load_config, set_work_dir
from mmmedmask.evaluation import DiseaseClassification
from mmmedmask.evaluation.classification_scores import (
    GRADED_NAMES,
    bootstrap_counts,
    bootstrap_scores,
    class_ranking,
    classification_scores,
    confusion_counts,
    percentile_interval,
    resampled_scores,
)
from mmmedmask.evaluation.predictions import read_predictions

CLASSES = ('none', 'mild', 'moderate, or worse', 'severe')
evaluate = partial(evaluate_by, 'DiseaseClassification', classes=CLASSES)


@pytest.mark.parametrize('others', [1, 3])
def test_areas_of_saturated_probabilities_are_those_of_the_logits(others):
    """Float32 has 1 for all logits from 17 on; what is left keeps order."""
    logits = np.array([20., 17.5, 3, -5, 25, 30, 22, 19], np.float32)
    labels = np.repeat([0, 1], 4)
    scores = torch.zeros(8, 1 + others)
    scores[:, 1] = torch.from_numpy(logits)
    scores = scores.softmax(dim=1).numpy()
    assert len(set(scores[:, 1])) < 8
    pairs = [(low, high) for low in logits[:4] for high in logits[4:]]
    area = sum(float(high > low) for low, high in pairs) / len(pairs)
    found = classification_scores(labels, scores)['auc']
    drawn = resampled_scores(labels, scores, np.ones((1, 8)))['auc'][0]
    ranks = class_ranking(scores)
    assert roc_auc_score(labels, ranks[:, 1]) == area == 0.9375
    if others == 1:
        assert found == drawn == area
    # What is below is not touched, and neither are scores of other kinds.
    low = scores[:, 1] < .999
    assert (ranks[low, 1] == scores[low, 1]).all()
    assert (class_ranking(scores * 3) == (scores * 3).astype(float)).all()


@pytest.mark.parametrize('digits', [1, 8])
@pytest.mark.parametrize('num_classes', [2, 5])
def test_scores_equal_scikit_learn(num_classes, digits):
    labels, scores = draw_predictions(40, num_classes, digits=digits)
    ties = sum(len(column) - len(set(column)) for column in scores.T)
    assert (ties > 10) == (digits == 1)
    expected = expected_scores(labels, scores)
    found = classification_scores(labels, scores, kappa='quadratic')
    assert tuple(found) == GRADED_NAMES
    assert found == pytest.approx(expected, abs=1e-12)
    once = resampled_scores(labels, scores, np.ones((1, 40)), 'quadratic')
    assert {name: value[0] for name, value in once.items()
            } == pytest.approx(expected, abs=1e-12)
    assert 'kappa' not in classification_scores(labels, scores)


def test_classes_without_samples_count_in_no_mean():
    labels, scores = draw_predictions(30)
    labels[labels == 2] = 1
    assert 2 in scores.argmax(axis=1)
    assert classification_scores(labels, scores, 'quadratic') == pytest.approx(
            expected_scores(labels, scores), abs=1e-12)


def test_known_answers():
    """Constant scores: AUC 1/2; the majority class says little."""
    labels = np.array([0] * 8 + [1] * 2)
    scores = np.tile([0.7, 0.3], (10, 1))
    found = classification_scores(labels, scores, kappa='quadratic')
    assert found == pytest.approx(
        dict(top1=0.8, balanced_accuracy=0.5, auc=0.5, f1=4 / 9, kappa=0))
    # One mistake, by two grades or by one: expected by chance 26 / 4, 20 / 4.
    labels = np.array([0, 1, 2, 2])
    far, near = np.eye(3)[[0, 1, 2, 0]], np.eye(3)[[0, 1, 2, 1]]
    found = [classification_scores(labels, scores, 'quadratic')['kappa']
             for scores in (far, near)]
    assert found == pytest.approx([1 - 4 / (26 / 4), 1 - 1 / (20 / 4)])


def test_scores_that_are_not_defined():
    same = np.zeros(5, int)
    right = np.tile([0.9, 0.1], (5, 1))
    assert set(classification_scores(same, right, 'quadratic')) == {
        'top1', 'balanced_accuracy', 'f1'}
    found = resampled_scores(same, right, np.ones((2, 5)), 'quadratic')
    assert np.isnan(found['auc']).all()
    assert np.isnan(found['kappa']).all()
    with pytest.raises(ValueError, match='defined in no resample'):
        percentile_interval(found['auc'])


def test_resamples_equal_scikit_learn():
    """The same draws, spelled out as lists of samples."""
    labels, scores = draw_predictions(50, 3)
    labels[labels == 2] = 0
    labels[:2] = 2  # so rare that some resamples lack it
    counts = bootstrap_counts(np.random.default_rng(1), 60, np.arange(50))
    assert (counts.sum(axis=1) == 50).all()
    assert ((counts * (labels == 2)).sum(axis=1) == 0).any()
    found = resampled_scores(labels, scores, counts, 'quadratic')
    for draw, count in enumerate(counts):
        indices = np.repeat(np.arange(50), count.astype(int))
        expected = expected_scores(labels[indices], scores[indices])
        for name, value in expected.items():
            assert found[name][draw] == pytest.approx(value, abs=1e-12), name


def test_resamples_of_many_classes():
    """To the bit as a loop counts, without a number per image and cell."""
    number, size = 2000, 100
    labels, scores = draw_predictions(number, size)
    counts = bootstrap_counts(np.random.default_rng(1), 3, np.arange(number))
    tracemalloc.start()
    found = resampled_scores(labels, scores, counts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * number * size**2 / 4
    matrices = np.zeros((3, size, size))
    for draw, row in np.ndindex(counts.shape):
        matrices[draw, labels[row], scores[row].argmax()] += counts[draw, row]
    right = matrices.diagonal(axis1=1, axis2=2)
    true, predicted = matrices.sum(axis=2), matrices.sum(axis=1)
    for name, expected in dict(
            top1=right.sum(axis=1) / number,
            balanced_accuracy=(right / true).sum(axis=1) / size,
            f1=(2 * right / (true + predicted)).sum(axis=1) / size).items():
        np.testing.assert_array_equal(found[name], expected, name)


def test_resamples_do_not_depend_on_their_chunks(monkeypatch):
    labels, scores = draw_predictions()
    whole = bootstrap_scores(labels, scores, 50, seed=3)
    monkeypatch.setattr(
        'mmmedmask.evaluation.classification_scores.CHUNK', 7 * 60)
    for name, values in bootstrap_scores(labels, scores, 50, seed=3).items():
        np.testing.assert_array_equal(values, whole[name])
    other = bootstrap_scores(labels, scores, 50, seed=4)
    assert (other['top1'] != whole['top1']).any()


def test_interval_of_a_share():
    """300 images, 240 right: the interval of the normal approximation."""
    labels = np.arange(300) % 2
    guess = np.where(np.arange(300) < 240, labels, 1 - labels)
    low, high = percentile_interval(
        bootstrap_scores(labels, np.eye(2)[guess], 4000)['top1'])
    spread = 1.96 * (0.8 * 0.2 / 300)**0.5
    assert low == pytest.approx(0.8 - spread, abs=0.006)
    assert high == pytest.approx(0.8 + spread, abs=0.006)


def test_intervals_cover_the_truth():
    """Of 200 test sets, about 95 % have the true accuracy inside."""
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        labels = random.integers(0, 2, 120)
        guess = np.where(random.random(120) < 0.7, labels, 1 - labels)
        draws = bootstrap_scores(labels, np.eye(2)[guess], 300, seed)
        low, high = percentile_interval(draws['top1'])
        covered += low <= 0.7 <= high
    # 190 expected, standard deviation 3.1; percentile intervals are a
    # little too narrow.
    assert 176 <= covered <= 200


def test_groups_are_drawn_as_a_whole():
    """Nine copies of every image add nothing to what is known."""
    labels, scores = draw_predictions(40, 3)
    names = [f'patient {index}' for index in range(40)]
    few = bootstrap_scores(labels, scores, 30, groups=names)
    copies = np.repeat(np.arange(40), 9)
    many = bootstrap_scores(labels[copies], scores[copies], 30,
                            groups=[names[index] for index in copies])
    for name in few:
        np.testing.assert_allclose(many[name], few[name], atol=1e-12)
    alone = bootstrap_scores(labels[copies], scores[copies], 200)
    assert alone['top1'].std() < 0.6 * few['top1'].std()


@pytest.mark.parametrize(('labels', 'scores', 'message'), [
    ([0, 2], [[1, 0], [0, 1]], 'label 2 of sample 1 is not a class of 0 to 1'),
    ([0, -1], [[1, 0], [0, 1]], 'label -1 of sample 1'),
    ([0, 1], [[1, 0], [np.nan, 1]], 'scores of sample 1 are not finite'),
    ([0], [[1, 0], [0, 1]], r'shape \(2,\), got \(1,\)'),
    ([], np.zeros((0, 2)), 'no predictions')])
def test_wrong_predictions(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        classification_scores(np.array(labels, int), np.array(scores, float))


def make_samples(labels, scores, groups=None, folder='/data/set'):
    samples = []
    for index, (label, score) in enumerate(zip(labels, scores, strict=True)):
        meta = dict(img_path=f'{folder}/images/{index}.png')
        if groups is not None:
            meta['group'] = groups[index]
        sample = DataSample(metainfo=meta)
        sample.set_gt_label(int(label))
        sample.set_pred_score(torch.tensor(score, dtype=torch.float32))
        samples.append(sample)
    return samples


def test_metric_from_data_samples(tmp_path):
    labels, scores = draw_predictions(50)
    scores = scores.astype(np.float32)
    groups = [f'patient {index // 2}' for index in range(50)]
    found = evaluate(make_samples(labels, scores, groups), graded=True,
                     num_bootstrap=200, seed=5, out_dir=str(tmp_path),
                     data_root='/data/set/')
    scores = scores.astype(np.float64)
    draws = bootstrap_scores(labels, scores, 200, 5, groups, 'quadratic')
    expected = {}
    for name, value in expected_scores(labels, scores).items():
        expected[f'disease/{name}'] = value
        low, high = np.percentile(draws[name], [2.5, 97.5])
        assert low < value < high
        expected[f'disease/{name}_low'] = low
        expected[f'disease/{name}_high'] = high
    assert found == pytest.approx(expected, abs=1e-12)
    table = read_predictions(tmp_path / 'predictions.csv')
    assert table.paths == [f'images/{index}.png' for index in range(50)]
    assert tuple(table.classes) == CLASSES
    assert table.groups == groups
    assert classification_scores(table.labels, table.scores, 'quadratic') == {
        name: found[f'disease/{name}'] for name in GRADED_NAMES}
    content = json.loads((tmp_path / 'confusion_matrix.json').read_text())
    assert content['counts'] == confusion_counts(labels, scores).tolist()
    assert sum(map(sum, content['counts'])) == 50
    assert content['counts'][1][2] == sum(
        label == 1 and score.argmax() == 2
        for label, score in zip(labels, scores, strict=True))
    assert content['num_groups'] == 25
    assert content['bootstrap'] == dict(draws=200, unit='group', seed=5)
    assert content['scores']['top1'] == found['disease/top1']
    with Image.open(tmp_path / 'confusion_matrix.png') as picture:
        assert min(picture.size) > 200


def test_drawn_at_the_end_of_training_alone(tmp_path, monkeypatch):
    hub = MessageHub.get_instance('drawn')
    monkeypatch.setattr(MessageHub, 'get_current_instance', lambda: hub)
    for iteration, drawn in ((8, False), (9, True)):
        hub.update_info_dict(dict(iter=iteration, max_iters=10))
        evaluate(make_samples(*draw_predictions(20)), num_bootstrap=0,
                 out_dir=str(tmp_path / str(iteration)))
        assert (tmp_path / f'{iteration}/confusion_matrix.json').exists()
        assert (tmp_path / f'{iteration}/predictions.csv').exists()
        assert (tmp_path / f'{iteration}/confusion_matrix.png'
                ).exists() == drawn


def test_without_intervals_groups_or_names(tmp_path):
    found = evaluate(make_samples(*draw_predictions(20, 3)), classes=None,
                     num_bootstrap=0, out_dir=str(tmp_path), prefix='test')
    assert set(found) == {
        'test/top1', 'test/balanced_accuracy', 'test/auc', 'test/f1'}
    table = read_predictions(tmp_path / 'predictions.csv')
    assert table.classes == ['0', '1', '2']
    assert table.groups is None
    assert table.paths[0] == '/data/set/images/0.png'


def test_files_go_beside_the_log(tmp_path):
    samples = make_samples(*draw_predictions(20))
    (tmp_path / 'run').mkdir()
    MMLogger.get_instance(
        f'log of {tmp_path}', log_file=str(tmp_path / 'run' / 'run.log'))
    try:
        evaluate(samples, num_bootstrap=0)
    finally:
        MMLogger.get_instance(f'no log of {tmp_path}')
    assert {path.name for path in (tmp_path / 'run').iterdir()} == {
        'run.log', 'predictions.csv', 'confusion_matrix.json',
        'confusion_matrix.png'}
    # Without a log there are none, and the scores all the same.
    assert evaluate(samples, num_bootstrap=0)['disease/top1'] > 0


def test_says_what_is_left_out(tmp_path, warnings_logged):
    labels, scores = draw_predictions(30)
    labels[labels == 2] = 1
    found = evaluate(make_samples(labels, scores), num_bootstrap=50,
                     out_dir=str(tmp_path))
    assert np.isfinite(list(found.values())).all()
    assert len(warnings_logged) == 1
    assert "['moderate, or worse']" in warnings_logged[0]
    content = json.loads((tmp_path / 'confusion_matrix.json').read_text())
    assert content['absent_classes'] == ['moderate, or worse']
    warnings_logged.clear()
    found = evaluate(make_samples(np.zeros(5, int), np.tile([.9, .1], (5, 1))),
                     classes=('a', 'b'), graded=True, num_bootstrap=9,
                     out_dir=str(tmp_path))
    assert {name for name, value in found.items() if np.isnan(value)} == {
        'disease/auc', 'disease/kappa'}
    assert 'disease/auc_low' not in found
    assert any('AUC is NaN' in message for message in warnings_logged)
    assert any('Kappa is NaN' in message for message in warnings_logged)
    content = json.loads((tmp_path / 'confusion_matrix.json').read_text())
    assert content['scores']['auc'] is None
    # Of two images of two classes, half of the resamples have one alone.
    warnings_logged.clear()
    found = evaluate(make_samples(np.array([0, 1]), np.eye(2)),
                     classes=('a', 'b'), num_bootstrap=100)
    assert found['disease/auc_low'] == 1
    assert 'auc is not defined in' in warnings_logged[0]
    warnings_logged.clear()
    samples = make_samples(*draw_predictions(20))
    evaluate(samples + samples[:3], num_bootstrap=0)
    assert '3 predictions are on images' in warnings_logged[0]


@pytest.mark.parametrize(('change', 'message'), [
    (lambda sample: sample.pop('pred_score'), r"0.png lacks \['pred_score'"),
    (lambda sample: sample.set_gt_label([0, 1]), r'0.png has the labels'),
    (lambda sample: sample.set_pred_score([.1, np.inf, 0, 0]),
     '0.png are not finite'),
    (lambda sample: sample.set_gt_label(4), 'label 4 of sample 0'),
    (lambda sample: sample.set_metainfo(dict(group='')),
     '0.png has no group, but')])
def test_wrong_samples(change, message):
    samples = make_samples(
        *draw_predictions(5), groups=['a', 'b', 'c', 'd', 'e'])
    change(samples[0])
    with pytest.raises(ValueError, match=message):
        evaluate(samples)


def test_wrong_numbers_of_classes_and_samples():
    samples = make_samples(*draw_predictions(5))
    with pytest.raises(ValueError, match='4 classes, the data set has 2'):
        evaluate(samples, classes=('a', 'b'))
    samples += make_samples(*draw_predictions(5, 3))
    with pytest.raises(ValueError, match=r'number of classes: \[3, 4\]'):
        evaluate(samples)
    metric = DiseaseClassification(num_bootstrap=0)
    metric.process(None, [
        sample.to_dict() for sample in make_samples(*draw_predictions(5))])
    with pytest.raises(ValueError, match='5 predictions on 6 samples'):
        metric.evaluate(6)
    with pytest.raises(ValueError, match='0 predictions on no samples'):
        DiseaseClassification().evaluate(0)


def test_bad_arguments(monkeypatch):
    with pytest.raises(ValueError, match='at least 0, got -1'):
        DiseaseClassification(num_bootstrap=-1)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(ModuleNotFoundError, match='scikit-learn'):
        DiseaseClassification()


def test_in_a_run(tiny_classification, tmp_path):
    """Files beside the log, scalars in it, the best checkpoint by it."""
    config = load_config(tiny_classification)
    config.val_evaluator = dict(
        type='mmmedmask.DiseaseClassification', num_bootstrap=20,
        data_root=config.loader.dataset.data_prefix)
    config.default_hooks.checkpoint.save_best = 'disease/balanced_accuracy'
    set_work_dir(config, str(tmp_path))
    build_runner(config).train()
    (table, ) = tmp_path.glob('*/predictions.csv')
    found = read_predictions(table)
    assert found.classes == ['bright', 'dark']
    assert found.paths[0] == 'bright/0.png'
    assert len(found.paths) == 8
    (log, ) = tmp_path.glob('*/vis_data/scalars.json')
    last = json.loads(log.read_text().splitlines()[-1])
    for name, value in classification_scores(
            found.labels, found.scores).items():
        assert last[f'disease/{name}'] == pytest.approx(value)
        assert last[f'disease/{name}_low'] <= value
    assert list(tmp_path.glob('best_disease_balanced_accuracy_*.pth'))
