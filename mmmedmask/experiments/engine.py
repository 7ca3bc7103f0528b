"""Run jobs with Snakemake: what every command with many jobs starts.

This module adds a lock that ends with its process, so that nothing has to be
cleaned up after a crash, and the choice of free GPUs on a machine.
"""

import argparse
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from mmmedmask.experiments.environment import gpu_names, take_gpus
from mmmedmask.util.atomic_files import write_json
from mmmedmask.util.file_locks import LockedError, lock_file

#: Lock of a folder in which an engine works.
ENGINE_LOCK = 'engine.lock'
#: Folder of Snakemake's own files.
SNAKEMAKE_FOLDER = '.snakemake'
#: Profiles that come with the package, one per executor.
PROFILES = Path(__file__).with_name('profiles')
# A failed job must not stop the others, and what a killed engine left
# unfinished is done again. Files alone count, not code or parameters: our
# manifests say what a run was made with.
_OPTIONS = ('--keep-going', '--rerun-incomplete', '--rerun-triggers', 'mtime',
            '--scheduler', 'greedy', '--quiet', 'rules', 'host', 'reason')
# Exit status of a shell command that Ctrl-C has ended.
_INTERRUPTED = 130


class EngineMissingError(ModuleNotFoundError):
    """Snakemake is not installed."""


class EngineBusyError(RuntimeError):
    """Another engine works in the folder."""


def require_snakemake() -> None:
    """Raise `EngineMissingError`, which says what to install, if need be."""
    if importlib.util.find_spec('snakemake') is None:
        raise EngineMissingError('Snakemake is not installed, which runs the '
                                 'jobs: pip install mmmedmask[experiments]')
    version = importlib.metadata.version('snakemake')
    if (9, 10) <= tuple(map(int, version.split('.')[:2])) < (9, 17):
        raise EngineMissingError(
            f'Snakemake {version} starts more runs than there are cores and '
            "GPUs: pip install 'snakemake>=9.17'")


def run_snakemake(snakefile: str | Path, folder: str | Path,
                  config: Mapping | None = None, targets: Sequence[str] = (),
                  cores: int = 1, resources: Mapping[str, int] | None = None,
                  executor: str | None = None, jobs: int | None = None,
                  report: str | Path | None = None,
                  options: Sequence[str] = (),
                  defaults: Mapping[str, int] | None = None) -> int:
    """Let Snakemake make files, in this process.

    A job that fails stops those alone that need its files. The same call goes
    on after an interruption, whatever it was. Ctrl-C ends the engine and its
    local jobs; SIGTERM lets running jobs finish. Gives 0 if all targets are
    made, 130 after Ctrl-C, else 1.

    Args:
        folder: Working folder of the rules, where relative paths begin. One
            engine at a time works in it.
        config: What the rules find as ``config``: plain data, to which the
            ``executor`` is added.
        targets: Files (relative to ``folder``) or rules; none takes the
            first rule.
        cores: What rules take with ``threads``.
        resources: Limits of what else rules take, such as ``dict(gpus=8)``.
        executor: None runs jobs here; the name of an installed executor
            plugin, such as ``'slurm'``, elsewhere. A profile of that name
            in :data:`PROFILES` gives its defaults, see :func:`add_profile`.
        jobs: Jobs at a time that an executor submits; None takes 100.
        report: Html file to write about what is there. Nothing is run then.
        options: More options of Snakemake's command line, which win.
        defaults: Resources instead of those of the package's profile.

    Raises:
        EngineMissingError: If Snakemake is not installed.
        EngineBusyError: If another engine works in the folder.
    """
    require_snakemake()
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    command = ['--snakefile', str(Path(snakefile).resolve()),
               '--directory', str(folder), *_OPTIONS]
    if config is not None:
        command += ['--configfile', str(_write_config(
            folder, dict(config, executor=executor)))]
    if executor is None:
        command += ['--cores', str(cores)]
    else:
        command += ['--executor', executor, '--jobs', str(jobs or 100)]
        options = add_profile(PROFILES / executor, options, defaults or {})
    if resources:
        command += ['--resources', *(f'{name}={number}' for name, number
                                     in resources.items())]
    if report is not None:
        command += ['--report', str(Path(report).resolve())]
    # Targets must not be taken for values of the option before them.
    command += [*options, '--', *targets]
    with lock_folder(folder):
        # No other process is here, so what looks locked was left by a crash.
        shutil.rmtree(folder / SNAKEMAKE_FOLDER / 'locks', ignore_errors=True)
        return _call(command)


def add_profile(profile: Path, options: Sequence[str],
                defaults: Mapping[str, int]) -> list[str]:
    """Add a profile, if it is there, to options that name none.

    Snakemake takes all default resources of the options in the place of all
    of the profile; here one replaces that of its name alone. ``defaults``
    replace those of the profile, too.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('--profile', action='append')
    parser.add_argument('--default-resources', '--default-res', nargs='*',
                        action='extend', default=[])
    chosen, others = parser.parse_known_args(options)
    if chosen.profile or not profile.is_dir():
        return list(options)
    content = yaml.safe_load((profile / 'config.yaml').read_text('utf-8'))
    resources = {name: f'{name}={value}' for name, value
                 in {**content['default-resources'], **defaults}.items()}
    resources |= {text.partition('=')[0]: text
                  for text in chosen.default_resources}
    return ['--profile', str(profile), '--default-resources',
            *resources.values(), *others]


@contextlib.contextmanager
def lock_folder(folder: str | Path) -> Iterator[None]:
    """Keep other engines out of a folder; ends with the process."""
    try:
        with lock_file(Path(folder, ENGINE_LOCK), inherited=True):
            yield
    except LockedError as error:
        raise EngineBusyError(f'{error.holder} works in {folder}: wait until '
                              'it ends, or choose another work dir') from None


def visible_gpus() -> list[str]:
    """List the entries of ``CUDA_VISIBLE_DEVICES``, else all GPUs.

    From the first one on that is no GPU, such as -1, or 4 where there are
    four, CUDA takes none.
    """
    chosen = os.environ.get('CUDA_VISIBLE_DEVICES')
    if chosen is not None:
        return take_gpus(chosen.split(','))
    return [str(number) for number in range(len(gpu_names()))]


@contextlib.contextmanager
def reserve_gpus(number: int, folder: str | Path
                 ) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """Choose GPUs that no other job of the folder uses.

    Yields environment variables for the commands of the job, and the file
    descriptors that they have to inherit (``pass_fds``): a GPU is free again
    when the last process that has its descriptor ends. Both are empty if there
    is nothing to choose: without GPUs, or if a cluster shows the job no more
    than it needs.
    """
    devices = visible_gpus()
    if len(devices) <= number:
        yield {}, ()
        return
    locks = Path(folder, '.gpus', socket.gethostname())
    locks.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        taken: dict[str, int] = {}
        for device in devices:
            with contextlib.suppress(LockedError):
                taken[device] = stack.enter_context(
                    lock_file(locks / f'{device}.lock', inherited=True))
            if len(taken) == number:
                break
        else:
            raise RuntimeError(
                f'{number} GPUs are needed, {len(taken)} of {len(devices)} '
                'are free: the engine needs the limit --resources gpus='
                f'{len(devices)} or less')
        yield ({'CUDA_VISIBLE_DEVICES': ','.join(taken)},
               tuple(taken.values()))


def _write_config(folder: Path, config: Mapping) -> Path:
    """Write a file that jobs of an earlier call do not see change."""
    text = json.dumps(config, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    file = folder / SNAKEMAKE_FOLDER / 'configs' / f'{digest}.json'
    if not file.is_file():
        write_json(file, config)
    return file


def _call(command: Sequence[str]) -> int:
    """Run Snakemake's command line, and put back what it changes."""
    from snakemake.cli import main
    interrupted = []

    def interrupt(number: int, frame: object) -> None:
        interrupted.append(number)
        raise KeyboardInterrupt

    handlers = {number: signal.getsignal(number)
                for number in (signal.SIGINT, signal.SIGTERM)}
    folder = os.getcwd()
    signal.signal(signal.SIGINT, interrupt)
    try:
        main(list(command))
    except KeyboardInterrupt:
        interrupted.append(signal.SIGINT)
    except SystemExit as end:
        return _INTERRUPTED if interrupted else int(bool(end.code))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.chdir(folder)
    return _INTERRUPTED
