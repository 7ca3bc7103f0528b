"""Lines in green, yellow and red, shared by the tools of this folder.

It imports nothing but the standard library: doctor.py has to run where
nothing else does.
"""

import os
import sys
import textwrap
from typing import TextIO

MARKS = {'green': 'ok  ', 'yellow': 'look', 'red': 'FAIL'}
COLOURS = {'green': '\033[32m', 'yellow': '\033[33m', 'red': '\033[31m'}
RESET = '\033[0m'
WIDTH = 100


def use_colour(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal that shows colours."""
    return stream.isatty() and 'NO_COLOR' not in os.environ


def print_line(status: str, check: str, message: str, where: str = '',
               mend: str = '', stream: TextIO | None = None) -> None:
    """Print what a check has found, and the mend on a line of its own."""
    stream = stream or sys.stdout
    mark = MARKS[status]
    place = f'{where}: ' if where else ''
    indent = ' ' * 7
    text = textwrap.fill(f'[{mark}] {check:<13s} {place}{message}', WIDTH,
                         subsequent_indent=indent, break_on_hyphens=False,
                         break_long_words=False)
    if mend and status != 'green':
        text += '\n' + textwrap.fill(
            f'-> {mend}', WIDTH, initial_indent=indent,
            subsequent_indent=indent + '   ', break_on_hyphens=False,
            break_long_words=False)
    if use_colour(stream):
        text = text.replace(mark, f'{COLOURS[status]}{mark}{RESET}', 1)
    print(text, file=stream, flush=True)


def print_summary(statuses: list[str], stream: TextIO | None = None) -> None:
    """Print how many lines there are of each status."""
    counts = {status: statuses.count(status) for status in MARKS}
    print(f'{counts["green"]} green, {counts["yellow"]} yellow, '
          f'{counts["red"]} red', file=stream or sys.stdout)
