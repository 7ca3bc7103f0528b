"""Run a function as several ranks of gloo, each in a process of its own."""

import multiprocessing
import os
import traceback

import torch
from torch import distributed


def run_ranks(work, folder, size=2):
    """Call ``work(rank)`` in ``size`` processes; all have to succeed.

    They are copies of this process, which has imported everything.
    """
    context = multiprocessing.get_context('fork')
    processes = [
        context.Process(target=_start, args=(work, rank, str(folder), size))
        for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=300)
    assert [process.exitcode for process in processes] == [0] * size


def _start(work, rank, folder, size):
    """Run ``work`` without this process's way out."""
    status = 1
    try:
        torch.set_num_threads(1)
        distributed.init_process_group(
            'gloo', init_method=f'file://{folder}/store', rank=rank,
            world_size=size)
        work(rank)
        distributed.destroy_process_group()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
