"""End loader workers whose process was killed.

PyTorch's workers see that their process is gone (pytorch#6606), but a batch
that nobody reads any more keeps them from ending: they wait for ever in the
full pipe, with their memory (no upstream issue).

Delete when a worker of ``torch.utils.data.DataLoader`` ends within seconds of
a SIGKILL of its process while it hands over a batch.
"""

import multiprocessing
import os
import threading
import time

SECONDS = 1.0


def end_with_parent(worker: int | None = None) -> None:
    """Let a worker end soon after its process does; a ``worker_init_fn``.

    A signal of the kernel (``PR_SET_PDEATHSIG``) would come when the thread
    ends that has started the worker.
    """
    parent = multiprocessing.parent_process()
    # A server of forks would be between them.
    if parent and parent.pid == os.getppid():
        threading.Thread(
            target=_end_after, args=(parent.pid, ), daemon=True).start()


def _end_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(SECONDS)
    os._exit(1)


def end_orphaned_workers() -> None:
    """Let the loaders of MMEngine's runner call :func:`end_with_parent`."""
    from mmengine.runner import runner
    runner.default_worker_init_fn = init_worker


def init_worker(worker_id: int, **options: object) -> None:
    """Do what MMEngine's function does, whose options it takes, and watch.

    Processes that are spawned look for it here by its name.
    """
    from mmengine.dataset import worker_init_fn
    end_with_parent()
    worker_init_fn(worker_id, **options)
