"""Measure the start of tools/train.py, up to the first iteration.

    python tools/analysis_tools/benchmark_start.py

Trains the demo's CMIM on tiles that ship with scikit-image, without probes,
in a process of its own that is stopped after its first iteration. Beside it
stands what torch alone takes to be imported.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarking import Goal, figure_of, make_parser, report, set_up

from mmmedmask.util.run_tool import run_tool

ROOT = Path(__file__).resolve().parents[2]
CONFIG = 'configs/cmim/demo/cmim_resnet18_1xb32-coslr-12e_ihc-tiles.py'
FIRST = 'Epoch(train)'
GOAL = Goal(9.5)


def seconds_until(command: Sequence[str], line: str | None) -> float:
    """Processor time of a process until it prints a line, or ends.

    Raises:
        RuntimeError: If it ends without having printed the line.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT,
                          stderr=subprocess.STDOUT, text=True) as process:
        printed = []
        try:
            for text in process.stdout:
                printed.append(text)
                if line is not None and line in text:
                    break
            else:
                if line is not None:
                    raise RuntimeError(f'{command} ended without a line with '
                                       f'{line!r}:\n{"".join(printed)}')
        finally:
            # Not process.kill(), which reaps a process that has ended.
            os.kill(process.pid, signal.SIGKILL)
        # Reaped here, so that the time is that of this process alone.
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0
    return used.ru_utime + used.ru_stime


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    args = parser.parse_args(argv)
    from mmmedmask.phantoms.glands import write_tissue_tiles
    times = {'torch': [], 'train': []}
    with tempfile.TemporaryDirectory() as folder:
        tiles = Path(folder) / 'tiles'
        write_tissue_tiles(tiles, 96, 32)
        commands = dict(
            torch=([sys.executable, '-c', 'import torch'], None),
            train=([sys.executable, 'tools/train.py', CONFIG, '--work-dir',
                    f'{folder}/run', '--cfg-options',
                    f'train_dataloader.dataset.data_root={tiles}',
                    'default_hooks.probe=None',
                    'default_hooks.loss_floors=None'], FIRST))
        os.environ['OMP_NUM_THREADS'] = str(args.threads)
        for place in range(args.warmup + args.rounds):
            for name in sorted(commands, reverse=bool(place % 2)):
                seconds = seconds_until(*commands[name])
                if place >= args.warmup:
                    times[name].append(seconds)
    report([
        figure_of('start of train.py to its first iteration', times['train'],
                  GOAL, 's'),
        figure_of('import of torch', times['torch'], unit='s'),
        figure_of('start of train.py / import of torch', [
            start / torch_import for start, torch_import in zip(
                times['train'], times['torch'], strict=True)])],
        args, set_up(args, Path(CONFIG).stem))


if __name__ == '__main__':
    run_tool(main)
