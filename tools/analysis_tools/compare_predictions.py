"""Compare two classifiers on the same patients: McNemar and DeLong.

    python tools/analysis_tools/compare_predictions.py \
        work_dirs/abmil/20260101_000000/patients.csv \
        work_dirs/transmil/20260102_000000/patients.csv
    python tools/analysis_tools/compare_predictions.py \
        work_dirs/gimp_5fold work_dirs/transmil_5fold

Reads what mmmedmask.SlideClassification wrote on both, or all folds of two
cross-validations on the same cohort, pairs the patients by case_id and prints
a Markdown table: accuracy with McNemar's exact test, and AUC with DeLong's
test (with more than two classes of each class against the rest, p values not
corrected for their number). Patients or labels that differ are an error.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmmedmask.util.markdown_tables import markdown
from mmmedmask.util.run_tool import run_tool

if TYPE_CHECKING:
    from mmmedmask.evaluation.patient_tables import PatientPredictions


def load(source: Path) -> 'PatientPredictions':
    """Read a csv, or ``fold_0/test/patients.csv`` and so on of a folder."""
    from mmmedmask.evaluation.patient_tables import (
        PATIENTS_FILE,
        join_patients,
        read_patients,
    )
    if (source / PATIENTS_FILE).is_file():
        source = source / PATIENTS_FILE
    if not source.is_dir():
        return read_patients(source)
    files = sorted(source.glob(f'fold_*/test/{PATIENTS_FILE}'))
    if not files:
        raise ValueError(
            f'{source} has no fold_*/test/{PATIENTS_FILE} and no '
            f'{PATIENTS_FILE}: name the csv of a run, or the work dir of '
            'tools/cross_validate.py (with several seeds its seed_S)')
    return join_patients([read_patients(file) for file in files], source)


def table(first: 'PatientPredictions', second: 'PatientPredictions') -> str:
    """Make the Markdown table of two predictions on the same patients."""
    from mmmedmask.evaluation.classification_scores import class_ranking
    from mmmedmask.evaluation.paired_tests import delong, exact_mcnemar
    labels, number = first.labels, len(first.labels)
    right = [given.scores.argmax(axis=1) == labels
             for given in (first, second)]
    ranks = [class_ranking(given.scores) for given in (first, second)]
    test = exact_mcnemar(*right)
    rows = [['score', 'first', 'second', 'difference', '95 % interval',
             'p', 'test'],
            ['accuracy', *(f'{100 * share.mean():.1f}' for share in right),
             f'{100 * (right[0].mean() - right[1].mean()):+.1f}', '',
             f'{test.p_value:.3g}', "McNemar's, exact"]]
    # With two classes, one against the other says all.
    for index in range(1 if len(first.classes) == 2 else 0,
                       len(first.classes)):
        name = f'AUC {first.classes[index]}'
        positive = labels == index
        if not 2 <= positive.sum() <= number - 2:
            rows.append([name, '–', '–', '–', '', '–',
                         f'{positive.sum()} of {number} patients'])
            continue
        area = delong(positive, *(given[:, index] for given in ranks))
        rows.append([
            name, f'{100 * area.first:.1f}', f'{100 * area.second:.1f}',
            f'{100 * area.difference:+.1f}',
            f'[{100 * area.low:+.1f}, {100 * area.high:+.1f}]',
            '–' if math.isnan(area.p_value) else f'{area.p_value:.3g}',
            "DeLong's"])
    both = int((right[0] & right[1]).sum())
    return (f'{markdown(rows)}\n\n{number} patients: {test.only_first} only '
            f'the first gets right, {test.only_second} only the second, '
            f'{both} both.')


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ('first', 'second'):
        parser.add_argument(
            name, type=Path,
            help='patients.csv, or the work dir of a cross-validation')
    args = parser.parse_args(argv)

    from mmmedmask.evaluation.paired_tests import pair_patients
    try:
        first, second = load(args.first), load(args.second)
        second = pair_patients(first, second,
                               (str(args.first), str(args.second)))
        print(table(first, second))
    except (OSError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error


if __name__ == '__main__':
    run_tool(main)
