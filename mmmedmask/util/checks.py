"""Checks of arguments: each returns the value, or names it in a ValueError."""

import math
import os
from collections.abc import Collection, Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any


def check_range(name: str, value: float, low: float = -math.inf,
                high: float = math.inf, open_low: bool = False,
                open_high: bool = False) -> float:
    """Check that a number is within an interval, and return it.

    NaN, infinity, booleans and what is not a number fail. ``open_low`` and
    ``open_high`` say whether the ends themselves are outside.

    Example:
        >>> check_range('momentum', 0.9, 0, 1, open_high=True)
        0.9
    """
    infinite = isinstance(value, Real) and value in (math.inf, -math.inf)
    if isinstance(value, Real) and not isinstance(value, bool):
        above = value > low if open_low else value >= low
        below = value < high if open_high else value <= high
        if above and below and not infinite:
            return value
    if (low, high) == (-math.inf, math.inf):
        valid, infinite = 'a finite number', False
    elif high == math.inf:
        valid = 'positive' if open_low and low == 0 else \
            f'{"more than" if open_low else "at least"} {low}'
    elif low == -math.inf:
        valid = f'{"less than" if open_high else "at most"} {high}'
    else:
        valid = (f'in {"(" if open_low else "["}{low}, {high}'
                 f'{")" if open_high else "]"}')
    if infinite and math.inf in (high, -low):
        valid += ' and finite'
    raise ValueError(f'{name} must be {valid}, got {value!r}')


def check_positive(name: str, value: float) -> float:
    """Check that a number is above 0; see :func:`check_range`.

    Example:
        >>> check_positive('temperature', 0.07)
        0.07
    """
    return check_range(name, value, 0, open_low=True)


def check_rate(name: str, value: float) -> float:
    """Check that a number is in [0, 1), as the rate of a dropout is.

    Example:
        >>> check_rate('drop_rate', 0.25)
        0.25
    """
    return check_range(name, value, 0, 1, open_high=True)


def check_integer(name: str, value: int, low: int | float = 1,
                  high: int | float = math.inf) -> int:
    """Check that a value is an integer in [low, high], and return it.

    Its type has to be an integer's.

    Example:
        >>> check_integer('num_heads', 8)
        8
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f'{name} must be an integer, got {value!r}')
    return check_range(name, value, low, high)


def check_seed(value: int | None) -> int | None:
    """Check that a seed is an integer of at least 0, or None.

    Example:
        >>> check_seed(0)
        0
    """
    return None if value is None else check_integer('seed', value, 0)


def check_multiple(name: str, value: int | Sequence[int], factor: int,
                   factor_name: str = '') -> int | Sequence[int]:
    """Check that a positive integer, or all of several, can be divided.

    Args:
        factor_name: Setting that ``factor`` is the value of.

    Example:
        >>> check_multiple('embed_dims', 64, 8, 'num_heads')
        64
    """
    check_integer(factor_name or 'a factor', factor)
    for part in value if isinstance(value, Sequence) else (value, ):
        if check_integer(name, part) % factor:
            of = f'{factor_name} {factor}'.lstrip()
            raise ValueError(
                f'{name} must be a multiple of {of}, got {value!r}')
    return value


def check_ascending(name: str, pair: Sequence[float], low: float = -math.inf,
                    high: float = math.inf,
                    open_low: bool = False) -> Sequence[float]:
    """Check that two numbers, of an interval, are equal or ascend.

    Example:
        >>> check_ascending('scale', (0.2, 1.0), 0, 1, open_low=True)
        (0.2, 1.0)
    """
    if not isinstance(pair, Sequence) or isinstance(pair, str) \
            or len(pair) != 2 or pair[0] > pair[1]:
        raise ValueError(f'{name} must be two ascending numbers, (low, high), '
                         f'got {pair!r}')
    return check_numbers(name, pair, low, high, open_low)


def check_numbers(name: str, values: Collection[float],
                  low: float = -math.inf, high: float = math.inf,
                  open_low: bool = False,
                  count: int | None = None) -> Collection[float]:
    """Check numbers by :func:`check_range`, and that there are ``count``.

    Example:
        >>> check_numbers('class_weights', [1, 2.5], 0, count=2)
        [1, 2.5]
    """
    if not isinstance(values, Collection) or isinstance(values, str) \
            or count not in (None, len(values)):
        raise ValueError(f'{name} must be a list of '
                         f'{"" if count is None else f"{count} "}numbers, '
                         f'got {values!r}')
    for value in values:
        check_range(f'each of {name} {values!r}', value, low, high, open_low)
    return values


def check_indices(name: str, indices: Sequence[int]) -> Sequence[int]:
    """Check that there are integers of at least 0, one or more.

    Example:
        >>> check_indices('channels', [2, 0])
        [2, 0]
    """
    if not isinstance(indices, Sequence) or isinstance(indices, str) \
            or not indices:
        raise ValueError(f'{name} must be a list of integers, not an empty '
                         f'one, got {indices!r}')
    for index in indices:
        check_integer(f'each of {name}', index, 0)
    return indices


def check_shape(name: str, array: Any, shape: Sequence[int | str],
                meaning: str = '') -> Any:
    """Check the shape of an array or tensor.

    Args:
        shape: Lengths of its axes; a name, such as ``'N'``, stands for any.
        meaning: What an error adds behind a colon.

    Example:
        >>> import numpy as np
        >>> check_shape('coords', np.zeros((3, 2)), ('N', 2)).shape
        (3, 2)
    """
    if array is None or len(array.shape) != len(shape) or any(
            axis != size for axis, size in zip(shape, array.shape, strict=True)
            if not isinstance(axis, str)):
        axes = ', '.join(map(str, shape)) + ',' * (len(shape) == 1)
        got = None if array is None else tuple(array.shape)
        raise ValueError(f'{name} must have the shape ({axes}), got {got}'
                         + f': {meaning}' * bool(meaning))
    return array


def check_size(name: str, size: int | Sequence[int]) -> tuple[int, int]:
    """Read a size given as a side in pixels or as (h, w), into (h, w).

    Example:
        >>> check_size('view_size', 224)
        (224, 224)
    """
    sides = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(sides) != 2:
        raise ValueError(f'{name} must be a positive integer or two, (h, w), '
                         f'got {size!r}')
    return check_integer(name, sides[0]), check_integer(name, sides[1])


def check_choice(name: str, value: object, choices: Collection) -> object:
    """Check that a value is one of several, and return it.

    Example:
        >>> check_choice('gate', 'image', ('image', 'gene'))
        'image'
    """
    if value not in choices:
        raise ValueError(f'{name} must be one of '
                         f'{tuple(choices)}, got {value!r}')
    return value


def check_not_read(written: Iterable[str | Path],
                   read: Iterable[str | Path]) -> None:
    """Check that no file to be written is one that is read.

    Other spellings and links of a file are the file.

    Example:
        >>> _ = Path('genes.txt').write_text('TP53')
        >>> check_not_read(['sets.gmt', './genes.txt'], ['a', 'genes.txt'])
        Traceback (most recent call last):
        ValueError: writing ./genes.txt would overwrite genes.txt, which is ...
    """
    places = {_place(path): path for path in written if os.path.isfile(path)}
    if not places:
        return
    for path in read:
        if os.path.isfile(path) and _place(path) in places:
            raise ValueError(f'writing {places[_place(path)]} would overwrite '
                             f'{path}, which is read: name another file')


def check_own_table(path: Path, columns: Sequence[str]) -> None:
    """Check that a csv to be written over has the columns of the new one.

    Example:
        >>> _ = Path('probe.csv').write_text('epoch,score')
        >>> check_own_table(Path('probe.csv'), ('run', 'auc'))
        Traceback (most recent call last):
        ValueError: writing probe.csv would overwrite another table, ...
    """
    if not path.is_file():
        return
    with path.open(encoding='utf-8', errors='replace') as stream:
        first = stream.readline().strip()
    if first != ','.join(columns):
        raise ValueError(
            f'writing {path} would overwrite another table, whose first line '
            f'is {first[:80]!r}: name another file')


def _place(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def check_names_differ(files: Iterable[tuple[str, Path]],
                       loss: str) -> dict[str, Path]:
    """Check that no two files have one name, and give them by name.

    ``loss`` says what would happen else. One file may be there twice.

    Example:
        >>> check_names_differ([('a', Path('x/a.h5')), ('b', Path('b.h5'))],
        ...                    'pictures would overwrite each other').keys()
        dict_keys(['a', 'b'])
    """
    by_name: dict[str, Path] = {}
    for name, path in files:
        other = by_name.setdefault(name, path)
        if other.resolve() != path.resolve():
            raise ValueError(
                f'{other} and {path} are both called {name}: {loss}')
    return by_name
