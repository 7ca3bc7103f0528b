"""What a model said about patients, as csv files: classes or risks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np

from mmmedmask.evaluation.base_metric import log_warning, require_keys
from mmmedmask.evaluation.tables import (
    known_number,
    probability_cells,
    probability_columns,
    read_class_table,
    read_located_rows,
)
from mmmedmask.util.atomic_files import write_csv

PATIENTS_FILE = 'patients.csv'
COLUMNS = ('case_id', 'label', 'predicted')
RISKS_FILE = 'survival.csv'
RISK_COLUMNS = ('case_id', 'survival_months', 'censorship', 'risk')
EXTRA_COLUMNS = ('modalities', 'slides')
#: Predictions of patients who have both, with one of them hidden.
HIDDEN = ('slides_hidden', 'genes_hidden')
SEPARATOR = ';'


@dataclass(frozen=True)
class PatientPredictions:
    """What a classifier said about patients.

    Attributes:
        case_ids: The patients, N, each once.
        labels: True classes, integers of shape (N,).
        scores: Probability of each class, shape (N, C).
        modalities: What each answer is made of, such as ``'slides+genes'``.
    """

    case_ids: Sequence[str]
    labels: np.ndarray
    scores: np.ndarray
    classes: Sequence[str]
    modalities: Sequence[str]
    slides: Sequence[Sequence[str]]


def hidden_file(name: str, key: str) -> str:
    """Name the file of predictions with a modality hidden.

    Example:
        >>> hidden_file('patients.csv', 'genes_hidden')
        'patients_genes_hidden.csv'
    """
    return f'_{key}.'.join(name.rsplit('.', 1))


def patient_result(sample: Mapping, keys: Sequence[str], read: Callable,
                   check: Callable = require_keys) -> dict:
    """Keep what a metric needs of a prediction, which is checked.

    ``read`` takes the answer, and those with a modality hidden, from it.
    """
    case = sample.get('case_id')
    name = 'a sample' if case is None else f'case {case}'
    check(sample, (*keys, 'case_id', 'slide_ids'), name)

    def answer(prediction: Mapping) -> dict:
        return dict(modalities=str(prediction.get('modalities') or ''),
                    **read(prediction, name))

    return dict(case_id=str(case), slides=tuple(map(str, sample['slide_ids'])),
                **{key: answer(sample[key]) for key in HIDDEN
                   if sample.get(key) is not None}, **answer(sample))


def hidden_results(results: Sequence[Mapping]) -> dict[str, list[dict]]:
    """Results with each modality hidden, of those who have both."""
    by_key = {key: [{**result, **result[key]} for result in results
                    if key in result] for key in HIDDEN}
    return {key: hidden for key, hidden in by_key.items() if hidden}


def warn_repeated(results: Sequence[Mapping]) -> None:
    """Warn of slides that a patient has several predictions on."""
    names = [(result['case_id'], result['slides']) for result in results]
    repeated = len(names) - len(set(names))
    if repeated:
        log_warning(f'{repeated} predictions are on slides of a patient that '
                    'have another one already; all count.')


def average_by_patient(results: Sequence[Mapping],
                       classes: Sequence[str]) -> PatientPredictions:
    """Average the probabilities of all samples of a patient.

    Results have ``case_id``, ``label``, ``scores`` (C,), ``modalities`` and
    ``slides``; all of a patient must have one label.
    """
    cases = _group_by_patient(results, ('label', ), 'labels')
    return PatientPredictions(
        labels=np.array([samples[0]['label'] for samples in cases.values()]),
        scores=np.stack([np.mean([sample['scores'] for sample in samples],
                                 axis=0, dtype=np.float64)
                         for samples in cases.values()]),
        classes=list(classes), **_describe_patients(cases))


def write_patients(file: str | Path, predictions: PatientPredictions) -> None:
    """Write predictions on patients, whole or not at all.

    The columns are ``case_id, label, predicted`` (classes by name), one
    ``probability CLASS`` per class, ``modalities`` and ``slides`` (joined by
    semicolons).
    """
    classes = list(predictions.classes)
    predicted = predictions.scores.argmax(axis=1)
    columns = [*COLUMNS, *probability_columns(classes), *EXTRA_COLUMNS]
    write_csv(file, columns, [[
        case, classes[label], classes[guess], *probability_cells(scores),
        modalities, SEPARATOR.join(slides)
    ] for case, label, guess, scores, modalities, slides in zip(
        predictions.case_ids, predictions.labels, predicted,
        predictions.scores, predictions.modalities, predictions.slides,
        strict=True)])


def read_patients(file: str | Path) -> PatientPredictions:
    """Read what :func:`write_patients` wrote; modalities and slides may lack.

    No such csv, a class without a column or a patient twice is a ValueError.
    """
    rows, classes, labels, scores = read_class_table(
        file, COLUMNS[:2], 'table of patients')
    return PatientPredictions(labels=labels, scores=scores, classes=classes,
                              **_read_patients(rows, file))


def join_patients(tables: Sequence[PatientPredictions],
                  source: str | Path) -> PatientPredictions:
    """Put predictions on different patients, such as of folds, together.

    Other classes, or a patient in several tables of ``source``, are errors.
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
        modalities=[name for table in tables for name in table.modalities],
        slides=[names for table in tables for names in table.slides])
    check_unique(joined.case_ids, source)
    return joined


@dataclass(frozen=True)
class PatientRisks:
    """What a survival model said about patients, see `PatientPredictions`.

    Attributes:
        months: Times to death or to the last contact, float64 (N,).
        events: Whether the death was observed, bool (N,).
        risks: Predicted risks, float64 (N,), more is worse.
    """

    case_ids: Sequence[str]
    months: np.ndarray
    events: np.ndarray
    risks: np.ndarray
    modalities: Sequence[str]
    slides: Sequence[Sequence[str]]


def average_risks(results: Sequence[Mapping]) -> PatientRisks:
    """Average the risks of all samples of a patient.

    Results have ``case_id``, ``months`` and ``event``, one for all samples of
    a patient, ``risk``, ``modalities`` and ``slides``.
    """
    cases = _group_by_patient(results, ('months', 'event'), 'survival')
    first = [samples[0] for samples in cases.values()]
    return PatientRisks(
        months=np.array([sample['months'] for sample in first], np.float64),
        events=np.array([sample['event'] for sample in first], bool),
        risks=np.array([np.mean([sample['risk'] for sample in samples])
                        for samples in cases.values()], np.float64),
        **_describe_patients(cases))


def write_risks(file: str | Path, table: PatientRisks) -> None:
    """Write risks, whole or not at all.

    The columns are ``case_id, survival_months, censorship`` (1 = the death was
    not observed), ``risk, modalities`` and ``slides`` (joined by semicolons).
    """
    write_csv(file, [*RISK_COLUMNS, *EXTRA_COLUMNS], [[
        case, f'{months:.9g}', int(not event), f'{risk:.9g}', modalities,
        SEPARATOR.join(slides)
    ] for case, months, event, risk, modalities, slides in zip(
        table.case_ids, table.months, table.events, table.risks,
        table.modalities, table.slides, strict=True)])


def read_risks(file: str | Path) -> PatientRisks:
    """Read what :func:`write_risks` wrote; modalities and slides may lack."""
    located = read_located_rows(file, RISK_COLUMNS, 'table of risks')
    rows = [row for _, row in located]
    wrong = {row['censorship'] for row in rows} - {'0', '1'}
    if wrong:
        raise ValueError(f'{file}: censorship must be 0 or 1, got '
                         f'{sorted(wrong)}')
    months, risks = (np.array([known_number(where, name, row[name])
                               for where, row in located])
                     for name in ('survival_months', 'risk'))
    return PatientRisks(
        months=months, risks=risks,
        events=np.array([row['censorship'] == '0' for row in rows]),
        **_read_patients(rows, file))


def check_unique(case_ids: Sequence[str], file: str | Path) -> None:
    """Raise a ValueError if a table names a patient twice."""
    if len(set(case_ids)) < len(case_ids):
        twice = next(case for case in case_ids if case_ids.count(case) > 1)
        raise ValueError(f'{file} has case {twice} more than once')


def _group_by_patient(results: Sequence[Mapping], keys: Sequence[str],
                      what: str) -> dict[str, list[Mapping]]:
    """Sort samples by patient, all of whom agree in some keys."""
    cases: dict[str, list[Mapping]] = {}
    for result in results:
        cases.setdefault(result['case_id'], []).append(result)
    for case, samples in cases.items():
        values = sorted({itemgetter(*keys)(sample) for sample in samples})
        if len(values) > 1:
            raise ValueError(f'the samples of case {case} have different '
                             f'{what}: {values}')
    return cases


def _describe_patients(cases: Mapping[str, Sequence[Mapping]]) -> dict:
    """Name patients, and what the answers on them are made of."""
    return dict(case_ids=list(cases),
                modalities=[' | '.join(dict.fromkeys(sample['modalities']
                                                     for sample in samples))
                            for samples in cases.values()],
                slides=[tuple(dict.fromkeys(name for sample in samples
                                            for name in sample['slides']))
                        for samples in cases.values()])


def _read_patients(rows: Sequence[Mapping[str, str]],
                   file: str | Path) -> dict:
    """Read what :func:`_describe_patients` gave."""
    case_ids = [row['case_id'] for row in rows]
    check_unique(case_ids, file)
    return dict(
        case_ids=case_ids,
        modalities=[row.get('modalities', '') for row in rows],
        slides=[tuple(name for name in row.get('slides', '').split(SEPARATOR)
                      if name) for row in rows])
