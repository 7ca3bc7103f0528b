"""Slides and genes of different patients, paired within classes."""

import pytest

from mmmedmask.apis.synthetic_pairs import PairedCohort, pair_within_classes

CASES = {'a1': 'a', 'a2': 'a', 'a3': 'a', 'b1': 'b', 'b2': 'b'}
SAMPLES = {'a': [f'sa{number}' for number in range(9)],
           'b': ['sb0', 'sb1'], 'c': []}


def test_pairs_are_of_one_class_and_no_sample_comes_twice():
    draws = [pair_within_classes(CASES, SAMPLES, seed) for seed in range(20)]
    for pairs in draws:
        assert set(pairs) == set(CASES)
        assert len(set(pairs.values())) == len(CASES)
        for case, sample in pairs.items():
            assert sample in SAMPLES[CASES[case]]
    assert len({tuple(sorted(pairs.items())) for pairs in draws}) > 10
    assert pair_within_classes(dict(reversed(CASES.items())), SAMPLES,
                               3) == draws[3]


@pytest.mark.parametrize(('samples', 'message'), [
    ({'a': SAMPLES['a']}, "no samples of the class 'b', only of"),
    (dict(SAMPLES, b=['sb0', 'sb0']), "'b' has 2 cases, but 1 samples")])
def test_too_few_samples_are_refused(samples, message):
    with pytest.raises(ValueError, match=message):
        pair_within_classes(CASES, samples)


@pytest.mark.parametrize('size', [4, 100])
def test_tiles_must_have_whole_patches(size):
    with pytest.raises(ValueError, match=f'multiple of 8, got {size}'):
        PairedCohort(['a'], ['b'], tile_size=size)


def test_the_tables_of_genes_are_not_written_over(tmp_path):
    genes = tmp_path / 'expression/a.npz'
    genes.parent.mkdir()
    genes.write_text('here')
    with pytest.raises(ValueError, match=r'a\.npz, which is read'):
        PairedCohort([tmp_path / 'tiles/a'], [genes]).write(tmp_path)
    assert genes.read_text() == 'here'
