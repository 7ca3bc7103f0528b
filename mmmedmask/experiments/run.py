"""A run: a config that is trained with a seed, maybe on a fold, and tested.

A run is plain data. A plan of runs is written as json; the process that does
one reads it and needs neither the config nor the libraries.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmmedmask.util.atomic_files import json_text, write_text

#: File in a run's folder that the engine waits for; written last.
DONE_FILE = 'done.json'
#: File in a run's folder with the name of the last checkpoint of a training
#: that a hook has ended early.
EARLY_FILE = 'early_checkpoint'
# Keys from the top of a config, as text.
Where = tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """The run that another starts from, its ``'last'`` or ``'best'``.

    ``exported`` says whether it is the exported backbone.
    """

    run: 'Run'
    choice: str
    exported: bool

    def file(self) -> str:
        """Path of the checkpoint, see :meth:`Run.checkpoint`."""
        return self.run.exported_file(self.choice) if self.exported \
            else self.run.checkpoint(self.choice)


@dataclass(eq=False)
class Run:
    """A config, trained with a seed.

    Attributes:
        options: What its recipe sets in it: dotted key to value.
        settings: All that is set on its command line but for its sources,
            as ``--cfg-options`` takes it.
        scales_lr: Whether the rate is scaled to the samples in a step.
        planned_gpus: Number of processes that the config is made for.
        digest: Of everything that its result depends on, but data, seed,
            fold and code.
        best_pointer: Name of the file in its folder that has the path of its
            best checkpoint.
        data: What it reads: name to path, which begins with ``data/`` if it
            is below the data root, or to such paths.
        sources: Where the config names a checkpoint, and the run it is of.
        exports: Checkpoints whose backbone is to be exported.
        users: Tables, rows and stages that want it.
    """

    config_file: str
    options: Mapping[str, Any]
    settings: tuple[str, ...]
    scales_lr: bool
    scale: str
    seed: int | None
    fold: int | None
    gpus: int
    planned_gpus: int | None
    counts_iterations: bool
    digest: str
    folder: Path
    last_name: str | None
    best_pointer: str | None
    data: Mapping[str, str | list[str]]
    sources: Mapping[Where, Source] = field(default_factory=dict)
    tests: list[str] = field(default_factory=list)
    exports: list[str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Bare name of its config."""
        return Path(self.config_file).stem

    @property
    def key(self) -> str:
        """Its folder below that of all runs."""
        return f'{self.folder.parent.name}/{self.folder.name}'

    @property
    def title(self) -> str:
        """Its config, seed and fold, for people."""
        seed = '' if self.seed is None else f', seed {self.seed}'
        fold = '' if self.fold is None else f', fold {self.fold}'
        return f'{self.name}{seed}{fold}'

    def checkpoint(self, choice: str) -> str:
        """Path of the ``'last'`` or the ``'best'`` checkpoint.

        Of a best one that is not there yet, a command substitution of the
        shell that finds it. The last one of a training that a hook has ended
        early is that of its end.
        """
        if choice == 'last':
            file, pointer = self.folder / self.last_name, \
                self.folder / EARLY_FILE
            if file.is_file() or not pointer.is_file():
                return str(file)
        else:
            pointer = self.folder / self.best_pointer
            if not pointer.is_file():
                return f'$(cat {pointer})'
        # The folder may have been moved since it was written.
        written = pointer.read_text(encoding='utf-8').strip()
        return str(self.folder / Path(written).name)

    def exported_file(self, choice: str) -> str:
        """Path of the exported backbone."""
        name = 'backbone' if choice == 'last' else f'backbone_{choice}'
        return str(self.folder / f'{name}.pth')

    def test_folder(self, choice: str) -> Path:
        """Work dir of a test."""
        return self.folder / ('test' if choice == 'last' else f'test_{choice}')


def write_runs(folder: Path, runs: Iterable[Run], /, **more: Any) -> Path:
    """Write runs, each after those that it starts from, and more as json.

    The file is named by its content, so that commands which write at the same
    time do not take each other's.
    """
    plain = []
    for run in runs:
        content = {key.name: getattr(run, key.name)
                   for key in dataclasses.fields(run)}
        content['folder'] = str(run.folder)
        content['sources'] = [
            dict(where=where, run=source.run.key, choice=source.choice,
                 exported=source.exported)
            for where, source in run.sources.items()]
        plain.append(dict(key=run.key, **content))
    text = json_text(dict(runs=plain, **more))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    write_text(folder / f'{digest}.json', text)
    return folder / f'{digest}.json'


def read_runs(file: Path) -> tuple[dict[str, Run], dict]:
    """Read what :func:`write_runs` wrote: runs by their key, and the rest."""
    content = json.loads(Path(file).read_text(encoding='utf-8'))
    runs: dict[str, Run] = {}
    for plain in content.pop('runs'):
        key = plain.pop('key')
        plain.update(
            folder=Path(plain['folder']),
            settings=tuple(plain['settings']),
            sources={tuple(source['where']): Source(
                runs[source['run']], source['choice'], source['exported'])
                     for source in plain['sources']})
        runs[key] = Run(**plain)
    return runs, content
