"""Cross-validate many bag classifiers of a small cohort within minutes.

    python tools/analysis_tools/compare_bag_classifiers.py \
        configs/mil/small/*_musk1.py --folds data/musk1/folds

For each config the model, optimiser, batch size and epochs are taken from it
and trained in a plain loop over bags that are held in memory, without logs,
checkpoints or hooks, which take most of the time of tiny models. Use
tools/cross_validate.py for all else: a config with a schedule of the rate,
with genes (their scale is fitted by a hook) or with a random pipeline is
refused. Nothing is chosen by the validation patients of a fold; with
--train-on-val they train, too. Runs have folders in --work-dir as those of
tools/cross_validate.py; what is done is not done again.
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mmmedmask.util.command_line import add_config_options
from mmmedmask.util.table_files import read_table

TOOLS = Path(__file__).resolve().parents[1]
# Pipelines of data that are the same in every epoch.
FIXED = ('mmmedmask.LoadSlideFeatures', 'mmmedmask.LoadExpression',
         'mmmedmask.PackSlideOmicInputs')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', help='config files')
    parser.add_argument('--folds', required=True, type=Path,
                        help='folder with splits_0.csv, splits_1.csv, ...')
    parser.add_argument('--draw', type=int, metavar='K',
                        help='draw K folds of the cohort into --folds first, '
                        'as tools/cross_validate.py does')
    parser.add_argument('--train-on-val', action='store_true',
                        help="train on the folds' validation patients, too")
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--out', type=Path, help='csv of all folds')
    parser.add_argument('--work-dir', type=Path,
                        default=Path('work_dirs/compare_bag_classifiers'),
                        help='folder of all runs (default: %(default)s)')
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
    other = [step.type for step in dataset.pipeline if step.type not in FIXED]
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
    """Splits for which a file of a fold names patients."""
    table = read_table(path)
    return {split for split in ('train', 'val', 'test') if split in table.names
            and any(table.text(table.names.index(split)))}


class PlainLoop:
    """Does the steps of runs on bags in memory."""

    def __init__(self, train_on_val: bool) -> None:
        self.train_on_val = train_on_val

    def __call__(self, run, step, environment, locks) -> None:
        """See :data:`mmmedmask.experiments.run_job.StartStep`."""
        from mmmedmask.config_files import load_config
        from mmmedmask.experiments.fold_axis import set_fold
        config = load_config(run.config_file, run.options)
        fold = Path(run.data[f'splits_{run.fold}.csv'])
        set_fold(config, fold)
        if step.kind == 'train':
            self._train(run, config, fold)
        else:
            self._test(run, config)

    def _train(self, run, config, fold: Path) -> None:
        import torch
        from mmengine.dataset import pseudo_collate
        from mmengine.optim import build_optim_wrapper

        from mmmedmask.registry import MODELS
        start = time.process_time()
        use = ['train']
        if self.train_on_val and 'val' in present_splits(fold):
            use.append('val')
        bags = load_bags(config.train_dataloader.dataset, use)
        seed = 100 * run.seed + run.fold
        torch.manual_seed(seed)
        model = MODELS.build(config.model)
        model.init_weights()
        optimizer = build_optim_wrapper(model, config.optim_wrapper)
        generator = torch.Generator().manual_seed(seed)
        size = config.train_dataloader.batch_size
        model.train()
        for _ in range(config.train_cfg.max_epochs):
            order = torch.randperm(len(bags), generator=generator).tolist()
            for first in range(0, len(order), size):
                batch = pseudo_collate(
                    [bags[place] for place in order[first:first + size]])
                batch = model.data_preprocessor(batch, True)
                losses = model(**batch, mode='loss')
                optimizer.update_params(sum(
                    loss for name, loss in losses.items() if 'loss' in name))
        torch.save(dict(state_dict=model.state_dict(),
                        seconds=time.process_time() - start),
                   run.checkpoint('last'))

    def _test(self, run, config) -> None:
        import torch
        from mmengine.dataset import pseudo_collate

        from mmmedmask.evaluation.classification_scores import (
            classification_scores,
        )
        from mmmedmask.registry import MODELS
        from mmmedmask.util.atomic_files import write_json
        trained = torch.load(run.checkpoint('last'), weights_only=True)
        model = MODELS.build(config.model)
        model.load_state_dict(trained['state_dict'])
        model.eval()
        bags = load_bags(config.test_dataloader.dataset, ['test'])
        with torch.no_grad():
            samples = model.test_step(pseudo_collate(bags))
        labels = torch.cat([sample.gt_label for sample in samples]).numpy()
        scores = torch.stack([sample.pred_score for sample in samples]).numpy()
        values = classification_scores(labels, scores)
        name = time.strftime('%Y%m%d_%H%M%S')
        write_json(run.test_folder('last') / name / f'{name}.json', dict(
            accuracy=values['top1'], auc=values.get('auc'),
            right=int((scores.argmax(axis=1) == labels).sum()),
            patients=len(labels), cpu_seconds=trained['seconds']))


def plan_comparison(args: argparse.Namespace):
    """Plan the runs of all configs, each a table of its own."""
    from mmmedmask.config_files import load_config
    from mmmedmask.experiments.cross_validation import ad_hoc_recipe
    from mmmedmask.experiments.fold_axis import draw_cohort_folds, find_folds
    from mmmedmask.experiments.plan import plan_runs
    options = args.cfg_options or {}
    if args.draw is not None:
        draw_cohort_folds(args.configs[0], options, args.folds, args.draw)
    folds = find_folds(args.folds)
    recipes = []
    for path in args.configs:
        check_config(load_config(path, options), path)
        recipes.append(ad_hoc_recipe([path], options, 'last'))
    # Such a loop trains otherwise than tools/train.py.
    loop = 'loop with val' if args.train_on_val else 'loop'
    return plan_runs(
        [(recipe, recipe.rows) for recipe in recipes], loop, args.work_dir,
        seeds=args.seeds, folds={recipe.name: folds for recipe in recipes})


def summarize(name: str, rows: list[dict]) -> str:
    """Make the line of a config."""
    import numpy as np
    cells = []
    for key in ('accuracy', 'auc'):
        values = [row[key] for row in rows if row.get(key) is not None]
        cells.append(f'{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}'
                     if len(values) > 1 else '-')
    right, total, seconds = (sum(row[key] for row in rows)
                             for key in ('right', 'patients', 'cpu_seconds'))
    return (f'| {name} | {right:.0f} / {total:.0f} | {cells[0]} | '
            f'{cells[1]} | {seconds:.0f} |')


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)

    import torch

    import mmmedmask.datasets
    import mmmedmask.datasets.transforms
    import mmmedmask.models  # noqa: F401
    from mmmedmask.experiments.execute import execute_here
    from mmmedmask.experiments.manifest import read_manifest
    from mmmedmask.util.atomic_files import write_csv
    torch.set_num_threads(args.threads)
    logging.disable(logging.WARNING)
    try:
        plan = plan_comparison(args)
        if execute_here(plan, TOOLS, PlainLoop(args.train_on_val)):
            return 1
    except (OSError, ValueError, RuntimeError) as error:
        raise SystemExit(f'compare_bag_classifiers.py: {error}') from None
    print('| config | right | accuracy | AUC | CPU s |\n|---|---|---|---|---|')
    table = []
    for recipe, _ in plan.tables:
        cells = {axis: cell for (name, _, _, axis), cell in
                 plan.cells.items() if name == recipe.name}
        rows = [read_manifest(cell.run.folder)['results']['last']
                for cell in cells.values()]
        print(summarize(recipe.title, rows))
        table += [(recipe.title, axis.seed, axis.fold, row['accuracy'],
                   row.get('auc')) for axis, row in zip(cells, rows,
                                                        strict=True)]
    if args.out is not None:
        write_csv(args.out, ('config', 'seed', 'fold', 'accuracy', 'auc'),
                  table)
    return 0


if __name__ == '__main__':
    sys.exit(main())
