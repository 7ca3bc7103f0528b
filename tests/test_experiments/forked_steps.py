"""Steps of runs in forks of this process, which has imported all libraries."""

import functools
import importlib
import os
import runpy
import signal
import sys

from processes import run_forked

from mmmedmask.experiments.run_job import StepFailedError
from mmmedmask.setup_env import register_all_modules
from mmmedmask.util.file_locks import note_holder


@functools.cache
def import_libraries():
    """Import here, once, what every fork needs."""
    register_all_modules()
    for package in ('datasets', 'engine', 'evaluation', 'models',
                    'visualization'):
        importlib.import_module(f'mmpretrain.{package}')


def fork_step(run, step, environment, locks):
    """Start a tool without a new interpreter."""
    import_libraries()
    log = run.folder / f'{step.name}.log'
    # A command inherits the lock of the run, and a fork no lock at all.
    lock = os.dup(locks[0])

    def work():
        os.setsid()
        note_holder(lock, f'process {os.getpid()}')
        # It stays open: whoever ends this process flushes it.
        sys.stdout = sys.stderr = log.open('a')
        for number in (1, 2):
            os.dup2(sys.stdout.fileno(), number)
        sys.argv = list(step.command[1:])
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        try:
            runpy.run_path(step.command[1], run_name='__main__')
        except SystemExit as error:
            return int(bool(error.code))

    try:
        status, = run_forked(work)
    finally:
        os.close(lock)
    if status:
        raise StepFailedError(f'{step.name} ended with {status}: '
                              f'{log.read_text()}')
