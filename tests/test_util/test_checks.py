"""Argument checks: what passes comes back, what fails is named."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from mmmedmask.util import checks


@pytest.mark.parametrize(('value', 'bounds'), [
    (0, dict(low=0)), (1, dict(high=1)),
    (0.5, dict(low=0, high=1, open_low=True, open_high=True)),
    (np.float32(0.5), dict(low=0, high=1))])
def test_a_number_inside_is_returned(value, bounds):
    assert checks.check_range('x', value, **bounds) is value


@pytest.mark.parametrize(('value', 'bounds', 'valid'), [
    (-1, dict(low=0), 'at least 0'),
    (0, dict(low=0, open_low=True), 'positive'),
    (2, dict(low=2, open_low=True), 'more than 2'),
    (1.5, dict(high=1), 'at most 1'),
    (1, dict(high=1, open_high=True), 'less than 1'),
    (0, dict(low=0, high=1, open_low=True), 'in (0, 1]'),
    (1, dict(low=0, high=1, open_high=True), 'in [0, 1)'),
    (math.nan, dict(low=0), 'at least 0'), (True, dict(low=0), 'at least 0'),
    ('1', dict(low=0), 'at least 0'), (None, dict(low=0), 'at least 0'),
    (math.inf, {}, 'a finite number'), (math.nan, {}, 'a finite number'),
    (math.inf, dict(low=0), 'at least 0 and finite'),
    (-math.inf, dict(high=0), 'at most 0 and finite')])
def test_a_number_outside_is_named(value, bounds, valid):
    message = f'x must be {valid}, got {value!r}'
    with pytest.raises(ValueError, match=f'^{re.escape(message)}$'):
        checks.check_range('x', value, **bounds)


@pytest.mark.parametrize('value', [0, -1, math.inf, math.nan, 'a', None])
def test_positive_refuses(value):
    with pytest.raises(ValueError, match='x must be positive'):
        checks.check_positive('x', value)


def test_integers():
    assert checks.check_integer('x', 3) == 3
    assert checks.check_integer('x', np.int64(0), 0) == 0
    for value in (1.0, True, '1', None):
        with pytest.raises(ValueError, match='x must be an integer, got'):
            checks.check_integer('x', value)
    with pytest.raises(ValueError, match='x must be at least 1, got 0'):
        checks.check_integer('x', 0)
    with pytest.raises(ValueError, match=r'x must be in \[1, 4\], got 5'):
        checks.check_integer('x', 5, high=4)


def test_seeds():
    assert checks.check_seed(0) == 0
    assert checks.check_seed(None) is None
    for value in (-1, 'a', 1.5, math.nan):
        with pytest.raises(ValueError, match='seed must be'):
            checks.check_seed(value)


def test_rates():
    assert checks.check_rate('x', 0) == 0
    for value in (1, -.1, math.nan, 'a'):
        with pytest.raises(ValueError, match=r'x must be in \[0, 1\), got'):
            checks.check_rate('x', value)


def test_indices():
    assert checks.check_indices('x', (2, 0)) == (2, 0)
    for value in ('ab', [], 3, None):
        with pytest.raises(ValueError, match='x must be a list of integers'):
            checks.check_indices('x', value)
    for value in ([-1], ['a'], [.5]):
        with pytest.raises(ValueError, match='each of x must be'):
            checks.check_indices('x', value)


def test_multiples():
    assert checks.check_multiple('x', 8, 4) == 8
    assert checks.check_multiple('x', (4, 8), 4) == (4, 8)
    for value in (6, (8, 6)):
        with pytest.raises(ValueError, match='x must be a multiple of y 4, '
                           f'got {re.escape(str(value))}'):
            checks.check_multiple('x', value, 4, 'y')
    with pytest.raises(ValueError, match='x must be at least 1, got 0'):
        checks.check_multiple('x', 0, 4)
    with pytest.raises(ValueError, match='y must be at least 1, got 0'):
        checks.check_multiple('x', 4, 0, 'y')


def test_ascending_pairs():
    assert checks.check_ascending('x', (.5, .5), 0, 1) == (.5, .5)
    for pair in ((2, 1), (1, 2, 3), 4, 'ab'):
        with pytest.raises(ValueError, match=r'ascending numbers, \(low, high'
                           rf'\), got {re.escape(repr(pair))}'):
            checks.check_ascending('x', pair)
    for pair in ((0, 1), (math.nan, 1)):
        with pytest.raises(ValueError, match=r'each of x \(.*, 1\) must be '
                           r'in \(0, 1\], got'):
            checks.check_ascending('x', pair, 0, 1, open_low=True)


def test_numbers():
    for values in ((), [0, 1.5], np.ones(2)):
        assert checks.check_numbers('x', values, 0) is values
    for values in ((1, math.nan), [math.inf], ['a'], [-1], np.array([-1.])):
        with pytest.raises(ValueError, match=r'each of x .* at least 0'):
            checks.check_numbers('x', values, 0)
    for values in ('ab', 3, None, [1]):
        with pytest.raises(ValueError, match='x must be a list of 2 numbers'):
            checks.check_numbers('x', values, count=2)


def test_shapes():
    array = np.zeros((3, 2))
    assert checks.check_shape('x', array, ('N', 2)) is array
    for shape, wanted in ((('N', 3), 'N, 3'), ((3, ), '3,'),
                          ((4, 'C', 'H'), '4, C, H')):
        with pytest.raises(ValueError, match=rf'x must have the shape '
                           rf'\({wanted}\), got \(3, 2\): why'):
            checks.check_shape('x', array, shape, 'why')
    with pytest.raises(ValueError, match='got None$'):
        checks.check_shape('x', None, ('N', 2))


def test_choices():
    assert checks.check_choice('x', 'a', ('a', 'b')) == 'a'
    with pytest.raises(
            ValueError, match=r"x must be one of \('a', 'b'\), got 'c'"):
        checks.check_choice('x', 'c', ['a', 'b'])


def test_names_of_files():
    first, same, other = map(Path, ('x/a.h5', 'x/../x/a.h5', 'y/a.h5'))
    assert checks.check_names_differ(
        [('a', first), ('b', other), ('a', same)], 'why') == {
        'a': first, 'b': other}
    with pytest.raises(ValueError, match=r'^x/a\.h5 and y/a\.h5 are both '
                       'called a: why$'):
        checks.check_names_differ([('a', first), ('a', other)], 'why')


def test_no_file_that_is_read_is_written(tmp_path):
    file, copy = tmp_path / 'genes.txt', tmp_path / 'copy.txt'
    file.write_text('TP53')
    copy.write_text('TP53')
    (tmp_path / 'soft').symlink_to(file)
    (tmp_path / 'hard').hardlink_to(file)
    for name in (file, f'{tmp_path}/../{tmp_path.name}/genes.txt',
                 tmp_path / 'soft', tmp_path / 'hard'):
        with pytest.raises(ValueError, match=f'^writing {name} would overwrite'
                           f' {file}, which is read'):
            checks.check_not_read([tmp_path / 'new', name], [copy, file])
    checks.check_not_read([copy, tmp_path, 'new'], [file, tmp_path, 'absent'])
