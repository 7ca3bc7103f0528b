"""Command line shared by the converters of cohorts with expression."""

import sys
from collections.abc import Callable
from pathlib import Path

from mmmedmask.datasets.conversion import LayoutError
from mmmedmask.datasets.conversion.check_report import ConversionError
from mmmedmask.datasets.conversion.omics import OmicConversion

LINES_SHOWN = 10


def finish(make: Callable[[], OmicConversion], out: Path,
           check: bool) -> int:
    """Convert, write, and check if asked.

    Args:
        make: Makes the conversion.
        out: Folder to write to.
        check: Whether to check.

    Returns:
        The exit status.
    """
    try:
        conversion = make()
    except ConversionError as error:
        print(error.report.to_text(LINES_SHOWN), file=sys.stderr)
        print('error: nothing was written', file=sys.stderr)
        return 1
    except (LayoutError, FileNotFoundError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    conversion.write(out)
    print(f'{out}: cohort.csv, expression.npz, genes.txt')
    for line in conversion.describe():
        print(line)
    for notice in conversion.notices:
        print(f'NOTICE: {notice}')
    if not check:
        return 0
    report = conversion.check(out)
    text, data = report.write(out)
    print(report.to_text(LINES_SHOWN))
    print(f'\nThe complete report: {text} and {data}')
    return int(bool(report.problems))
