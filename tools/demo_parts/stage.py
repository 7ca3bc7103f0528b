"""Calm output: steps with their times; what libraries print goes to a file.

Imports nothing that prints while it is imported.
"""

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

TITLE_WIDTH = 16
RESULT_WIDTH = 58


class Step:
    """One line of the demo's output, while it is being done.

    The code of the step sets its result; its time is set at the end.
    """

    def __init__(self, progress: Progress, title: str) -> None:
        self.result = ''
        self.seconds = 0.0
        self._progress = progress
        self._task = progress.add_task(
            f'{title:<{TITLE_WIDTH}}', total=None, note='')

    def update(self, done: int, total: int, note: str = '') -> None:
        self._progress.update(
            self._task, completed=done, total=total, note=note)


class Stage:
    """Where the demo plays: its folder, its size, and its output.

    Everything that libraries write to the standard streams goes to a log
    file; only steps and what the demo says itself is shown.
    """

    def __init__(self, out: Path, smoke: bool) -> None:
        self.out = out
        self.smoke = smoke
        self.log_file = out / 'demo.log'
        out.mkdir(parents=True, exist_ok=True)
        shown = os.fdopen(os.dup(sys.stdout.fileno()), 'w',
                          encoding=sys.stdout.encoding, errors='replace')
        self.console = Console(file=shown, highlight=False)
        log = os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        sys.stdout.flush()
        sys.stderr.flush()
        # By number, so that compiled code and subprocesses are quiet, too.
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)

    def say(self, text: str = '', style: str | None = None) -> None:
        self.console.print(text, style=style, soft_wrap=True, markup=False)

    def keep_quiet(self) -> None:
        """Collect what is shown from now on, see :meth:`shown`."""
        self.console = Console(file=io.StringIO(), highlight=False)

    def shown(self) -> str:
        """What has been collected."""
        return self.console.file.getvalue()

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Do one step: show that it runs, then its result and its time."""
        on_terminal = self.console.is_terminal
        if not on_terminal:
            self.say(f'  {title} ...')
        start = time.perf_counter()
        with Progress(TextColumn('  {task.description}'),
                      BarColumn(bar_width=24), MofNCompleteColumn(),
                      TextColumn('{task.fields[note]}'), TimeElapsedColumn(),
                      console=self.console, transient=True,
                      disable=not on_terminal) as progress:
            step = Step(progress, title)
            yield step
        step.seconds = time.perf_counter() - start
        self.say(f'  {title:<{TITLE_WIDTH}}{step.result:<{RESULT_WIDTH}}'
                 f'{step.seconds:>4.0f} s')
