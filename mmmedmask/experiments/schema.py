"""Read recipes: what the rows and columns of a paper's table are.

A recipe is a yaml file beside the configs, ``configs/<family>/recipes/``. A
row is a chain of configs, its stages; a column is a metric of one stage.
Everything about a file that can be said without its configs is checked here.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from mmmedmask.compat.config_bases import find_config_folder
from mmmedmask.util.nearest import did_you_mean

#: Folder, below one of the configs, that holds recipes.
RECIPE_FOLDER = 'recipes'
CHECKPOINT_CHOICES = ('last', 'best')
#: Scales that have data of their own; ``smoke`` draws its data.
DATA_SCALES = ('paper', 'small')
SCALES = (*DATA_SCALES, 'smoke')
#: How paths below the data root begin in configs.
DATA_PREFIX = 'data/'

_NAME = re.compile(r'[A-Za-z0-9][\w.+-]*')
# What yaml 1.1 reads as text, though it is meant as a number.
_FLOAT = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+')
_RECIPE_KEYS = ('name', 'title', 'paper', 'notes', 'seeds', 'folds',
                'columns', 'options', 'small', 'data', 'rows', 'against')
_COLUMN_KEYS = ('name', 'title', 'stage', 'metric', 'factor', 'metafile')
_ROW_KEYS = ('name', 'title', 'stages', 'small', 'paper', 'weights', 'note')
_STAGE_KEYS = ('config', 'checkpoint', 'options')
_WEIGHT_KEYS = ('path', 'from')


@dataclass(frozen=True)
class Stage:
    """A config of a chain, and what is set in it.

    Attributes:
        checkpoint: ``'last'`` or ``'best'``: what is tested, and what later
            stages start from.
        options: Dotted key to value, as ``--cfg-options`` takes them.
    """

    config: str
    checkpoint: str = 'last'
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """What is different in a stage at another scale.

    Attributes:
        config: The config in the place of the stage's own, or None. With it,
            options that were set before do not count: they were made for the
            other config.
        checkpoint: See :class:`Stage`, or None.
    """

    config: str | None = None
    checkpoint: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, stage: Stage) -> Stage:
        """Return the stage with this change."""
        options = {} if self.config else stage.options
        return Stage(self.config or stage.config,
                     self.checkpoint or stage.checkpoint,
                     {**options, **self.options})


@dataclass(frozen=True)
class TableColumn:
    """A column of the table: a metric, as MMEngine logs it, of a stage.

    Attributes:
        factor: What the metric is multiplied by, to have the paper's unit.
        metafile: Data set and metric in the metafiles, or None.
    """

    name: str
    title: str
    stage: str
    metric: str
    factor: float = 1.0
    metafile: tuple[str, str] | None = None


@dataclass(frozen=True)
class Weights:
    """A file that has to be downloaded before a row can run.

    ``path``, where it is expected, begins with ``data/``.
    """

    path: str
    source: str


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        stages: The chain: name to stage, in their order.
        small: Changes at scale small by stage; None leaves the row out.
        paper: The paper's values by column.
    """

    name: str
    title: str
    stages: Mapping[str, Stage]
    small: Mapping[str, Change] | None
    paper: Mapping[str, float]
    weights: tuple[Weights, ...] = ()
    note: str | None = None


@dataclass(frozen=True)
class Recipe:
    """A table of a paper.

    Attributes:
        seeds: Seeds of the runs that are averaged.
        options: Options of all rows at every scale, by stage; those of a row
            and of a scale come after them.
        small: Changes of all rows at scale small, by stage.
        data: Scale to the folders below the data root that it needs, and
            where their content comes from.
        folds: Folder with a split file per fold, all of which are run;
            None runs the split that the configs name.
        against: Name of the row that the others are compared with, seed by
            seed; None compares none.
        ad_hoc: Whether it was made of configs on a command line: a stage
            whose config names no earlier one starts from the one right
            before it.
    """

    path: Path
    name: str
    title: str
    paper: str
    notes: tuple[str, ...]
    seeds: tuple[int, ...]
    columns: tuple[TableColumn, ...]
    small: Mapping[str, Change]
    data: Mapping[str, Mapping[str, str]]
    rows: tuple[Row, ...]
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folds: str | None = None
    against: str | None = None
    ad_hoc: bool = False

    def row(self, name: str) -> Row:
        """Return the row of a name.

        Raises:
            ValueError: If it is missing.
        """
        for row in self.rows:
            if row.name == name:
                return row
        names = [row.name for row in self.rows]
        raise ValueError(
            f'{self.name} has no row {name!r}.{_nearest(name, names)} Its '
            f'rows are {", ".join(names)}')

    def stages(self, row: Row, scale: str) -> dict[str, Stage] | None:
        """Return the chain of a row at a scale.

        A row's change comes after that of all rows. One with a config counts
        alone, since the options of all rows are for the paper's configs.

        ``scale`` is ``'paper'``, ``'small'`` or ``'smoke'``, which has the
        configs of ``'paper'``. None if the row is left out.
        """
        small = scale == 'small'
        if small and row.small is None:
            return None
        chain = {}
        for name, stage in row.stages.items():
            for changes in (self.small, row.small) if small else ():
                if name in changes:
                    stage = changes[name].apply(stage)
            chain[name] = replace(stage, options={
                **self.options.get(name, {}), **stage.options})
        return chain


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a recipe; the message has the file, the key,
            the offending value and what would be valid.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'there is no recipe {str(path)!r}')
    try:
        content = yaml.load(path.read_text(encoding='utf-8'), _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f'{path} is not yaml: {error}') from None
    try:
        return _read_recipe(path, content)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from None


def find_recipes() -> dict[str, Path]:
    """Find the recipes that come with the configs, sorted by name.

    Raises:
        FileNotFoundError: If mmmedmask is installed without configs.
        ValueError: If two files have one name.
    """
    found: dict[str, Path] = {}
    folder = find_config_folder()
    for path in sorted(folder.rglob(f'{RECIPE_FOLDER}/*.yml')):
        if path.stem in found:
            raise ValueError(f'two recipes have the name {path.stem!r}: '
                             f'{found[path.stem]} and {path}')
        found[path.stem] = path
    return dict(sorted(found.items()))


def locate_recipe(name: str | Path) -> Path:
    """Find a recipe by its bare name or its path.

    Raises:
        FileNotFoundError: If it is missing; similar names are listed.
    """
    path = Path(name)
    if path.is_file():
        return path
    found = find_recipes()
    if str(name) in found:
        return found[str(name)]
    raise FileNotFoundError(
        f'{str(name)!r} is neither a file nor a recipe.'
        f'{_nearest(str(name), found)} The recipes are '
        f'{", ".join(found) or "none"}')


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses a key that is there twice."""

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.composer.ComposerError(
                    None, None, f'the key {key.value!r} is there twice',
                    key.start_mark)
            seen.add(key.value)
        return node


def _read_recipe(path: Path, content: Any) -> Recipe:
    _check_keys(content, 'the file', _RECIPE_KEYS,
                ('name', 'title', 'paper', 'seeds', 'columns', 'rows'))
    name = _name(content['name'], 'name')
    if name != path.stem:
        raise ValueError(
            f'name is {name!r}, and the file is called {path.name!r}')
    columns = tuple(
        _read_column(node, f'columns[{number}]') for number, node in enumerate(
            _list(content['columns'], 'columns')))
    _check_unique([column.name for column in columns], 'columns')
    rows = tuple(
        _read_row(node, f'rows[{number}]', [one.name for one in columns])
        for number, node in enumerate(_list(content['rows'], 'rows')))
    _check_unique([row.name for row in rows], 'rows')
    stages = list(dict.fromkeys(stage for row in rows for stage in row.stages))
    for number, column in enumerate(columns):
        _check_choice(column.stage, stages, f'columns[{number}].stage')
    for row in rows:
        for column in columns:
            if column.name in row.paper and column.stage not in row.stages:
                raise ValueError(
                    f'row {row.name!r} has a value of the paper for '
                    f'{column.name!r}, and no stage {column.stage!r}')
    options = {}
    for stage, values in _dict(
            content.get('options') or {}, 'options').items():
        _check_choice(stage, stages, 'options')
        options[stage] = dict(_flatten(
            _dict(values, f'options.{stage}'), f'options.{stage}'))
    small = _read_changes(content.get('small') or {}, 'small', stages)
    folds, against = content.get('folds'), content.get('against')
    if against is not None:
        _check_choice(against, [row.name for row in rows], 'against')
    return Recipe(
        path=path,
        name=name,
        title=_text(content['title'], 'title'),
        paper=_text(content['paper'], 'paper'),
        notes=tuple(
            _text(note, f'notes[{number}]') for number, note in enumerate(
                _list(content.get('notes') or [], 'notes', empty=True))),
        seeds=_read_seeds(content['seeds']),
        columns=columns,
        options=options,
        small=small,
        data=_read_data(content.get('data') or {}),
        rows=rows,
        folds=None if folds is None else _text(folds, 'folds'),
        against=against)


def _read_column(node: Any, where: str) -> TableColumn:
    _check_keys(node, where, _COLUMN_KEYS,
                ('name', 'title', 'stage', 'metric'))
    metafile = node.get('metafile')
    if metafile is not None:
        if not isinstance(metafile, list) or len(metafile) != 2:
            raise ValueError(
                f'{where}.metafile must be [data set, metric], got '
                f'{metafile!r}')
        metafile = tuple(_text(part, f'{where}.metafile') for part in metafile)
    return TableColumn(
        name=_name(node['name'], f'{where}.name'),
        title=_text(node['title'], f'{where}.title'),
        stage=_text(node['stage'], f'{where}.stage'),
        metric=_text(node['metric'], f'{where}.metric'),
        factor=_number(node.get('factor', 1), f'{where}.factor'),
        metafile=metafile)


def _read_row(node: Any, where: str, columns: list[str]) -> Row:
    _check_keys(node, where, _ROW_KEYS, ('name', 'title', 'stages'))
    name = _name(node['name'], f'{where}.name')
    where = f'row {name!r}'
    stages = {
        _name(stage, f'{where}: stages'): _read_stage(
            value, f'{where}: stages.{stage}')
        for stage, value in _dict(node['stages'], f'{where}: stages').items()}
    if not stages:
        raise ValueError(f'{where} has no stage')
    small = node.get('small')
    if small is False:
        changes = None
    else:
        changes = _read_changes(small or {}, f'{where}: small', list(stages))
    paper = {}
    for column, value in _dict(
            node.get('paper') or {}, f'{where}: paper').items():
        _check_choice(column, columns, f'{where}: paper')
        paper[column] = _number(value, f'{where}: paper.{column}')
    note = node.get('note')
    return Row(
        name=name,
        title=_text(node['title'], f'{where}: title'),
        stages=stages,
        small=changes,
        paper=paper,
        weights=tuple(
            _read_weights(one, f'{where}: weights[{number}]')
            for number, one in enumerate(_list(
                node.get('weights') or [], f'{where}: weights', empty=True))),
        note=None if note is None else _text(note, f'{where}: note'))


def _read_stage(node: Any, where: str) -> Stage:
    if isinstance(node, str):
        return Stage(_text(node, where))
    _check_keys(node, where, _STAGE_KEYS, ('config', ))
    return Change(*_read_stage_keys(node, where)).apply(Stage(''))


def _read_changes(node: Any, where: str,
                  stages: list[str]) -> dict[str, Change]:
    changes = {}
    for stage, change in _dict(node, where).items():
        _check_choice(stage, stages, where)
        if isinstance(change, str):
            changes[stage] = Change(_text(change, f'{where}.{stage}'))
            continue
        _check_keys(change, f'{where}.{stage}', _STAGE_KEYS)
        changes[stage] = Change(*_read_stage_keys(change, f'{where}.{stage}'))
    return changes


def _read_stage_keys(node: Mapping, where: str
                     ) -> tuple[str | None, str | None, dict[str, Any]]:
    config = node.get('config')
    if config is not None:
        config = _text(config, f'{where}.config')
    checkpoint = node.get('checkpoint')
    if checkpoint is not None:
        _check_choice(checkpoint, CHECKPOINT_CHOICES, f'{where}.checkpoint')
    options = _dict(node.get('options') or {}, f'{where}.options')
    return config, checkpoint, dict(_flatten(options, f'{where}.options'))


def _flatten(options: Mapping, where: str, prefix: str = ''
             ) -> Iterable[tuple[str, Any]]:
    """Write nested dicts as dotted keys, as a command line needs them."""
    for key, value in options.items():
        dotted = f'{prefix}{key}'
        if isinstance(value, dict) and value:
            yield from _flatten(value, where, f'{dotted}.')
        else:
            _check_option(value, f'{where}.{dotted}')
            yield dotted, value


def _check_option(value: Any, where: str) -> None:
    if isinstance(value, str) and _FLOAT.fullmatch(value):
        raise ValueError(
            f'{where} is {value!r}, which yaml reads as text: write '
            f'{float(value)!r} or a mantissa with a point and a signed '
            'exponent, as in 1.0e-4')
    if isinstance(value, list):
        for number, item in enumerate(value):
            _check_option(item, f'{where}[{number}]')
    elif value is not None and not isinstance(value, str | int | float):
        raise ValueError(
            f'{where} is {value!r}, which cannot be given on a command line; '
            'valid are numbers, text, true, false, null and lists of them. '
            'Set the keys one by one, or make a config that inherits')


def _read_weights(node: Any, where: str) -> Weights:
    _check_keys(node, where, _WEIGHT_KEYS, _WEIGHT_KEYS)
    path = _text(node['path'], f'{where}.path')
    if not path.startswith(DATA_PREFIX):
        raise ValueError(
            f'{where}.path must begin with {DATA_PREFIX!r}, got {path!r}')
    return Weights(path, _text(node['from'], f'{where}.from'))


def _read_data(node: Any) -> dict[str, dict[str, str]]:
    data = {}
    for scale, folders in _dict(node, 'data').items():
        _check_choice(scale, DATA_SCALES, 'data')
        data[scale] = {}
        for folder, source in _dict(folders or {}, f'data.{scale}').items():
            name = _text(folder, f'data.{scale}').strip('/')
            if name.startswith(DATA_PREFIX):
                raise ValueError(
                    f'data.{scale} has the folder {folder!r}: leave out '
                    f'{DATA_PREFIX!r}, it is below the data root')
            data[scale][name] = _text(source, f'data.{scale}.{folder}')
    return data


def _read_seeds(node: Any) -> tuple[int, ...]:
    seeds = _list(node, 'seeds')
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f'seeds must be whole numbers >= 0, got {seed!r}')
    _check_unique(seeds, 'seeds')
    return tuple(seeds)


def _check_keys(node: Any, where: str, valid: tuple[str, ...],
                needed: tuple[str, ...] = ()) -> None:
    for key in _dict(node, where):
        _check_choice(key, valid, where, 'key ')
    missing = [key for key in needed if node.get(key) is None]
    if missing:
        raise ValueError(f'{where} lacks {", ".join(missing)}')


def _check_choice(value: Any, valid: Iterable[str], where: str,
                  what: str = '') -> None:
    valid = list(valid)
    if value not in valid:
        raise ValueError(
            f'{where} has the unknown {what}{value!r}.'
            f'{_nearest(str(value), valid)} Valid are {", ".join(valid)}')


def _check_unique(values: list, where: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f'{where} has {value!r} twice')


def _nearest(value: str, valid: Iterable[str]) -> str:
    return did_you_mean(value, valid, cutoff=.5)


def _dict(node: Any, where: str) -> dict:
    if not isinstance(node, dict):
        raise ValueError(f'{where} must have keys and values, got {node!r}')
    for key in node:
        if not isinstance(key, str):
            raise ValueError(
                f'{where} has the key {key!r}, which is not text: put it in '
                'quotes')
    return node


def _list(node: Any, where: str, empty: bool = False) -> list:
    if not isinstance(node, list) or not (node or empty):
        raise ValueError(f'{where} must be a list that is not empty, got '
                         f'{node!r}')
    return node


def _text(node: Any, where: str) -> str:
    if not isinstance(node, str) or not node.strip():
        raise ValueError(f'{where} must be text, got {node!r}')
    return ' '.join(node.split())


def _name(node: Any, where: str) -> str:
    text = _text(node, where)
    if not _NAME.fullmatch(text):
        raise ValueError(
            f'{where} must be a name of letters, digits and ._+-, got '
            f'{text!r}')
    return text


def _number(node: Any, where: str) -> float:
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise ValueError(f'{where} must be a number, got {node!r}')
    return float(node)
