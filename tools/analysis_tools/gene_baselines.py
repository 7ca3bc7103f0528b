"""Logistic regression and random forest on the genes of a config's cohort.

    python tools/analysis_tools/gene_baselines.py CONFIG --folds splits/brca

The rivals of gene encoders: on the folds of tools/cross_validate.py, on the
genes that the config's data sets give, scaled by the training patients alone
as GeneStatsHook does, with the same scores. Training patients train, and
validation patients are not used: nothing is chosen. OUT has a folder for each
baseline with results.md, results.csv and each fold's patients.csv, as
tools/analysis_tools/compare_predictions.py reads them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmmedmask.util.command_line import add_config_options

# Fixed, not tuned: a weak ridge, as many features make a fit exact.
RIDGE_C = 0.01
TREES = 500


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config whose data sets have genes')
    parser.add_argument(
        '--folds', required=True, type=Path,
        help='folder with splits_0.csv, splits_1.csv, ...')
    parser.add_argument(
        '--out', type=Path,
        help='folder for the results; default: '
        'work_dirs/<config>_gene_baselines')
    parser.add_argument('--seed', type=int, default=0, help='of the forest')
    parser.add_argument(
        '--jobs', type=int, default=1, help='processes of the forest')
    add_config_options(parser, 'override settings of the config')
    return parser.parse_args(argv)


def make_baselines(seed: int, jobs: int) -> dict:
    """Give an unfitted classifier for each baseline."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    return {
        'logistic_regression': LogisticRegression(C=RIDGE_C, max_iter=2000),
        'random_forest': RandomForestClassifier(
            TREES, random_state=seed, n_jobs=jobs),
    }


def read_part(dataset, scale):
    """Read a data set's patients that have genes.

    Args:
        dataset: A ``SlideOmicDataset``.
        scale: The scale of its genes, a ``GeneScale``.

    Returns:
        Names, scaled genes (N, G) and labels (N, ).
    """
    import numpy as np
    import torch

    infos = [dataset.get_data_info(place) for place in range(len(dataset))]
    infos = [info for info in infos if info['expression'] is not None]
    genes = torch.from_numpy(np.stack([info['expression'] for info in infos]))
    return ([info['case_id'] for info in infos], scale(genes).numpy(),
            np.array([info['gt_label'] for info in infos]))


def run_fold(config, split_file: Path, args) -> dict:
    """Fit all baselines on a fold and predict its test patients."""
    import numpy as np

    from mmmedmask.evaluation.patient_tables import PatientPredictions
    from mmmedmask.experiments.fold_axis import set_fold
    from mmmedmask.models.slide_omic import GeneScale
    from mmmedmask.registry import DATASETS

    set_fold(config, split_file)
    train, test = (DATASETS.build(config[f'{name}_dataloader'].dataset)
                   for name in ('train', 'test'))
    if train.gene_ids != test.gene_ids:
        raise ValueError(
            f'training and test have other genes ({len(train.gene_ids)} and '
            f'{len(test.gene_ids)}): give both data sets one gene_list')
    scale = GeneScale()
    scale.set(train.fit_gene_scale())
    _, genes, labels = read_part(train, scale)
    names, test_genes, test_labels = read_part(test, scale)
    classes = train.metainfo['classes']
    results = {}
    for name, model in make_baselines(args.seed, args.jobs).items():
        model.fit(genes, labels)
        scores = np.zeros((len(names), len(classes)))
        scores[:, model.classes_] = model.predict_proba(test_genes)
        results[name] = PatientPredictions(
            names, test_labels, scores, classes, ['genes'] * len(names),
            [()] * len(names))
    return results


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)

    from mmmedmask.config_files import load_config
    from mmmedmask.evaluation.fold_table import (
        classification_rows,
        markdown_table,
        write_rows,
    )
    from mmmedmask.evaluation.patient_tables import (
        PATIENTS_FILE,
        write_patients,
    )
    from mmmedmask.experiments.fold_axis import find_folds

    out = args.out or Path(
        'work_dirs', f'{Path(args.config).stem}_gene_baselines')
    try:
        folds = {
            (None, fold): run_fold(
                load_config(args.config, args.cfg_options), path, args)
            for fold, path in find_folds(args.folds).items()
        }
    except (OSError, ValueError) as error:
        raise SystemExit(f'gene_baselines.py: {error}') from None
    for name in make_baselines(args.seed, args.jobs):
        runs = {run: results[name] for run, results in folds.items()}
        for (_, fold), predictions in runs.items():
            folder = out / name / f'fold_{fold}' / 'test'
            folder.mkdir(parents=True, exist_ok=True)
            write_patients(folder / PATIENTS_FILE, predictions)
        rows = classification_rows(runs)
        table = markdown_table(rows)
        (out / name / 'results.md').write_text(table + '\n',
                                               encoding='utf-8')
        write_rows(out / name / 'results.csv', rows)
        print(f'{name}\n\n{table}\n')
    print(f'results.md and results.csv are in {out}')


if __name__ == '__main__':
    main()
