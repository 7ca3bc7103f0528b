"""Tables of predictions: csv files with a probability of each class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmmedmask.util.table_files import cell_number, check_cell, read_table

PROBABILITY = 'probability '
_ROUNDING = 1e-5


def read_located_rows(file: str | Path, columns: Sequence[str],
                      what: str) -> list[tuple[str, dict[str, str]]]:
    """Read a csv with some columns: where each row stands, and the row.

    ``what`` is such a file in a message.
    """
    try:
        return list(read_table(file, columns).rows())
    except ValueError as error:
        raise ValueError(f'{file} is not a {what}: {error}') from error


def known_number(where: str, column: str, cell: str) -> float:
    """Read a finite number from a cell; a missing one is an error too."""
    value = cell_number(where, column, cell)
    if value is None:
        raise ValueError(f'{where}: {column} must be a number, got {cell!r}')
    return value


def probability_columns(classes: Sequence[str]) -> list[str]:
    """Name the columns that hold the probability of each class."""
    return [f'{PROBABILITY}{name}' for name in classes]


def probability_cells(scores: np.ndarray) -> list[str]:
    """Write probabilities (C,) so that any two float32 stay apart."""
    return [f'{score:.9g}' for score in scores]


def read_class_table(
    file: str | Path, columns: Sequence[str], what: str
) -> tuple[list[dict[str, str]], list[str], np.ndarray, np.ndarray]:
    """Read a csv with a label and a probability of each class per row.

    Returns the rows, the names of the C classes, the labels (N,) as their
    numbers, and the probabilities (N, C), all in [0, 1]. See
    :func:`read_located_rows`.
    """
    located = read_located_rows(file, columns, what)
    rows = [row for _, row in located]
    present = list(rows[0])
    classes = [name.removeprefix(PROBABILITY) for name in present
               if name.startswith(PROBABILITY)]
    if not classes:
        raise ValueError(f'{file} is not a {what}: it has no '
                         f'{PROBABILITY.strip()!r} column per class, only '
                         f'{present}')
    for row in rows:
        check_cell(str(file), 'label', row['label'], classes)
    labels = np.array([classes.index(row['label']) for row in rows])
    scores = np.array([[_probability(where, name, row[name])
                        for name in probability_columns(classes)]
                       for where, row in located])
    return rows, classes, labels, scores


def _probability(where: str, column: str, cell: str) -> float:
    value = known_number(where, column, cell)
    # Other programs may round to a little more than 1, or less than 0.
    if not -_ROUNDING <= value <= 1 + _ROUNDING:
        raise ValueError(f'{where}: {column} must be in [0, 1], got {cell!r}')
    return min(max(value, 0.0), 1.0)
