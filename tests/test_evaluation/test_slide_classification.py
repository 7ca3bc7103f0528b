"""Scores of patients against scikit-learn, samples of a case, processes."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from naive_scores import (
    draw_probabilities,
    evaluate_by,
    expected_scores,
    naive_calibration,
)
from PIL import Image
from processes import evaluate_on_ranks
from sklearn.metrics import roc_auc_score

from mmmedmask.evaluation import SlideClassification
from mmmedmask.evaluation.classification_scores import (
    bootstrap_scores,
    calibration_error,
    classification_scores,
    resampled_scores,
)
from mmmedmask.evaluation.patient_tables import read_patients

CLASSES = ('LUAD', 'LUSC', 'other, rare')
evaluate = partial(evaluate_by, 'SlideClassification', classes=CLASSES)
NAMES = ('accuracy', 'balanced_accuracy', 'auc', 'f1', 'kappa', 'ece')


def make_samples(labels, scores, cases=None, modalities='slides+genes'):
    samples = []
    for index, (label, score) in enumerate(zip(labels, scores, strict=True)):
        case = f'case-{index}' if cases is None else cases[index]
        sample = DataSample(
            metainfo=dict(case_id=case, slide_ids=[f'slide-{index}']))
        sample.set_gt_label(int(label))
        sample.set_pred_score(torch.tensor(score, dtype=torch.float32))
        if modalities is not None:
            sample.set_field(modalities, 'modalities')
        samples.append(sample)
    return samples


def scikit_learn_scores(labels, scores):
    found = expected_scores(labels, scores, weights=None)
    return {f'slide/{name.replace("top1", "accuracy")}': value
            for name, value in found.items()}


@pytest.mark.parametrize('step', [10, 10_000])
@pytest.mark.parametrize('num_classes', [2, 3])
def test_scores_equal_scikit_learn(num_classes, step):
    labels, scores = draw_probabilities(80, num_classes, step=step)
    ties = 80 - len(np.unique(scores[:, 0]))
    assert (ties > 20) == (step == 10)
    found = evaluate(make_samples(labels, scores),
                     classes=CLASSES[:num_classes], num_bootstrap=0)
    assert tuple(found) == tuple(f'slide/{name}' for name in NAMES)
    assert found.pop('slide/ece') == pytest.approx(
        naive_calibration(labels, scores.astype(float), 15), abs=1e-12)
    expected = scikit_learn_scores(labels, scores)
    assert found == pytest.approx(expected, abs=1e-12)


def test_calibration_by_hand():
    """Sure and right, sure and wrong, half sure."""
    labels = np.array([0, 1, 1, 0])
    scores = np.array([[1, 0], [1, 0], [.4, .6], [.4, .6]])
    # At 1.0: half right; at 0.6: half right.
    assert calibration_error(labels, scores) == pytest.approx(
        .5 * .5 + .5 * .1)
    # In one bin: 0.8 against 1/2.
    assert calibration_error(labels, scores, 1) == pytest.approx(.3)
    assert calibration_error(labels, np.eye(2)[labels]) == 0
    # The upper edge of a bin belongs to it: 0.6 and 0.5 share (0.4, 0.6].
    scores = np.array([[.6, .4], [.5, .5]])
    assert calibration_error(np.array([0, 1]), scores, 5) == pytest.approx(
        abs(.5 - .55))
    with pytest.raises(ValueError, match='num_bins must be at least 1'):
        calibration_error(labels, np.eye(2)[labels], 0)


def test_resamples_have_kappa_and_calibration():
    labels, scores = draw_probabilities(50)
    scores = scores.astype(float)
    random = np.random.default_rng(3)
    counts = random.multinomial(50, np.full(50, 1 / 50), 20).astype(float)
    found = resampled_scores(labels, scores, counts, 'nominal', 10)
    for draw, count in enumerate(counts):
        indices = np.repeat(np.arange(50), count.astype(int))
        expected = classification_scores(
            labels[indices], scores[indices], 'nominal', 10)
        assert {name: values[draw] for name, values in found.items()
                } == pytest.approx(expected, abs=1e-12)
        assert expected['ece'] == pytest.approx(naive_calibration(
            labels[indices], scores[indices], 10), abs=1e-12)
    with pytest.raises(ValueError, match=r"kappa must .*, got 'linear'"):
        classification_scores(labels, scores, 'linear')


def test_samples_of_a_case_are_averaged(tmp_path):
    labels, scores = draw_probabilities(40)
    owner = np.repeat(np.arange(15), [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 2, 2, 2,
                                      2, 2])
    labels = labels[:15][owner]
    cases = [f'case-{index}' for index in owner]
    order = np.random.default_rng(0).permutation(40)
    samples = make_samples(labels, scores, cases)
    found = evaluate([samples[index] for index in order],
                     num_bootstrap=100, seed=2, out_dir=str(tmp_path))
    table = read_patients(tmp_path / 'patients.csv')
    assert tuple(table.classes) == CLASSES
    assert sorted(table.case_ids) == sorted(set(cases))
    for place, case in enumerate(table.case_ids):
        mine = [index for index in order if cases[index] == case]
        np.testing.assert_allclose(
            table.scores[place],
            sum(scores[index].astype(float) for index in mine) / len(mine),
            rtol=1e-8)
        assert table.labels[place] == labels[mine[0]]
        assert table.slides[place] == tuple(f'slide-{one}' for one in mine)
        assert table.modalities[place] == 'slides+genes'
    expected = scikit_learn_scores(table.labels, table.scores)
    assert {name: found[name] for name in expected} == pytest.approx(
        expected, abs=1e-9)
    draws = bootstrap_scores(
        table.labels, table.scores, 100, 2, None, 'nominal', 15)
    for short, long in zip(('top1', *NAMES[1:]), NAMES, strict=True):
        low, high = np.percentile(draws[short], [2.5, 97.5])
        assert found[f'slide/{long}_low'] == pytest.approx(low, abs=1e-9)
        assert found[f'slide/{long}_high'] == pytest.approx(high, abs=1e-9)
    content = json.loads((tmp_path / 'confusion_matrix.json').read_text())
    assert content['num_patients'] == 15
    assert content['bootstrap']['unit'] == 'patient'
    assert content['scores']['accuracy'] == found['slide/accuracy']
    assert np.sum(content['counts']) == 15
    with Image.open(tmp_path / 'confusion_matrix.png') as picture:
        assert min(picture.size) > 200


def test_bootstrap_keeps_samples_of_a_case_together(tmp_path):
    """At the level of samples: copies of a patient's slide add nothing."""
    labels, scores = draw_probabilities(40)
    copies = np.repeat(np.arange(40), 6)
    cases = [f'case-{index}' for index in copies]
    single = evaluate(make_samples(labels, scores), num_bootstrap=200)
    found = evaluate(make_samples(labels[copies], scores[copies], cases),
                     level='sample', num_bootstrap=200, out_dir=str(tmp_path))
    content = json.loads((tmp_path / 'confusion_matrix.json').read_text())
    assert content['num_samples'] == 240
    assert content['num_patients'] == 40
    assert content['bootstrap']['unit'] == 'patient'
    # The csv is by patient all the same.
    assert len(read_patients(tmp_path / 'patients.csv').case_ids) == 40
    together = found['slide/auc_high'] - found['slide/auc_low']
    alone = single['slide/auc_high'] - single['slide/auc_low']
    apart = evaluate(
        make_samples(labels[copies], scores[copies]), num_bootstrap=200)
    assert together == pytest.approx(alone, rel=.3)
    assert apart['slide/auc_high'] - apart['slide/auc_low'] < .6 * together
    assert found['slide/auc'] == pytest.approx(single['slide/auc'])


def test_says_what_is_left_out(warnings_logged):
    evaluate(make_samples(np.ones(4, int), np.eye(3)[[1] * 4]),
             num_bootstrap=0)
    assert "No patient of the classes ['LUAD', 'oth" in warnings_logged[0]
    assert 'AUC is NaN: all patients are of one class' in warnings_logged[1]
    warnings_logged.clear()
    samples = make_samples(*draw_probabilities(9))
    evaluate(samples + samples[:2], num_bootstrap=0)
    assert '2 predictions are on slides' in warnings_logged[0]


def test_missing_modalities_are_told(tmp_path):
    samples = make_samples(*draw_probabilities(3), modalities=None)
    samples[1].set_field('genes', 'modalities')
    samples[1].set_metainfo(dict(slide_ids=[]))
    evaluate(samples, num_bootstrap=0, out_dir=str(tmp_path), prefix='x')
    table = read_patients(tmp_path / 'patients.csv')
    assert table.modalities == ['', 'genes', '']
    assert table.slides == [('slide-0', ), (), ('slide-2', )]


@pytest.mark.parametrize(('change', 'message'), [
    (lambda sample: sample.pop('pred_score'), r"case-0 lacks \['pred_score'"),
    (lambda sample: sample.set_field(None, 'case_id', dtype=None,
                                     field_type='metainfo'),
     r"a sample lacks \['case_id'"),
    (lambda sample: sample.set_gt_label([0, 1]), 'case-0 has the labels'),
    (lambda sample: sample.set_pred_score([.1, float('nan'), 0]),
     'case-0 are not finite'),
    (lambda sample: sample.set_pred_score([.1, 4., 0]),
     'case-0: .* not probabilities'),
    (lambda sample: sample.set_pred_score([-.5, 1.5, 0]),
     'case-0: .* not probabilities'),
    (lambda sample: sample.set_gt_label(3), 'label 3 of sample 0'),
    (lambda sample: sample.set_metainfo(dict(case_id='case-1')),
     r'case case-1 have different labels: \[0, 1\]')])
def test_wrong_samples(change, message):
    samples = make_samples([0, 1, 2], np.eye(3))
    change(samples[0])
    with pytest.raises(ValueError, match=message):
        evaluate(samples)


def test_bad_arguments():
    with pytest.raises(ValueError, match="level must be .*, got 'slide'"):
        SlideClassification(level='slide')


def test_two_processes_are_as_one(tmp_path):
    def evaluate_share(rank):
        metric = SlideClassification(
            num_bootstrap=50, out_dir=str(tmp_path / 'out'))
        # Seven slides of four patients, whose slides lie on both ranks; the
        # sampler gives the last process the first slide again.
        for index in ([0, 2, 4, 6], [1, 3, 5, 0])[rank]:
            score = torch.tensor([7. - index, index]) / 7
            metric.process(None, [dict(
                pred_score=score, gt_label=torch.tensor([int(index > 3)]),
                case_id=f'case-{index // 2}', slide_ids=[f'slide-{index}'],
                modalities='slides')])
        return metric.evaluate(7)

    first, second = evaluate_on_ranks(evaluate_share, tmp_path)
    assert first == second
    index = np.arange(7)
    alone = evaluate(make_samples((index > 3).astype(int),
                                  np.stack([7 - index, index], axis=1) / 7,
                                  [f'case-{one // 2}' for one in index]),
                     classes=None, num_bootstrap=50)
    assert first == pytest.approx(alone)
    table = read_patients(tmp_path / 'out' / 'patients.csv')
    assert table.case_ids == [f'case-{one}' for one in range(4)]
    assert table.slides[1] == ('slide-2', 'slide-3')
    assert table.slides[3] == ('slide-6', )


def test_scores_with_a_modality_hidden(tmp_path):
    """Of those who have both, each patient once, beside all the others."""
    labels, scores = draw_probabilities(80, 2)
    hidden = draw_probabilities(80, 2, seed=1)[1]
    samples = make_samples(labels, scores)
    for sample, score in zip(samples[:60], hidden, strict=False):
        sample.set_field(DataSample(modalities='slides').set_pred_score(
            torch.tensor(score, dtype=torch.float32)), 'genes_hidden')
    found = evaluate(samples, classes=CLASSES[:2], out_dir=str(tmp_path))
    want = roc_auc_score(labels[:60], hidden[:60, 1])
    assert found['slide/genes_hidden/auc'] == pytest.approx(want, abs=1e-6)
    assert found['slide/genes_hidden/auc_low'] < want \
        < found['slide/genes_hidden/auc_high']
    assert found['slide/genes_hidden/accuracy'] == np.mean(
        hidden[:60].argmax(axis=1) == labels[:60])
    assert 'slide/slides_hidden/auc' not in found
    assert found['slide/auc'] == evaluate(
        make_samples(labels, scores), classes=CLASSES[:2])['slide/auc']
    table = read_patients(tmp_path / 'patients_genes_hidden.csv')
    assert set(table.modalities) == {'slides'}
    assert len(table.case_ids) == 60
    for wrong in ([.5, .9], [float('nan'), .2]):
        samples[3].genes_hidden.set_pred_score(torch.tensor(wrong))
        with pytest.raises(ValueError,
                           match='case case-3: .*not probabilities'):
            evaluate(samples, classes=CLASSES[:2])


def test_patients_of_one_class_with_a_modality_hidden(warnings_logged):
    samples = make_samples([0, 1], np.eye(2))
    samples[0].set_field(DataSample(modalities='slides').set_pred_score(
        torch.tensor([.5, .5])), 'genes_hidden')
    found = evaluate(samples, classes=CLASSES[:2], num_bootstrap=0)
    assert np.isnan(found['slide/genes_hidden/auc'])
    assert warnings_logged == ['AUC is NaN: all patients are of one class.']
