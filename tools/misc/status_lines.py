"""Lines in green, yellow and red, shared by the tools of this folder.

It imports nothing but the standard library: doctor.py has to run where
nothing else does.
"""

import os
import sys
import textwrap

MARKS = {'green': 'ok  ', 'yellow': 'look', 'red': 'FAIL'}
COLOURS = {'green': '\033[32m', 'yellow': '\033[33m', 'red': '\033[31m'}
RESET = '\033[0m'
WIDTH, INDENT = 100, ' ' * 7


def _wrapped(text: str, **indents: str) -> str:
    return textwrap.fill(text, WIDTH, break_on_hyphens=False,
                         break_long_words=False, **indents)


def print_line(status: str, check: str, message: str, where: str = '',
               mend: str = '') -> None:
    """Print what a check has found, and the mend on a line of its own."""
    mark = MARKS[status]
    place = f'{where}: ' if where else ''
    text = _wrapped(f'[{mark}] {check:<13s} {place}{message}',
                    subsequent_indent=INDENT)
    if mend and status != 'green':
        text += '\n' + _wrapped(f'-> {mend}', initial_indent=INDENT,
                                subsequent_indent=f'{INDENT}   ')
    if sys.stdout.isatty() and 'NO_COLOR' not in os.environ:
        text = text.replace(mark, f'{COLOURS[status]}{mark}{RESET}', 1)
    print(text, flush=True)


def print_summary(statuses: list[str]) -> None:
    """Print how many lines there are of each status."""
    print(', '.join(f'{statuses.count(status)} {status}' for status in MARKS))
