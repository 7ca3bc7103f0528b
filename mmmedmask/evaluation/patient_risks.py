"""The predicted risks of patients, as a csv file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmmedmask.evaluation.files import read_table, write_table
from mmmedmask.evaluation.patient_predictions import (
    EXTRA_COLUMNS,
    SEPARATOR,
    check_unique,
    describe_patients,
    group_by_patient,
    split_slides,
)

RISKS_FILE = 'survival.csv'
COLUMNS = ('case_id', 'survival_months', 'censorship', 'risk')


@dataclass(frozen=True)
class PatientRisks:
    """What a survival model said about patients.

    Attributes:
        case_ids: The patients, N, each once.
        months: Times to death or to the last contact, float64 (N,).
        events: Whether the death was observed, bool (N,).
        risks: Predicted risks, float64 (N,), more is worse.
        modalities: What each answer is made of, such as ``'slides+genes'``.
        slides: The slides of each patient.
    """

    case_ids: Sequence[str]
    months: np.ndarray
    events: np.ndarray
    risks: np.ndarray
    modalities: Sequence[str]
    slides: Sequence[Sequence[str]]


def average_risks(results: Sequence[Mapping]) -> PatientRisks:
    """Average the risks of all samples of a patient.

    Args:
        results: One dict per sample with ``case_id``, ``months``,
            ``event``, ``risk``, ``modalities`` and ``slides``.

    Returns:
        The risks of patients, in the order of their first samples.

    Raises:
        ValueError: If samples of one patient differ in their follow-up.
    """
    cases = group_by_patient(results)
    follow_up = []
    for case, samples in cases.items():
        told = sorted({(one['months'], one['event']) for one in samples})
        if len(told) > 1:
            raise ValueError(f'the samples of case {case} have different '
                             f'survival: {told}')
        follow_up.append(told[0])
    modalities, slides = describe_patients(cases)
    return PatientRisks(
        case_ids=list(cases),
        months=np.array([months for months, _ in follow_up], np.float64),
        events=np.array([event for _, event in follow_up], bool),
        risks=np.array([np.mean([one['risk'] for one in samples])
                        for samples in cases.values()], np.float64),
        modalities=modalities,
        slides=slides)


def write_risks(file: str | Path, table: PatientRisks) -> None:
    """Write risks, whole or not at all.

    The columns are ``case_id, survival_months, censorship`` (1 = the death
    was not observed), ``risk, modalities`` and ``slides`` (joined by
    semicolons).

    Args:
        file: The csv to (over)write.
        table: What to write.
    """
    write_table(file, [*COLUMNS, *EXTRA_COLUMNS], [[
        case, f'{months:.9g}', int(not event), f'{risk:.9g}', modalities,
        SEPARATOR.join(slides)
    ] for case, months, event, risk, modalities, slides in zip(
        table.case_ids,
        table.months,
        table.events,
        table.risks,
        table.modalities,
        table.slides,
        strict=True)])


def read_risks(file: str | Path) -> PatientRisks:
    """Read what :func:`write_risks` wrote.

    Args:
        file: The csv; ``modalities`` and ``slides`` may be missing.

    Returns:
        The risks.

    Raises:
        ValueError: If the file is no such csv, or has a patient twice.
    """
    _, rows = read_table(file, COLUMNS, 'table of risks')
    case_ids = [row['case_id'] for row in rows]
    check_unique(case_ids, file)
    wrong = {row['censorship'] for row in rows} - {'0', '1'}
    if wrong:
        raise ValueError(f'{file}: censorship must be 0 or 1, got '
                         f'{sorted(wrong)}')
    return PatientRisks(
        case_ids=case_ids,
        months=np.array([float(row['survival_months']) for row in rows]),
        events=np.array([row['censorship'] == '0' for row in rows]),
        risks=np.array([float(row['risk']) for row in rows]),
        modalities=[row.get('modalities', '') for row in rows],
        slides=[split_slides(row.get('slides', '')) for row in rows])
