"""Draw the folds of a config's cohort; tabulate what they gave."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mmmedmask.apis.cross_validation import SCORES_FILE, CrossValidation
from mmmedmask.apis.fold_stages import find_datasets
from mmmedmask.config_files import load_config
from mmmedmask.datasets.slides.cohort import (
    draw_folds,
    read_cohort,
    write_folds,
)
from mmmedmask.evaluation.fold_table import (
    Row,
    classification_rows,
    markdown_table,
    spread_rows,
    survival_rows,
    write_rows,
)
from mmmedmask.evaluation.patient_tables import (
    PATIENTS_FILE,
    RISKS_FILE,
    read_patients,
    read_risks,
)


def draw_cohort_folds(config_file: str | Path,
                      options: Mapping[str, Any] | None,
                      folder: str | Path,
                      num_folds: int,
                      seed: int = 0,
                      by_site: bool = False) -> None:
    """Draw folds of the cohort that a config trains on.

    Args:
        config_file: The config.
        options: Dotted key to value, see :func:`~mmmedmask.apis.\
load_config`; those for single stages do not count.
        folder: Where the split files go.
        num_folds: Number of folds.
        seed: Seed of the draw.
        by_site: Whether patients of a site stay together.

    Raises:
        FileExistsError: If the folder has splits that differ.
        ValueError: If the cohort cannot be divided so.
    """
    options = {key: value for key, value in (options or {}).items()
               if ':' not in key}
    config = load_config(config_file, options)
    trained = [dataset for where, dataset in find_datasets(config)
               if where[0] == 'train_dataloader']
    if not trained:
        raise ValueError(f'{config_file} trains on no cohort')
    dataset = trained[0]
    ann_file = Path(dataset.get('data_root') or '') / dataset['ann_file']
    label_column = dataset.get('label_column', 'label')
    cases = read_cohort(ann_file, label_column)
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is not None:
        # The data set says what to do with others.
        cases = [case for case in cases if case.label in classes]
    folds = draw_folds(cases, num_folds, seed, by_site)
    write_folds(folder, folds, dict(
        cohort=ann_file.name, label_column=label_column, seed=seed,
        by_site=by_site))


def tabulate_folds(validation: CrossValidation) -> str:
    """Make one table of all folds, and write it.

    Args:
        validation: The cross-validation, all its folds tested.

    Returns:
        The table as Markdown; it is in ``results.md`` of its folder, too,
        and with all digits in ``results.csv``.

    Raises:
        ValueError: If folds do not fit each other.
    """
    runs = validation.runs()
    folders = {run: validation.test_dir(*run) for run in runs}
    if all((folder / PATIENTS_FILE).is_file() for folder in folders.values()):
        rows = classification_rows({
            run: read_patients(folder / PATIENTS_FILE)
            for run, folder in folders.items()})
    elif all((folder / RISKS_FILE).is_file() for folder in folders.values()):
        rows = survival_rows({run: read_risks(folder / RISKS_FILE)
                              for run, folder in folders.items()})
    else:
        print_log(f'The folds have no {PATIENTS_FILE} '
                  f'(mmmedmask.SlideClassification) and no {RISKS_FILE} '
                  '(mmmedmask.SurvivalConcordance): no pooled scores.')
        rows = [Row(seed, f'fold {fold}', None, json.loads(
            (folders[seed, fold] / SCORES_FILE).read_text(encoding='utf-8')))
                for seed, fold in runs]
        rows += spread_rows(rows)
    folder = Path(validation.work_dir)
    table = markdown_table(rows)
    (folder / 'results.md').write_text(table + '\n', encoding='utf-8')
    write_rows(folder / 'results.csv', rows)
    return table
