"""What a run was made with: code, versions, hardware."""

import contextlib
import functools
import itertools
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mmmedmask.compat.config_bases import PACKAGE_FOLDER
from mmmedmask.compat.families import FAMILIES
from mmmedmask.version import __version__

_SECONDS = 20
_LISTED_GPU = re.compile(r'^GPU \d+: (.*?)(?: \(UUID.*)?$', re.MULTILINE)


@functools.cache
def describe_environment() -> dict:
    """Collect what a result may depend on besides config and data.

    It is plain data: ``git`` (``commit`` and ``dirty``, None outside of a git
    checkout), ``versions``, and ``hardware``: ``cpu``, ``cores`` that may be
    used, and ``gpus``.
    """
    return dict(git=git_state(PACKAGE_FOLDER), versions=package_versions(),
                hardware=dict(cpu=_cpu_name(), cores=usable_cores(),
                              gpus=gpu_names()))


def usable_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def git_state(folder: Path) -> dict | None:
    """Find the ``commit`` of a folder, and whether it is ``dirty``, if any."""
    # A package that is installed into some other project's checkout is not
    # what that has committed.
    top = _run('git', '-C', str(folder), 'rev-parse', '--show-toplevel')
    if top is None or 'site-packages' in folder.parts:
        return None
    commit = _run('git', '-C', str(folder), 'rev-parse', 'HEAD')
    changes = _run('git', '-C', str(folder), 'status', '--porcelain',
                   '--untracked-files=no')
    return dict(commit=commit, dirty=bool(changes))


def package_versions() -> dict[str, str]:
    """List the versions of Python and of the packages that matter."""
    versions = dict(python=platform.python_version(), mmmedmask=__version__)
    families = [name for fork, originals in FAMILIES.values()
                for name in (fork, *originals)]
    for name in ('torch', 'torchvision', 'numpy', *families):
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _cpu_name() -> str:
    info = Path('/proc/cpuinfo')
    text = info.read_text('utf-8', 'replace') if info.is_file() else ''
    named = re.search(r'^model name\s*:\s*(.*?)\s*$', text, re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()


def gpu_names() -> list[str]:
    """List the names of all GPUs, one for each."""
    return _LISTED_GPU.findall(_list_gpus() or '')


def take_gpus(entries: Iterable[str]) -> list[str]:
    """Take GPUs, as CUDA does up to the first entry that is none.

    An entry is a number, or a UUID or its beginning. Where nobody can list the
    GPUs of the machine, each number and name is one. Of a list that has one
    twice CUDA takes none at all.
    """
    listing = _list_gpus()

    def is_there(entry: str) -> bool:
        if entry.isdigit():
            return listing is None or int(entry) < len(
                _LISTED_GPU.findall(listing))
        # Parts of a GPU had names, before driver 470, that are not listed.
        return entry.startswith('MIG-GPU-') or entry.startswith(
            ('GPU-', 'MIG-')) and (
                listing is None or f'(UUID: {entry}' in listing)

    gpus = list(itertools.takewhile(is_there, map(str.strip, entries)))
    return gpus if len(set(gpus)) == len(gpus) else []


def _list_gpus() -> str | None:
    """Let the driver list its GPUs; None if it cannot."""
    # Asking PyTorch would take memory on the GPU for as long as we wait.
    if shutil.which('nvidia-smi') is None:
        return None
    # A lost GPU makes it fail, and a driver that wakes up takes its time.
    listing = subprocess.run(['nvidia-smi', '--list-gpus'], text=True,
                             capture_output=True, check=False).stdout
    return listing if _LISTED_GPU.search(
        listing) or 'No devices' in listing else None


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True,
                              timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
