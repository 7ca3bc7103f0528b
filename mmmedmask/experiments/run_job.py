"""Do one run of a plan: what each job of the engine starts.

    python -m mmmedmask.experiments.run_job PLAN.json CONFIG-DIGEST/seed0

After a kill at any point, the step that the manifest does not note is done
again, and a training goes on from its last whole checkpoint.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmmedmask.experiments import run_files
from mmmedmask.experiments.commands import Step, run_steps, shell_line
from mmmedmask.experiments.engine import reserve_gpus
from mmmedmask.experiments.environment import describe_environment
from mmmedmask.experiments.fingerprints import (
    DataFingerprints,
    data_fingerprints,
)
from mmmedmask.experiments.manifest import (
    LOCK_FILE,
    MANIFEST_FILE,
    changed_data,
    load_checked_manifest,
    new_manifest,
    now,
    read_manifest,
)
from mmmedmask.experiments.run import (
    DONE_FILE,
    EARLY_FILE,
    Run,
    read_runs,
)
from mmmedmask.util.atomic_files import write_json, write_text
from mmmedmask.util.file_locks import lock_file, note_holder

#: Lines of its log that a failed step shows.
TAIL_LINES = 25
#: Seconds that a stopped step has to end, before it is told harder.
GRACE_SECONDS = 20.0
# Snakemake sets them to the threads of a job, PyTorch and NumPy read them.
_THREAD_VARIABLES = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS',
                     'OPENBLAS_NUM_THREADS')
#: Does a step of a run. It gets environment variables for its commands, and
#: descriptors of locks that they have to inherit.
StartStep = Callable[[Run, Step, Mapping[str, str], Sequence[int]], None]


class StepFailedError(RuntimeError):
    """A step of a run failed; the message has the end of its log."""


def start_command(run: Run, step: Step, environment: Mapping[str, str],
                  locks: Sequence[int]) -> None:
    """Do a step as the command that a user would give.

    It has a session of its own, so that Ctrl-C reaches it through us alone.
    It inherits the locks, of which the first is the run's: if this process
    is killed, the command goes on, and the next process waits for it.
    """
    log = run.folder / f'{step.name}.log'
    # dist_train.sh looks for torchrun.
    path = os.pathsep.join([str(Path(sys.executable).parent),
                            os.environ.get('PATH', '')])
    command = list(step.command)
    if command[0] == 'python':
        command[0] = sys.executable
    with log.open('a', encoding='utf-8') as stream:
        stream.write(f'\n{now()} $ {shell_line(step.command)}\n')
        stream.flush()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, 'PATH': path, **environment},
            pass_fds=tuple(locks), start_new_session=True)
        try:
            note_holder(locks[0], f'process {process.pid} ({step.name} of '
                        f'{run.title})')
            status = process.wait()
        except BaseException:
            _end(process)
            raise
    if status != 0:
        raise StepFailedError(
            f'{step.name} ended with status {status}. The end of '
            f'{log}:\n{run_files.tail_of(log, TAIL_LINES)}')


def do_run(run: Run, folder: Path, data_root: str | Path, tools: str | Path,
           start: StartStep = start_command,
           threads: int | None = None) -> None:
    """Do what is left of a run, and note that it is done.

    It waits as long as another process has the run: one of a killed engine,
    which goes on. The processes of a step share the ``threads``; None leaves
    that to them. A StepFailedError if a step fails, and a ValueError if the
    folder has a run of something else, or the data have changed meanwhile.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    with lock_file(run.folder / LOCK_FILE, inherited=True,
                   waiting=lambda holder: _say(
                       f'{run.title}: waiting for {holder}')) as lock:
        (run.folder / DONE_FILE).unlink(missing_ok=True)
        fingerprints = data_fingerprints(data_root, run.scale)
        manifest = load_checked_manifest(run, fingerprints)
        if manifest is None:
            data = fingerprints.of_run(run) if fingerprints else {}
            manifest = new_manifest(run, data_root, data)
        if open_steps(run, manifest, tools) or manifest['status'] != 'done':
            with reserve_gpus(run.gpus, folder) as (environment, gpu_locks):
                _do_steps(run, manifest, tools, lambda step: start(
                    run, step, environment | _share_threads(
                        run, step, threads), (lock, *gpu_locks)),
                    data_fingerprints(data_root, run.scale), threads)
        write_json(run.folder / DONE_FILE, dict(
            id=manifest['id'], digest=run.digest, results=manifest['results']))


def open_steps(run: Run, manifest: Mapping, tools: str | Path) -> list[Step]:
    """Steps that are not done, in their order."""
    ended = {name for name, step in manifest['steps'].items()
             if step.get('ended')}
    return [step for step in run_steps(run, tools)
            if step.name not in ended or step.kind == 'export'
            and not Path(run.exported_file(step.choice)).is_file()]


def _do_steps(run: Run, manifest: dict, tools: str | Path,
              start: Callable[[Step], None],
              fingerprints: DataFingerprints | None,
              threads: int | None) -> None:
    manifest['starts'].append(dict(
        time=now(), command=' '.join(sys.argv), threads=threads,
        **describe_environment()))
    manifest['users'] = sorted({*manifest['users'], *run.users})
    manifest['sources'] = [dict(run=source.run.key, choice=source.choice,
                                exported=source.exported,
                                id=read_manifest(source.run.folder)['id'])
                           for source in run.sources.values()]
    try:
        for source in run.sources.values():
            if not source.exported:
                _need_checkpoint(source.run, source.choice)
        # The name of a best checkpoint is known after training.
        while steps := open_steps(run, manifest, tools):
            _do_step(run, steps[0], manifest, start)
        if fingerprints is not None:
            manifest['data_changed'] = changed_data(
                manifest, fingerprints.of_run(run))
        if manifest['data_changed']:
            raise ValueError('the data have changed while it ran: '
                             f'{", ".join(manifest["data_changed"])}. Delete '
                             f'{run.folder}, and run it again')
    except BaseException as error:
        failed = isinstance(error, Exception)
        _save(run, manifest, status='failed' if failed else 'interrupted',
              error=str(error) if failed else None)
        raise
    _save(run, manifest, status='done', error=None)
    _say(f'{run.title}: done in {manifest["seconds"]:.0f} s'
         f'{_describe(manifest)}')


def _share_threads(run: Run, step: Step,
                   threads: int | None) -> dict[str, str]:
    """Environment variables with the threads of each process of a step."""
    if threads is None:
        return {}
    processes = run.gpus if step.kind == 'train' else 1
    return dict.fromkeys(_THREAD_VARIABLES,
                         str(max(threads, run.gpus) // processes))


def _do_step(run: Run, step: Step, manifest: dict,
             start: Callable[[Step], None]) -> None:
    _say(f'{run.title}: {step.name} ({run.users[0]})')
    before = manifest['steps'].get(step.name, {})
    note = dict(command=shell_line(step.command),
                started=before.get('started') or now(),
                tries=before.get('tries', 0) + 1,
                seconds=before.get('seconds', 0.0))
    manifest['steps'][step.name] = note
    _save(run, manifest, status='running', error=None)
    if step.kind != 'train' and run.last_name is not None:
        _need_checkpoint(run, step.choice)
    tests = run.test_folder(step.choice)
    known_logs = run_files.log_folder_names(tests)
    begin, spent = time.monotonic(), note['seconds']
    try:
        start(step)
    finally:
        note['seconds'] = round(spent + time.monotonic() - begin, 3)
    if step.kind == 'train':
        _note_early_end(run)
        _need_checkpoint(run, 'last')
        manifest['load_checks'] = run_files.read_load_checks(run.folder)
        manifest['logged'] = run_files.read_logged(run.folder)
    elif step.kind == 'test':
        manifest['results'][step.choice] = run_files.read_metrics(
            tests, known_logs)
    note['ended'] = now()
    _save(run, manifest)


def _save(run: Run, manifest: dict, **changes) -> None:
    manifest.update(changes)
    manifest['seconds'] = round(sum(
        step['seconds'] for step in manifest['steps'].values()), 3)
    write_json(run.folder / MANIFEST_FILE, manifest)


def _note_early_end(run: Run) -> None:
    """Name the last checkpoint of a training that ended without an error.

    A hook may have ended it, such as EarlyStoppingHook. As long as it trains,
    MMEngine's pointer names any epoch.
    """
    pointer = run.folder / 'last_checkpoint'
    if not (run.folder / run.last_name).is_file() and pointer.is_file():
        write_text(run.folder / EARLY_FILE,
                   Path(pointer.read_text(encoding='utf-8').strip()).name)


def _need_checkpoint(run: Run, choice: str) -> None:
    file = Path(run.checkpoint(choice))
    if file.is_file():
        return
    if not (run.folder / 'last_checkpoint').is_file():
        raise StepFailedError(f'{run.folder} has no checkpoint any more: '
                              'delete the folder to train the run again')
    pointer = run.best_pointer and run.folder / run.best_pointer
    if choice == 'best' and not pointer.is_file():
        bests = sorted(path.name for path in run.folder.glob('best_*.pth'))
        raise StepFailedError(
            f'{pointer} is missing, the record of the best checkpoint, which '
            'runs of earlier versions did not keep. '
            + (f'Write into it which of {bests} it is (the log tells), or '
               if bests else 'There is no best_*.pth either: ')
            + f'delete {run.folder} to train the run again')
    raise StepFailedError(f'the training in {run.folder} has ended without '
                          f'its {choice} checkpoint ({file.name})')


def _describe(manifest: Mapping) -> str:
    """What the load check said and what the tests gave, in a few words."""
    parts = [f'{check["percent"]:g} % loaded'
             for check in manifest['load_checks'] if 'percent' in check]
    for results in manifest['results'].values():
        parts += [f'{name} {float(value):.4g}'
                  for name, value in list(results.items())[:3]]
    return f' ({", ".join(parts)})' if parts else ''


def _end(process: subprocess.Popen) -> None:
    """End a command and what it has started."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        # A user in a hurry may interrupt once more.
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(GRACE_SECONDS)
            return


def _say(text: str) -> None:
    sys.stderr.write(f'{text}\n')
    sys.stderr.flush()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Do a run: the plan's file, and the key of the run."""
    file, key = sys.argv[1:] if argv is None else argv
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    runs, plan = read_runs(Path(file))
    os.chdir(plan['working_folder'])
    try:
        do_run(runs[key], Path(plan['folder']), plan['data_root'],
               plan['tools'], threads=plan.get('threads'))
    except (OSError, ValueError, RuntimeError) as error:
        _say(f'FAILED {runs[key].title}: {error}')
        return 1
    except KeyboardInterrupt:
        _say(f'{runs[key].title}: stopped')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
