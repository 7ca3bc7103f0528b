"""What a check has found: one line of a report."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from mmmedmask.util.nearest import nearest_names

STATUSES = ('green', 'yellow', 'red')


@dataclass(frozen=True)
class Finding:
    """One line of a report; :data:`green` and so on make those of a status.

    Attributes:
        status: ``'green'`` (fine), ``'yellow'`` (look at it) or ``'red'``
            (a run would fail, or would not do what the config says).
        check: Which check it is, in a word or two.
        message: What was found, and why it matters.
        where: Dotted key in the config, or empty.
        mend: What to do about it, or empty.
    """

    status: str
    check: str
    message: str
    where: str = ''
    mend: str = ''


green, yellow, red = (partial(Finding, status) for status in STATUSES)


def worst_status(findings: Iterable[Finding]) -> str:
    """Return the worst status of some findings, green if there are none."""
    return max((finding.status for finding in findings),
               key=STATUSES.index, default='green')


def ask_typo(name: str, valid: Iterable[str], cutoff: float = .8) -> str:
    """Ask for the known name that one resembles; empty without any."""
    near = nearest_names(name, sorted(set(valid)), cutoff=cutoff)
    return f'did you mean {near[0]!r}?' if near else ''


def suggest(name: str, valid: Iterable[str]) -> str:
    """Name what an unknown name may have meant, or list some known ones."""
    valid = sorted(set(valid))
    near = ask_typo(name, valid, cutoff=.6)
    if near or not valid:
        return near or 'remove it'
    listed = ', '.join(valid[:12])
    return f'valid are {listed}{", ..." if len(valid) > 12 else ""}'


def describe_error(error: BaseException) -> str:
    """Put an exception on one line: its type and the start of its text."""
    text = ' '.join(str(error).split())
    if len(text) > 600:
        text = f'{text[:600]} ...'
    return f'{type(error).__name__}: {text}'
