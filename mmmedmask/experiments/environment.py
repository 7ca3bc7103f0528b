"""What a run was made with: code, versions, hardware."""

import contextlib
import functools
import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mmmedmask.compat.config_bases import PACKAGE_FOLDER
from mmmedmask.compat.families import FAMILIES
from mmmedmask.version import __version__

_SECONDS = 20


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
    # Asking PyTorch would take memory on the GPU for as long as we wait.
    if shutil.which('nvidia-smi') is None:
        return []
    # A lost GPU makes it fail, and a driver that wakes up takes its time.
    listed = subprocess.run(['nvidia-smi', '--list-gpus'], text=True,
                            capture_output=True, check=False)
    return re.findall(r'^GPU \d+: (.*?)(?: \(UUID.*)?$', listed.stdout,
                      re.MULTILINE)


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True,
                              timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
