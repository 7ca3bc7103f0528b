"""Say how far a table is, and how long the rest will take."""

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import TextIO

from mmmedmask.experiments.manifest import MANIFEST_FILE
from mmmedmask.experiments.plan import Run

#: Seconds between two lines where the output is no terminal.
LINE_INTERVAL = 60.0


class Reporter:
    """Prints lines that stay, and on a terminal one that changes.

    Args:
        stream: Where to.
        interval: Seconds between two lines of progress where ``stream`` is
            no terminal.
    """

    def __init__(self, stream: TextIO,
                 interval: float = LINE_INTERVAL) -> None:
        self._stream = stream
        self._interval = interval
        self._terminal = stream.isatty()
        self._shown = False
        self._last = float('-inf')

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._clear()
        self._write(f'{text}\n')

    def status(self, text: str) -> None:
        """Show how far it is."""
        if self._terminal:
            self._clear()
            self._write(text)
            self._shown = True
        elif time.monotonic() - self._last >= self._interval:
            self._last = time.monotonic()
            self._write(f'  {text}\n')

    def restart(self) -> None:
        """Wait for an interval before the next line of progress."""
        self._last = time.monotonic()

    def _clear(self) -> None:
        if self._shown:
            self._write('\r\x1b[K')
            self._shown = False

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class History:
    """How long runs took, from the manifests of those that are finished.

    Args:
        folder: Folder of all runs of a scale.
    """

    def __init__(self, folder: Path) -> None:
        # Config and processes, and with them the digest, to seconds.
        self._of_digest: dict[str, list[float]] = {}
        self._of_config: dict[tuple[str, int], list[float]] = {}
        for file in sorted(folder.glob(f'*/seed*/{MANIFEST_FILE}')):
            try:
                manifest = json.loads(file.read_text(encoding='utf-8'))
            except (OSError, ValueError):
                continue
            if isinstance(manifest, dict) \
                    and manifest.get('status') == 'done':
                self.add(manifest)

    def add(self, manifest: Mapping) -> None:
        """Count a run that is finished."""
        seconds = float(manifest['seconds'])
        self._of_digest.setdefault(manifest['digest'], []).append(seconds)
        key = manifest['config'], manifest['gpus']
        self._of_config.setdefault(key, []).append(seconds)

    def estimate(self, run: Run) -> float | None:
        """Seconds that a run will take, None if nothing is known.

        Other seeds tell, and else runs of the config with other options or
        sources.
        """
        known = self._of_digest.get(run.digest) \
            or self._of_config.get((run.stage.path.stem, run.gpus))
        return fmean(known) if known else None

    def describe_left(self, running: float | None,
                      runs: Iterable[Run]) -> str:
        """Say how long all that is left will take.

        Args:
            running: Seconds left of the current step, if known.
            runs: Runs that have not started.

        Returns:
            Such as ``'about 2 h 5 min left, and 3 runs of unknown time'``.
        """
        estimates = [self.estimate(run) for run in runs]
        known = [one for one in estimates if one is not None]
        unknown = len(estimates) - len(known)
        parts = []
        if known or running is not None:
            parts.append(f'about {duration(sum(known) + (running or 0))}')
        if running is None:
            parts.append('this step')
        if unknown:
            parts.append(f'{unknown} run{"s" * (unknown > 1)} of unknown '
                         'time')
        return f'{" and ".join(parts)} left' if parts else 'nothing left'


def duration(seconds: float) -> str:
    """Write a duration for people, such as ``'2 h 5 min'``."""
    seconds = round(seconds)
    if seconds < 60:
        return f'{seconds} s'
    minutes = round(seconds / 60)
    if minutes < 60:
        return f'{minutes} min'
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f'{hours} h {minutes} min'
    return f'{hours / 24:.1f} d'
