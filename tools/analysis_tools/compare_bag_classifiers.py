"""Cross-validate many bag classifiers of a small cohort within minutes.

    python tools/analysis_tools/compare_bag_classifiers.py \
        configs/mil/small/*_musk1.py --folds data/musk1/folds

For each config the model, optimiser, batch size and epochs are taken from it
and trained in a plain loop over bags that are held in memory, without logs,
checkpoints or hooks, which take most of the time of tiny models. Use
tools/cross_validate.py for all else: a config with a schedule of the rate,
with genes (their scale is fitted by a hook) or with a random pipeline is
refused. Nothing is chosen by the validation patients of a fold; with
--train-on-val they train, too.
"""

import argparse
import copy
import csv
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from mmmedmask.util.command_line import add_config_options

# Pipelines of data that are the same in every epoch.
FIXED = ('mmmedmask.LoadSlideFeatures', 'mmmedmask.PackSlideOmicInputs')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', help='config files')
    parser.add_argument(
        '--folds', required=True, type=Path,
        help='folder with splits_0.csv, splits_1.csv, ...')
    parser.add_argument(
        '--draw', type=int, metavar='K',
        help='draw K folds of the cohort into --folds first, as '
        'tools/cross_validate.py does')
    parser.add_argument(
        '--train-on-val', action='store_true',
        help="train on the folds' validation patients, too")
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--out', type=Path, help='csv of all folds')
    add_config_options(parser, 'override settings of all configs')
    return parser.parse_args(argv)


def check_config(config, path: str) -> None:
    """Raise a ValueError if a plain loop would train something else."""
    if config.get('param_scheduler'):
        raise ValueError(f'{path} has a param_scheduler, which this loop has '
                         'not: use tools/cross_validate.py')
    dataset = config.train_dataloader.dataset
    if tuple(dataset.modalities) != ('slides', ):
        raise ValueError(f'{path} has the modalities '
                         f"{list(dataset.modalities)}, expected ['slides']")
    other = [one.type for one in dataset.pipeline if one.type not in FIXED]
    if other:
        raise ValueError(f'{path} has the transforms {other}; a loop over '
                         f'bags in memory has {list(FIXED)} alone')


def load_bags(dataset: dict, splits: list[str]) -> list[dict]:
    """Read the bags of some splits, in the order of the cohort."""
    from mmmedmask.registry import DATASETS

    bags = []
    for split in splits:
        built = DATASETS.build({**dataset, 'split': split})
        bags += [built[place] for place in range(len(built))]
    return sorted(bags, key=lambda bag: bag['data_samples'].case_id)


def present_splits(path: Path) -> set[str]:
    """Splits that a file of a fold names somebody in."""
    with path.open(newline='', encoding='utf-8') as file:
        return {split for line in csv.DictReader(file)
                for split in ('train', 'val', 'test') if line.get(split)}


def train_and_test(config, fold: Path, seed: int,
                   train_on_val: bool) -> tuple:
    """Train on a fold and test on its patients.

    Returns:
        Classes (N, ) and probabilities (N, K) of its test patients, arrays.
    """
    import torch
    from mmengine.dataset import pseudo_collate
    from mmengine.optim import build_optim_wrapper

    from mmmedmask.apis.cross_validation import set_fold
    from mmmedmask.registry import MODELS

    config = copy.deepcopy(config)
    set_fold(config, fold)
    use = ['train']
    if train_on_val and 'val' in present_splits(fold):
        use.append('val')
    train = load_bags(config.train_dataloader.dataset, use)
    test = load_bags(config.test_dataloader.dataset, ['test'])
    torch.manual_seed(seed)
    model = MODELS.build(config.model)
    model.init_weights()
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    generator = torch.Generator().manual_seed(seed)
    size = config.train_dataloader.batch_size
    model.train()
    for _ in range(config.train_cfg.max_epochs):
        order = torch.randperm(len(train), generator=generator).tolist()
        for start in range(0, len(order), size):
            batch = pseudo_collate(
                [train[place] for place in order[start:start + size]])
            batch = model.data_preprocessor(batch, True)
            losses = model(**batch, mode='loss')
            optimizer.update_params(sum(
                loss for name, loss in losses.items() if 'loss' in name))
    model.eval()
    with torch.no_grad():
        found = model.test_step(pseudo_collate(test))
    labels = torch.cat([one.gt_label for one in found])
    scores = torch.stack([one.pred_score for one in found])
    return labels.numpy(), scores.numpy()


def main(argv: Sequence[str] | None = None) -> None:
    """Train all configs on all folds and print a table."""
    args = parse_args(argv)

    import numpy as np
    import torch

    import mmmedmask.datasets
    import mmmedmask.datasets.transforms
    import mmmedmask.models  # noqa: F401
    from mmmedmask.apis.cross_validation import find_folds
    from mmmedmask.apis.fold_results import draw_cohort_folds
    from mmmedmask.config_files import load_config
    from mmmedmask.evaluation.classification_scores import (
        classification_scores,
    )

    torch.set_num_threads(args.threads)
    logging.disable(logging.WARNING)
    try:
        if args.draw is not None:
            draw_cohort_folds(args.configs[0], args.cfg_options, args.folds,
                              args.draw, 0, False)
        folds = find_folds(args.folds)
        configs = {path: load_config(path, args.cfg_options)
                   for path in args.configs}
        for path, config in configs.items():
            check_config(config, path)
    except (OSError, ValueError) as error:
        raise SystemExit(f'compare_bag_classifiers.py: {error}') from None
    print('| config | right | accuracy | AUC | CPU s |\n|---|---|---|---|---|',
          flush=True)
    rows = []
    for path, config in configs.items():
        start = time.process_time()
        right = total = 0
        first = len(rows)
        for seed in args.seeds:
            for number, fold in folds.items():
                labels, scores = train_and_test(
                    config, fold, 100 * seed + number, args.train_on_val)
                values = classification_scores(labels, scores)
                right += int((scores.argmax(axis=1) == labels).sum())
                total += len(labels)
                rows.append(dict(
                    config=Path(path).stem, seed=seed, fold=number,
                    accuracy=values['top1'], auc=values.get('auc')))
        cells = []
        for name in ('accuracy', 'auc'):
            told = [row[name] for row in rows[first:]
                    if row[name] is not None]
            cells.append(f'{np.mean(told):.3f} ± {np.std(told, ddof=1):.3f}'
                         if len(told) > 1 else '-')
        print(f'| {Path(path).stem} | {right} / {total} | {cells[0]} | '
              f'{cells[1]} | {time.process_time() - start:.0f} |', flush=True)
    if args.out is not None:
        with args.out.open('w', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, list(rows[0]),
                                    lineterminator='\n')
            writer.writeheader()
            writer.writerows(rows)


if __name__ == '__main__':
    main()
