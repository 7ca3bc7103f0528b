"""Run the whole pipeline on small data and write a report with pictures.

    python tools/demo.py [--out demo_output] [--smoke]

Takes less than three minutes on two CPU cores. Nothing is downloaded: the
tissue and the retina ship with scikit-image, the rest is drawn.
"""

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

ADVICE = {
    ModuleNotFoundError: 'A package is missing: `make clean-venv` and `make '
    'demo` once more, or pip install -r requirements/lock.txt.', MemoryError:
    'The memory was not enough: close other programs; it takes about 3 GB.',
    OSError: 'A file could not be read or written: is there space left (100 '
    'MB), and may you write to the folder? --out names another one.'}


def use_all_cores() -> int:
    """Let torch compute on every core that this process may use."""
    import torch

    from mmmedmask.experiments.environment import usable_cores
    if 'OMP_NUM_THREADS' not in os.environ:
        torch.set_num_threads(usable_cores())
    return torch.get_num_threads()


def run_in_copy(stage, run: Callable, connection: Connection) -> None:
    """Wait for a message, run parts, send what they show and their results."""
    from demo_parts.runs import one_thread
    stage.keep_quiet()
    result = failure = None
    try:
        connection.recv()
        with one_thread():
            result = run(stage)
    except Exception as error:
        traceback.print_exc()
        failure = error
    try:
        connection.send((stage.shown(), result, failure))
    except Exception:  # not every error can be sent
        connection.send((stage.shown(), None, RuntimeError(str(failure))))


def prepare_beside(stage, run: Callable) -> tuple[Callable, Callable]:
    """Let parts compute on one core beside others, which leave it to them.

    Two small networks that have a core each are done sooner than one after
    the other on both. Gives a function that starts the parts, and one that
    waits for them, shows their steps and returns their results.
    """
    if not sys.platform.startswith('linux'):
        return lambda: None, lambda: run(stage)
    import torch
    context = multiprocessing.get_context('fork')
    ours, theirs = context.Pipe()
    context.Process(
        target=run_in_copy, args=(stage, run, theirs), daemon=True).start()
    theirs.close()

    def start():
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))
        ours.send('start')

    def finish():
        try:
            lines, result, failure = ours.recv()
        except EOFError:
            raise RuntimeError(
                'the process of these parts ended without a word') from None
        stage.say(lines.rstrip())
        if failure is not None:
            raise failure
        return result

    return start, finish


def play(stage) -> None:
    """Run all parts and write the report."""
    from demo_parts import cmim, gimp, msmae
    from PIL import Image

    from mmmedmask.util.atomic_files import write_text
    from mmmedmask.visualization.grid import stack
    from mmmedmask.visualization.html_report import render_report

    def run_others(stage) -> list:
        stage.say('MSMAE: masks that follow attention', style='bold')
        first = msmae.run(stage)
        stage.say('GiMP: patients by slides and genes', style='bold')
        return [first, gimp.run(stage)]

    start = time.perf_counter()
    start_others, finish_others = prepare_beside(stage, run_others)
    stage.say('CMIM: from tissue tiles to gland detection', style='bold')
    results = [cmim.run(stage, start_others)]
    results += finish_others()
    overview = stack([result.overview for result in results])
    Image.fromarray(overview).save(stage.out / 'overview.png', optimize=True)
    minutes = (time.perf_counter() - start) / 60
    introduction = [
        'Masked pre-training, and what it is for: each pre-trained network '
        'goes on into a task with labels. Everything on this page was '
        f'computed on this machine in {minutes:.1f} minutes, from data that '
        'ships with scikit-image or is drawn, so the numbers say that the '
        'pipeline works, not how good the method is (docs/results.md has '
        'results on real data).']
    if stage.smoke:
        introduction.append('This was a smoke test: every step ran at the '
                            'smallest size, and the pictures show networks '
                            'that have learned nothing.')
    page = render_report(
        'mmmedmask: the demo', introduction,
        [section for result in results for section in result.sections],
        '\n'.join(command for result in results
                  for command in result.commands))
    write_text(stage.out / 'report.html', page)


def advice_on(error: BaseException) -> str:
    """Say what to do about an error."""
    return next((text for kind, text in ADVICE.items()
                 if isinstance(error, kind)), 'If this machine is not at '
                'fault, please report it with the log.')


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=Path('demo_output'),
                        help='folder for data, runs, pictures and the report '
                        '(default: demo_output)')
    parser.add_argument('--smoke', action='store_true',
                        help='take every step at the smallest size that '
                        'works; the results are worth nothing')
    args = parser.parse_args(argv)
    try:
        from demo_parts.stage import Stage
        stage = Stage(args.out, args.smoke)
    except (ModuleNotFoundError, OSError) as error:
        raise SystemExit(f'demo.py: {error}. {advice_on(error)}') from None
    start = time.perf_counter()
    try:
        with stage.step('Libraries') as step:
            import mmmedmask  # noqa: F401  (mends gaps in later imports)
            step.result = (f'PyTorch and OpenMMLab, {use_all_cores()} CPU '
                           'threads')
        play(stage)
    except KeyboardInterrupt:
        stage.say('Interrupted.')
        sys.exit(130)
    except Exception as error:
        traceback.print_exc()
        stage.say()
        stage.say(f'The demo failed: {type(error).__name__}: {error}',
                  'bold red')
        stage.say(advice_on(error))
        stage.say(f'Everything that was printed is in {stage.log_file}')
        sys.exit(1)
    stage.say()
    stage.say(f'Done in {time.perf_counter() - start:.0f} s. Look at')
    stage.say(f'  {stage.out / "report.html"}', style='bold green')


if __name__ == '__main__':
    main()
