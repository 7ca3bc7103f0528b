"""Locks keep others out, and end with their process."""

import errno
import fcntl
import os
import signal
import socket

import pytest
from processes import run_forked

from mmmedmask.util import file_locks
from mmmedmask.util.file_locks import LockedError, lock_file


def killed_with_lock(file):
    """A process takes the lock and is killed."""
    def work():
        with lock_file(file):
            os.kill(os.getpid(), signal.SIGKILL)

    assert run_forked(work) == [-signal.SIGKILL]


@pytest.mark.parametrize('inherited', [False, True])
def test_another_process_is_kept_out_and_named(tmp_path, inherited):
    file = tmp_path / 'lock'
    mine = rf'process {os.getpid()} on {socket.gethostname()} since 20'

    def other():
        with pytest.raises(LockedError, match=f'{mine}.* holds .*lock'), \
                lock_file(file, inherited=inherited):
            pass

    with lock_file(file, inherited=inherited):
        assert run_forked(other) == [0]
    assert file.read_text() == ''
    freed = []
    with lock_file(file, inherited=inherited, freed=freed.append):
        assert freed == []


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    killed_with_lock(tmp_path / 'lock')
    freed = []
    with lock_file(tmp_path / 'lock', freed=freed.append):
        assert freed[0].startswith('process ')


@pytest.mark.parametrize('inherited', [False, True])
def test_a_fork_that_lives_on_keeps_no_lock(tmp_path, inherited):
    """Such as a worker of a data loader."""
    file = tmp_path / 'lock'
    (begun, begin), (read, write) = os.pipe(), os.pipe()
    with lock_file(file, inherited=inherited):
        pid = os.fork()
        if not pid:
            os.write(begin, b'x')
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        os.read(begun, 1)
    try:
        with lock_file(file, inherited=inherited):
            assert os.waitpid(pid, os.WNOHANG) == (0, 0), 'it lives'
    finally:
        os.close(write)
        os.waitpid(pid, 0)


def test_a_fork_may_leave_the_block(tmp_path):
    """It touches neither the lock's file nor one that has its descriptor."""
    lock = lock_file(tmp_path / 'lock', inherited=True)
    descriptor = lock.__enter__()

    def leave():
        other = os.open(tmp_path / 'other', os.O_RDWR | os.O_CREAT)
        os.dup2(other, descriptor)
        os.write(descriptor, b'text')
        lock.__exit__(None, None, None)
        assert os.pread(descriptor, 9, 0) == b'text'

    assert run_forked(leave) == [0]
    assert (tmp_path / 'lock').read_text().startswith('process ')
    lock.__exit__(None, None, None)


def test_waiting_ends_when_the_other_does(tmp_path):
    file, waited = tmp_path / 'lock', []
    read, write = os.pipe()

    def other():
        with lock_file(file):
            os.write(write, b'x')
            os.read(os.open(tmp_path / 'go', os.O_RDONLY), 1)

    os.mkfifo(tmp_path / 'go')
    pid = os.fork()
    if not pid:
        try:
            other()
        finally:
            os._exit(0)
    os.read(read, 1)

    def waiting(holder):
        waited.append(holder)
        os.write(os.open(tmp_path / 'go', os.O_WRONLY), b'x')

    with lock_file(file, waiting=waiting):
        assert waited[0].startswith(f'process {pid} on')
    os.waitpid(pid, 0)


@pytest.mark.parametrize(('holder', 'job', 'free'), [
    ('', None, True),
    # No such process: the largest number of Linux.
    (f'process 4194304 on {socket.gethostname()} since x', None, True),
    (f'process {os.getppid()} on {socket.gethostname()} since x', None, False),
    ('process 7 on another-host since x', None, False),
    # The job was requeued on another machine.
    ('process 7 on another-host since x (Slurm job 12)', '12', True),
    ('process 7 on another-host since x (Slurm job 12)', '13', False),
])
def test_without_locks_of_the_file_system_the_text_counts(
        tmp_path, monkeypatch, holder, job, free):
    def refuse(*_):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(fcntl, 'lockf', refuse)
    monkeypatch.delenv('SLURM_JOB_ID', raising=False)
    if job:
        monkeypatch.setenv('SLURM_JOB_ID', job)
    file = tmp_path / 'lock'
    file.write_text(holder)
    if free:
        with lock_file(file):
            assert file.read_text().startswith(f'process {os.getpid()} on')
        return
    with pytest.raises(LockedError, match=f'holds .*; if it does not run, '
                       f'delete {file}'), file_locks.lock_file(file):
        pass
