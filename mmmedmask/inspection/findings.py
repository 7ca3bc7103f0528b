"""What a check has found: one line of a report."""

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass

GREEN, YELLOW, RED = 'green', 'yellow', 'red'
STATUSES = (GREEN, YELLOW, RED)


@dataclass(frozen=True)
class Finding:
    """One line of a report.

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

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(
                f'status {self.status!r}, valid are {STATUSES}')

    def as_dict(self) -> dict[str, str]:
        """Return the finding as plain data."""
        return asdict(self)


def worst_status(findings: Iterable[Finding]) -> str:
    """Return the worst status of some findings, green if there are none."""
    return max((finding.status for finding in findings),
               key=STATUSES.index, default=GREEN)


def suggest(name: str, valid: Iterable[str], cutoff: float = .6) -> str:
    """Name what a misspelled name may have meant.

    Args:
        name: The unknown name.
        valid: Known ones.
        cutoff: Likeness that counts, in [0, 1].

    Returns:
        A sentence for a mend; without a similar name, it lists some.
    """
    valid = sorted(set(valid))
    near = difflib.get_close_matches(name, valid, n=1, cutoff=cutoff)
    if near:
        return f'did you mean {near[0]!r}?'
    if not valid:
        return 'remove it'
    listed = ', '.join(valid[:12])
    return f'valid are {listed}{", ..." if len(valid) > 12 else ""}'


def describe_error(error: BaseException) -> str:
    """Put an exception on one line: its type and the start of its text."""
    lines = [line.strip() for line in str(error).splitlines()]
    text = ' '.join(line for line in lines if line)
    if len(text) > 600:
        text = f'{text[:600]} ...'
    return f'{type(error).__name__}: {text}'
