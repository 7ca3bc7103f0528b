"""Check and run a plan: with Snakemake, or run by run in this process."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mmmedmask.experiments import engine, run_job
from mmmedmask.experiments.fingerprints import (
    DataFingerprints,
    data_fingerprints,
)
from mmmedmask.experiments.manifest import load_checked_manifest, read_quietly
from mmmedmask.experiments.plan import Plan
from mmmedmask.experiments.run import DONE_FILE, Run, write_runs
from mmmedmask.experiments.schema import DATA_PREFIX

SNAKEFILE = Path(__file__).with_name('Snakefile')


def check_plan(plan: Plan) -> None:
    """Refuse a plan that would fail, with all of :func:`find_problems`."""
    problems = find_problems(plan)
    if problems:
        raise ValueError('nothing was started:\n' + '\n'.join(
            f'- {problem}' for problem in problems))


def find_problems(plan: Plan) -> list[str]:
    """Find missing data and weights, and folders of other runs."""
    # Those that the plan keeps are for what follows its runs.
    fingerprints = data_fingerprints(plan.data_root, plan.scale)
    problems = _missing_data(plan, fingerprints) if fingerprints else []
    if problems:
        fingerprints = None
    for run in plan.runs:
        try:
            load_checked_manifest(run, fingerprints)
        except ValueError as error:
            problems.append(str(error))
    return problems


def execute_plan(plan: Plan, tools: str | Path, cores: int | None = None,
                 executor: str | None = None, jobs: int | None = None,
                 options: Sequence[str] = (), threads: int = 1) -> int:
    """Do all runs of a plan with Snakemake; what is done is skipped.

    Args:
        tools: Folder of ``train.py`` and the others.
        cores: Cores of this machine; a run takes one per process that
            trains it, or ``threads`` if these are more. None takes enough
            for as many runs as the GPUs are for, and for one without.
        threads: Cores that a run computes on, at least one per process,
            which share them; a sum is not the same to the last digit with
            another number.
        executor, jobs, options: As of
            :func:`~mmmedmask.experiments.engine.run_snakemake`, as what is
            returned.
    """
    processes = max((run.gpus for run in plan.runs), default=1)
    need = max(processes, threads)
    if executor is None and cores is not None and cores < need:
        raise ValueError(
            f'cores must be at least {need}, which one run needs with '
            f'gpus={processes} and threads={threads}, got {cores}')
    gpus = len(engine.visible_gpus())
    resources = dict(gpus=gpus) \
        if executor is None and gpus >= processes else {}
    plan.folder.mkdir(parents=True, exist_ok=True)
    with engine.lock_folder(plan.folder):
        _forget_unfinished(plan, tools)
    # The profile's 8 cores for each GPU may be too few for the threads.
    return engine.run_snakemake(
        SNAKEFILE, plan.folder,
        dict(plan=str(write_plan(plan, tools, threads))),
        cores=cores or max(gpus // processes, 1) * need, resources=resources,
        executor=executor, jobs=jobs, options=options,
        defaults=dict(cpus_per_task=max(8 * processes, threads)))


def write_plan(plan: Plan, tools: str | Path, threads: int = 1) -> Path:
    """Write what jobs need to know, into a file of its own content's name."""
    folder = plan.folder.resolve()
    # Jobs of an earlier plan may still wait in a queue, and read theirs.
    return write_runs(folder / 'plans', plan.runs, folder=str(folder),
                      data_root=str(plan.data_root), tools=str(tools),
                      working_folder=os.getcwd(), threads=threads)


def write_report(plan: Plan, tools: str | Path, files: Sequence[Path],
                 report: str | Path) -> int:
    """Let Snakemake write an html report of runs that are done, and tables."""
    config = dict(plan=str(write_plan(plan, tools)))
    copies = [f'report/{file.name}' for file in files]
    return engine.run_snakemake(
        SNAKEFILE, plan.folder, config, copies,
        options=['--forcerun', 'report_table']) or engine.run_snakemake(
            SNAKEFILE, plan.folder, config, ['all', *copies], report=report)


def execute_here(plan: Plan, tools: str | Path,
                 start: run_job.StartStep) -> int:
    """Do all runs of a plan one after the other, in this process.

    ``start`` does a step. Returns 0 if all runs are done, else 1.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    done: set[Run] = set()
    with engine.lock_folder(plan.folder):
        for run in plan.runs:
            if all(source.run in done for source in run.sources.values()):
                try:
                    run_job.do_run(run, plan.folder, plan.data_root, tools,
                                   start)
                    done.add(run)
                except (run_job.StepFailedError, OSError, ValueError) as error:
                    sys.stderr.write(f'FAILED {run.title}: {error}\n')
    return int(len(done) < len(plan.runs))


def find_failures(plan: Plan) -> dict[Run, str]:
    """Say why runs are not done, after an engine has worked on the plan."""
    failures: dict[Run, str] = {}
    for run in plan.runs:
        manifest = read_quietly(run) or {}
        failed = [source.run for source in run.sources.values()
                  if source.run in failures]
        if failed:
            failures[run] = f'not run, since {failed[0].title} failed'
        elif manifest.get('status') == 'failed':
            failures[run] = manifest.get('error') or 'failed'
        elif manifest.get('status') != 'done':
            failures[run] = 'not finished'
        elif not (run.folder / DONE_FILE).is_file():
            try:
                load_checked_manifest(run, plan.fingerprints)
                failures[run] = 'not finished'
            except ValueError as error:
                failures[run] = str(error)
    return failures


def _forget_unfinished(plan: Plan, tools: str | Path) -> None:
    """Let the engine see runs of which more is wanted than was done."""
    for run in plan.runs:
        file = run.folder / DONE_FILE
        if file.is_file():
            manifest = read_quietly(run)
            if manifest is None or run_job.open_steps(run, manifest, tools):
                file.unlink()


def _missing_data(plan: Plan, fingerprints: DataFingerprints) -> list[str]:
    missing: dict[str, list[Run]] = {}
    for run in plan.runs:
        for path in fingerprints.missing(run):
            missing.setdefault(path, []).append(run)
    problems = []
    for path, runs in missing.items():
        more = f' and {len(runs) - 1} more' if len(runs) > 1 else ''
        problems.append(
            f'{fingerprints.locate(path)} is not there: needed by '
            f'{runs[0].name}{more}. It comes from {_origin(plan, path)}')
    return problems


def _origin(plan: Plan, path: str) -> str:
    """Where data come from, as the recipes say it."""
    inner = path.removeprefix(DATA_PREFIX)
    for recipe, rows in plan.tables:
        for row in rows:
            for weights in row.weights:
                if weights.path == path:
                    return weights.source
        for folder, source in recipe.data.get(plan.scale, {}).items():
            if inner == folder or inner.startswith(f'{folder}/'):
                return source
    return 'somewhere that the recipe does not say'
