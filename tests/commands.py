"""Run a command as a user would, and see how it ended."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path


def run(*command, status: int = 0, cwd=None, **environment: str) -> str:
    """Run a command in the environment of the tests.

    Args:
        command: The program and its arguments.
        status: The exit status that it has to end with.
        cwd: The working folder.
        environment: Variables to set, besides those of this process. The
            programs beside this Python come first on the ``PATH``.

    Returns:
        What it printed, both streams in their order.
    """
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
        env={
            **os.environ, 'PATH': path,
            **environment
        },
        start_new_session=True)
    try:
        output = process.communicate()[0]
    except BaseException:
        # A test that runs out of time must not leave its processes behind,
        # nor those that they started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    assert process.returncode == status, output
    return output
