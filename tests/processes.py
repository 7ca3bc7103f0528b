"""Run functions in processes of their own, which are copies of the test's.

A copy has imported everything already; that takes longer than what a test
wants to see. It ends without the test's way out: no fixture, no report.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import traceback


def run_forked(*works):
    """Call functions at the same time, each in a copy of this process.

    Their exit statuses are what they return (0 for None), 1 after an
    exception, which is printed, and -N if signal N ended them.
    """
    processes = [_start(work) for work in works]
    statuses = []
    try:
        for process in processes:
            status = os.waitpid(process, 0)[1]
            statuses.append(os.waitstatus_to_exitcode(status))
    finally:
        # Also a test that runs out of time leaves none behind.
        for process in processes[len(statuses):]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    return statuses


def _start(work):
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        # The copy has children of its own, data loaders' for instance.
        multiprocessing.process._children.clear()
        _hide_gpus()
        if torch := sys.modules.get('torch'):
            # The threads of a pool are not copied: who waits for them, waits
            # for ever.
            torch.set_num_threads(1)
        status = work() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _hide_gpus():
    """A copy cannot use a GPU that the process has used before."""
    if torch := sys.modules.get('torch'):
        torch.cuda.is_available = lambda: False
    if device := sys.modules.get('mmengine.device.utils'):
        device.DEVICE = 'cpu'


#: What takes longest to import and belongs to no host. Each piece of code gets
#: a copy of the process that has imported it.
_SHARED = """
import os
import sys
{before}
import mmengine.runner
import torchvision
for code in {codes!r}:
    if os.fork() == 0:
        exec(code, dict(__name__='__main__'))
        sys.exit()
    assert os.wait()[1] == 0, code
"""


def run_fresh(*codes, before='', arguments=()):
    """Run pieces of code, each in a process that has imported no host.

    ``before`` runs once, before anything is imported. The first that fails
    ends the run.
    """
    text = _SHARED.format(before=textwrap.dedent(before),
                          codes=[textwrap.dedent(code) for code in codes])
    return subprocess.run(
        [sys.executable, '-W', 'default::UserWarning', '-c', text,
         *map(str, arguments)], capture_output=True, text=True, check=False)


def run_ranks(work, folder, size=2):
    """Call ``work(rank)`` in the processes of a group, which meet in a folder.
    """

    def rank_of(rank):
        def join():
            from torch import distributed
            distributed.init_process_group(
                'gloo', init_method=f'file://{folder}/store', rank=rank,
                world_size=size)
            work(rank)
            # Who leaves while another rank still connects or reads breaks
            # that one's connection.
            distributed.barrier()
            distributed.destroy_process_group()

        return join

    assert run_forked(*map(rank_of, range(size))) == [0] * size


def evaluate_on_ranks(work, folder, size=2):
    """Call ``work(rank)`` as some ranks; return what they returned.

    They work in ``folder``, where MMEngine's results of ranks meet.
    """

    def write(rank):
        os.chdir(folder)
        with open(f'{rank}.json', 'w') as file:
            json.dump(work(rank), file)

    run_ranks(write, folder, size)
    return [json.loads((folder / f'{rank}.json').read_text())
            for rank in range(size)]
