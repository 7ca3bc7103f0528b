"""Tables of predictions: csv files with a probability of each class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmmedmask.util.table_files import check_cell, read_table

PROBABILITY = 'probability '


def read_result_rows(file: str | Path, columns: Sequence[str],
                     what: str) -> list[dict[str, str]]:
    """Read a csv with some columns; ``what`` is such a file in a message."""
    try:
        return [row for _, row in read_table(file, columns).rows()]
    except ValueError as error:
        raise ValueError(f'{file} is not a {what}: {error}') from error


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
    numbers, and the probabilities (N, C). See :func:`read_result_rows`.
    """
    rows = read_result_rows(file, columns, what)
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
    scores = np.array([[float(row[name])
                        for name in probability_columns(classes)]
                       for row in rows])
    return rows, classes, labels, scores
