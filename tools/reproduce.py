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

With --folds, every row is run on every fold of a cohort as well.

Each run has a folder, WORK_DIR/SCALE/CONFIG-DIGEST/seedS, whose name changes
with everything that the result depends on, and a manifest.json in it:
commands, code, versions, data, hardware, times, results. Runs are jobs of
Snakemake. What is done is skipped, so the same command goes on after an
interruption, whatever it was, adds seeds and rows, or tries again what has
failed. A folder that was made with something else is refused. One of these
commands at a time works on a WORK_DIR and scale; it runs as many jobs at a
time as there are GPUs (--cores), or as a cluster takes (--executor slurm
--jobs 20). If it is killed, a training that it has started goes on; the next
call waits for that one.

--dry-run prints all commands in their order; each can be given by hand. At the
end there are WORK_DIR/SCALE/TABLE.md and TABLE.csv: the paper's value, ours
(mean, sample standard deviation, number of runs), and the difference.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mmmedmask.experiments import tool_options
from mmmedmask.util.run_tool import run_tool

TOOLS = Path(__file__).resolve().parent


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('tables', nargs='*', metavar='TABLE_OR_RECIPE',
                        help='name of a table, or path of a recipe')
    parser.add_argument(
        '--list', action='store_true', help='show all tables and their rows')
    parser.add_argument(
        '--only', nargs='+', metavar='ROW', help='these rows alone')
    parser.add_argument('--scale', choices=['paper', 'small', 'smoke'],
                        default='paper',
                        help='size of everything (default: paper)')
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/reproduce'),
        help='folder of all runs and tables (default: work_dirs/reproduce)')
    parser.add_argument(
        '--share-pretraining', action='store_true',
        help='let all seeds start from the pre-training of the first')
    parser.add_argument(
        '--folds', nargs='+', metavar='FOLDER_OR_FOLD',
        help='folder with splits_0.csv, splits_1.csv, ... (default: what a '
        'recipe has as folds), and numbers of the folds that are wanted')
    parser.add_argument(
        '--table-only', action='store_true',
        help='make the tables of what is there and run nothing')
    tool_options.add_plan_options(
        parser, "seeds of the runs; default: the recipe's")
    args = parser.parse_args(argv)
    if not args.tables and not args.list:
        parser.error('name a table, or see --list')
    tool_options.check_plan_options(parser, args)
    return args


def list_tables(names: list[str]) -> None:
    """Print tables and rows."""
    from mmmedmask.experiments.schema import (
        DATA_SCALES,
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
            left_out = [f' (not at {scale})' for scale in DATA_SCALES
                        if getattr(row, scale) is None]
            print(f'  {row.name:<{width}}  {row.title}{"".join(left_out)}')


def load_tables(args: argparse.Namespace) -> list:
    """Read the recipes and choose their rows."""
    from mmmedmask.experiments.schema import locate_recipe, read_recipe
    recipes = [read_recipe(locate_recipe(name)) for name in
               dict.fromkeys(args.tables)]
    names = [recipe.name for recipe in recipes]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f'two of the recipes have the name {name!r}')
    # With several tables, a row need not be in all of them.
    tables = [(recipe, tuple(row for row in recipe.rows if not args.only
                             or row.name in args.only)) for recipe in recipes]
    for name in args.only or []:
        if not any(row.name == name for _, rows in tables for row in rows):
            recipes[0].row(name)
    return [(recipe, rows) for recipe, rows in tables if rows]


def find_folds_of(args: argparse.Namespace, tables: list) -> dict:
    """Split files of each recipe that has folds, by its name."""
    from mmmedmask.experiments.fold_axis import find_folds
    from mmmedmask.experiments.schema import DATA_PREFIX
    if args.scale == 'smoke':
        # What is drawn has a split of its own.
        return {}
    words = list(args.folds or [])
    chosen = words.pop(0) if words and not words[0].isdigit() else None
    if wrong := [word for word in words if not word.isdigit()]:
        raise ValueError('--folds takes one folder and numbers of folds, '
                         f'got {wrong}')
    select = [int(word) for word in words] or None
    folds = {}
    for recipe, _ in tables:
        folder = chosen or recipe.folds
        if folder is None:
            if select:
                raise ValueError(f'{recipe.name} has no folds: name the '
                                 'folder of their split files, --folds '
                                 f'FOLDER {" ".join(words)}')
            continue
        if chosen is None and folder.startswith(DATA_PREFIX):
            folder = args.data_root / folder.removeprefix(DATA_PREFIX)
        try:
            folds[recipe.name] = find_folds(folder, select)
        except FileNotFoundError as error:
            sources = ', '.join(recipe.data.get(args.scale, {}).values())
            raise FileNotFoundError(
                f'{error}. Of the data of {recipe.name} tells {sources}'
                if chosen is None and sources else str(error)) from None
    return folds


def print_commands(args: argparse.Namespace, plan) -> None:
    """Print all commands, with the rows that they are for."""
    from mmmedmask.experiments import commands
    from mmmedmask.experiments.schema import locate_recipe
    if args.scale == 'smoke':
        print('# Everything is done in one process:')
        for recipe, rows in plan.tables:
            seeds = dict.fromkeys(axis.seed for axis in plan.axes[recipe.name])
            for row in rows:
                print(shlex.join([
                    'python', 'tools/reproduce.py',
                    next(name for name in args.tables
                         if locate_recipe(name) == recipe.path), '--scale',
                    'smoke', '--only', row.name, '--seeds',
                    *map(str, seeds), '--work-dir', str(args.work_dir),
                    *['--share-pretraining'] * args.share_pretraining]))
        return
    print(*commands.list_commands(plan.runs, TOOLS), sep='\n')


def write_all_tables(args: argparse.Namespace, plan, command: str) -> None:
    """Write and print the tables of what there is."""
    from mmmedmask.experiments.execute import write_report
    from mmmedmask.experiments.results_table import table_files, write_tables
    files = []
    for recipe, _ in plan.tables:
        print(f'\n{write_tables(plan, recipe, command)}')
        written = table_files(plan, recipe)
        print(' and '.join(map(str, written)), 'are written.')
        files += written
    if args.report is not None:
        write_report(plan, TOOLS, files, args.report)


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else list(argv)
    ours, options = tool_options.split_arguments(argv)
    args = parse_args(ours)
    try:
        if args.list:
            list_tables(args.tables)
            return 0
        if args.scale == 'smoke':
            tool_options.check_smoke_options(args, options)

        from mmmedmask.experiments import commands
        from mmmedmask.experiments.plan import plan_runs
        tables = load_tables(args)
        plan = plan_runs(
            tables, args.scale, args.work_dir / args.scale, args.data_root,
            args.seeds, find_folds_of(args, tables), args.gpus,
            args.share_pretraining)
        if args.dry_run:
            print_commands(args, plan)
            return 0
        if not args.table_only:
            for note in commands.batch_notes(plan.runs):
                print(note, flush=True)
            status = tool_options.run_plan(plan, args, TOOLS, options)
            if status == 130:
                print('\nStopped. The same command goes on where this '
                      'stopped.')
                return status
        command = shlex.join(['python', 'tools/reproduce.py', *argv])
        write_all_tables(args, plan, command)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        raise SystemExit(f'reproduce.py: {error}') from None
    failures = [] if args.table_only else tool_options.describe_failures(plan)
    if failures:
        print(f'\n{len(failures)} of {len(plan.runs)} runs failed:')
        for failure in failures:
            print(f'- {failure}')
        print('The same command tries them again.')
    return 1 if failures else 0


if __name__ == '__main__':
    run_tool(main)
