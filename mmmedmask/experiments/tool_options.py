"""What the commands that run plans have in common."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def split_arguments(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part a command's arguments from Snakemake's, which follow ``--``."""
    argv = list(argv)
    place = argv.index('--') if '--' in argv else len(argv)
    return argv[:place], argv[place + 1:]


def add_engine_options(parser: argparse.ArgumentParser, cores: str) -> None:
    """Add the options that say where and how many jobs go at a time.

    Args:
        cores: What ``--cores`` counts, and what it is by default.
    """
    group = parser.add_argument_group(
        'engine', "more options of Snakemake's can follow after --, such as "
        '-- --retries 2 --resources gpus=4')
    group.add_argument('--cores', type=int, metavar='N', help=cores)
    group.add_argument(
        '--executor', metavar='NAME',
        help='where jobs go, such as slurm (default: this machine)')
    group.add_argument(
        '--jobs', type=int, metavar='N',
        help='jobs at a time that --executor submits (default: 100)')


def check_engine_options(parser: argparse.ArgumentParser,
                         args: argparse.Namespace) -> None:
    """Refuse options of :func:`add_engine_options` that would do nothing."""
    if args.executor is None and args.jobs is not None:
        parser.error(f'--jobs {args.jobs} is for --executor NAME; on this '
                     'machine --cores says how many go at a time')
    if args.executor is not None and args.cores is not None:
        parser.error(f'--cores {args.cores} is for this machine; with '
                     '--executor, --jobs says how many go at a time')


def add_plan_options(parser: argparse.ArgumentParser, seeds: str) -> None:
    """Add the options of a command that runs a plan.

    Args:
        seeds: What ``--seeds`` means, and what it is by default.
    """
    parser.add_argument(
        '--seeds', nargs='+', type=int, metavar='SEED', help=seeds)
    parser.add_argument(
        '--data-root', type=Path, default=Path('data'),
        help='folder instead of data/ in configs (default: data)')
    parser.add_argument(
        '--gpus', type=int, default=1, metavar='N',
        help='processes that train one run together; the learning rate is '
        'scaled to the batch of all of them (default: 1)')
    parser.add_argument(
        '--threads', type=int, default=1, metavar='N',
        help='processor cores that one run computes on, shared by its '
        'processes; other numbers give other last digits (default: 1)')
    parser.add_argument(
        '--dry-run', action='store_true',
        help='print the commands in their order and run none')
    add_engine_options(
        parser, 'processor cores of all runs at a time; one takes --threads, '
        'and one per process at least (default: enough for a run on each '
        'GPU that is visible, else for one run)')
    parser.add_argument(
        '--report', type=Path, metavar='FILE.html',
        help="write Snakemake's report of runs and tables at the end")


def check_plan_options(parser: argparse.ArgumentParser,
                       args: argparse.Namespace) -> None:
    """Refuse values of :func:`add_plan_options` that mean nothing."""
    check_engine_options(parser, args)
    for name in ('gpus', 'threads'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1, got '
                         f'{getattr(args, name)}')
    for seed in args.seeds or []:
        if seed < 0 or args.seeds.count(seed) > 1:
            parser.error(f'--seeds must be different numbers >= 0, got '
                         f'{args.seeds}')


def check_smoke_options(args: argparse.Namespace,
                        options: Sequence[str]) -> None:
    """Refuse what scale smoke has no use for.

    It runs in one process, on drawn data that have a split of their own.

    Args:
        options: Those of Snakemake's, after ``--``.
    """
    given = {f'--{name}': getattr(args, name)
             for name in ('cores', 'executor', 'jobs')}
    given |= {f'--{name}': getattr(args, name) for name in ('gpus', 'threads')
              if getattr(args, name) > 1}
    given |= {'--folds': ' '.join(args.folds or []) or None,
              '--': ' '.join(options) or None}
    named = [f'{name} {value}' for name, value in given.items()
             if value is not None]
    if named:
        raise ValueError(f'--scale smoke does everything in one process, '
                         f'without {", ".join(named)}')


def run_plan(plan, args: argparse.Namespace, tools: Path,
             options: Sequence[str]) -> int:
    """Run a plan as a command asks for it.

    Returns 0 if all runs are done, 130 after Ctrl-C, else 1. If it would
    fail, a ValueError lists all that is wrong. After a dry run of Snakemake's
    there is nothing to report: it ends the command.
    """
    from mmmedmask.experiments.engine import require_snakemake
    from mmmedmask.experiments.execute import (
        check_plan,
        execute_here,
        execute_plan,
    )
    if plan.scale == 'smoke':
        check_plan(plan)
        from mmmedmask.experiments.smoke import SmokeSteps
        return execute_here(plan, tools, SmokeSteps(plan.folder / 'data'))
    require_snakemake()
    check_plan(plan)
    dry = False
    if options:
        # Read as Snakemake does; wrong ones end the process.
        from snakemake.cli import get_argument_parser
        dry = get_argument_parser().parse_args(list(options)).dryrun
    status = execute_plan(plan, tools, args.cores, args.executor, args.jobs,
                          options, args.threads)
    if dry:
        raise SystemExit(status)
    return status


def describe_failures(plan) -> list[str]:
    """Say which runs are not done, a line for each."""
    from mmmedmask.experiments.execute import find_failures
    return [f'{run.title}: {reason.splitlines()[0]}'
            for run, reason in find_failures(plan).items()]
