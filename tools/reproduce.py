"""Run the rows of the papers' tables, and make the tables.

    python tools/reproduce.py --list
    python tools/reproduce.py cmim_table1 --dry-run
    python tools/reproduce.py cmim_table1 --scale small --seeds 0 1 2
    python tools/reproduce.py my_recipe.yml --only ours scratch --gpus 4

A table is a recipe, a yaml file beside the configs (configs/*/recipes/*.yml)
or your own. A row is a chain of stages, each a config: pre-training, export of
the backbone, a downstream training whose load check compares the weights that
arrived, and its evaluation. The whole chain is run once per seed; with
--share-pretraining all seeds start from the pre-training of the first one.

Scales: `paper` takes the configs as they are; `small` what the recipe says for
two CPU cores, which tells that a chain works and little about methods; `smoke`
draws its data and trains for two iterations, in one process. Numbers of the
last two are marked wherever they are shown.

Each run has a folder, WORK_DIR/SCALE/CONFIG-DIGEST/seedS, whose name changes
with everything that the result depends on, and a manifest.json in it:
commands, code, versions, data, hardware, times, results. What is done is
skipped, so the same command goes on after an interruption, adds seeds and
rows, or tries again what has failed. A folder that was made with something
else is refused. Several of these commands can work on one WORK_DIR, each with
its own CUDA_VISIBLE_DEVICES: none takes a run that another has.
If this program is killed, a command that it has started goes on; the next call
waits for it.

--dry-run prints all commands in their order; each can be given by hand. At the
end there are WORK_DIR/SCALE/TABLE.md and TABLE.csv: the paper's value, ours
(mean, sample standard deviation, number of runs), and the difference.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

TOOLS = Path(__file__).resolve().parent


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'tables',
        nargs='*',
        metavar='TABLE_OR_RECIPE',
        help='name of a table, or path of a recipe')
    parser.add_argument(
        '--list', action='store_true', help='show all tables and their rows')
    parser.add_argument(
        '--only', nargs='+', metavar='ROW', help='these rows alone')
    parser.add_argument(
        '--scale',
        choices=['paper', 'small', 'smoke'],
        default='paper',
        help='size of everything (default: paper)')
    parser.add_argument(
        '--seeds',
        nargs='+',
        type=int,
        metavar='SEED',
        help="seeds of the runs; default: the recipe's")
    parser.add_argument(
        '--data-root',
        type=Path,
        default=Path('data'),
        help='folder in the place of data/ in configs (default: data)')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/reproduce'),
        help='folder of all runs and tables (default: work_dirs/reproduce)')
    parser.add_argument(
        '--gpus',
        type=int,
        default=1,
        metavar='N',
        help='processes that train one run together; the learning rate is '
        'scaled to the batch of all of them (default: 1)')
    parser.add_argument(
        '--share-pretraining',
        action='store_true',
        help='let all seeds start from the pre-training of the first')
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='print the commands in their order and do nothing')
    parser.add_argument(
        '--table-only',
        action='store_true',
        help='make the tables of what is there and run nothing')
    args = parser.parse_args(argv)
    if not args.tables and not args.list:
        parser.error('name a table, or see --list')
    if args.gpus < 1:
        parser.error(f'--gpus must be at least 1, got {args.gpus}')
    for seed in args.seeds or []:
        if seed < 0 or args.seeds.count(seed) > 1:
            parser.error(f'--seeds must be different numbers >= 0, got '
                         f'{args.seeds}')
    if args.scale == 'smoke' and args.gpus > 1:
        parser.error('--scale smoke is for one process')
    return args


def list_tables(names: list[str]) -> None:
    """Print tables and rows."""
    from mmmedmask.experiments.schema import (
        find_recipes,
        locate_recipe,
        read_recipe,
    )
    paths = map(locate_recipe, names) if names else find_recipes().values()
    for path in paths:
        recipe = read_recipe(path)
        print(f'{recipe.name}: {recipe.title} ({recipe.paper})')
        width = max(len(row.name) for row in recipe.rows)
        for row in recipe.rows:
            left_out = '' if row.small is not None else ' (not at small)'
            print(f'  {row.name:<{width}}  {row.title}{left_out}')


def load_tables(args: argparse.Namespace) -> list:
    """Read the recipes and choose their rows."""
    from mmmedmask.experiments.schema import locate_recipe, read_recipe

    recipes = [read_recipe(locate_recipe(name)) for name in
               dict.fromkeys(args.tables)]
    names = [recipe.name for recipe in recipes]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f'two of the recipes have the name {name!r}')
    tables = []
    for recipe in recipes:
        rows = recipe.rows
        if args.only:
            # With several tables, a row need not be in all of them.
            rows = [row for row in rows if row.name in args.only]
        if rows:
            tables.append((recipe, tuple(rows)))
    found = {row.name for _, rows in tables for row in rows}
    for name in args.only or []:
        if name not in found:
            recipes[0].row(name)
            raise ValueError(f'no table has the row {name!r}')
    return tables


def print_commands(args: argparse.Namespace, plan) -> None:
    """Print all commands, with the rows that they are for."""
    from mmmedmask.experiments.commands import (
        batch_notes,
        run_steps,
        shell_line,
    )
    from mmmedmask.experiments.schema import locate_recipe

    if args.scale == 'smoke':
        print('# Everything is done in one process:')
        for recipe, rows in plan.tables:
            for row in rows:
                print(shlex.join([
                    'python', 'tools/reproduce.py',
                    next(name for name in args.tables
                         if locate_recipe(name) == recipe.path), '--scale',
                    'smoke', '--only', row.name, '--seeds',
                    *map(str, plan.seeds[recipe.name]), '--work-dir',
                    str(args.work_dir),
                    *['--share-pretraining'] * args.share_pretraining]))
        return
    for note in batch_notes(plan.runs):
        print(f'# {note}')
    for number, run in enumerate(plan.runs, 1):
        print(f'# [{number}/{len(plan.runs)}] {run.title}')
        for user in run.users:
            print(f'#   for {user}')
        for step in run_steps(run, args.data_root, TOOLS):
            print(shell_line(step.command))


def make_execution(args: argparse.Namespace, plan):
    """Prepare to run; refuse what would fail, all at once."""
    from mmmedmask.experiments.commands import batch_notes, run_steps
    from mmmedmask.experiments.execute import Execution, SubprocessExecutor
    from mmmedmask.experiments.manifest import DataFingerprints
    from mmmedmask.experiments.preflight import find_problems
    from mmmedmask.experiments.progress import History, Reporter

    fingerprints = None
    if args.scale != 'smoke':
        fingerprints = DataFingerprints(args.data_root)
        for run in plan.runs:
            run_steps(run, args.data_root, TOOLS)
    problems = find_problems(plan, args.data_root, fingerprints)
    if problems:
        raise ValueError('nothing was started:\n' + '\n'.join(
            f'- {problem}' for problem in problems))
    for note in batch_notes(plan.runs):
        print(note)
    folder = args.work_dir / args.scale
    if args.scale == 'smoke':
        from mmmedmask.experiments.smoke import SmokeExecutor
        executor = SmokeExecutor(folder / 'data', TOOLS)
    else:
        executor = SubprocessExecutor()
    return Execution(plan, args.data_root, TOOLS, executor,
                     Reporter(sys.stdout), History(folder), fingerprints)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)

    import mmmedmask  # noqa: F401  (mends gaps in what is imported next)
    from mmmedmask.experiments.execute import stop_on_signals
    from mmmedmask.experiments.plan import plan_runs
    from mmmedmask.experiments.results_table import table_files, write_tables

    words = sys.argv[1:] if argv is None else argv
    command = shlex.join(['python', 'tools/reproduce.py', *words])
    try:
        if args.list:
            list_tables(args.tables)
            return 0
        plan = plan_runs(load_tables(args), args.scale, args.work_dir,
                         args.seeds, args.gpus, args.share_pretraining)
        if args.dry_run:
            print_commands(args, plan)
            return 0
        execution = None
        if not args.table_only:
            execution = make_execution(args, plan)
    except (OSError, ValueError) as error:
        raise SystemExit(f'reproduce.py: {error}') from None
    failures = {}
    if execution is not None:
        stop_on_signals()
        try:
            execution.execute()
        except KeyboardInterrupt:
            print('\nStopped. The same command goes on where this stopped:'
                  f'\n  {command}')
            return 130
        failures = execution.failures
    folder = args.work_dir / args.scale
    for recipe, _ in plan.tables:
        print()
        print(write_tables(plan, recipe, folder, failures, command))
        print(' and '.join(map(str, table_files(plan, recipe, folder))),
              'are written.')
    if failures:
        print(f'\n{len(failures)} of {len(plan.runs)} runs failed:')
        for run, reason in failures.items():
            print(f'- {run.title}: {reason.splitlines()[0]}')
        print('The same command tries them again.')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
