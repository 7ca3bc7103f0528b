"""Classifiers of the genes of a config's cohort, on folds, side by side.

    python tools/analysis_tools/gene_baselines.py CONFIG --folds splits/brca \
        --encoders SNN.py GROUPMSA.py --seeds 0 1 2 --clusters 32

Logistic regression and random forest, and the gene encoders of other
configs: on the folds of tools/cross_validate.py, on the genes that CONFIG's
data sets give, scaled by the training patients alone as GeneStatsHook does,
with the same scores. Training patients train, and validation patients are not
used: nothing is chosen. An encoder is trained as those that
CrossFittedGenesHook makes, with the epochs, the batch and the learning rate of
its config. --clusters adds each GroupMSA without gene sets once more, with
sets of correlated genes of the fold's training patients. OUT has a folder for
each row with results.md, results.csv and each fold's patients.csv, as
tools/analysis_tools/compare_predictions.py reads them, and all in table.csv.
They replace all folds that an earlier call has written of the row.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmmedmask.util.command_line import add_config_options, output_folder
from mmmedmask.util.run_tool import run_tool

# Fixed, not tuned: a weak ridge, as many features make a fit exact.
RIDGE_C = 0.01
TREES = 500
# Scores in table.csv.
TABLE = ('auc', 'balanced_accuracy', 'accuracy')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config whose data sets have genes')
    parser.add_argument('--folds', required=True, type=Path,
                        help='folder with splits_0.csv, splits_1.csv, ...')
    parser.add_argument(
        '--encoders', nargs='+', default=[], metavar='CONFIG',
        help='configs whose model.gene_encoder is trained, too')
    parser.add_argument('--clusters', type=int, metavar='SETS',
                        help='number of sets of correlated genes for GroupMSA')
    parser.add_argument('--out', type=output_folder, help='folder for the '
                        'results; default: work_dirs/<config>_gene_baselines')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0],
                        help='of the forest and the encoders')
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
            TREES, random_state=seed, n_jobs=jobs)}


class FittedEncoder:
    """A gene encoder with the interface of scikit-learn's classifiers."""

    def __init__(self, config, seed: int, clusters: int | None) -> None:
        self.encoder = dict(config.model.gene_encoder)
        self.encoder.pop('init_cfg', None)
        self.fitting = dict(max_epochs=config.train_cfg.max_epochs,
                            batch_size=config.train_dataloader.batch_size,
                            base_lr=config.optim_wrapper.optimizer.lr,
                            weight_decay=config.optim_wrapper.optimizer.get(
                                'weight_decay', 0.01))
        self.seed = seed
        self.clusters = clusters

    def fit(self, genes, labels) -> 'FittedEncoder':
        """Train on scaled genes (N, G) and labels (N, )."""
        import torch

        from mmmedmask.apis.gene_clusters import cluster_genes
        from mmmedmask.models.gimp import cross_fitting
        torch.manual_seed(self.seed)
        encoder = dict(self.encoder)
        if self.clusters:
            encoder['gene_sets'] = cluster_genes(genes, self.clusters)
        self.model = cross_fitting.new_encoder(encoder)
        self.classes_ = sorted(set(labels.tolist()))
        self.head = cross_fitting.fit_encoder(
            self.model, torch.from_numpy(genes), torch.from_numpy(labels),
            generator=torch.Generator().manual_seed(self.seed), **self.fitting)
        return self

    def predict_proba(self, genes):
        """Probabilities (N, C)."""
        import torch
        with torch.no_grad():
            logits = self.head(self.model(torch.from_numpy(genes)))
        return logits.softmax(dim=1)[:, self.classes_].numpy()


def make_rivals(args, encoders: dict, seed: int) -> dict:
    """Give an unfitted classifier for each row of the table."""
    rivals = make_baselines(seed, args.jobs)
    for name, config in encoders.items():
        rivals[name] = FittedEncoder(config, seed, None)
        kind = config.model.gene_encoder
        if args.clusters and kind.type.endswith('GroupMSA') \
                and kind.get('gene_sets') is None:
            rivals[f'{name}_clusters'] = FittedEncoder(
                config, seed, args.clusters)
    return rivals


def run_fold(config, split_file: Path, args, encoders: dict) -> dict:
    """Fit all rows on a fold, for all seeds, and predict its test patients."""
    import numpy as np

    from mmmedmask.engine.gene_matrix import fit_gene_scale, read_genes
    from mmmedmask.evaluation.patient_tables import PatientPredictions
    from mmmedmask.experiments.fold_axis import set_fold
    from mmmedmask.registry import DATASETS
    set_fold(config, split_file)
    train, test = (DATASETS.build(config[f'{name}_dataloader'].dataset)
                   for name in ('train', 'test'))
    if train.gene_ids != test.gene_ids:
        raise ValueError(
            f'training and test have other genes ({len(train.gene_ids)} and '
            f'{len(test.gene_ids)}): give both data sets one gene_list')
    scale = fit_gene_scale(config, train)
    _, genes, labels = read_genes(train, scale)
    names, test_genes, test_labels = read_genes(test, scale)
    classes = train.metainfo['classes']
    results = {}
    for seed in args.seeds:
        for name, model in make_rivals(args, encoders, seed).items():
            model.fit(genes.numpy(), labels.numpy())
            scores = np.zeros((len(names), len(classes)))
            scores[:, model.classes_] = model.predict_proba(test_genes.numpy())
            results[name, seed] = PatientPredictions(
                names, test_labels.numpy(), scores, classes,
                ['genes'] * len(names), [()] * len(names))
    return results


def remove_folds(row: Path, patients_file: str) -> None:
    """Remove what an earlier call has written of the folds of a row."""
    for depth in ('', 'seed_*/'):
        for file in [*row.glob(f'{depth}fold_*/test/{patients_file}')]:
            file.unlink()
            for folder in file.relative_to(row).parents[:-1]:
                if not any((row / folder).iterdir()):
                    (row / folder).rmdir()


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)

    from mmmedmask.config_files import load_config
    from mmmedmask.evaluation import fold_table
    from mmmedmask.evaluation.patient_tables import (
        PATIENTS_FILE,
        write_patients,
    )
    from mmmedmask.experiments.fold_axis import find_folds
    from mmmedmask.util.atomic_files import write_csv, write_text
    from mmmedmask.util.checks import check_names_differ
    out = args.out or Path(
        'work_dirs', f'{Path(args.config).stem}_gene_baselines')
    try:
        paths = map(Path, args.encoders)
        encoders = {name: load_config(path) for name, path in
                    check_names_differ([(path.stem, path) for path in paths],
                                       'each needs a row of its own').items()}
        folds = {}
        for fold, path in find_folds(args.folds).items():
            folds[fold] = run_fold(load_config(args.config, args.cfg_options),
                                   path, args, encoders)
            print(f'fold {fold} is done', flush=True)
    except (OSError, ValueError) as error:
        raise SystemExit(f'gene_baselines.py: {error}') from None
    seeds = args.seeds if len(args.seeds) > 1 else [None]
    table = []
    for name in dict.fromkeys(name for name, _ in folds[min(folds)]):
        runs = {(seed, fold): results[
                    name, args.seeds[0] if seed is None else seed]
                for seed in seeds for fold, results in folds.items()}
        remove_folds(out / name, PATIENTS_FILE)
        for (seed, fold), predictions in runs.items():
            folder = out / name / ('' if seed is None else f'seed_{seed}') / (
                f'fold_{fold}') / 'test'
            folder.mkdir(parents=True, exist_ok=True)
            write_patients(folder / PATIENTS_FILE, predictions)
        rows = fold_table.classification_rows(runs)
        text = fold_table.markdown_table(rows)
        write_text(out / name / 'results.md', f'{text}\n')
        fold_table.write_rows(out / name / 'results.csv', rows)
        table += [[name, '' if row.seed is None else row.seed, row.name,
                   *(f'{row.scores[key]:.4f}' if key in row.scores else ''
                     for key in TABLE)] for row in rows]
        print(f'{name}\n\n{text}\n')
    write_csv(out / 'table.csv', ['row', 'seed', 'run', *TABLE], table)
    print(f'results.md and results.csv are in {out}')


if __name__ == '__main__':
    run_tool(main)
