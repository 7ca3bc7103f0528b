"""Folds as an axis of runs: split files, and who may read which split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmedmask.config_files import load_config
from mmmedmask.experiments.config_content import (
    SLIDE_OMIC_DATASET,
    find_datasets,
    move_data,
)
from mmmedmask.experiments.schema import DATA_PREFIX
from mmmedmask.util.file_walk import match_paths


def find_folds(folder: str | Path,
               select: list[int] | None = None) -> dict[int, Path]:
    """Find ``splits_0.csv`` and so on in a folder, all or the wanted ones."""
    folds: dict[int, Path] = {}
    for path in match_paths(Path(folder), 'splits_*.csv'):
        number = path.stem.removeprefix('splits_')
        if number.isascii() and number.isdigit():
            other = folds.setdefault(int(number), path)
            if other != path:
                raise ValueError(f'{folder} has {other.name} and {path.name}: '
                                 f'one of them can be fold {int(number)}')
    if not folds:
        raise FileNotFoundError(
            f'{folder} has no splits_0.csv, splits_1.csv, ...: draw folds, '
            'or name the folder that has them')
    unknown = sorted(set(select or ()) - set(folds))
    if unknown:
        raise ValueError(f'the folds {unknown} are not among those of '
                         f'{folder}, which are {sorted(folds)}')
    return {fold: folds[fold].resolve() for fold in sorted(select or folds)}


def fold_options(config: Config, split_file: str | Path) -> dict[str, str]:
    """Options that let all data sets of a config read the split of a fold.

    A ValueError if there is no slide-omic data set, or if one would read other
    patients than its loader is for: those of the fold's test split are for
    testing alone.
    """
    datasets = find_datasets(config)
    if not datasets:
        raise ValueError(f'{config.filename} has no {SLIDE_OMIC_DATASET}: '
                         'folds are split files of cohorts')
    for where, dataset in datasets:
        key, split = '.'.join(where), dataset.get('split')
        wanted, _, kind = where[0].partition('_')
        if kind == 'dataloader':
            if split != wanted:
                raise ValueError(f'{key} of {config.filename} must have '
                                 f'split={wanted!r} with folds, got {split!r}')
        elif split not in ('train', 'val'):
            raise ValueError(
                f"{key} of {config.filename} must have split='train' or "
                f"'val', got {split!r}: test patients are for testing alone")
    return {'.'.join((*where, 'split_file')): str(split_file)
            for where, _ in datasets}


def set_fold(config: Config, split_file: str | Path) -> None:
    """Set :func:`fold_options` in a config, in place."""
    config.merge_from_dict(fold_options(config, split_file))


def draw_cohort_folds(config_file: str | Path,
                      options: Mapping[str, Any] | None, folder: str | Path,
                      num_folds: int, seed: int = 0,
                      by_site: bool = False,
                      data_root: str | Path = DATA_PREFIX) -> None:
    """Draw folds of the cohort that a config trains on.

    ``options`` for single stages do not count; ``data_root`` is the folder
    instead of ``data/``. A FileExistsError if ``folder`` has splits that
    differ.
    """
    # It imports all data sets.
    from mmmedmask.datasets.slides.cohort import read_cohort
    from mmmedmask.datasets.slides.folds import draw_folds, write_folds
    options = {key: value for key, value in (options or {}).items()
               if ':' not in key}
    config = load_config(config_file, options)
    dataset = next((dataset for where, dataset in find_datasets(config)
                    if where[0] == 'train_dataloader'), None)
    if dataset is None:
        raise ValueError(f'{config_file} trains on no cohort')
    ann_file = Path(move_data(str(Path(
        dataset.get('data_root') or '', dataset['ann_file'])), data_root))
    label_column = dataset.get('label_column', 'label')
    cases = read_cohort(ann_file, label_column)
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is not None:
        # The data set says what to do with others.
        cases = [case for case in cases if case.label in classes]
    try:
        folds = draw_folds(cases, num_folds, seed, by_site)
    except ValueError as error:
        raise ValueError(f'--draw {num_folds}: {error}') from None
    write_folds(folder, folds, dict(
        cohort=ann_file.name, label_column=label_column, seed=seed,
        by_site=by_site))
