"""What the benchmarks of this folder share: clocks, pairs, parts, figures.

Other programs on the machine change wall times by any factor. So what counts
is the time of the processor (all threads of this process, and its children
once they have ended); what is compared takes turns, A B B A; and a figure is
the median of the rounds' ratios with a bootstrap interval. On a GPU wall time
counts, after a synchronisation.
"""

import argparse
import contextlib
import inspect
import json
import math
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import (
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmmedmask.util.command_line import DEVICE, output_file
from mmmedmask.util.markdown_tables import markdown

PAIRS = 9
REST = 'rest'


class Seconds(NamedTuple):
    """A point in time, or a duration; ``busy`` is wall time on a GPU."""

    busy: float
    wall: float


Clock = Callable[[], Seconds]


def processor_seconds() -> float:
    """Of this process with its threads, and of children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def make_clock(device: str = 'cpu') -> Clock:
    """Make the clock that counts on a device."""
    if device.startswith('cuda'):
        import torch

        def clock() -> Seconds:
            torch.cuda.synchronize(device)
            return Seconds(*[time.perf_counter()] * 2)

        return clock
    return lambda: Seconds(processor_seconds(), time.perf_counter())


class Turns(dict[str, list[Seconds]]):
    """Durations of each step, one per round."""

    def values(self, name: str, clock: str = 'busy') -> list[float]:
        """Seconds of one step by one clock (``'busy'`` or ``'wall'``)."""
        return [getattr(times, clock) for times in self[name]]

    def rates(self, name: str, count: float, clock: str = 'busy'
              ) -> list[float]:
        """How many of ``count`` things a step did per second."""
        return [count / value for value in self.values(name, clock)]

    def ratios(self, over: str, under: str, clock: str = 'busy'
               ) -> list[float]:
        """Quotients of two steps, round by round."""
        return [upper / lower for upper, lower in zip(
            self.values(over, clock), self.values(under, clock), strict=True)]


def take_turns(steps: Mapping[str, Callable[[], Any]], rounds: int = PAIRS,
               warmup: int = 1, clock: Clock | None = None) -> Turns:
    """Time steps in turns, every other round in reverse: A B B A."""
    if not steps or rounds < 1:
        raise ValueError('at least one step and one round are needed, got '
                         f'{list(steps)} and {rounds}')
    clock = clock or make_clock()
    for step in steps.values():
        for _ in range(warmup):
            step()
    turns = Turns({name: [] for name in steps})
    for place in range(rounds):
        for name in list(steps)[::-1 if place % 2 else 1]:
            start = clock()
            steps[name]()
            turns[name].append(Seconds(*(
                end - begin for end, begin in zip(
                    clock(), start, strict=True))))
    return turns


class Parts:
    """Split a step into parts, inside of the step: they add up to it.

    At any moment one part runs. A marked method starts its part, and what
    ran before goes on when it returns. In the backward pass the node that
    made a method's result starts the part again, and the node that made its
    input ends it. What belongs to no part is the ``rest``.

    Example:
        >>> parts = Parts()
        >>> parts.mark(model.data_preprocessor, 'forward', 'views')
        >>> step = parts.around(step)
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or make_clock()
        self.names = []
        self.steps: list[dict[str, float]] = []
        self._current = REST
        self._since = 0.0

    def _switch(self, name: str) -> str:
        """Begin a part; give the one that ran."""
        now = self.clock().busy
        if self.steps:
            step = self.steps[-1]
            step[self._current] = (
                step.get(self._current, 0.0) + now - self._since)
        self._since, previous, self._current = now, self._current, name
        return previous

    def around(self, step: Callable[[], Any]) -> Callable[[], None]:
        """A step whose parts are noted in ``steps`` whenever it is called."""

        def measured() -> None:
            self._current, self._since = REST, self.clock().busy
            self.steps.append(dict.fromkeys([*self.names, REST], 0.0))
            step()
            self._switch(REST)

        return measured

    def mark(self, owner: Any, method: str, name: str) -> None:
        """Let a method of an object be (a section of) a part."""
        run = getattr(owner, method)
        if name not in self.names:
            self.names.append(name)

        def marked(*args, **kwargs):
            previous = self._switch(name)
            for tensor in _differentiable((args, kwargs)):
                # It may be the result of a part; then this one is over when
                # that one begins.
                if not hasattr(tensor, 'made_by_part'):
                    self._follow(tensor, previous)
            result = run(*args, **kwargs)
            for tensor in _differentiable(result):
                self._follow(tensor, name)
            self._switch(previous)
            return result

        setattr(owner, method, marked)

    def _follow(self, tensor: Any, name: str) -> None:
        """Begin a part when the backward pass reaches a tensor's node."""
        tensor.made_by_part = name

        def reached(_) -> None:
            self._switch(name)

        tensor.register_hook(reached)

    def shares(self, last: int) -> dict[str, list[float]]:
        """Shares of the last steps by part; those of a step add up to 1."""
        steps = self.steps[-last:]
        return {name: [step[name] / sum(step.values()) for step in steps]
                for name in (*self.names, REST)}


def _differentiable(value: Any) -> Iterator[Any]:
    """All tensors with a gradient in nested tuples, lists and dicts."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _differentiable(item)
    elif getattr(value, 'requires_grad', False) and value.grad_fn is not None:
        yield value


@dataclass(frozen=True)
class Goal:
    """What a figure should be: at most or at least a value."""

    bound: float
    at_least: bool = False

    def __str__(self) -> str:
        return f'{">=" if self.at_least else "<="} {self.bound:g}'


@dataclass(frozen=True)
class Figure:
    """A measured value with its 95 % interval.

    ``what`` are the same words in every run; a ratio has no unit.
    """

    what: str
    value: float
    low: float
    high: float
    unit: str = ''
    goal: Goal | None = None

    @property
    def verdict(self) -> str:
        """Whether the goal is reached, missed, or within the interval."""
        if self.goal is None:
            return ''
        sign = -1 if self.goal.at_least else 1
        best, worst = sorted((sign * self.low, sign * self.high))
        if worst <= sign * self.goal.bound:
            return 'reached'
        if best > sign * self.goal.bound:
            return 'missed'
        return 'not conclusive on this machine'


def figure_of(what: str, values: Sequence[float], goal: Goal | None = None,
              unit: str = '') -> Figure:
    """Median of finite values of rounds, with a 95 % bootstrap interval."""
    import numpy as np
    from scipy import stats
    if not len(values) or not all(map(math.isfinite, values)):
        raise ValueError(f'{what!r} needs finite values, got {values!r}')
    middle = float(np.median(values))
    low = high = middle
    if min(values) < max(values):
        low, high = map(float, stats.bootstrap(
            (np.array(values),), np.median, method='percentile',
            rng=0).confidence_interval)
    return Figure(what, middle, low, high, unit, goal)


def count_operations(step: Callable[[], Any]) -> int:
    """Floating-point operations of a step, as torch counts them."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode
    # The counter knows no backward pass of the CPU's fused attention.
    with sdpa_kernel(SDPBackend.MATH), \
            FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def speeds(what: str, seconds: Sequence[float], images: int,
           operations: float, peak: float) -> list[Figure]:
    """Images per second of a step, and the share of the device's peak.

    ``seconds`` are of each round, ``images`` and ``operations`` of a step,
    ``peak`` in 10^12 operations per second; 0 if it is not known.
    """
    figures = [figure_of(f'{what}, speed',
                         [images / duration for duration in seconds],
                         unit='images/s')]
    if peak:
        figures.append(figure_of(f'{what}, share of {peak:g} TFLOP/s',
                                 [100 * operations / duration / peak / 1e12
                                  for duration in seconds], unit='%'))
    return figures


def format_number(value: float) -> str:
    """Three significant digits, or a whole number with commas."""
    return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'


def table_of(figures: Sequence[Figure],
             before: Mapping[str, Figure] | None = None) -> str:
    """Table of figures, beside those of an earlier run, by ``what``."""
    rows = [['what', 'measured', '95 % interval', 'goal', 'verdict']]
    if before is not None:
        rows[0] += ['before', 'change']
    for figure in figures:
        unit = f' {figure.unit}' if figure.unit else ''
        interval = '' if figure.low == figure.high else (
            f'{format_number(figure.low)} to {format_number(figure.high)}')
        row = [figure.what, format_number(figure.value) + unit, interval,
               str(figure.goal or ''), figure.verdict]
        if before is not None:
            old = before.get(figure.what)
            row += ['', ''] if old is None else [
                format_number(old.value),
                f'{100 * (figure.value / old.value - 1):+.0f} %'
                if old.value else '']
        rows.append(row)
    return markdown(rows)


def write_figures(figures: Sequence[Figure], path: Path,
                  machine: str = '') -> None:
    """Write figures as JSON, with their verdicts."""
    from mmmedmask.util.atomic_files import write_json
    write_json(path, dict(machine=machine, figures=[
        {**asdict(figure), 'verdict': figure.verdict} for figure in figures]))


def read_figures(path: Path) -> list[Figure]:
    """Read what :func:`write_figures` wrote; else a ValueError."""
    figures = []
    try:
        for entry in json.loads(path.read_text('utf-8'))['figures']:
            del entry['verdict']
            goal = entry.pop('goal')
            figures.append(Figure(**entry, goal=goal and Goal(**goal)))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path} has no figures of benchmarks: {error!r}'
                         ) from None
    return figures


def peak_bytes(device: str = 'cpu') -> int:
    """Largest memory so far: of the GPU, or of the process."""
    if device.startswith('cuda'):
        import torch
        return torch.cuda.max_memory_allocated(device)
    # Beside it, getrusage counts what the process was started from.
    with contextlib.suppress(OSError), open(
            '/proc/self/status', encoding='ascii') as file:
        for line in file:
            if line.startswith('VmHWM:'):
                return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else 1024 * peak


def held_bytes(device: str = 'cpu') -> int:
    """Memory in use now: of the GPU, or of the process."""
    if device.startswith('cuda'):
        import torch
        return torch.cuda.memory_allocated(device)
    try:
        with open('/proc/self/statm', encoding='ascii') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    except OSError:
        return peak_bytes(device)


_CHILD = """
import importlib, pathlib, pickle, sys
here, folder, script, function, task, result = sys.argv[1:]
sys.path[:0] = [folder, here]
run = getattr(importlib.import_module(script), function)
pathlib.Path(result).write_bytes(pickle.dumps(
    run(*pickle.loads(pathlib.Path(task).read_bytes()))))
"""


def in_fresh_process(function: Callable, *args: Any,
                     environment: Mapping[str, str] | None = None) -> Any:
    """Call a function of a script in a process of its own.

    Its peak of memory is its own, and settings of the C library's allocator
    (``MALLOC_...``) are those of ``environment`` alone. Arguments and result
    are pickled.
    """
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith('MALLOC_')}
    with tempfile.TemporaryDirectory() as folder:
        task, result = Path(folder) / 'task', Path(folder) / 'result'
        task.write_bytes(pickle.dumps(args))
        script = Path(inspect.getfile(function))
        command = [sys.executable, '-c', _CHILD, str(Path(__file__).parent),
                   str(script.parent), script.stem, function.__name__,
                   str(task), str(result)]
        status = subprocess.run(command, check=False, stdout=sys.stderr,
                                env=kept | dict(environment or {})).returncode
        if status:
            raise RuntimeError(f'{function.__name__} of {script} ended with '
                               f'{status} in a process of its own')
        return pickle.loads(result.read_bytes())


def make_parser(description: str, peak: bool = False,
                parts: Collection[str] = ()) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have.

    ``peak`` adds --peak-tflops, for :func:`speeds`; ``parts`` --parts.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument('--device', **DEVICE)
    parser.add_argument('--threads', type=int, default=1,
                        help='CPU threads; idle ones wait busily beside other '
                        'programs, so that their time counts (default: 1)')
    parser.add_argument('--rounds', type=int, default=PAIRS,
                        help=f'rounds of turns (default: {PAIRS})')
    parser.add_argument('--warmup', type=int, default=1)
    parser.add_argument('--json', type=output_file, metavar='PATH',
                        help='write the figures there, too')
    if peak:
        parser.add_argument(
            '--peak-tflops', type=float, default=0, metavar='T',
            help='10^12 operations per second that the device can do, to '
            'tell the share of it that steps reach')
    if parts:
        parser.add_argument('--parts', nargs='+', choices=list(parts),
                            default=list(parts), help='what to measure')
    return parser


def measure_parts(measures: Mapping[str, Callable[..., list[Figure]]],
                  args: argparse.Namespace) -> list[Figure]:
    """Measure those of --parts, in the order of all."""
    return [figure for part, measure in measures.items() if part in args.parts
            for figure in measure(args)]


def set_up(args: argparse.Namespace, *settings: object) -> str:
    """Set threads and silence logs; what the figures were measured on."""
    import torch
    from mmengine.logging import MMLogger
    MMLogger.get_instance('mmengine', log_level='ERROR')
    torch.set_num_threads(args.threads)
    return ', '.join(map(str, (args.device, f'{args.threads} threads',
                               f'torch {torch.__version__}', *settings)))


def report(figures: Sequence[Figure], args: argparse.Namespace,
           machine: str) -> None:
    """Print a table, and write JSON if asked."""
    print(f'{machine}\n\n{table_of(figures)}')
    if args.json:
        write_figures(figures, args.json, machine)
