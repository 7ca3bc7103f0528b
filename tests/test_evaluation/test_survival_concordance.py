"""The C index against lifelines, its intervals, its csv."""

from functools import partial

import numpy as np
import pytest
import torch
from lifelines.utils import concordance_index
from mmpretrain.structures import DataSample
from naive_scores import evaluate_by

from mmmedmask.evaluation import SurvivalConcordance
from mmmedmask.evaluation.classification_scores import bootstrap_counts
from mmmedmask.evaluation.fold_table import survival_rows
from mmmedmask.evaluation.patient_tables import PatientRisks, read_risks
from mmmedmask.evaluation.survival_scores import (
    bootstrap_concordance,
    concordance,
    resampled_concordance,
)

evaluate = partial(evaluate_by, 'SurvivalConcordance')


def draw(number=50, seed=0, digits=None, months=None):
    """Risks and follow-up; maybe with equal risks and times."""
    random = np.random.default_rng(seed)
    risks = random.normal(size=number)
    times = random.exponential(20, number) * np.exp(-risks / 2)
    if months:
        times = np.ceil(times / months) * months
    events = random.random(number) > .4
    return risks if digits is None else risks.round(digits), times, events


def by_lifelines(risks, months, events):
    return concordance_index(months, -risks, events)


@pytest.mark.parametrize(('digits', 'months'), [(None, None), (0, 12)])
def test_equals_lifelines(digits, months):
    for seed in range(4):
        drawn = draw(seed=seed, digits=digits, months=months)
        expected = by_lifelines(*drawn)
        assert concordance(*drawn) == pytest.approx(expected, abs=1e-12)
        assert resampled_concordance(*drawn, np.ones((1, 50)))[0] == (
            pytest.approx(expected, abs=1e-12))


def test_resamples_equal_lifelines():
    risks, months, events = draw(30, digits=1, months=6)
    counts = bootstrap_counts(np.random.default_rng(0), 40, np.arange(30))
    found = resampled_concordance(risks, months, events, counts)
    for draw_, count in enumerate(counts):
        rows = np.repeat(np.arange(30), count.astype(int))
        assert found[draw_] == pytest.approx(by_lifelines(
            risks[rows], months[rows], events[rows]), abs=1e-12)


def test_patients_who_are_there_twice_are_drawn_as_a_whole():
    drawn = draw(30)
    names = [f'case-{place}' for place in range(30)]
    few = bootstrap_concordance(*drawn, 20, 3, names)
    many = bootstrap_concordance(
        *(np.tile(one, 3) for one in drawn), 20, 3, names * 3)
    np.testing.assert_allclose(many, few)


def test_only_one_fold_is_compared():
    """Risks of two models, on scales of their own."""
    first, second = draw(25, 0), draw(25, 1)
    risks, months, events = (
        np.concatenate(pair) for pair in zip(first, second, strict=True))
    risks[25:] += 100
    strata = np.repeat([0, 1], 25)
    found = resampled_concordance(risks, months, events, np.ones((1, 50)),
                                  strata)[0]
    pairs = won = 0
    for part in (first, second):
        mine = sum(part[2][a] and part[1][a] < part[1][b] for a in range(25)
                   for b in range(25))
        pairs += mine
        won += mine * by_lifelines(*part)
    assert found == pytest.approx(won / pairs)


def make_samples(risks, months, events, cases=None):
    samples = []
    for place, (risk, time, event) in enumerate(
            zip(risks, months, events, strict=True)):
        sample = DataSample(metainfo=dict(
            case_id=f'case-{place}' if cases is None else cases[place],
            slide_ids=[f'slide-{place}'], survival_months=float(time),
            censorship=int(not event)))
        sample.set_field(torch.tensor([risk], dtype=torch.float32),
                         'pred_risk', dtype=torch.Tensor)
        sample.set_field('slides', 'modalities')
        samples.append(sample)
    return samples


def test_metric_averages_samples_of_a_case(tmp_path):
    risks, months, events = draw(20)
    owner = np.repeat(np.arange(10), 2)
    found = evaluate(make_samples(risks, months[owner], events[owner],
                                  [f'case-{place}' for place in owner]),
                     out_dir=str(tmp_path), num_bootstrap=100, seed=4)
    mean = risks.astype(np.float32).astype(float).reshape(10, 2).mean(axis=1)
    assert found['survival/c_index'] == pytest.approx(
        by_lifelines(mean, months[:10], events[:10]))
    draws = bootstrap_concordance(mean, months[:10], events[:10], 100, 4)
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    assert found['survival/c_index_low'] == pytest.approx(low)
    assert found['survival/c_index_high'] == pytest.approx(high)
    assert found['survival/events'] == events[:10].sum()
    table = read_risks(tmp_path / 'survival.csv')
    assert table.case_ids == [f'case-{place}' for place in range(10)]
    assert table.slides[3] == ('slide-6', 'slide-7')
    assert table.modalities == ['slides'] * 10
    np.testing.assert_allclose(table.risks, mean, rtol=1e-8)
    np.testing.assert_allclose(table.months, months[:10], rtol=1e-8)
    np.testing.assert_array_equal(table.events, events[:10])


def test_without_a_death(warnings_logged):
    risks, months, _ = draw(5)
    found = evaluate(make_samples(risks, months, np.zeros(5, bool)))
    assert found.pop('survival/events') == 0
    assert np.isnan(found.pop('survival/c_index'))
    assert not found
    assert 'The C index is NaN' in warnings_logged[0]


@pytest.mark.parametrize(('change', 'message'), [
    (lambda sample: sample.pop('pred_risk'), r"case-0 lacks \['pred_risk'"),
    (lambda sample: sample.set_metainfo(dict(censorship=2)),
     r'censorship of case case-0 must be one of \(0, 1\), got 2'),
    (lambda sample: sample.pred_risk.fill_(np.nan),
     'risk of case case-0 must be one finite'),
    (lambda sample: sample.set_metainfo(dict(case_id='case-1')),
     'samples of case case-1 have different survival')])
def test_wrong_samples(change, message):
    samples = make_samples(*draw(5))
    change(samples[0])
    with pytest.raises(ValueError, match=message):
        evaluate(samples)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match='got -1'):
        SurvivalConcordance(num_bootstrap=-1)
    with pytest.raises(ValueError, match='patient 1 has the risk nan'):
        concordance(np.array([0, np.nan]), np.ones(2), np.ones(2, bool))
    with pytest.raises(ValueError, match=r'shape \(2,\), got \(3,\)'):
        concordance(np.zeros(2), np.ones(3), np.ones(2, bool))
    with pytest.raises(ValueError, match='no risks'):
        concordance(np.zeros(0), np.zeros(0), np.zeros(0, bool))


def risks_of(seed, first=0):
    risks, months, events = draw(30, seed)
    return PatientRisks(
        case_ids=[f'case-{first + place}' for place in range(30)],
        months=months, events=events, risks=risks,
        modalities=['slides'] * 30, slides=[()] * 30)


def test_table_of_folds():
    runs = {(None, fold): risks_of(fold, 30 * fold) for fold in range(3)}
    rows = survival_rows(runs)
    assert [(row.name, row.patients) for row in rows] == [
        ('fold 0', 30), ('fold 1', 30), ('fold 2', 30), ('mean', None),
        ('sd', None), ('pooled', 90), ('pooled low', 90), ('pooled high', 90)]
    values = {row.name: row.scores['c_index'] for row in rows}
    for fold, run in enumerate(runs.values()):
        assert values[f'fold {fold}'] == pytest.approx(
            by_lifelines(run.risks, run.months, run.events))
    assert values['pooled low'] < values['pooled'] < values['pooled high']
    # Mean weighted by pairs: between the smallest and the largest.
    folds = [values[f'fold {fold}'] for fold in range(3)]
    assert min(folds) < values['pooled'] < max(folds)
    with pytest.raises(ValueError, match='no fold'):
        survival_rows({})
