"""Tabulate classification runs: one row per folder, one run per seed below it.

    python tools/analysis_tools/summarize_classification.py work_dirs/vit-*
    python tools/analysis_tools/summarize_classification.py work_dirs/vit-* \
        --subset data/brain_tumor_mri/splits/clean/val.csv

Reads the newest predictions.csv of every run and prints a Markdown table:
mean, sample standard deviation and number of runs, in points of 100. With
--subset only the images that a split file lists count, so that one set of
predictions answers for the official test set and for the one without copies.

mmmedmask.DiseaseClassification replaces predictions.csv at each evaluation, so
what counts are the weights after the last epoch, not the best of them. To
count a checkpoint that was kept as the best, test it into the same run: that
csv is newer.

    python tools/test.py CONFIG RUN/best_disease_top1_epoch_40.pth \
        --work-dir RUN

Of a run of tools/reproduce.py its test counts, and of two tests that of the
last weights.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from mmmedmask.util.file_walk import find_files
from mmmedmask.util.markdown_tables import markdown, mean_and_spread
from mmmedmask.util.run_tool import run_tool

SCORES = {'top1': 'top-1', 'balanced_accuracy': 'balanced accuracy',
          'auc': 'AUC', 'f1': 'F1', 'kappa': 'kappa'}
TIMESTAMP = re.compile(r'\d{8}_\d{6}')
# What tools/reproduce.py calls the tests of a run, the one that counts last.
TESTS = ('test_best', 'test')


def collect(folder: Path) -> dict[Path, Path]:
    """Find the newest predictions of every run below a folder.

    A run is the folder that holds predictions.csv, or the one above, if that
    is named by its time, as the log folders of MMEngine are. Tests of a run of
    tools/reproduce.py count before its evaluations.
    """
    # Not at the start: it brings the whole stack with it.
    from mmmedmask.experiments.manifest import MANIFEST_FILE
    newest: dict[Path, tuple[int, Path]] = {}
    for path in find_files(folder, 'predictions.csv'):
        run, rank = path.parent, -1
        if TIMESTAMP.fullmatch(run.name):
            run = run.parent
        if run.name in TESTS and (run.parent / MANIFEST_FILE).is_file():
            run, rank = run.parent, TESTS.index(run.name)
        newest[run] = max(newest.get(run, (rank, path)), (rank, path))
    return {run: path for run, (_, path) in newest.items()}


def table(folders: Sequence[Path], subset: Path | None = None,
          graded: bool = False) -> str:
    """Make the Markdown table, with one folder per row."""
    from mmmedmask.evaluation import predictions
    from mmmedmask.evaluation.classification_scores import (
        classification_scores,
    )
    names = [name for name in SCORES if graded or name != 'kappa']
    rows = [['runs', 'n', 'images', *(SCORES[name] for name in names)]]
    for folder in folders:
        files = collect(folder)
        if not files:
            raise SystemExit(
                f'{folder} holds no predictions.csv; does its config have '
                "val_evaluator = dict(type='mmmedmask.DiseaseClassification')"
                '?')
        runs = [predictions.read_predictions(path) for path in files.values()]
        if subset is not None:
            runs = [predictions.select_listed(run, subset) for run in runs]
        images = {frozenset(run.paths) for run in runs}
        if len(images) > 1:
            raise SystemExit(f'the runs of {folder} were tested on different '
                             'images: name a --subset, or separate folders')
        kappa = 'quadratic' if graded else None
        scores = [classification_scores(run.labels, run.scores, kappa)
                  for run in runs]
        rows.append([folder.name, str(len(runs)), str(len(runs[0].paths)),
                     *(mean_and_spread([run.get(name) for run in scores])
                       for name in names)])
    return markdown(rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folders', nargs='+', type=Path)
    parser.add_argument(
        '--subset', type=Path,
        help='csv with the columns path and label: count only its images')
    parser.add_argument(
        '--graded', action='store_true',
        help='classes are grades in their order: add the quadratic kappa')
    args = parser.parse_args(argv)
    try:
        print(table(args.folders, args.subset, args.graded))
    except (OSError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error


if __name__ == '__main__':
    run_tool(main)
