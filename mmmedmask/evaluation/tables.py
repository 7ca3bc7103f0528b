"""Tables of predictions: csv files with a probability of each class."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

PROBABILITY = 'probability '


def read_table(file: str | Path,
               columns: Sequence[str],
               what: str) -> tuple[list[str], list[dict[str, str]]]:
    """Read a csv that has at least some columns: its columns, and the rows.

    ``what`` says in messages what such a file is.

    Raises:
        ValueError: If a column is missing, there is no row, or a row is longer
            or shorter than the first line.
    """
    with Path(file).open(newline='', encoding='utf-8-sig') as stream:
        reader = csv.DictReader(stream)
        present = list(reader.fieldnames or [])
        rows = list(reader)
    if not set(columns) <= set(present) or not rows:
        raise ValueError(
            f'{file} is not a {what}: it needs the columns '
            f'{", ".join(columns)} and rows, got {len(rows)} rows of '
            f'{present}')
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise ValueError(f'{file} is not a {what}: line {number} has '
                             f'another number of cells than {present}')
    return present, rows


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
    numbers, and the probabilities (N, C). See :func:`read_table`.

    Raises:
        ValueError: If the file is no such csv, or names a class that has no
            column.
    """
    present, rows = read_table(file, columns, what)
    classes = [
        name.removeprefix(PROBABILITY) for name in present
        if name.startswith(PROBABILITY)
    ]
    if not classes:
        raise ValueError(f'{file} is not a {what}: it has no '
                         f'{PROBABILITY.strip()!r} column per class, only '
                         f'{present}')
    unknown = {row['label'] for row in rows} - set(classes)
    if unknown:
        raise ValueError(f'{file} has labels without a column: '
                         f'{sorted(unknown)}, the classes are {classes}')
    labels = np.array([classes.index(row['label']) for row in rows])
    scores = np.array([[float(row[name])
                        for name in probability_columns(classes)]
                       for row in rows])
    return rows, classes, labels, scores
