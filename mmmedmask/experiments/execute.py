"""Do the steps of all runs; skip what is done, go on where it stopped.

A step that has ended is noted in the run's manifest before the next begins.
After a kill at any point, the step that was not noted is done again, and a
training goes on from its last whole checkpoint.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mmmedmask.experiments.commands import Step, run_steps, shell_line
from mmmedmask.experiments.environment import describe_environment
from mmmedmask.experiments.manifest import (
    MANIFEST_FILE,
    DataFingerprints,
    RunLock,
    RunLockedError,
    check_manifest,
    lock_run,
    new_manifest,
    note_holder,
    now,
    read_manifest,
    run_key,
    write_json,
)
from mmmedmask.experiments.plan import Plan, Run
from mmmedmask.experiments.progress import History, Reporter, duration
from mmmedmask.experiments.run_files import (
    last_log_folder,
    mend_checkpoints,
    read_load_checks,
    read_metrics,
    tail_of,
    training_progress,
)

#: Lines of its log that a failed step shows.
TAIL_LINES = 25
#: Seconds between two looks at a step, and between two notes of its time.
POLL_SECONDS = 0.2
NOTE_SECONDS = 30.0
#: Seconds between two tries to get runs that other processes have.
WAIT_SECONDS = 2.0
#: Seconds that a stopped step has to end, before it is told harder.
GRACE_SECONDS = 20.0


class StepFailedError(RuntimeError):
    """A step of a run failed; the message has the end of its log."""


class Executor(Protocol):
    """Does the steps of runs."""

    def run_step(self, run: Run, step: Step, lock: RunLock,
                 watch: Callable[[], None]) -> None:
        """Do a step.

        Args:
            run: The run.
            step: One of its steps.
            lock: The lock on the run.
            watch: To be called now and then.

        Raises:
            StepFailedError: If it fails.
        """


class SubprocessExecutor:
    """Does each step as the command that a user would give.

    A command has a session of its own, so that Ctrl-C reaches it through us
    alone, and it inherits the lock: if this process is killed, the command
    goes on, and whoever comes next waits for it.
    """

    def run_step(self, run: Run, step: Step, lock: RunLock,
                 watch: Callable[[], None]) -> None:
        """See :class:`Executor`."""
        log = run.folder / f'{step.name}.log'
        environment = dict(os.environ)
        # dist_train.sh looks for torchrun.
        environment['PATH'] = os.pathsep.join(
            [str(Path(sys.executable).parent), environment.get('PATH', '')])
        command = list(step.command)
        if command[0] == 'python':
            command[0] = sys.executable
        with log.open('a', encoding='utf-8') as stream:
            stream.write(f'\n{now()} $ {shell_line(step.command)}\n')
            stream.flush()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=(lock.descriptor, ),
                start_new_session=True)
            try:
                note_holder(lock.descriptor, f'process {process.pid} '
                            f'({step.name} of {run.title})')
                while process.poll() is None:
                    watch()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(POLL_SECONDS)
            except BaseException:
                _end(process)
                raise
        if process.returncode != 0:
            raise StepFailedError(
                f'{step.name} ended with status {process.returncode}. The '
                f'end of {log}:\n{tail_of(log, TAIL_LINES)}')


@dataclass
class Execution:
    """Does all runs of a plan.

    Attributes:
        plan: The plan.
        data_root: Folder in the place of ``data/``.
        tools: Folder of ``train.py`` and the others.
        executor: Does the steps.
        reporter: Says how far it is.
        history: How long runs took.
        fingerprints: Of the data; None at scale smoke, where data are drawn.
        failures: What went wrong, by run.
    """

    plan: Plan
    data_root: Path
    tools: Path
    executor: Executor
    reporter: Reporter
    history: History
    fingerprints: DataFingerprints | None
    failures: dict[Run, str] = field(default_factory=dict)
    _environment: dict | None = None
    _finished: dict[Run, dict] = field(default_factory=dict)

    def execute(self) -> None:
        """Do all runs; one that fails stops those alone that need it."""
        pending = list(self.plan.runs)
        said: set[Run] = set()
        while pending:
            before = len(pending)
            for run in list(pending):
                sources = [one.run for one in run.sources.values()]
                failed = [one for one in sources if one in self.failures]
                if failed:
                    self.failures[run] = f'not run, since {failed[0].title} ' \
                        'failed'
                elif not all(one in self._finished for one in sources):
                    # Another process has one of them.
                    continue
                elif not self._try_run(run, pending, said):
                    continue
                pending.remove(run)
            if pending and len(pending) == before:
                self.reporter.status(
                    f'waiting for {len(said)} runs of other processes')
                time.sleep(WAIT_SECONDS)

    def _try_run(self, run: Run, pending: Sequence[Run],
                 said: set[Run]) -> bool:
        """Do a run, unless another process has it."""
        try:
            with lock_run(run.folder) as lock:
                self._finished[run] = self._do_run(run, lock, pending)
        except RunLockedError as error:
            if run not in said:
                self.reporter.say(f'{run.title}: {error} has it, skipped for '
                                  'now')
            said.add(run)
            return False
        except (StepFailedError, OSError, ValueError) as error:
            self.failures[run] = str(error)
            self.reporter.say(f'FAILED {run.title}: {error}')
        said.discard(run)
        return True

    def _do_run(self, run: Run, lock: RunLock,
                pending: Sequence[Run]) -> dict:
        manifest = load_checked_manifest(run, self.fingerprints)
        if manifest is None:
            data = self.fingerprints.of_run(run) if self.fingerprints else {}
            manifest = new_manifest(run, self.data_root, data)
        steps = self._open_steps(run, manifest)
        if not steps:
            if manifest['status'] != 'done':
                self._save(run, manifest, status='done')
            return manifest
        self._environment = self._environment or describe_environment()
        manifest['starts'].append(dict(
            time=now(), command=' '.join(sys.argv), **self._environment))
        manifest['users'] = sorted({*manifest['users'], *run.users})
        manifest['sources'] = [
            dict(run=run_key(one.run), choice=one.choice,
                 exported=one.exported, id=self._finished[one.run]['id'])
            for one in run.sources.values()]
        try:
            while steps:
                self._do_step(run, steps[0], lock, manifest, pending)
                # The name of a best checkpoint is known after training.
                steps = self._open_steps(run, manifest)
        except BaseException as error:
            failed = isinstance(error, StepFailedError | OSError | ValueError)
            self._save(run, manifest,
                       status='failed' if failed else 'interrupted',
                       error=str(error) if failed else None)
            raise
        self._save(run, manifest, status='done', error=None)
        self.history.add(manifest)
        self.reporter.say(
            f'{self._place(run)} {run.title}: done in '
            f'{duration(manifest["seconds"])}{_describe(manifest)}')
        return manifest

    def _open_steps(self, run: Run, manifest: Mapping) -> list[Step]:
        """Steps that are not done, each with what it needs."""
        steps = run_steps(run, self.data_root, self.tools)
        ended = {name for name, step in manifest['steps'].items()
                 if step.get('ended')}
        for step in steps:
            if step.kind == 'export' and step.name in ended and not Path(
                    run.exported_file(step.choice)).is_file():
                ended.discard(step.name)
        left = [step for step in steps if step.name not in ended]
        if left and left[0].kind != 'train':
            for step in left:
                _need_checkpoint(run, step.choice)
        return left

    def _do_step(self, run: Run, step: Step, lock: RunLock, manifest: dict,
                 pending: Sequence[Run]) -> None:
        self.reporter.say(f'{self._place(run)} {run.title}: {step.name} '
                          f'({run.users[0]})')
        before = manifest['steps'].get(step.name, {})
        note = dict(
            command=shell_line(step.command),
            started=before.get('started') or now(),
            tries=before.get('tries', 0) + 1,
            seconds=before.get('seconds', 0.0))
        manifest['steps'][step.name] = note
        self._save(run, manifest, status='running', error=None)
        if step.kind == 'train':
            mended = mend_checkpoints(run.folder)
            if mended:
                self.reporter.say(f'  {run.folder}: {mended}')
        tests = run.test_folder(step.choice)
        last_test = last_log_folder(tests) if step.kind == 'test' else ''
        start, spent = time.monotonic(), note['seconds']
        noted = [start]
        self.reporter.restart()

        def watch() -> None:
            moment = time.monotonic()
            if moment - noted[0] >= NOTE_SECONDS:
                noted[0] = moment
                note['seconds'] = spent + moment - start
                self._save(run, manifest)
            self.reporter.status(self._status(run, step, pending))

        try:
            self.executor.run_step(run, step, lock, watch)
        finally:
            note['seconds'] = round(spent + time.monotonic() - start, 3)
        if step.kind == 'train':
            _need_checkpoint(run, 'last')
            manifest['load_checks'] = read_load_checks(run.folder)
        elif step.kind == 'test':
            manifest['results'][step.choice] = read_metrics(tests, last_test)
        note['ended'] = now()
        self._save(run, manifest)

    def _save(self, run: Run, manifest: dict, **changes) -> None:
        manifest.update(changes)
        manifest['seconds'] = round(sum(
            step['seconds'] for step in manifest['steps'].values()), 3)
        write_json(run.folder / MANIFEST_FILE, manifest)

    def _place(self, run: Run) -> str:
        return f'[{self.plan.runs.index(run) + 1}/{len(self.plan.runs)}]'

    def _status(self, run: Run, step: Step, pending: Sequence[Run]) -> str:
        text = f'{self._place(run)} {run.title}: {step.name}'
        left = None
        if step.kind == 'train':
            progress = training_progress(
                run.folder, run.config.train_cfg.get('max_epochs'))
            if progress is not None:
                left = progress.seconds_left
                text += f', iteration {progress.iteration}'
                if progress.total is not None:
                    text += f' of {progress.total}'
                text += f', loss {progress.loss:.4g}'
                if left is not None:
                    text += f', {duration(left)} left of it'
        others = [one for one in pending if one is not run]
        return f'{text}; {self.history.describe_left(left, others)}'


def load_checked_manifest(run: Run, fingerprints: DataFingerprints | None
                          ) -> dict | None:
    """Read a run's manifest, and refuse one of something else.

    Args:
        run: The run.
        fingerprints: Of the data now; None does not compare them.

    Returns:
        The manifest, None if there is none.

    Raises:
        ValueError: See :func:`~mmmedmask.experiments.manifest.check_manifest`.
    """
    manifest = read_manifest(run.folder)
    if manifest is None:
        return None
    sources = {run_key(one.run): read_manifest(one.run.folder)
               for one in run.sources.values()}
    check_manifest(run, manifest,
                   fingerprints.of_run(run) if fingerprints else None,
                   sources)
    return manifest


def stop_on_signals() -> None:
    """Let SIGTERM and SIGHUP stop the runs as Ctrl-C does."""

    def stop(number, frame) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def _need_checkpoint(run: Run, choice: str) -> None:
    file = Path(run.checkpoint(choice))
    if file.is_file():
        return
    if not (run.folder / 'last_checkpoint').is_file():
        raise StepFailedError(
            f'{run.folder} has no checkpoint any more: delete the folder to '
            'train the run again')
    raise StepFailedError(
        f'the training in {run.folder} has ended without its {choice} '
        f'checkpoint ({file.name})')


def _describe(manifest: Mapping) -> str:
    """What the load check said and what the tests gave, in a few words."""
    parts = [f'{one["percent"]:g} % loaded' for one in manifest['load_checks']
             if 'percent' in one]
    for results in manifest['results'].values():
        parts += [f'{name} {value:.4g}'
                  for name, value in list(results.items())[:3]]
    return f' ({", ".join(parts)})' if parts else ''


def _end(process: subprocess.Popen) -> None:
    """End a command and what it has started."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        except KeyboardInterrupt:
            # Somebody is in a hurry.
            continue
        return
