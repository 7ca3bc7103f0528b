"""One table of a cross-validation: folds, their spread, and all patients."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmmedmask.evaluation.classification_scores import (
    CALIBRATION_BINS,
    bootstrap_scores,
    classification_scores,
    percentile_interval,
)
from mmmedmask.evaluation.patient_tables import (
    PatientPredictions,
    PatientRisks,
)
from mmmedmask.evaluation.survival_scores import (
    bootstrap_concordance,
    concordance,
)
from mmmedmask.util.atomic_files import write_csv
from mmmedmask.util.markdown_tables import markdown

TITLES = {
    'balanced_accuracy': 'balanced accuracy', 'auc': 'AUC', 'f1': 'F1',
    'ece': 'ECE', 'c_index': 'C index',
    'slides_hidden/auc': 'AUC, slides hidden',
    'genes_hidden/auc': 'AUC, genes hidden',
    'slides_hidden/c_index': 'C index, slides hidden',
    'genes_hidden/c_index': 'C index, genes hidden'}

_SEED, _RESAMPLES = 0, 1000


@dataclass(frozen=True)
class FoldRow:
    """A line of the table.

    Attributes:
        seed: None where it is of several, or the config's.
        name: ``'fold 0'`` and so on, ``'mean'``, ``'sd'``, ``'pooled'``,
            ``'pooled low'`` or ``'pooled high'``.
        patients: Number of patients tested; None if it says nothing.
        scores: Shares; those that are not defined are missing.
    """

    seed: int | None
    name: str
    patients: int | None
    scores: Mapping[str, float]


def spread_rows(rows: Sequence[FoldRow]) -> list[FoldRow]:
    """Average over folds and seeds the scores that all runs have.

    Gives ``mean`` and, of several runs, ``sd`` (sample standard deviation).
    """
    names = [name for name in rows[0].scores
             if all(name in row.scores for row in rows)]
    values = np.array([[row.scores[name] for name in names] for row in rows])
    spread = dict(mean=values.mean(axis=0))
    if len(rows) > 1:
        spread['sd'] = values.std(axis=0, ddof=1)
    return [FoldRow(None, name, None,
                    dict(zip(names, scores.tolist(), strict=True)))
            for name, scores in spread.items()]


def classification_rows(
        runs: Mapping[tuple[int | None, int], PatientPredictions]
        ) -> list[FoldRow]:
    """Make the table of a cross-validated classifier.

    Pooled scores are those of all patients together, each predicted by the
    model that has not seen them (out of fold), with the 95 % interval of
    resamples of patients. A patient that several folds test (as repeated
    random splits do) counts once per fold, but is drawn as a whole. The
    pooled AUC compares probabilities of different models, which may differ
    in their calibration; the mean AUC does not.

    ``runs`` are predictions on the test patients by seed and fold. Gives rows
    of the runs, ``mean``, ``sd``, and for each seed ``pooled``, ``pooled low``
    and ``pooled high``.
    """
    classes = {run: tuple(table.classes) for run, table in runs.items()}
    first = next(iter(classes), None)
    for (seed, fold), names in classes.items():
        if names != classes[first]:
            raise ValueError(
                f'fold {fold} (seed {seed}) has the classes {names}, fold '
                f'{first[1]} (seed {first[0]}) {classes[first]}')

    def renamed(values: Mapping) -> dict:
        return {('accuracy' if name == 'top1' else name): value
                for name, value in values.items()}

    def score(mine: Sequence[PatientPredictions],
              cases: Sequence[str] | None) -> tuple[dict, dict]:
        labels = np.concatenate([run.labels for run in mine])
        scores = np.concatenate([run.scores for run in mine])
        draws = {} if cases is None else bootstrap_scores(
            labels, scores, _RESAMPLES, _SEED, cases, 'nominal',
            CALIBRATION_BINS)
        return renamed(classification_scores(
            labels, scores, 'nominal', CALIBRATION_BINS)), renamed(draws)

    return _table(runs, score)


def _table(runs: Mapping, score: Callable) -> list[FoldRow]:
    """``score`` gives scores of runs; with their cases, also of resamples."""
    if not runs:
        raise ValueError('there is no fold to summarize')
    rows = [FoldRow(seed, f'fold {fold}', len(run.case_ids),
                    score([run], None)[0])
            for (seed, fold), run in runs.items()]
    rows += spread_rows(rows)
    for seed in dict.fromkeys(seed for seed, _ in runs):
        mine = [run for (other, _), run in runs.items() if other == seed]
        cases = [case for run in mine for case in run.case_ids]
        values, draws = score(mine, cases)
        if not values:
            continue
        bounds = {name: percentile_interval(draws[name]) for name in values
                  if not np.isnan(draws[name]).all()}
        rows.append(FoldRow(seed, 'pooled', len(set(cases)), values))
        rows += [FoldRow(seed, f'pooled {name}', len(set(cases)),
                         {key: pair[place] for key, pair in bounds.items()})
                 for place, name in enumerate(('low', 'high'))]
    return rows


def survival_rows(runs: Mapping[tuple[int | None, int], PatientRisks]
                  ) -> list[FoldRow]:
    """Make the table of a cross-validated survival model.

    The pooled C index compares patients of one fold alone, since the risks
    of two models have no common scale; its interval is that of resamples of
    all patients. Rows are as of :func:`classification_rows`.
    """

    def score(mine: Sequence[PatientRisks],
              cases: Sequence[str] | None) -> tuple[dict, dict]:
        joined = [np.concatenate(parts) for parts in zip(
            *((run.risks, run.months, run.events) for run in mine),
            strict=True)]
        strata = np.repeat(np.arange(len(mine)),
                           [len(run.case_ids) for run in mine])
        value = concordance(*joined, strata)
        if value is None:
            return {}, {}
        draws = {} if cases is None else dict(c_index=bootstrap_concordance(
            *joined, _RESAMPLES, _SEED, cases, strata))
        return dict(c_index=value), draws

    return _table(runs, score)


def add_hidden(rows: Sequence[FoldRow], key: str,
               hidden: Sequence[FoldRow]) -> list[FoldRow]:
    """Put AUC or C index with a modality hidden beside the other scores.

    ``hidden`` are the same rows without the modality; ``key``,
    ``'slides_hidden'`` or ``'genes_hidden'``, begins the scores' names.
    """
    by_name = {(row.seed, row.name): row.scores for row in hidden}
    return [replace(row, scores=row.scores | {
        f'{key}/{name}': value
        for name, value in by_name.get((row.seed, row.name), {}).items()
        if name in ('auc', 'c_index')}) for row in rows]


def markdown_table(rows: Sequence[FoldRow]) -> str:
    """Write the table for people, in points of 100.

    ``mean`` and ``sd`` share a line, and so do ``pooled`` and its bounds.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    seeds = {row.seed for row in rows} - {None}
    lines = [['run', 'patients', *(TITLES.get(name, name) for name in names)]]
    by_name = {(row.seed, row.name): row.scores for row in rows}
    for row in rows:
        if row.name == 'sd' or row.name.startswith('pooled '):
            continue
        extra = [by_name.get((row.seed, name), {})
                 for name in ('sd', 'pooled low', 'pooled high')]
        title = 'mean ± sd' if row.name == 'mean' and extra[0] else row.name
        if len(seeds) > 1 and row.seed is not None:
            title = f'{row.name}, seed {row.seed}'
        lines.append([title, '' if row.patients is None else str(row.patients),
                      *(_cell(row, name, *extra) for name in names)])
    return markdown(lines)


def _cell(row: FoldRow, name: str, spread: Mapping, low: Mapping,
          high: Mapping) -> str:
    if name not in row.scores:
        return '–'
    text = f'{100 * row.scores[name]:.1f}'
    if row.name == 'mean' and name in spread:
        return f'{text} ± {100 * spread[name]:.1f}'
    if row.name == 'pooled' and name in low:
        return f'{text} [{100 * low[name]:.1f}, {100 * high[name]:.1f}]'
    return text


def write_rows(file: str | Path, rows: Sequence[FoldRow]) -> None:
    """Write a csv: ``seed, run, patients`` and scores with all digits."""
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    write_csv(file, ['seed', 'run', 'patients', *names], [[
        '' if row.seed is None else row.seed, row.name,
        '' if row.patients is None else row.patients,
        *(repr(float(row.scores[name])) if name in row.scores else ''
          for name in names)] for row in rows])
