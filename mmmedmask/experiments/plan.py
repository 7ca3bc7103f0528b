"""Plan runs: rows times seeds, with what each run starts from.

Two stages with the same config, options, sources and seed are one run, also
if they are of different rows or tables.
"""

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmedmask.apis.fold_stages import Where, set_sources
from mmmedmask.config_files import runner_keys
from mmmedmask.experiments.chain import (
    ChainStage,
    best_checkpoint_pattern,
    last_checkpoint_name,
    resolve_chain,
)
from mmmedmask.experiments.schema import Recipe, Row

#: Iterations of a training that counts iterations, at scale smoke; one that
#: counts epochs has one epoch.
SMOKE_ITERATIONS = 2
#: Prefix of the weights that are exported for the stages after.
BACKBONE_PREFIX = 'backbone'
# What a run is called and where, what it logs, and how many processes load
# its data does not change its result.
_NO_SETTINGS = frozenset({
    'work_dir', 'experiment_name', 'launcher', 'visualizer', 'vis_backends',
    'log_level', 'log_processor', 'resume'
})
_NO_LOADER_SETTINGS = frozenset({
    'num_workers', 'persistent_workers', 'prefetch_factor', 'pin_memory'
})
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


@dataclass(frozen=True)
class Source:
    """What a run starts from.

    Attributes:
        run: The run that makes it.
        choice: ``'last'`` or ``'best'``.
        exported: Whether it is the exported backbone.
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
        stage: The stage of the row that asked for it first.
        scale: Its scale.
        seed: Its seed.
        gpus: Number of processes that train.
        sources: Where the config names a checkpoint, and the run it is of.
        digest: Digest of everything that its result depends on, but the
            data, the seed and the code.
        folder: Its work dir.
        tests: Checkpoints to be tested.
        exports: Checkpoints whose backbone is to be exported.
        users: Tables, rows and stages that want it.
    """

    stage: ChainStage
    scale: str
    seed: int
    gpus: int
    sources: Mapping[Where, Source]
    digest: str
    folder: Path
    tests: list[str] = field(default_factory=list)
    exports: list[str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Its config and seed, for people."""
        return f'{self.stage.path.stem}, seed {self.seed}'

    @property
    def config(self) -> Config:
        """Its config without sources and seed; not to be changed."""
        return self.stage.config

    @property
    def last_name(self) -> str:
        """Name of its last checkpoint."""
        if self.scale == 'smoke':
            by_epoch = 'max_epochs' in self.config.train_cfg
            return 'epoch_1.pth' if by_epoch \
                else f'iter_{SMOKE_ITERATIONS}.pth'
        return last_checkpoint_name(self.config)

    def checkpoint(self, choice: str) -> str:
        """Path of a checkpoint.

        Args:
            choice: ``'last'`` or ``'best'``.

        Returns:
            The file; of a best checkpoint that is not there yet, a command
            substitution of the shell that finds it.
        """
        if choice == 'last':
            return str(self.folder / self.last_name)
        pattern = best_checkpoint_pattern(self.config)
        found = sorted(self.folder.glob(pattern),
                       key=lambda path: path.stat().st_mtime)
        if found:
            return str(found[-1])
        return f'$(ls -t {self.folder / pattern} | head -n 1)'

    def exported_file(self, choice: str) -> str:
        """Path of the exported backbone."""
        name = 'backbone' if choice == 'last' else f'backbone_{choice}'
        return str(self.folder / f'{name}.pth')

    def test_folder(self, choice: str) -> Path:
        """Work dir of a test."""
        return self.folder / ('test' if choice == 'last'
                              else f'test_{choice}')


@dataclass(frozen=True)
class Cell:
    """The runs behind one cell of a table.

    Attributes:
        run: The run of the stage that the column names.
        choice: The checkpoint that is tested.
    """

    run: Run
    choice: str


@dataclass(frozen=True)
class Plan:
    """All runs of some tables.

    Attributes:
        runs: The runs, each after those that it starts from.
        tables: The recipes with their chosen rows.
        seeds: Seeds of each table, by its name.
        cells: Run of (table, row, stage, seed).
        scale: The scale.
        left_out: Table and row that have nothing at this scale.
    """

    runs: tuple[Run, ...]
    tables: tuple[tuple[Recipe, tuple[Row, ...]], ...]
    seeds: Mapping[str, tuple[int, ...]]
    cells: Mapping[tuple[str, str, str, int], Cell]
    scale: str
    left_out: tuple[tuple[str, str], ...]


def plan_runs(tables: Sequence[tuple[Recipe, Sequence[Row]]],
              scale: str,
              work_dir: str | Path,
              seeds: Sequence[int] | None = None,
              gpus: int = 1,
              share_pretraining: bool = False) -> Plan:
    """Plan the runs of some tables.

    Args:
        tables: Recipes, each with the rows that are wanted.
        scale: ``'paper'``, ``'small'`` or ``'smoke'``.
        work_dir: Folder of all runs; each goes to
            ``SCALE/CONFIG-DIGEST/seedS`` in it.
        seeds: The seeds; None takes those of each recipe.
        gpus: Number of processes that train a run.
        share_pretraining: Whether all seeds start from the runs of the first
            seed, instead of having a whole chain each.

    Returns:
        The plan, seed by seed, so that a first seed is complete early.

    Raises:
        ValueError: If a chain cannot be resolved; all problems are listed.
    """
    chains: dict[tuple[str, str], list[ChainStage]] = {}
    left_out, problems = [], []
    for recipe, rows in tables:
        for row in rows:
            try:
                chain = resolve_chain(recipe, row, scale)
            except ValueError as error:
                problems.append(f'{recipe.path}: {error}')
                continue
            if chain is None:
                left_out.append((recipe.name, row.name))
            else:
                chains[recipe.name, row.name] = chain
    if problems:
        raise ValueError('\n'.join(problems))
    builder = _Builder(scale, Path(work_dir), gpus)
    chosen = {recipe.name: tuple(seeds or recipe.seeds)
              for recipe, _ in tables}
    cells: dict[tuple[str, str, str, int], Cell] = {}
    for place in range(max(map(len, chosen.values()), default=0)):
        for recipe, rows in tables:
            if place >= len(chosen[recipe.name]):
                continue
            seed = chosen[recipe.name][place]
            first = chosen[recipe.name][0] if share_pretraining else seed
            for row in rows:
                if (recipe.name, row.name) not in chains:
                    continue
                stages = builder.add_chain(
                    recipe, row, chains[recipe.name, row.name], seed, first)
                cells.update({
                    (recipe.name, row.name, name, seed): cell
                    for name, cell in stages.items()})
    return Plan(
        runs=tuple(builder.runs.values()),
        tables=tuple((recipe, tuple(rows)) for recipe, rows in tables),
        seeds=chosen,
        cells=cells,
        scale=scale,
        left_out=tuple(left_out))


def settings_digest(config: Config, sources: Mapping[Where, str],
                    scale: str, gpus: int) -> str:
    """Digest of what a result depends on, but data, seed and code.

    Args:
        config: The config with the recipe's options. Where the data lie does
            not count, since it still has ``data/``.
        sources: Where it names a checkpoint, and what stands for that.
        scale: The scale.
        gpus: Number of processes.

    Returns:
        SHA-256 of all of it.
    """
    keys = runner_keys() - _NO_SETTINGS
    content = Config({key: value for key, value in config.to_dict().items()
                      if key in keys})
    set_sources(content, sources)
    plain = content.to_dict()
    for name in _LOADERS:
        for key in _NO_LOADER_SETTINGS & set(plain.get(name) or {}):
            del plain[name][key]
    randomness: Any = plain.get('randomness')
    if isinstance(randomness, dict):
        randomness.pop('seed', None)
    text = json.dumps(dict(config=plain, scale=scale, gpus=gpus),
                      sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def rate_options(stage: ChainStage) -> dict[str, Any]:
    """A rate that a recipe sets is for its own batch on one GPU.

    Args:
        stage: A stage with its config.

    Returns:
        The option that says so; none if the recipe sets no rate.
    """
    options = stage.stage.options
    batch = stage.config.train_dataloader.get('batch_size')
    if batch and 'optim_wrapper.optimizer.lr' in options \
            and 'auto_scale_lr.base_batch_size' not in options \
            and stage.config.get('auto_scale_lr'):
        return {'auto_scale_lr.base_batch_size': batch}
    return {}


class _Builder:
    """Collects runs, each once."""

    def __init__(self, scale: str, work_dir: Path, gpus: int) -> None:
        self.scale = scale
        self.work_dir = work_dir
        self.gpus = gpus
        self.runs: dict[tuple[str, int], Run] = {}

    def add_chain(self, recipe: Recipe, row: Row,
                  chain: Sequence[ChainStage], seed: int,
                  first: int) -> dict[str, Cell]:
        """Add the runs of a row for one seed."""
        tested = {column.stage for column in recipe.columns}
        wanted = _wanted(chain, tested)
        made: dict[tuple[str, int], Run] = {}
        cells = {}
        for stage in chain:
            # What others start from is of the first seed, if it is shared.
            seeds = {first} if any(stage.name in later.sources.values()
                                   for later in chain) else set()
            if stage.name in tested:
                seeds.add(seed)
            if stage.name not in wanted:
                continue
            for one in sorted(seeds):
                sources = {
                    where: self._source(stage, where, name, chain,
                                        made[name, first])
                    for where, name in stage.sources.items()}
                run = self._add_run(stage, one, sources)
                made[stage.name, one] = run
                user = f'{recipe.name}: {row.name}, {stage.name}'
                if user not in run.users:
                    run.users.append(user)
            if stage.name in tested:
                run = made[stage.name, seed]
                choice = stage.stage.checkpoint
                if choice not in run.tests:
                    run.tests.append(choice)
                cells[stage.name] = Cell(run, choice)
        return cells

    def _source(self, stage: ChainStage, where: Where, name: str,
                chain: Sequence[ChainStage], run: Run) -> Source:
        node: Any = stage.config
        for key in where[:-1]:
            node = node[int(key) if isinstance(node, list | tuple) else key]
        prefix = str(node.get('prefix') or '').rstrip('.')
        exported = where != ('load_from', ) and prefix == BACKBONE_PREFIX
        choice = next(one.stage.checkpoint for one in chain
                      if one.name == name)
        if exported and choice not in run.exports:
            run.exports.append(choice)
        return Source(run, choice, exported)

    def _add_run(self, stage: ChainStage, seed: int,
                 sources: Mapping[Where, Source]) -> Run:
        described = {
            where: f'{source.run.digest} {source.choice} '
            + ('exported ' if source.exported else '')
            + ('' if source.run.seed == seed else f'seed {source.run.seed}')
            for where, source in sources.items()}
        config = copy.deepcopy(stage.config)
        config.merge_from_dict(rate_options(stage))
        digest = settings_digest(
            config, described, self.scale, self.gpus)
        if (digest, seed) not in self.runs:
            folder = Path(self.work_dir, self.scale,
                          f'{stage.path.stem}-{digest[:8]}', f'seed{seed}')
            self.runs[digest, seed] = Run(
                stage, self.scale, seed, self.gpus, sources, digest, folder)
        return self.runs[digest, seed]


def _wanted(chain: Sequence[ChainStage],
            tested: Iterable[str]) -> set[str]:
    """Stages that a column names, and all that those start from."""
    wanted = set(tested)
    for stage in reversed(chain):
        if stage.name in wanted:
            wanted.update(stage.sources.values())
    return wanted
