"""Workers of loaders end with a process that was killed."""

import ast
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from mmengine.runner import Runner
from processes import run_forked

import mmmedmask


class Large(list):
    """Samples that do not fit into a pipe."""

    def __getitem__(self, index):
        return np.zeros(10**6, np.uint8)


def _lives(pid):
    try:
        stat = Path(f'/proc/{pid}/stat').read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(')')[2].split()[0] != 'Z'


@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='no /proc')
def test_workers_end_with_a_killed_process(tmp_path):

    def killed():
        loader = Runner.build_dataloader(dict(
            dataset=Large(range(99)), batch_size=1, num_workers=2,
            sampler=dict(type='DefaultSampler', shuffle=False)), seed=0)
        batches = iter(loader)
        next(batches)
        (tmp_path / 'pids').write_text(' '.join(
            str(worker.pid) for worker in batches._workers))
        os.kill(os.getpid(), signal.SIGKILL)

    assert run_forked(killed) == [-signal.SIGKILL]
    workers = [int(pid) for pid in (tmp_path / 'pids').read_text().split()]
    end = time.monotonic() + 20
    while any(map(_lives, workers)) and time.monotonic() < end:
        time.sleep(0.2)
    left = [pid for pid in workers if _lives(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert len(workers) == 2
    assert left == []


def test_our_own_loaders_say_so():
    calls = [node for file in Path(mmmedmask.__file__).parent.rglob('*.py')
             for node in ast.walk(ast.parse(file.read_text('utf-8')))
             if isinstance(node, ast.Call)
             and getattr(node.func, 'id', '') == 'DataLoader']
    assert calls
    assert all('worker_init_fn' in {word.arg for word in call.keywords}
               for call in calls)
