"""Run a plan: with Snakemake, or one run after the other in this process."""

import contextlib
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmmedmask.experiments.engine import (
    lock_folder,
    run_snakemake,
    visible_gpus,
)
from mmmedmask.experiments.fingerprints import DataFingerprints
from mmmedmask.experiments.manifest import load_checked_manifest, read_quietly
from mmmedmask.experiments.plan import Plan
from mmmedmask.experiments.preflight import find_problems
from mmmedmask.experiments.run import DONE_FILE, Run, write_runs
from mmmedmask.experiments.run_job import (
    StartStep,
    StepFailedError,
    do_run,
    open_steps,
)

SNAKEFILE = Path(__file__).with_name('Snakefile')


def check_plan(plan: Plan) -> None:
    """Refuse a plan that would fail, with all that is wrong.

    Raises:
        ValueError: If data are missing, or folders have other runs.
    """
    problems = find_problems(plan)
    if problems:
        raise ValueError('nothing was started:\n' + '\n'.join(
            f'- {problem}' for problem in problems))


def execute_plan(plan: Plan, tools: str | Path, cores: int | None = None,
                 executor: str | None = None, jobs: int | None = None,
                 options: Sequence[str] = ()) -> int:
    """Do all runs of a plan with Snakemake; what is done is skipped.

    Args:
        plan: The plan.
        tools: Folder of ``train.py`` and the others.
        cores: Cores of this machine; a run takes one per process that
            trains it. None takes one per GPU, and enough for one run.
        executor: See :func:`~mmmedmask.experiments.engine.run_snakemake`.
        jobs: See there.
        options: See there.

    Returns:
        0 if all runs are done, 130 after Ctrl-C, else 1.
    """
    need = max((run.gpus for run in plan.runs), default=1)
    gpus = len(visible_gpus())
    resources = dict(gpus=gpus) if executor is None and gpus >= need else {}
    plan.folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(plan.folder):
        _forget_unfinished(plan, tools)
    return run_snakemake(
        SNAKEFILE, plan.folder, dict(plan=str(write_plan(plan, tools))),
        cores=cores or max(gpus, need), resources=resources,
        executor=executor, jobs=jobs, options=options)


def write_plan(plan: Plan, tools: str | Path) -> Path:
    """Write what jobs need to know, into a file of its own content's name.

    Returns:
        The file's absolute path.
    """
    folder = plan.folder.resolve() / 'plans'
    file = folder / 'new.json'
    write_runs(file, plan.runs, folder=str(plan.folder.resolve()),
               data_root=str(plan.data_root), tools=str(tools),
               working_folder=os.getcwd())
    # Jobs of an earlier plan may still wait in a queue, and read theirs.
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    return file.replace(folder / f'{digest}.json')


def write_report(plan: Plan, tools: str | Path, files: Sequence[Path],
                 report: str | Path) -> int:
    """Let Snakemake write a report of runs and tables.

    Args:
        plan: The plan, its runs done.
        tools: Folder of ``train.py`` and the others.
        files: Files of tables, in the plan's folder.
        report: The html file to (over)write.

    Returns:
        The exit status.
    """
    config = dict(plan=str(write_plan(plan, tools)))
    copies = [f'report/{file.name}' for file in files]
    return run_snakemake(SNAKEFILE, plan.folder, config, copies,
                         options=['--forcerun', 'report_table']) \
        or run_snakemake(SNAKEFILE, plan.folder, config, ['all', *copies],
                         report=report)


def execute_here(plan: Plan, tools: str | Path, start: StartStep,
                 drawn: bool = False) -> int:
    """Do all runs of a plan one after the other, in this process.

    Args:
        plan: The plan.
        tools: Folder of ``train.py`` and the others.
        start: Does a step.
        drawn: Whether the data are drawn.

    Returns:
        0 if all runs are done, else 1.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    done: set[Run] = set()
    with lock_folder(plan.folder):
        for run in plan.runs:
            if all(source.run in done for source in run.sources.values()):
                with _reported(run):
                    do_run(run, plan.folder, plan.data_root, tools, start,
                           drawn)
                    done.add(run)
    return int(len(done) < len(plan.runs))


def find_failures(plan: Plan) -> dict[Run, str]:
    """Say which runs are not done, and why.

    Args:
        plan: The plan, after an engine has worked on it.

    Returns:
        The reason by run; empty if all are done.
    """
    failures: dict[Run, str] = {}
    for run in plan.runs:
        manifest = read_quietly(run) or {}
        failed = [source.run for source in run.sources.values()
                  if source.run in failures]
        if failed:
            failures[run] = f'not run, since {failed[0].title} failed'
        elif manifest.get('status') == 'failed':
            failures[run] = manifest.get('error') or 'failed'
        elif manifest.get('status') != 'done' \
                or not (run.folder / DONE_FILE).is_file():
            failures[run] = _why_unfinished(run, plan)
    return failures


def _why_unfinished(run: Run, plan: Plan) -> str:
    try:
        load_checked_manifest(run, None if plan.scale == 'smoke'
                              else DataFingerprints(plan.data_root))
    except ValueError as error:
        return str(error)
    return 'not finished'


def _forget_unfinished(plan: Plan, tools: str | Path) -> None:
    """Let the engine see runs of which more is wanted than was done."""
    for run in plan.runs:
        file = run.folder / DONE_FILE
        if file.is_file():
            manifest: Mapping | None = read_quietly(run)
            if manifest is None or open_steps(run, manifest, tools):
                file.unlink()


@contextlib.contextmanager
def _reported(run: Run):
    try:
        yield
    except (StepFailedError, OSError, ValueError) as error:
        sys.stderr.write(f'FAILED {run.title}: {error}\n')
