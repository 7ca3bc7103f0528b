"""Run Python scripts in processes of their own, importing everything once.

    python forked_runs.py '[[["script.py", "argument"], ...], ...]'

The scripts of an inner list run at the same time, the lists one after the
other. Prints the exit statuses in JSON, -N for a process killed by signal N.
Importing the stack takes longer than what the tests want to see, so each
process is forked from one that has imported it, before it computes.
"""

import json
import os
import runpy
import sys

import mmengine.runner  # noqa: F401
import torch

import mmmedmask.apis
import mmmedmask.datasets
import mmmedmask.engine
import mmmedmask.models  # noqa: F401


def start(command: list[str]) -> int:
    """Run one script in a new process; return its id."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        torch.set_num_threads(1)
        sys.argv = command
        runpy.run_path(command[0], run_name='__main__')
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if status:
            sys.excepthook(*sys.exc_info())
        os._exit(status)


def main() -> None:
    statuses = []
    for commands in json.loads(sys.argv[1]):
        processes = [start(command) for command in commands]
        statuses.append([
            os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            for process in processes
        ])
    print(json.dumps(statuses))


if __name__ == '__main__':
    main()
