"""The table of a cross-validation, by hand."""

import numpy as np
import pytest
from naive_scores import draw_probabilities
from sklearn.metrics import roc_auc_score

from mmmedmask.evaluation import fold_table
from mmmedmask.evaluation.patient_tables import PatientPredictions


def predictions(seed, number=30, first=0, classes=('a', 'b')):
    labels, scores = draw_probabilities(number, len(classes), seed)
    return PatientPredictions(
        case_ids=[f'case-{first + index}' for index in range(number)],
        labels=labels, scores=scores.astype(float), classes=list(classes),
        modalities=['slides'] * number, slides=[()] * number)


def test_folds_spread_and_pool():
    runs = {(None, 0): predictions(0), (None, 1): predictions(1, 20, 30)}
    rows = fold_table.classification_rows(runs)
    assert [(row.name, row.patients) for row in rows] == [
        ('fold 0', 30), ('fold 1', 20), ('mean', None), ('sd', None),
        ('pooled', 50), ('pooled low', 50), ('pooled high', 50)]
    by_name = {row.name: row.scores for row in rows}
    areas = [roc_auc_score(run.labels == 1, run.scores[:, 1])
             for run in runs.values()]
    assert [by_name[f'fold {fold}']['auc'] for fold in range(2)
            ] == pytest.approx(areas)
    assert by_name['mean']['auc'] == pytest.approx(sum(areas) / 2)
    assert by_name['sd']['auc'] == pytest.approx(
        abs(areas[0] - areas[1]) / 2**.5)
    labels = np.concatenate([run.labels for run in runs.values()])
    scores = np.concatenate([run.scores for run in runs.values()])
    assert by_name['pooled']['auc'] == pytest.approx(
        roc_auc_score(labels == 1, scores[:, 1]))
    for name, value in by_name['pooled'].items():
        assert by_name['pooled low'][name] < value or name == 'ece'
        assert value < by_name['pooled high'][name]


def test_patient_of_several_folds_is_drawn_as_a_whole():
    """The same patients in six folds are not more patients."""
    runs = {(None, fold): predictions(0) for fold in range(6)}
    alone = fold_table.classification_rows({(None, 0): predictions(0)})
    rows = fold_table.classification_rows(runs)
    assert rows[-3].patients == 30
    assert rows[-3].scores['auc'] == pytest.approx(alone[-3].scores['auc'])
    for place in (-2, -1):
        assert rows[place].scores['auc'] == pytest.approx(
            alone[place].scores['auc'], abs=1e-9)


def test_seeds_are_pooled_each(tmp_path):
    runs = {(seed, fold): predictions(10 * seed + fold, 20, 20 * fold)
            for seed in (3, 5) for fold in range(2)}
    rows = fold_table.classification_rows(runs)
    pooled = [row for row in rows if row.name == 'pooled']
    assert [(row.seed, row.patients) for row in pooled] == [(3, 40), (5, 40)]
    table = fold_table.markdown_table(rows).splitlines()
    assert [line.split('|')[1].strip() for line in table[2:]] == [
        'fold 0, seed 3', 'fold 1, seed 3', 'fold 0, seed 5',
        'fold 1, seed 5', 'mean ± sd', 'pooled, seed 3', 'pooled, seed 5']
    fold_table.write_rows(tmp_path / 'r.csv', rows)
    lines = (tmp_path / 'r.csv').read_text().splitlines()
    assert lines[0] == ('seed,run,patients,accuracy,balanced_accuracy,auc,'
                        'f1,kappa,ece')
    assert lines[1].startswith('3,fold 0,20,')
    assert lines[5].startswith(',mean,,')


def test_markdown():
    rows = [fold_table.FoldRow(None, 'fold 0', 10, dict(accuracy=.5, auc=.25)),
            fold_table.FoldRow(None, 'fold 1', 12, dict(accuracy=.7))]
    rows += fold_table.spread_rows(rows)
    rows += [fold_table.FoldRow(None, 'pooled', 22, dict(accuracy=.6)),
             fold_table.FoldRow(None, 'pooled low', 22, dict(accuracy=.4)),
             fold_table.FoldRow(None, 'pooled high', 22, dict(accuracy=.8))]
    assert fold_table.markdown_table(rows).splitlines() == [
        '| run | patients | accuracy | AUC |', '| --- | --- | --- | --- |',
        '| fold 0 | 10 | 50.0 | 25.0 |', '| fold 1 | 12 | 70.0 | – |',
        '| mean ± sd |  | 60.0 ± 14.1 | – |',
        '| pooled | 22 | 60.0 [40.0, 80.0] | – |']
    assert [row.name for row in fold_table.spread_rows(rows[:1])] == ['mean']


def test_runs_that_do_not_fit():
    with pytest.raises(ValueError, match='no fold'):
        fold_table.classification_rows({})
    with pytest.raises(ValueError, match=r"fold 1 .*\('b', 'a'\), fold 0"):
        fold_table.classification_rows(
            {(None, 0): predictions(0),
             (None, 1): predictions(1, classes=('b', 'a'))})
