"""Locks that end with their process, whatever ends it.

The kernel holds them, on NFS the server of the file system, so that nothing
has to be cleaned up after a crash. Their file says who holds them, for people.
"""

import errno
import fcntl
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

_TEXT_BYTES = 500
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_HOLDER = re.compile(r'process (\d+)\b.* on (\S+)')
# Descriptors of the locks that this process holds.
_HELD: set[int] = set()


class LockedError(RuntimeError):
    """Another process, the ``holder``, holds a lock."""

    def __init__(self, message: str, holder: str) -> None:
        super().__init__(message)
        self.holder = holder


@contextmanager
def lock_file(file: str | Path, *, inherited: bool = False,
              waiting: Callable[[str], object] | None = None,
              freed: Callable[[str], object] = lambda holder: None
              ) -> Iterator[int]:
    """Hold a lock for the length of a block.

    On a file system without locks, the text in the file counts: a holder on
    this machine that does not run any more is dead, one on another machine
    is not, unless it was the same job of Slurm, which has been requeued.

    Args:
        file: The lock's file; it is made and stays.
        inherited: Whether a command that gets the descriptor keeps the lock
            when this process is killed. A fork, such as a loader's worker,
            keeps no lock.
        waiting: Called with the holder before this waits for it; without it,
            a lock that is taken is a LockedError.
        freed: Called with a holder that was killed, after its lock was taken.

    Yields:
        The descriptor of the file, for ``pass_fds`` and :func:`note_holder`.
    """
    lock = fcntl.flock if inherited else fcntl.lockf
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    _HELD.add(descriptor)
    try:
        before = os.pread(descriptor, _TEXT_BYTES, 0).decode(
            errors='replace').strip()
        try:
            lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = False
        except (BlockingIOError, PermissionError):
            taken = True
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            taken = _may_run(before)
            lock = None
        if taken and (waiting is None or lock is None):
            holder = before or 'another process'
            advice = '' if lock else f'; if it does not run, delete {file}'
            raise LockedError(f'{holder} holds {file}{advice}', holder)
        if taken:
            waiting(before or 'another process')
            lock(descriptor, fcntl.LOCK_EX)
        elif before:
            freed(before)
        note_holder(descriptor, f'process {os.getpid()}')
        try:
            yield descriptor
        finally:
            if descriptor in _HELD:
                os.ftruncate(descriptor, 0)
    finally:
        if descriptor in _HELD:
            _HELD.remove(descriptor)
            os.close(descriptor)


def _let_go() -> None:
    """Close in a forked child what would keep a lock as long as it lives."""
    while _HELD:
        os.close(_HELD.pop())


os.register_at_fork(after_in_child=_let_go)


def note_holder(descriptor: int, holder: str) -> None:
    """Write into a lock's file who holds it, where and since when."""
    since = datetime.now(UTC).isoformat(timespec='seconds')
    job = os.environ.get('SLURM_JOB_ID')
    text = (f'{holder} on {socket.gethostname()} since {since}'
            + (f' (Slurm job {job})' if job else ''))
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f'{text}\n'.encode(), 0)


def _may_run(holder: str) -> bool:
    """Whether the process that a lock's file names may still run."""
    match = _HOLDER.search(holder)
    if not match:
        return False
    job = os.environ.get('SLURM_JOB_ID')
    if job and f'(Slurm job {job})' in holder:
        return False
    if match[2] != socket.gethostname():
        return True
    return process_runs(int(match[1]))


def process_runs(number: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
