"""McNemar and DeLong against formulas and SciPy; pairs that do not fit."""

import re
import statistics

import numpy as np
import pytest
from commands import call
from naive_scores import draw_probabilities
from scipy import stats
from sklearn.metrics import roc_auc_score

from mmmedmask.evaluation import paired_tests
from mmmedmask.evaluation.patient_tables import (
    PatientPredictions,
    join_patients,
    write_patients,
)


def test_a_mean_with_a_nan_is_nan():
    assert np.isnan(paired_tests.interval_of_mean([float('nan'), 1.])).all()
    assert paired_tests.deviation([1., 2., 4.]) == pytest.approx(
        statistics.stdev([1., 2., 4.]))


def test_four_to_none_may_be_chance():
    """The gain of GiMP's pre-training at best: 189 against 185 of 190."""
    first, second = np.ones(190, bool), np.ones(190, bool)
    first[0], second[[0, 1, 2, 3, 4]] = False, False
    test = paired_tests.exact_mcnemar(first, second)
    assert (test.only_first, test.only_second) == (4, 0)
    assert test.p_value == 0.125
    assert paired_tests.exact_mcnemar(second, first).p_value == 0.125
    assert paired_tests.exact_mcnemar(first, first).p_value == 1


@pytest.mark.parametrize(('only_first', 'only_second'), [
    (0, 1), (3, 3), (12, 5), (1, 9), (800, 900), (3000, 0)])
def test_mcnemar_equals_the_binomial_test(only_first, only_second):
    first = np.repeat([True, False, True], [only_first, only_second, 7])
    second = np.repeat([False, True, True], [only_first, only_second, 7])
    expected = stats.binomtest(only_first, only_first + only_second).pvalue
    assert paired_tests.exact_mcnemar(first, second).p_value == pytest.approx(
        expected, rel=1e-9)


def naive_delong(positive, first, second):
    """The formulas of the paper, pair by pair."""
    won = np.stack([np.heaviside(np.subtract.outer(
        scores[positive], scores[~positive]), .5)
        for scores in (first, second)])
    covariance = sum(np.cov(parts) / parts.shape[1]
                     for parts in (won.mean(axis=2), won.mean(axis=1)))
    return won.mean(axis=(1, 2)), covariance.trace() - 2 * covariance[0, 1]


@pytest.mark.parametrize('step', [5, 100_000])
def test_delong_equals_its_formulas(step):
    labels, first = draw_probabilities(50, 2, 1, step)
    _, second = draw_probabilities(50, 2, 2, step)
    positive = labels == 1
    first, second = first[:, 1], second[:, 1]
    areas, variance = naive_delong(positive, first, second)
    found = paired_tests.delong(positive, first, second)
    assert (found.first, found.second) == pytest.approx(
        (roc_auc_score(positive, first), roc_auc_score(positive, second)))
    assert (found.first, found.second) == pytest.approx(tuple(areas))
    assert found.difference == pytest.approx(areas[0] - areas[1])
    z = found.difference / variance**.5
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(z)))
    low, high = stats.norm.interval(.95, found.difference, variance**.5)
    assert (found.low, found.high) == pytest.approx((low, high))
    back = paired_tests.delong(positive, second, first)
    assert back.difference == -found.difference
    assert back.p_value == found.p_value


def test_delong_keeps_its_level():
    """Of tests of equally good scores about 5 % find a difference."""
    random = np.random.default_rng(0)
    found = 0
    for _ in range(600):
        positive = np.arange(80) < 35
        shared = random.normal(size=80) + positive
        first, second = (shared + random.normal(size=80) for _ in range(2))
        found += paired_tests.delong(positive, first, second).p_value < .05
    # 30 expected, standard deviation 5.3.
    assert 14 <= found <= 46


def test_delong_at_its_limits():
    positive = np.arange(10) < 4
    perfect = positive.astype(float)
    same = paired_tests.delong(positive, perfect, 2 * perfect)
    assert (same.difference, same.p_value) == (0, 1)
    opposite = paired_tests.delong(positive, perfect, -perfect)
    assert opposite.difference == 1
    assert np.isnan(opposite.p_value)


@pytest.mark.parametrize(('positive', 'first', 'message'), [
    ([1, 0, 0, 0], [1, 2, 3, 4], 'got 1 and 3'),
    ([1, 1, 0, 0], [1, 2, 3], r'shape \(4,\), got \(3,\)'),
    ([1, 1, 0, 0], [1, 2, 3, np.nan], 'finite')])
def test_what_they_refuse(positive, first, message):
    with pytest.raises(ValueError, match=message):
        paired_tests.delong(
            np.array(positive), np.array(first), np.array(first))
    with pytest.raises(ValueError, match=r'shape \(3,\), got \(4,\)'):
        paired_tests.exact_mcnemar(np.ones(3), np.ones(4))


def predictions(seed, number=40, classes=('a', 'b'), first=0):
    labels = np.arange(number) % len(classes)
    drawn, scores = draw_probabilities(number, len(classes), seed)
    return PatientPredictions(
        case_ids=[f'case-{first + index}' for index in range(number)],
        labels=labels,
        scores=np.where(labels[:, None] == drawn[:, None], scores,
                        scores[:, ::-1]).astype(float),
        classes=list(classes), modalities=['slides'] * number,
        slides=[(f'slide-{index}', ) for index in range(number)])


def shuffled(table, order, columns):
    return PatientPredictions(
        case_ids=[table.case_ids[place] for place in order],
        labels=np.array([columns.index(label)
                         for label in table.labels[order]]),
        scores=table.scores[order][:, columns],
        classes=[table.classes[place] for place in columns],
        modalities=[table.modalities[place] for place in order],
        slides=[table.slides[place] for place in order])


def test_pairs_by_name():
    table = predictions(0, classes=('a', 'b', 'c'))
    other = shuffled(table, np.random.default_rng(0).permutation(40),
                     [2, 0, 1])
    found = paired_tests.pair_patients(table, other)
    assert found.case_ids == table.case_ids
    assert found.classes == table.classes
    assert found.slides == table.slides
    np.testing.assert_array_equal(found.labels, table.labels)
    np.testing.assert_array_equal(found.scores, table.scores)


def compare(*arguments, status=0):
    return call('analysis_tools/compare_predictions.py', *arguments,
                status=status)


def test_table_of_two_classes(tmp_path):
    first, second = predictions(0), predictions(1)
    write_patients(tmp_path / 'first.csv', first)
    write_patients(tmp_path / 'second.csv',
                   shuffled(second, np.arange(40)[::-1], [1, 0]))
    output = compare(tmp_path / 'first.csv', tmp_path / 'second.csv')
    lines = output.splitlines()
    assert len([line for line in lines if line.startswith('|')]) == 4
    right = [(one.scores.argmax(axis=1) == one.labels)
             for one in (first, second)]
    p_value = stats.binomtest(int((right[0] & ~right[1]).sum()),
                              int((right[0] != right[1]).sum())).pvalue
    assert lines[2].startswith(f'| accuracy | {100 * right[0].mean():.1f} | '
                               f'{100 * right[1].mean():.1f} |')
    assert f'| {p_value:.3g} | McNemar' in lines[2]
    areas = [roc_auc_score(one.labels == 1, one.scores[:, 1])
             for one in (first, second)]
    assert lines[3].startswith(
        f'| AUC b | {100 * areas[0]:.1f} | {100 * areas[1]:.1f} | '
        f'{100 * (areas[0] - areas[1]):+.1f} | [')
    assert lines[-1].startswith('40 patients: ')


def test_table_of_folds_and_more_classes(tmp_path):
    classes = ('a', 'b', 'rare')
    for name, seed in (('x', 0), ('y', 1)):
        for fold in range(2):
            table = predictions(seed, 20, classes, 20 * fold)
            table.labels[table.labels == 2] = 0
            if fold:
                table.labels[0] = 2
            folder = tmp_path / name / f'fold_{fold}' / 'test'
            folder.mkdir(parents=True)
            write_patients(folder / 'patients.csv', table)
    output = compare(tmp_path / 'x', tmp_path / 'y')
    assert '| AUC a |' in output
    assert '| AUC b |' in output
    assert '| AUC rare | – | – | – |  | – | 1 of 40 patients |' in output
    assert output.splitlines()[-1].startswith('40 patients: ')
    assert 'has no fold_*/test/patients.csv' in compare(
        tmp_path, tmp_path / 'y', status=1)


@pytest.mark.parametrize(('change', 'message'), [
    (lambda table: table.case_ids.__setitem__(0, 'new'),
     r'the cases differ: .*first.csv lacks 1 \(new\); '
     r'.*second.csv lacks 1 \(case-0\)'),
    (lambda table: table.labels.__setitem__(3, 0),
     "1 labels differ: case case-3 is 'b' in .*first.csv, 'a' in"),
    (lambda table: table.classes.__setitem__(0, 'c'),
     r"the classes differ: \['a', 'b'\] in .*first.csv, \['c', 'b'\]")])
def test_files_that_do_not_fit(tmp_path, change, message):
    write_patients(tmp_path / 'first.csv', predictions(0))
    other = predictions(1)
    change(other)
    write_patients(tmp_path / 'second.csv', other)
    assert re.search(message, compare(
        tmp_path / 'first.csv', tmp_path / 'second.csv', status=1))


def test_tables_that_cannot_be_joined():
    with pytest.raises(ValueError, match='x has case case-0 more than once'):
        join_patients([predictions(0), predictions(1)], 'x')
    with pytest.raises(ValueError, match='x have different classes'):
        join_patients([predictions(0), predictions(1, classes=('b', 'a'))],
                      'x')
