"""Read what MMEngine leaves in the folder of a run."""

import json
import math
import re
from collections.abc import Collection
from pathlib import Path

from mmmedmask.util.scalar_logs import read_scalar_log

_RUN_FOLDER = re.compile(r'\d{8}_\d{6}')
_LOAD_CHECK = re.compile(
    r'Load check of (.+): (\d+) of (\d+) tensors are equal \(([\d.]+) %\)')
_SCRATCH = re.compile(r'Load check: (.+) is trained from scratch')
_TAIL_BYTES = 65536
#: What MMEngine logs beside the metrics.
_NO_METRICS = ('data_time', 'time', 'step', 'memory')


def read_metrics(folder: Path,
                 known: Collection[str] = ()) -> dict[str, float | str]:
    """Read the metrics that MMEngine wrote at the end of a test.

    ``folder`` is the work dir of the test; its log folders that were
    ``known`` before do not count. They are named by local time, so a later one
    may come first. Values that are not numbers are left out; ``'nan'`` and
    ``'inf'`` are text.
    """
    for logs in reversed(_log_folders(folder)):
        file = logs / f'{logs.name}.json'
        if logs.name not in known and file.is_file():
            content = json.loads(file.read_text(encoding='utf-8'))
            return _numbers(content)
    raise ValueError(f'the test has left no metrics in {folder}: the config '
                     'needs default_hooks.logger, which writes them')


def read_logged(folder: Path) -> dict[str, dict[str, float | str]]:
    """Read the ``first`` and the ``last`` value of all that a training logged.

    Of values of one step the one that was written last counts: a training
    that went on has taken that step again. ``'nan'`` and ``'inf'`` are text.
    """
    values: dict[str, dict[int, float | str]] = {}
    for logs in _log_folders(folder):
        file = logs / 'vis_data' / 'scalars.json'
        for line in read_scalar_log(file) if file.is_file() else ():
            for key, value in _numbers(line).items():
                values.setdefault(key, {})[line['step']] = value
    return {'first': {key: of_step[min(of_step)]
                      for key, of_step in sorted(values.items())},
            'last': {key: of_step[max(of_step)]
                     for key, of_step in sorted(values.items())}}


def log_folder_names(folder: Path) -> set[str]:
    """Names of the log folders of a work dir."""
    return {logs.name for logs in _log_folders(folder)}


def read_load_checks(folder: Path) -> list[dict]:
    """Find the last words of LoadCheckHook, in all logs of a run.

    ``what`` was loaded, ``matched`` of ``expected`` tensors, and
    ``percent``; or ``what`` and ``scratch=True``.
    """
    checks: dict[str, dict] = {}
    for logs in _log_folders(folder):
        file = logs / f'{logs.name}.log'
        text = file.read_text('utf-8', 'replace') if file.is_file() else ''
        for line in text.splitlines():
            if match := _LOAD_CHECK.search(line):
                what, matched, expected, percent = match.groups()
                checks[what] = dict(what=what, matched=int(matched),
                                    expected=int(expected),
                                    percent=float(percent))
            elif match := _SCRATCH.search(line):
                checks[match[1]] = dict(what=match[1], scratch=True)
    return list(checks.values())


def tail_of(file: Path, lines: int) -> str:
    """Last lines of a text file, '' if there is none."""
    if not file.is_file():
        return ''
    with file.open('rb') as stream:
        stream.seek(max(0, file.stat().st_size - _TAIL_BYTES))
        text = stream.read().decode('utf-8', errors='replace')
    return '\n'.join(text.splitlines()[-lines:])


def _numbers(content: dict) -> dict[str, float | str]:
    return {key: float(value) if math.isfinite(value) else str(value)
            for key, value in content.items()
            if key not in _NO_METRICS and type(value) in (int, float)}


def _log_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir()
                  if path.is_dir() and _RUN_FOLDER.fullmatch(path.name))
