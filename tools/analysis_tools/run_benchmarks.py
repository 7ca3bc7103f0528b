"""Run all benchmarks, and print one table beside the one before: `make bench`.

    python tools/analysis_tools/run_benchmarks.py

Each benchmark runs in a process of its own, at sizes that let the lot end
within ten minutes on one core. What they measured is kept in --save, and the
table of the next run shows the changes. One that fails is named, and the
others go on.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarking import Figure, read_figures, table_of, write_figures

from mmmedmask.util.run_tool import run_tool

HERE = Path(__file__).resolve().parent
SAVE = Path('work_dirs/bench.json')
# Script and arguments, most important first.
BENCHMARKS = (
    ('cmim', '--batch-size', 4),
    # Counting the operations warms up the steps.
    ('msmae', '--batch-size', 2, '--warmup', 0),
    ('gimp', '--parts', 'layers'),
    ('gimp', '--parts', 'sizes', '--sizes', 6_000, 150_000),
    ('tile_loader', '--parts', 'formats', '--tiles', 128),
    ('extraction', '--side', 4, '--batch-size', 4),
    ('start', '--warmup', 0))
TINY = {
    'cmim': ('--size', 64, '--batch-size', 2, '--skip-spark'),
    'msmae': ('--size', 64, '--patch-size', 8, '--arch', 'deit-tiny'),
    'gimp': ('--tokens', 512, '--embed-dims', 32, '--sizes', 512),
    'tile_loader': ('--tiles', 8), 'extraction': ('--side', 2), 'start': ()}


def run_benchmark(name: str, *options: object) -> list[Figure] | None:
    """Run one; None if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'figures.json'
        command = [sys.executable, str(HERE / f'benchmark_{name}.py'),
                   *map(str, options), '--json', str(file)]
        print(f'{name}: {" ".join(command[2:-2])}', file=sys.stderr,
              flush=True)
        start = time.monotonic()
        result = subprocess.run(command, stdout=subprocess.DEVNULL,
                                check=False)
        print(f'{name}: {time.monotonic() - start:.0f} s', file=sys.stderr,
              flush=True)
        return None if result.returncode else read_figures(file)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', nargs='+', choices=sorted(TINY),
                        help='run only these')
    parser.add_argument('--save', type=Path, metavar='JSON', help='what the '
                        f'next run compares with (default: {SAVE}; with '
                        '--tiny nothing is saved)')
    parser.add_argument('--against', type=Path, metavar='JSON',
                        help='compare with this (default: --save)')
    parser.add_argument('--tiny', action='store_true',
                        help='see that all run; the figures mean nothing')
    parser.add_argument('--show', type=Path, nargs='+', metavar='JSON',
                        help='run nothing, print the table of these files')
    args = parser.parse_args(argv)
    save = args.save or (None if args.tiny else SAVE)
    earlier = args.against or args.save or SAVE
    try:
        if args.show:
            print(table_of([figure for file in args.show
                            for figure in read_figures(file)]))
            return
        before = {figure.what: figure for figure in read_figures(earlier)} \
            if args.against or earlier.exists() else None
        kept = {figure.what: figure for figure in read_figures(save)} \
            if save and save.exists() else {}
    except (OSError, ValueError) as error:
        raise SystemExit(f'run_benchmarks.py: {error}') from None
    figures, failed = {}, []
    for name, *options in BENCHMARKS:
        if args.only and name not in args.only:
            continue
        if args.tiny:
            options += [*TINY[name], '--rounds', 1]
        measured = run_benchmark(name, *options)
        if measured is None:
            failed.append(name)
        figures.update((figure.what, figure) for figure in measured or ())
        # As they come; those that were not run stay.
        if save:
            write_figures([*{**kept, **figures}.values()], save)
    print(table_of([*figures.values()], before))
    if failed:
        raise SystemExit(f'failed: {", ".join(failed)}')


if __name__ == '__main__':
    run_tool(main)
