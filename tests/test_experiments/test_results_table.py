"""Intervals in a table: which values count as independent."""

from mmmedmask.evaluation.paired_tests import interval_of_mean
from mmmedmask.experiments.plan import Axis
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
