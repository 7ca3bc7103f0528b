"""Extract the features of slides as jobs of Snakemake, one per shard."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from mmmedmask.apis.slide_extraction import (
    FAILED,
    SlideResult,
    feature_file,
)
from mmmedmask.datasets.slides import slide_list
from mmmedmask.experiments.engine import lock_folder, run_snakemake
from mmmedmask.util.atomic_files import write_json

SNAKEFILE = Path(__file__).with_name('extraction.smk')


class ShardReports:
    """What became of the slides of each shard, in files of a folder.

    The folder is named by the slides, with their sizes, and by the settings:
    reports of other slides or settings never count.

    Args:
        settings: All that decides about the features, as plain values.
    """

    def __init__(self, out: Path, tasks: Sequence[slide_list.SlideTask],
                 count: int, settings: Mapping) -> None:
        self.shards = slide_list.split_into_shards(tasks, count)
        slides = sorted((task.slide_id, str(task.path), task.mpp,
                         slide_list.slide_bytes(task.path)) for task in tasks)
        text = json.dumps([slides, settings], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        self.out = out.absolute()
        self.folder = self.out / 'shards' / digest

    def path(self, number: int, suffix: str = '.json') -> Path:
        """Name the report, or the log, of a shard, counted from 1."""
        return self.folder / f'{number}-of-{len(self.shards)}{suffix}'

    def write(self, number: int, results: Sequence[SlideResult]) -> None:
        """Write what became of the slides of a shard."""
        write_json(self.path(number), [asdict(result) for result in results])

    def read(self, number: int) -> list[SlideResult] | None:
        """Read what became of a shard's slides, None if it has not ended."""
        path = self.path(number)
        if not path.is_file():
            return None
        return [SlideResult(**result)
                for result in json.loads(path.read_text('utf-8'))]

    def list_outdated(self, overwrite: bool = False,
                      retry_failed: bool = False) -> list[int]:
        """List shards with a report of what is not so any more.

        Those whose features are gone or were written since, such as with
        other settings. With ``overwrite`` all that have a report, with
        ``retry_failed`` those with slides that failed, too.
        """
        return [number for number in range(1, len(self.shards) + 1)
                if self.path(number).is_file() and (
                    overwrite or self._is_outdated(number, retry_failed))]

    def _is_outdated(self, number: int, retry_failed: bool) -> bool:
        written = self.path(number).stat().st_mtime_ns
        for result in self.read(number):
            if result.status == FAILED:
                if retry_failed:
                    return True
                continue
            # Also slides without a tile have a file.
            features = feature_file(self.out, result.slide_id)
            if not features.is_file() \
                    or features.stat().st_mtime_ns > written:
                return True
        return False

    def forget(self, numbers: Sequence[int]) -> None:
        """Remove reports of shards, unless an engine works with them."""
        if numbers:
            with lock_folder(self.folder.parent):
                for number in numbers:
                    self.path(number).unlink(missing_ok=True)

    def run(self, command: Sequence[str], inputs: Sequence[Path] = (),
            threads: int = 1, on_gpu: bool = False, **engine: object) -> int:
        """Let Snakemake run a job for each shard without a report.

        A report that is older than one of its slides, or than one of
        ``inputs``, does not count. See :func:`~mmmedmask.experiments.engine.\
run_snakemake` for what is returned and raised.

        Args:
            command: The command of a job; ``--shard i/n`` is put behind it.
            inputs: Files that all jobs need, such as weights.
        """
        files = {
            str(number): [str(path.absolute()) for path in (
                *inputs, *(task.path for task in shard if task.path))]
            for number, shard in enumerate(self.shards, start=1)}
        config = dict(
            folder=str(self.folder), cwd=os.getcwd(), command=list(command),
            inputs=files, threads=threads, gpus=int(on_gpu))
        return run_snakemake(SNAKEFILE, self.folder.parent, config, **engine)
