"""Read what MMEngine leaves in the folder of a run."""

import json
import math
import re
from pathlib import Path

_RUN_FOLDER = re.compile(r'\d{8}_\d{6}')
_LOAD_CHECK = re.compile(
    r'Load check of (?P<what>.+): (?P<matched>\d+) of (?P<expected>\d+) '
    r'tensors are equal \((?P<percent>[\d.]+) %\)')
_SCRATCH = re.compile(r'Load check: (?P<what>.+) is trained from scratch')
_TAIL_BYTES = 65536
#: What MMEngine logs beside the metrics.
_NO_METRICS = ('data_time', 'time')


def read_metrics(folder: Path, after: str = '') -> dict[str, float | str]:
    """Read what MMEngine wrote at the end of a test.

    ``folder`` is the work dir of the test; only log folders with a name
    behind ``after`` count.

    Returns:
        Metric to value, those that are numbers; ``'nan'`` and ``'inf'`` as
        text.

    Raises:
        ValueError: If there is no file with metrics.
    """
    for logs in reversed(_log_folders(folder)):
        file = logs / f'{logs.name}.json'
        if logs.name <= after or not file.is_file():
            continue
        content = json.loads(file.read_text(encoding='utf-8'))
        return {
            key: float(value) if math.isfinite(value) else str(value)
            for key, value in content.items() if key not in _NO_METRICS
            and isinstance(value, int | float)
            and not isinstance(value, bool)}
    raise ValueError(
        f'the test has left no metrics in {folder}: the config needs '
        'default_hooks.logger, which writes them')


def last_log_folder(folder: Path) -> str:
    """Name of the last log folder of a work dir, '' if it has none."""
    logs = _log_folders(folder)
    return logs[-1].name if logs else ''


def read_load_checks(folder: Path) -> list[dict]:
    """Find what LoadCheckHook said, in all logs of a run.

    Returns:
        ``what`` was loaded, ``matched`` of ``expected`` tensors, and
        ``percent``; or ``what`` and ``scratch=True``. The last word on each.
    """
    checks: dict[str, dict] = {}
    for logs in _log_folders(folder):
        file = logs / f'{logs.name}.log'
        if not file.is_file():
            continue
        for line in file.read_text(encoding='utf-8',
                                   errors='replace').splitlines():
            found = _LOAD_CHECK.search(line)
            if found:
                checks[found['what']] = dict(what=found['what'],
                                             matched=int(found['matched']),
                                             expected=int(found['expected']),
                                             percent=float(found['percent']))
                continue
            found = _SCRATCH.search(line)
            if found:
                checks[found['what']] = dict(what=found['what'], scratch=True)
    return list(checks.values())


def tail_of(file: Path, lines: int) -> str:
    """Last lines of a text file, '' if there is none."""
    return '\n'.join(_tail(file).splitlines()[-lines:])


def _log_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir()
                  if path.is_dir() and _RUN_FOLDER.fullmatch(path.name))


def _tail(file: Path) -> str:
    if not file.is_file():
        return ''
    with file.open('rb') as stream:
        stream.seek(0, 2)
        stream.seek(max(0, stream.tell() - _TAIL_BYTES))
        return stream.read().decode('utf-8', errors='replace')
