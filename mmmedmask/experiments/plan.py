"""Plan runs: rows, seeds and folds, and what each run starts from.

Two stages with the same config, options, sources, seed and fold are one run,
also if they are of different rows or tables.
"""

import contextlib
import copy
import functools
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmedmask.config_files import (
    EXPRESSION_FILES,
    best_pointers,
    missing_test_keys,
    planned_gpus,
    runner_keys,
    samples_per_step,
)
from mmmedmask.experiments import config_content
from mmmedmask.experiments.chain import ChainStage, resolve_chain
from mmmedmask.experiments.commands import format_option
from mmmedmask.experiments.config_content import move_data
from mmmedmask.experiments.fingerprints import (
    DataFingerprints,
    data_fingerprints,
    digest_files,
)
from mmmedmask.experiments.fold_axis import fold_options
from mmmedmask.experiments.run import Run, Source, Where
from mmmedmask.experiments.schema import DATA_PREFIX, Recipe, Row
from mmmedmask.util.nested import as_list, nested_dicts, node_at
from mmmedmask.util.table_files import MISSING, read_table

#: Iterations of a training that counts iterations, at scale smoke; one that
#: counts epochs has one epoch.
SMOKE_ITERATIONS = 2
#: Prefix of the weights that are exported for the stages after.
BACKBONE_PREFIX = 'backbone'
# What a run is called and where, what it logs, and how many processes load
# its data does not change its result.
_NO_SETTINGS = frozenset({'work_dir', 'experiment_name', 'launcher',
                          'visualizer', 'vis_backends', 'log_level',
                          'log_processor', 'resume'})
_NO_DEFAULT_HOOKS = frozenset({'logger', 'timer', 'visualization'})
_NO_LOADER_SETTINGS = frozenset({'num_workers', 'persistent_workers',
                                 'prefetch_factor', 'pin_memory'})
# Keys of SlideOmicDataset that name files.
_DATASET_FILES = ('ann_file', 'feature_root', 'gene_list')


@dataclass(frozen=True)
class Axis:
    """A seed, None for the configs' own, and a fold, None without folds."""

    seed: int | None
    fold: int | None

    def __str__(self) -> str:
        seed = 'own seed' if self.seed is None else f'seed {self.seed}'
        return seed if self.fold is None else f'{seed}, fold {self.fold}'


@dataclass(frozen=True)
class Cell:
    """The run of a column's stage, and its checkpoint that is tested."""

    run: Run
    choice: str


@dataclass(frozen=True)
class Plan:
    """All runs of some tables.

    Attributes:
        runs: The runs, each after those that it starts from.
        tables: The recipes with their chosen rows.
        axes: Seeds and folds of each table, by its name.
        cells: What is behind (table, row, stage, seed and fold).
        left_out: Table and row that have nothing at this scale.
    """

    runs: tuple[Run, ...]
    tables: tuple[tuple[Recipe, tuple[Row, ...]], ...]
    axes: Mapping[str, tuple[Axis, ...]]
    cells: Mapping[tuple[str, str, str, Axis], Cell]
    scale: str
    folder: Path
    data_root: Path
    left_out: tuple[tuple[str, str], ...]

    def rows(self, table: str) -> tuple[Row, ...]:
        """The chosen rows of a table."""
        return next(rows for recipe, rows in self.tables
                    if recipe.name == table)

    @functools.cached_property
    def fingerprints(self) -> DataFingerprints | None:
        """Those of the data, each looked up once: ask after the runs.

        See :func:`~mmmedmask.experiments.fingerprints.data_fingerprints`.
        """
        return data_fingerprints(self.data_root, self.scale)


def plan_runs(tables: Sequence[tuple[Recipe, Sequence[Row]]], scale: str,
              folder: str | Path, data_root: str | Path = 'data',
              seeds: Sequence[int | None] | None = None,
              folds: Mapping[str, Mapping[int, Path]] | None = None,
              gpus: int = 1, share_pretraining: bool = False) -> Plan:
    """Plan the runs of some tables, seed by seed, to complete one early.

    Args:
        tables: Recipes, each with the rows that are wanted.
        folder: Folder of all runs; each goes to ``CONFIG-DIGEST/seedS`` or
            ``CONFIG-DIGEST/seedS_foldK`` in it.
        data_root: Folder instead of ``data/``.
        seeds: The seeds; None takes those of each recipe. A seed None is
            that of each config.
        folds: Split file of each fold, by the name of a recipe; without,
            a recipe's configs name their split.
        share_pretraining: Whether all seeds start from the runs of the first
            seed, instead of having a whole chain each.

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
                problems.append(str(error) if recipe.ad_hoc
                                else f'{recipe.path}: {error}')
                continue
            if chain is None:
                left_out.append((recipe.name, row.name))
            else:
                chains[recipe.name, row.name] = chain
    if problems:
        raise ValueError('\n'.join(problems))
    builder = _Builder(scale, Path(folder), data_root, gpus)
    cells = {}
    splits = {recipe.name: (folds or {}).get(recipe.name) or {None: None}
              for recipe, _ in tables}
    axes = {recipe.name: tuple(
        Axis(seed, fold) for seed in seeds or recipe.seeds
        for fold in splits[recipe.name]) for recipe, _ in tables}
    for places in itertools.zip_longest(
            *(axes[recipe.name] for recipe, _ in tables)):
        for (recipe, rows), axis in zip(tables, places, strict=True):
            if axis is None:
                continue
            first = axes[recipe.name][0] if share_pretraining else axis
            for row in rows:
                if (recipe.name, row.name) in chains:
                    stages = builder.add_chain(
                        recipe, row, chains[recipe.name, row.name], axis,
                        first.seed, splits[recipe.name][axis.fold])
                    cells.update({(recipe.name, row.name, name, axis): cell
                                  for name, cell in stages.items()})
    return Plan(runs=tuple(builder.runs.values()),
                tables=tuple((recipe, tuple(rows)) for recipe, rows in tables),
                axes=axes, cells=cells, scale=scale, folder=builder.folder,
                data_root=Path(data_root), left_out=tuple(left_out))


def settings_digest(config: Config, sources: Mapping[Where, str],
                    scale: str, gpus: int, axis: Axis) -> str:
    """Digest of what a result depends on, but data, seed, fold and code.

    Below the data root, data count by where they are, so that the data root
    can be moved. A cohort or a checkpoint elsewhere counts by its content.

    ``sources`` says where the config names a checkpoint, and what stands for
    that. A seed does not count but for that of the config, which it replaces,
    nor a fold but for its split.
    """
    keys = runner_keys() - _NO_SETTINGS
    content = Config({key: value for key, value in config.to_dict().items()
                      if key in keys})
    config_content.set_checkpoints(content, {
        where: digest_files(Path(file)) or file
        for where, file in config_content.find_checkpoints(content).items()
        if file and where not in sources
        and not file.startswith(DATA_PREFIX)})
    config_content.set_checkpoints(content, sources)
    for _, dataset in config_content.find_datasets(content):
        if axis.fold is not None:
            dataset.pop('split_file', None)
        _replace_files(dataset)
    for node, key in config_content.find_gene_files(content):
        if not node[key].startswith(DATA_PREFIX):
            node[key] = digest_files(Path(node[key])) or node[key]
    plain = content.to_dict()
    plain['default_hooks'] = {
        name: hook for name, hook in (plain.get('default_hooks') or {}).items()
        if name not in _NO_DEFAULT_HOOKS}
    # Hooks have loaders, too.
    for node in nested_dicts(plain):
        for key in _NO_LOADER_SETTINGS & node.keys():
            del node[key]
    randomness: Any = plain.get('randomness')
    if isinstance(randomness, dict) and axis.seed is not None:
        randomness.pop('seed', None)
    text = json.dumps(dict(config=plain, scale=scale, gpus=gpus),
                      sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def rate_options(stage: ChainStage) -> dict[str, Any]:
    """A rate that a recipe sets is for its own batch on one GPU."""
    options = stage.stage.options
    batch = (stage.config.get('train_dataloader') or {}).get('batch_size')
    if batch and 'optim_wrapper.optimizer.lr' in options \
            and 'auto_scale_lr.base_batch_size' not in options \
            and stage.config.get('auto_scale_lr'):
        return {'auto_scale_lr.base_batch_size':
                samples_per_step(stage.config, 1)[1]}
    return {}


class _Builder:
    """Collects runs, each once."""

    def __init__(self, scale: str, folder: Path, data_root: str | Path,
                 gpus: int) -> None:
        self.scale = scale
        self.folder = folder
        self.data_root = data_root
        self.gpus = gpus
        self.runs: dict[tuple[str, Axis], Run] = {}
        # What all seeds and folds have in common.
        self._digests: dict[tuple, str] = {}
        self._constants: dict[tuple, tuple[dict, dict]] = {}

    def add_chain(self, recipe: Recipe, row: Row,
                  chain: Sequence[ChainStage], axis: Axis, first: int | None,
                  split: Path | None) -> dict[str, Cell]:
        """Add the runs of a row for one seed and fold."""
        tested, logged = ({column.stage for column in recipe.columns
                           if (column.logged is None) is of_tests}
                          for of_tests in (True, False))
        shown = tested | logged
        wanted = set(shown)
        for stage in reversed(chain):
            if stage.name in wanted:
                wanted.update(stage.sources.values())
        choices = {stage.name: stage.stage.checkpoint for stage in chain}
        made: dict[tuple[str, int | None], Run] = {}
        cells = {}
        for stage in chain:
            # What others start from is of the first seed, if it is shared.
            seeds = [first] if any(stage.name in later.sources.values()
                                   for later in chain) else []
            if stage.name in shown and axis.seed not in seeds:
                seeds.append(axis.seed)
            if stage.name not in wanted:
                continue
            _check_best(stage)
            if stage.name in logged:
                _check_trained(stage)
            for seed in seeds:
                sources = {where: _source(stage.config, where,
                                          made[name, first], choices[name])
                           for where, name in stage.sources.items()}
                run = made[stage.name, seed] = self._add_run(
                    stage, Axis(seed, axis.fold), sources, split)
                _add_once(run.users,
                          f'{recipe.name}: {row.name}, {stage.name}')
            if stage.name in shown:
                cell = Cell(made[stage.name, axis.seed], choices[stage.name])
                cells[stage.name] = cell
            if stage.name in tested:
                _check_tested(stage)
                _add_once(cell.run.tests, cell.choice)
        return cells

    def _add_run(self, stage: ChainStage, axis: Axis,
                 sources: Mapping[Where, Source], split: Path | None) -> Run:
        described = {
            where: f'{source.run.digest} {source.choice} '
            + ('exported ' if source.exported else '')
            + ('' if source.run.seed == axis.seed
               else f'seed {source.run.seed}')
            for where, source in sources.items()}
        digest = self._digest(stage, described, axis)
        if (digest, axis) not in self.runs:
            name = 'own_seed' if axis.seed is None else f'seed{axis.seed}'
            if axis.fold is not None:
                name += f'_fold{axis.fold}'
            folder = self.folder / f'{stage.path.stem}-{digest[:8]}' / name
            self.runs[digest, axis] = self._make_run(
                stage, axis, sources, split, digest, folder)
        return self.runs[digest, axis]

    def _digest(self, stage: ChainStage, described: Mapping[Where, str],
                axis: Axis) -> str:
        key = (id(stage.config), tuple(described.items()),
               axis.seed is None, axis.fold is None)
        if key not in self._digests:
            config = copy.deepcopy(stage.config)
            config.merge_from_dict(rate_options(stage))
            self._digests[key] = settings_digest(
                config, described, self.scale, self.gpus, axis)
        return self._digests[key]

    def _make_run(self, stage: ChainStage, axis: Axis,
                  sources: Mapping[Where, Source], split: Path | None,
                  digest: str, folder: Path) -> Run:
        config, rates = stage.config, rate_options(stage)
        loop = config.get('train_cfg') or {}
        last = config_content.last_checkpoint_name(config)
        if self.scale == 'smoke' and last:
            last = 'epoch_1.pth' if 'max_epochs' in loop \
                else f'iter_{SMOKE_ITERATIONS}.pth'
        key = (id(config), split is None)
        if key not in self._constants:
            self._constants[key] = (
                {**_run_options(config, stage.stage.options, self.data_root),
                 **rates}, _data_of(config, sources, split is not None,
                                    self.data_root))
        options, data = map(dict, self._constants[key])
        if split is not None:
            options.update(fold_options(config, split))
            data[split.name] = str(split)
        if axis.seed is not None:
            options['randomness.seed'] = axis.seed
        for where, source in sources.items():
            # Refused here, not where the run has begun.
            format_option('.'.join(where), source.file())
        planned = planned_gpus(config)
        return Run(
            config_file=str(stage.path), options=stage.stage.options,
            settings=tuple(format_option(*item) for item in options.items()),
            scales_lr=_scales_lr(config, rates, self.gpus), scale=self.scale,
            seed=axis.seed, fold=axis.fold, gpus=self.gpus,
            planned_gpus=planned and planned[0],
            counts_iterations='max_iters' in loop, digest=digest,
            folder=folder, last_name=last,
            best_pointer=next(iter(best_pointers(config)), None), data=data,
            sources=sources)


def _add_once(values: list[str], value: str) -> None:
    if value not in values:
        values.append(value)


def _source(config: Config, where: Where, run: Run, choice: str) -> Source:
    """What a config has at a place: its prefix tells if it is exported."""
    node = node_at(config, where[:-1])
    prefix = str(node.get('prefix') or '').rstrip('.')
    exported = where != ('load_from', ) and prefix == BACKBONE_PREFIX
    if exported:
        _add_once(run.exports, choice)
    return Source(run, choice, exported)


def _check_tested(stage: ChainStage) -> None:
    missing = missing_test_keys(stage.config)
    if missing:
        raise ValueError(
            f'{stage.path} has nothing to test: it lacks {", ".join(missing)}')


def _check_trained(stage: ChainStage) -> None:
    if config_content.last_checkpoint_name(stage.config) is None:
        raise ValueError(f'{stage.path} trains nothing that a column could '
                         'show with logged: it has no train_cfg')


def _check_best(stage: ChainStage) -> None:
    if stage.stage.checkpoint == 'best' and not best_pointers(stage.config):
        raise ValueError(f'{stage.path} saves no best checkpoint: its '
                         'default_hooks.checkpoint has no save_best')


def _scales_lr(config: Config, rates: Mapping[str, Any], gpus: int) -> bool:
    """Whether the rate is for other samples than an update has."""
    scaling = config.get('auto_scale_lr') or {}
    base = rates.get('auto_scale_lr.base_batch_size',
                     scaling.get('base_batch_size'))
    batch = (config.get('train_dataloader') or {}).get('batch_size')
    return bool(base and batch and not scaling.get('enable')
                and base != samples_per_step(config, gpus)[1])


def _run_options(config: Config, options: Mapping[str, Any],
                data_root: str | Path) -> dict[str, Any]:
    """Collect a run's command line: the recipe's options and moved data."""
    moved = {key: move_data(value, data_root)
             for key, value in options.items()}
    if Path(data_root) != Path(DATA_PREFIX):
        for where, path in config_content.find_data(config).items():
            key, value = _moved_option(config, where, path, data_root)
            if not any(key == given or key.startswith(f'{given}.')
                       for given in moved):
                moved[key] = value
    return moved


def _moved_option(config: Config, where: Where, path: str,
                  data_root: str | Path) -> tuple[str, Any]:
    """The option that moves a path; in a tuple it sets the whole tuple."""
    for place in range(len(where)):
        node = node_at(config, where[:place])
        if isinstance(node, tuple):
            if not all(isinstance(part, str | int | float) for part in node):
                raise ValueError(
                    f'{config.filename} has the path {path!r} inside of a '
                    f'tuple ({".".join(where)}), where the command line '
                    'cannot move it: make it a list')
            return '.'.join(where[:place]), move_data(node, data_root)
    return '.'.join(where), move_data(path, data_root)


def _data_of(config: Config, sources: Mapping[Where, Source],
             has_fold: bool, data_root: str | Path
             ) -> dict[str, str | list[str]]:
    """What a run reads, but not what it may write there.

    Files outside of the data root are called as the config calls them, so that
    a project can be moved. The features that csv files name are one entry.
    """
    data: dict[str, str | list[str]] = {}
    features: set[str] = set()
    left_out = ('cache_dir', 'split_file') if has_fold else ('cache_dir', )
    for path in sorted({path.rstrip('/') for where, path
                        in config_content.required_data(config).items()
                        if where[-1] not in left_out}):
        if not any(path.startswith(f'{kept}/') for kept in data):
            data[path] = path
    for _, dataset in config_content.find_datasets(config):
        features.update(str(_root_of(dataset) / name)
                        for name in _named_features(dataset, data_root))
        for node, key in _dataset_files(dataset):
            for name in as_list(node[key]):
                path = str(_root_of(dataset) / name)
                if not path.startswith(DATA_PREFIX):
                    other = data.get(name, path) != path
                    data[path if other else name] = path
    # Whole folders of the data root count already.
    if left := sorted(path for path in features if not any(
            path.startswith(f'{kept}/') for kept in data)):
        data['features_path'] = left
    for node, key in config_content.find_gene_files(config):
        if not node[key].startswith(DATA_PREFIX):
            data[node[key]] = node[key]
    for where, file in config_content.find_checkpoints(config).items():
        if file and where not in sources and '://' not in file \
                and not file.startswith(DATA_PREFIX):
            data[Path(file).name] = file
    return data


def _replace_files(dataset: dict) -> None:
    """Replace a cohort's files outside the data root by their digests."""
    root = _root_of(dataset)

    def digest(name: str, features: bool = False) -> str:
        path = root / name
        return name if str(path).startswith(DATA_PREFIX) \
            else digest_files(path, features) or name

    if features := _named_features(dataset, None):
        dataset['features_path'] = list(map(digest, features))
    for node, key in list(_dataset_files(dataset)):
        digests = [digest(name, key == 'feature_root')
                   for name in as_list(node[key])]
        node[key] = digests if isinstance(node[key], list | tuple) \
            else digests[0]
    if not f'{root}/'.startswith(DATA_PREFIX):
        dataset.pop('data_root', None)


def _dataset_files(dataset: Mapping):
    """Yield where a data set names files or folders: dict and key."""
    for node, keys in ((dataset, _DATASET_FILES),
                       (dataset.get('expression') or {}, EXPRESSION_FILES)):
        for key in keys:
            if node.get(key) and all(
                    isinstance(name, str) for name in as_list(node[key])):
                yield node, key


def _named_features(dataset: Mapping,
                    data_root: str | Path | None) -> list[str]:
    """Files that a cohort's csv names; none where it cannot be read.

    Without a ``data_root`` the csv files below it are left out.
    """
    names: set[str] = set()
    for name in as_list(dataset.get('ann_file') or []):
        path = str(_root_of(dataset) / name)
        if data_root is None and path.startswith(DATA_PREFIX):
            continue
        with contextlib.suppress(OSError, ValueError):
            table = read_table(move_data(path, data_root or DATA_PREFIX))
            if 'features_path' in table.names:
                names.update(table.text(table.names.index('features_path')))
    return sorted(names.difference(MISSING))


def _root_of(dataset: Mapping) -> Path:
    return Path(dataset.get('data_root') or '')
