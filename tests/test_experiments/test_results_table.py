"""Values of a table: which there are, which count as independent."""

from types import SimpleNamespace

import pytest

from mmmedmask.evaluation.paired_tests import interval_of_mean
from mmmedmask.experiments import manifest, results_table
from mmmedmask.experiments.plan import Axis, Cell
from mmmedmask.experiments.results_table import independent_values


def test_seeds_of_one_fold_count_as_one():
    by_fold = {0: 3., 1: -1., 2: 5., 3: 2., 4: -2.}
    once = {Axis(0, fold): value for fold, value in by_fold.items()}
    thrice = {Axis(seed, fold): value + seed - 1
              for fold, value in by_fold.items() for seed in range(3)}
    assert independent_values(once) == list(by_fold.values())
    assert independent_values(thrice) == list(by_fold.values())
    # All 15 as if they were of other patients would give a third of it.
    _, low, high = interval_of_mean(independent_values(thrice))
    assert high - low > 7


def test_seeds_count_where_there_are_no_folds():
    assert independent_values({Axis(seed, None): float(seed)
                               for seed in range(3)}) == [0, 1, 2]
    assert independent_values({Axis(seed, 4): float(seed)
                               for seed in range(3)}) == [0, 1, 2]


@pytest.mark.parametrize(('metric', 'expected'), [
    ('coco/segm_mAP', .5), ('coco/bbox_mAP', 'coco/bbox_mAP is nan'),
    ('auc', 'auc is nan'), ('loss', 'loss is inf'), ('kappa', -1)])
def test_a_score_that_is_not_defined_is_none(monkeypatch, tmp_path, metric,
                                             expected):
    """pycocotools says -1 where there is no truth; a kappa may be -1."""
    results = {'coco/segm_mAP': .5, 'coco/bbox_mAP': -1.0, 'auc': 'nan',
               'loss': 'inf', 'kappa': -1.0}
    monkeypatch.setattr(manifest, 'read_quietly', lambda run: dict(
        digest='a', data_changed=False, results=dict(last=results)))
    monkeypatch.setattr(manifest, 'remade_source', lambda *_: None)
    run = SimpleNamespace(digest='a', folder=tmp_path)
    assert results_table._value(Cell(run, 'last'), metric, None) == expected
