"""Estimate what the training runs of the papers' recipes cost on a GPU.

    python tools/analysis_tools/estimate_runs.py --out docs/results/growth

plans the recipes at scale paper, each run once; counts the operations of a
training step, once for each distinct model and input, with the true model and
drawn data, by torch's counter; times the samples of the run, of the published
sizes of the data; divided by what a GPU is assumed to do: --tflops times a
share of it by kind of network. Takes an hour of a core; --resume FILE keeps
what has been counted. Writes run_costs.csv.
"""

import argparse
import copy
import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarking import format_number

from mmmedmask.util.command_line import output_folder
from mmmedmask.util.markdown_tables import markdown
from mmmedmask.util.run_tool import run_tool

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
# Shares of the peak that training is assumed to reach, not measured: small
# convolutions move more memory than they compute; bags are read from disks.
SHARES = dict(CNN=0.15, transformer=0.35, detector=0.15, bag=0.10)
# 'CMIM (WACV 2024), Table 1', not 'none (GiMP ... in its Table 2)'.
OF_A_PAPER = re.compile(r'.+, (Table|Figure) \d+')
# What of a loader does not change a sample; nor where the data are.
NO_SAMPLE = ('num_workers', 'persistent_workers', 'prefetch_factor',
             'pin_memory')
NO_CONTENT = ('data_root', 'split_folder')


class Cost(NamedTuple):
    """A run: GFLOP of a sample, and its samples.

    Without ``gflop``, ``reason`` says why it is not known.
    """

    run: object
    pretraining: bool
    share: float = 1
    samples: int = 0
    gflop: float | None = None
    reason: str = ''

    @property
    def petaflop(self) -> float:
        """Operations of the run, in 10^15; 0 if they are not known."""
        return (self.gflop or 0) * self.samples / 1e6

    @property
    def users(self) -> list[tuple[str, str, str]]:
        """Recipe, row and stage of all that want the run."""
        return [re.fullmatch('(.+): (.+), (.+)', user).groups()
                for user in self.run.users]

    def hours(self, tflops: float) -> float:
        """Hours on a GPU of so many 10^12 operations per second."""
        return self.petaflop * 1000 / (tflops * self.share) / 3600


def kind_of_run(config) -> str:
    """Say which of ``SHARES`` counts for a config."""
    from mmmedmask.inspection.trial import SLIDES
    from mmmedmask.shrinking.model_sizes import kind_of
    backbone = kind_of(config.model.get('backbone'))
    if config.default_scope == 'mmdet':
        return 'detector'
    if config.train_dataloader.dataset.type == SLIDES:
        return 'bag'
    if 'ResNet' in backbone:
        return 'CNN'
    if 'ViT' in backbone or 'Transformer' in backbone:
        return 'transformer'
    raise ValueError(f'{config.filename}: no share of the peak is assumed for '
                     f'the backbone {backbone}, but for {", ".join(SHARES)}')


def samples_of(config) -> int:
    """Count the samples that a run sees, on all GPUs of its config.

    Raises:
        ValueError: If the size of its data set is not known.
    """
    from mmmedmask.config_files import planned_gpus
    from mmmedmask.inspection import costs, known_data
    number = costs.number_of_samples(config, None)
    length = costs.run_length(
        config, number, (planned_gpus(config) or (1, ))[0])
    if length is None:
        dataset = config.train_dataloader.dataset
        raise ValueError(
            f'{config.filename}: no number of training samples is known of '
            f'{dataset.get("data_root")!r} with split_folder='
            f'{dataset.get("split_folder")!r}; known are NCT and '
            f'{dict(known_data.TRAINING_SAMPLES)}, which are in '
            'mmmedmask/inspection/known_data.py')
    return length.samples


def step_digest(config) -> str:
    """Digest of what the operations of a sample depend on.

    That is the model without what it starts from, and what the loader gives
    it; not rates, lengths, and hooks, which act before and after a step. The
    config is one that :func:`prepare_step` has prepared.
    """
    from mmmedmask.inspection.trial import BALANCED_BATCH
    from mmmedmask.util.nested import nested_dicts
    content = copy.deepcopy({
        key: config.to_dict().get(key)
        for key in ('model', 'data_preprocessor', 'train_dataloader')})
    for node in nested_dicts(content):
        node.pop('init_cfg', None)
    loader = content['train_dataloader']
    loader['batch_size'] = min(loader['batch_size'], BALANCED_BATCH)
    for part, keys in ((loader, NO_SAMPLE), (loader['dataset'], NO_CONTENT)):
        for key in keys:
            part.pop(key, None)
    text = json.dumps(content, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def prepare_step(config) -> None:
    """Let a step have what a run has, on the average or at the dearest.

    Images of a random size get the mean size of a batch's largest, to which
    the others are padded; a RoI head as many positive regions as it takes at
    most, since an untrained proposer finds few. The config changes in place.
    """
    from mmmedmask.config_files import find_hooks
    from mmmedmask.inspection.known_data import IMAGE_SIZES
    from mmmedmask.shrinking.model_sizes import kind_of
    from mmmedmask.util.nested import nested_dicts
    loader = config.train_dataloader
    for step in nested_dicts(loader.dataset.get('pipeline')):
        if kind_of(step) == 'RandomResize':
            size = IMAGE_SIZES[Path(loader.dataset.data_root).name]
            low, high = sorted(map(min, step.pop('scale')))
            batch = loader.batch_size
            side = low + (high - low) * batch / (batch + 1)
            step.update(type='Resize', keep_ratio=False, scale=tuple(
                round(length * side / min(size)) for length in size))
    for node in nested_dicts(config.model):
        if kind_of(node) == 'RandomSampler' and node.pos_fraction < 0.5:
            node.type = register_full_sampler()
    for hook in find_hooks(config).values():
        if kind_of(hook) == 'CrossFittedGenesHook':
            # It trains encoders before the first step, which take minutes.
            hook.update(num_folds=2, max_epochs=1)


def register_full_sampler() -> str:
    """Register a sampler that takes all positive regions that it may."""
    import torch
    from mmdet.models.task_modules.samplers import RandomSampler
    from mmdet.registry import TASK_UTILS

    @TASK_UTILS.register_module(force=True)
    class FullSampler(RandomSampler):

        def sample(self, assign_result, *args, **kwargs):
            places = torch.arange(len(assign_result.gt_inds))
            assign_result.gt_inds = (
                places < self.num * self.pos_fraction).long()
            assign_result.labels = torch.zeros_like(places)
            return super().sample(assign_result, *args, **kwargs)

    return f'mmdet.{FullSampler.__name__}'


def measure(config) -> float:
    """Count the operations of a sample in a training step, in 10^9."""
    from mmmedmask.inspection.measuring import measure_step
    with tempfile.TemporaryDirectory() as folder:
        step = measure_step(config, folder, mixed=False, timed=False)
    return step.flops / step.samples / 1e9


def estimate(runs: Sequence, resume: Path | None) -> list[Cost]:
    """Estimate the runs of a plan, each once."""
    from mmmedmask.config_files import load_config
    from mmmedmask.experiments.chain import load_stage_config
    from mmmedmask.inspection.findings import describe_error
    from mmmedmask.util.atomic_files import write_json
    sources = {id(source.run) for run in runs
               for source in run.sources.values()}
    costs = []
    for run in runs:
        cost = Cost(run, id(run) in sources)
        if run.last_name is None:
            cost = cost._replace(reason='is tested alone, without training')
        else:
            config = load_stage_config(Path(run.config_file), run.options)
            cost = cost._replace(
                share=SHARES[kind_of_run(config)], samples=samples_of(config))
        costs.append(cost)
    measured = json.loads(resume.read_text()) \
        if resume and resume.is_file() else {}
    for place, (run, _, _, samples, *_) in enumerate(costs):
        if not samples:
            continue
        config = load_config(run.config_file, run.options)
        prepare_step(config)
        digest = step_digest(config)
        if digest not in measured:
            print(f'{place} of {len(costs)}: {run.name}', file=sys.stderr,
                  flush=True)
            try:
                measured[digest] = measure(config)
            except Exception as error:  # a model may fail in any way
                measured[digest] = describe_error(error)
            if resume:
                write_json(resume, {
                    key: result for key, result in measured.items()
                    if not isinstance(result, str)})
        result = measured[digest]
        costs[place] = costs[place]._replace(
            **{'reason' if isinstance(result, str) else 'gflop': result})
    return costs


def csv_rows(costs: Iterable[Cost], tflops: float) -> list[tuple]:
    """Write down each run once."""
    rows = []
    for cost in costs:
        recipes, _, stages = (dict.fromkeys(part)
                              for part in zip(*cost.users, strict=True))
        path = Path(cost.run.config_file).resolve()
        rows.append((
            ' '.join(recipes), '; '.join(
                f'{recipe}: {row}' for recipe, row, _ in cost.users),
            ' '.join(stages), path.relative_to(CONFIGS)
            if path.is_relative_to(CONFIGS) else path, *(
                ('', cost.samples or '', '', '', '') if cost.gflop is None
                else (f'{cost.gflop:.4g}', cost.samples,
                      f'{cost.petaflop:.4g}', cost.share,
                      f'{cost.hours(tflops):.3g}')), cost.reason))
    return rows


def recipe_rows(recipes: Sequence, costs: Sequence[Cost],
                tflops: float) -> list[list[str]]:
    """Sum up the runs of each recipe, and all runs, each once."""
    seeds = {recipe.name: set(recipe.seeds) for recipe in recipes}
    rows = []
    for name in (*seeds, 'all, each run once'):
        own = [cost for cost in costs if name not in seeds
               or name in {recipe for recipe, _, _ in cost.users}]
        parts = [[cost for cost in own if cost.pretraining is early]
                 for early in (True, False)]
        hours = [sum(cost.hours(tflops) for cost in part) for part in parts]
        # A run of several recipes has the seeds of all of them.
        whole = sum(cost.hours(tflops) * len(
            seeds[name] if name in seeds else set().union(
                *(seeds[recipe] for recipe, _, _ in cost.users)))
            for cost in own)
        missing = sum(cost.gflop is None for cost in own)
        rows.append([
            name, f'{len(own)}' + f', {missing} not counted' * bool(missing),
            *(format_number(value)
              for part, time in zip(parts, hours, strict=True)
              for value in (sum(cost.petaflop for cost in part), time)),
            format_number(sum(hours)),
            str(len(seeds[name])) if name in seeds else '',
            format_number(whole)])
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=output_folder, metavar='FOLDER',
                        required=True)
    parser.add_argument('--tflops', type=float, default=312,
                        help='10^12 operations per second of a GPU at its '
                        'peak (default: %(default)g, an A100 in bfloat16)')
    parser.add_argument('--recipes', nargs='+', metavar='NAME',
                        help='names or files (default: all of a table or a '
                        'figure of a paper)')
    parser.add_argument('--resume', type=Path, metavar='FILE.json',
                        help='what has been counted, to go on after an end; '
                        'of the same configs and code')
    args = parser.parse_args(argv)

    from mmmedmask.experiments import schema
    from mmmedmask.experiments.plan import plan_runs
    from mmmedmask.util.atomic_files import write_csv
    from mmmedmask.util.checks import check_positive
    try:
        check_positive('--tflops', args.tflops)
        recipes = [schema.read_recipe(schema.locate_recipe(name)) for name in
                   args.recipes or schema.find_recipes()]
        if not args.recipes:
            recipes = [recipe for recipe in recipes
                       if OF_A_PAPER.fullmatch(recipe.paper)]
        plan = plan_runs([(recipe, recipe.rows) for recipe in recipes],
                         'paper', args.out, seeds=[None])
        costs = estimate(plan.runs, args.resume)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    write_csv(args.out / 'run_costs.csv',
              ('recipes', 'rows', 'stage', 'config', 'GFLOP per sample',
               'samples', 'PFLOP', 'assumed share of the peak', 'GPU hours',
               'not counted'), csv_rows(costs, args.tflops))
    print(markdown([[
        'recipe', 'runs of a seed', 'pre-training, PFLOP', 'GPU hours',
        'what follows, PFLOP', 'GPU hours', 'one seed, GPU hours', 'seeds',
        'all seeds, GPU hours'], *recipe_rows(recipes, costs, args.tflops)]))
    for cost in costs:
        if cost.gflop is None:
            print(f'{cost.run.name} is not counted: {cost.reason}')
    if any(cost.samples and cost.gflop is None for cost in costs):
        raise SystemExit('the sums lack training runs that failed, see above')


if __name__ == '__main__':
    run_tool(main)
