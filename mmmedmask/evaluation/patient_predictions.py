"""The predictions of a classifier on patients, as a csv file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmmedmask.evaluation.files import write_table
from mmmedmask.evaluation.predictions import (
    probability_cells,
    probability_columns,
    read_class_table,
)

PATIENTS_FILE = 'patients.csv'
COLUMNS = ('case_id', 'label', 'predicted')
EXTRA_COLUMNS = ('modalities', 'slides')
SEPARATOR = ';'


@dataclass(frozen=True)
class PatientPredictions:
    """What a classifier said about patients.

    Attributes:
        case_ids: The patients, N, each once.
        labels: True classes, integers of shape (N,).
        scores: Probability of each class, shape (N, C).
        classes: Names of the classes, C.
        modalities: What each answer is made of, such as ``'slides+genes'``.
        slides: The slides of each patient.
    """

    case_ids: Sequence[str]
    labels: np.ndarray
    scores: np.ndarray
    classes: Sequence[str]
    modalities: Sequence[str]
    slides: Sequence[Sequence[str]]


def group_by_patient(
        results: Sequence[Mapping]) -> dict[str, list[Mapping]]:
    """Sort samples by patient, in the order of their first samples.

    Args:
        results: One dict per sample with ``case_id``.

    Returns:
        The samples of each patient.
    """
    cases: dict[str, list[Mapping]] = {}
    for result in results:
        cases.setdefault(result['case_id'], []).append(result)
    return cases


def describe_patients(
    cases: Mapping[str, Sequence[Mapping]]
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Say what the answers on patients are made of.

    Args:
        cases: The samples of each patient with ``modalities`` and
            ``slides``.

    Returns:
        Modalities (those of one patient's samples joined, if they differ)
        and slides of each patient.
    """
    modalities = [
        ' | '.join(dict.fromkeys(one['modalities'] for one in samples))
        for samples in cases.values()
    ]
    slides = [
        tuple(dict.fromkeys(name for one in samples for name in one['slides']))
        for samples in cases.values()
    ]
    return modalities, slides


def average_by_patient(results: Sequence[Mapping],
                       classes: Sequence[str]) -> PatientPredictions:
    """Average the probabilities of all samples of a patient.

    Args:
        results: One dict per sample with ``case_id``, ``label``, ``scores``
            (C,), ``modalities`` and ``slides``.
        classes: Names of the C classes.

    Returns:
        The predictions on patients, in the order of their first samples.

    Raises:
        ValueError: If samples of one patient differ in their label.
    """
    cases = group_by_patient(results)
    for case, samples in cases.items():
        labels = sorted({sample['label'] for sample in samples})
        if len(labels) > 1:
            raise ValueError(f'the samples of case {case} have different '
                             f'labels: {labels}')
    modalities, slides = describe_patients(cases)
    return PatientPredictions(
        case_ids=list(cases),
        labels=np.array([samples[0]['label'] for samples in cases.values()]),
        scores=np.stack([
            np.mean([sample['scores'] for sample in samples],
                    axis=0,
                    dtype=np.float64) for samples in cases.values()
        ]),
        classes=list(classes),
        modalities=modalities,
        slides=slides)


def write_patients(file: str | Path, predictions: PatientPredictions) -> None:
    """Write predictions on patients, whole or not at all.

    The columns are ``case_id, label, predicted`` (classes by name), one
    ``probability CLASS`` per class, ``modalities`` and ``slides`` (joined by
    semicolons).

    Args:
        file: The csv to (over)write.
        predictions: What to write.
    """
    classes = list(predictions.classes)
    predicted = predictions.scores.argmax(axis=1)
    columns = [*COLUMNS, *probability_columns(classes), *EXTRA_COLUMNS]
    write_table(file, columns, [[
        case, classes[label], classes[guess], *probability_cells(scores),
        modalities, SEPARATOR.join(slides)
    ] for case, label, guess, scores, modalities, slides in zip(
        predictions.case_ids,
        predictions.labels,
        predicted,
        predictions.scores,
        predictions.modalities,
        predictions.slides,
        strict=True)])


def read_patients(file: str | Path) -> PatientPredictions:
    """Read what :func:`write_patients` wrote.

    Args:
        file: The csv; ``modalities`` and ``slides`` may be missing, so that
            tables of other programs can be read, too.

    Returns:
        The predictions.

    Raises:
        ValueError: If the file is no such csv, names a class that has no
            column, or a patient twice.
    """
    rows, classes, labels, scores = read_class_table(
        file, COLUMNS[:2], 'table of patients')
    case_ids = [row['case_id'] for row in rows]
    check_unique(case_ids, file)
    return PatientPredictions(
        case_ids=case_ids,
        labels=labels,
        scores=scores,
        classes=classes,
        modalities=[row.get('modalities', '') for row in rows],
        slides=[split_slides(row.get('slides', '')) for row in rows])


def join_patients(tables: Sequence[PatientPredictions],
                  source: str | Path) -> PatientPredictions:
    """Put predictions on different patients together.

    Args:
        tables: Predictions, such as those of all folds.
        source: Where they are from, for messages.

    Returns:
        All of them, in their order.

    Raises:
        ValueError: If the classes differ, or a patient is in several.
    """
    classes = tables[0].classes
    for table in tables:
        if table.classes != classes:
            raise ValueError(f'tables of {source} have different classes: '
                             f'{classes} and {table.classes}')
    joined = PatientPredictions(
        case_ids=[case for table in tables for case in table.case_ids],
        labels=np.concatenate([table.labels for table in tables]),
        scores=np.concatenate([table.scores for table in tables]),
        classes=classes,
        modalities=[one for table in tables for one in table.modalities],
        slides=[one for table in tables for one in table.slides])
    check_unique(joined.case_ids, source)
    return joined


def split_slides(cell: str) -> tuple[str, ...]:
    """Split the cell of a patient's slides."""
    return tuple(name for name in cell.split(SEPARATOR) if name)


def check_unique(case_ids: Sequence[str], file: str | Path) -> None:
    """Refuse a table that names a patient twice.

    Args:
        case_ids: The patients.
        file: The table, for the message.

    Raises:
        ValueError: If one is there twice.
    """
    if len(set(case_ids)) < len(case_ids):
        twice = next(case for case in case_ids if case_ids.count(case) > 1)
        raise ValueError(f'{file} has case {twice} more than once')
