"""Read recipes: what the rows and columns of a paper's table are.

A recipe is a yaml file beside the configs, ``configs/<family>/recipes/``. A
row is a chain of configs, its stages; a column is a metric of one stage. What
tables share stands once, in the file that ``base`` names. Everything about a
file that can be said without its configs is checked here.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from mmmedmask.compat.config_bases import find_config_folder
from mmmedmask.util.checks import check_integer
from mmmedmask.util.nearest import did_you_mean

#: Folder, below one of the configs, that holds recipes.
RECIPE_FOLDER = 'recipes'
CHECKPOINT_CHOICES = ('last', 'best')
#: Which value of a training's log a column may show.
LOGGED_CHOICES = ('first', 'last')
#: Scales that have data of their own; ``smoke`` draws its data.
DATA_SCALES = ('paper', 'small')
SCALES = (*DATA_SCALES, 'smoke')
#: How paths below the data root begin in configs.
DATA_PREFIX = 'data/'

# Where null is no value, as it is of an option.
_NULL_TAKES_AWAY = frozenset({'options.', 'small.', 'data.', *(
    f'data.{scale}.' for scale in DATA_SCALES)})
_NAME = re.compile(r'[A-Za-z0-9][\w.+-]*')
# What yaml 1.1 reads as text, though it is meant as a number.
_FLOAT = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+')
# Reads a value, whose place is named in messages.
_Read = Callable[[Any, str], Any]


@dataclass(frozen=True)
class Stage:
    """A config of a chain, and what is set in it.

    Attributes:
        checkpoint: ``'last'`` or ``'best'``: what is tested, and what later
            stages start from.
        options: Dotted key to value, as ``--cfg-options`` takes them; an
            element of a list has the name of its type or its position.
    """

    config: str
    checkpoint: str = 'last'
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """What is different in a stage at another scale.

    Attributes:
        config: The config instead of the stage's own, or None. With it,
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
        logged: ``'first'`` or ``'last'``: the metric is that value of what
            the training logged, and no test of it is needed; None is the
            test's.
        factor: What the metric is multiplied by, to have the paper's unit.
        metafile: Data set and metric in the metafiles, or None.
    """

    name: str
    title: str
    stage: str
    metric: str
    logged: str | None = None
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
        paper: The paper's values by column; None leaves the row out at
            scale paper, whose configs would make another row's runs of it.
        metrics: Metrics instead of the columns', by column: a floor that
            another row's runs log beside their scores is a row, too.
    """

    name: str
    title: str
    stages: Mapping[str, Stage]
    small: Mapping[str, Change] | None = field(default_factory=dict)
    paper: Mapping[str, float] | None = field(default_factory=dict)
    weights: tuple[Weights, ...] = ()
    note: str | None = None
    metrics: Mapping[str, str] = field(default_factory=dict)


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
    seeds: tuple[int, ...]
    columns: tuple[TableColumn, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    small: Mapping[str, Change] = field(default_factory=dict)
    data: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folds: str | None = None
    against: str | None = None
    ad_hoc: bool = False

    def row(self, name: str) -> Row:
        """Return the row of a name, or raise a ValueError."""
        rows = {row.name: row for row in self.rows}
        if name not in rows:
            raise ValueError(
                f'{self.name} has no row {name!r}.{_nearest(name, rows)} Its '
                f'rows are {", ".join(rows)}')
        return rows[name]

    def stages(self, row: Row, scale: str) -> dict[str, Stage] | None:
        """Return the chain of a row at a scale; None if it is left out.

        A row's change comes after that of all rows. One with a config counts
        alone, since the options of all rows are for the paper's configs.
        Scale ``'smoke'`` has the configs of ``'paper'``.
        """
        small = scale == 'small'
        if (row.small if small else row.paper) is None:
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
    """Read a recipe, with what its base has.

    A ValueError if it is none: with the file, the key, the offending value and
    what would be valid.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'there is no recipe {str(path)!r}')
    content = _load(path)
    try:
        return _read_recipe(path, content)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from None


def find_recipes() -> dict[str, Path]:
    """Find the recipes that come with the configs, sorted by name.

    A file whose name begins with ``_`` is a base of others, and no table.
    """
    recipes: dict[str, Path] = {}
    for path in sorted(find_config_folder().rglob(f'{RECIPE_FOLDER}/*.yml')):
        if path.stem.startswith('_'):
            continue
        if path.stem in recipes:
            raise ValueError(f'two recipes have the name {path.stem!r}: '
                             f'{recipes[path.stem]} and {path}')
        recipes[path.stem] = path
    return dict(sorted(recipes.items()))


def locate_recipe(name: str | Path) -> Path:
    """Find a recipe by its bare name or its path."""
    path = Path(name)
    if path.is_file():
        return path
    recipes = find_recipes()
    if str(name) in recipes:
        return recipes[str(name)]
    raise FileNotFoundError(
        f'{str(name)!r} is neither a file nor a recipe.'
        f'{_nearest(str(name), recipes)} The recipes are '
        f'{", ".join(recipes) or "none"}')


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


def _load(path: Path, children: tuple[str, ...] = ()) -> dict[str, Any]:
    """Load a file, merged into its base.

    Each file is checked alone, so that a message names the one to mend.
    """
    try:
        content = yaml.load(path.read_text(encoding='utf-8'), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f'{path} is not yaml in UTF-8: {error}') from None
    try:
        base = content.get('base') if isinstance(content, dict) else None
        _read_file(content if base is None else _without_nulls(content))
        if base is None:
            return content
        children = (*children, path.name)
        below = _load(_locate_base(path, base, children), children)
        del content['base']
        return _merge(_with_flat_options(below), _with_flat_options(content))
    except ValueError as error:
        # What is wrong with a base begins with its path.
        raise ValueError(f'{path}: {error}') from None
    except RecursionError:
        raise ValueError(f'{path} has an anchor that contains itself'
                         ) from None


def _locate_base(path: Path, base: str, children: tuple[str, ...]) -> Path:
    if Path(base).name != base:
        raise ValueError('base must be the name of a file beside the recipe, '
                         f'got {base!r}')
    if base in children:
        raise ValueError('base leads back to where it came from: '
                         f'{" -> ".join((*children, base))}')
    valid = sorted(file.name for file in path.parent.glob('*.yml')
                   if file.name not in children)
    if base not in valid:
        raise ValueError(
            f'base is {base!r}, and there is no such file beside the recipe.'
            f'{_nearest(base, valid)} There are '
            f'{", ".join(valid) or "no others"}')
    return path.with_name(base)


def _with_flat_options(content: dict) -> dict:
    """Write options as dotted keys: a child's replace those of its base,
    however either is written.
    """
    flat = dict(content)
    if content.get('options'):
        flat['options'] = {
            stage: options and _read_options(options, f'options.{stage}')
            for stage, options in content['options'].items()}
    if content.get('small'):
        flat['small'] = {
            stage: {**change, 'options': _read_options(
                change['options'], f'small.{stage}.options')}
            if isinstance(change, dict) and change.get('options') else change
            for stage, change in content['small'].items()}
    return flat


def _without_nulls(content: dict, prefix: str = '') -> dict:
    """Leave out what takes a key of a base away."""
    return {key: _without_nulls(value, f'{prefix}{key}.')
            if isinstance(value, dict) else value
            for key, value in content.items()
            if value is not None or prefix not in _NULL_TAKES_AWAY}


def _merge(base: dict, content: dict, prefix: str = '') -> dict:
    """Merge as configs do: dicts key by key, all else is replaced."""
    merged = dict(base)
    for key, value in content.items():
        old = merged.get(key)
        if value is None and prefix in _NULL_TAKES_AWAY:
            if key not in merged:
                raise ValueError(
                    f'{prefix}{key} is null, and the base has no such key to '
                    f'take away.{_nearest(str(key), merged)} It has '
                    f'{", ".join(merged)}')
            del merged[key]
            continue
        if isinstance(value, dict) and old is not None:
            if not isinstance(old, dict):
                raise ValueError(
                    f'{prefix}{key} has keys and values, and the base has '
                    f'{old!r} there: write that with keys, too')
            value = _merge(old, value, f'{prefix}{key}.')
        merged[key] = value
    return merged


def _read_file(content: Any, needed: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read the keys of a file; one that has a base or is one may lack any."""
    return _read_keys(content, '', dict(
        base=_text, name=_name, title=_text, paper=_text,
        notes=_list_of(_text, empty=True), seeds=_list_of(
            lambda node, where: check_integer('each of the seeds', node, 0)),
        folds=_text, columns=_list_of(_read_column),
        options=_dict_of(_read_options), small=_dict_of(_read_change),
        data=_read_data, rows=_list_of(_read_row), against=_text), needed)


def _read_recipe(path: Path, content: Any) -> Recipe:
    values = _read_file(
        content, ('name', 'title', 'paper', 'seeds', 'columns', 'rows'))
    if values['name'] != path.stem:
        raise ValueError(f'name is {values["name"]!r}, and the file is called '
                         f'{path.name!r}')
    recipe = Recipe(path=path, **values)
    _check_references(recipe)
    return recipe


def _check_references(recipe: Recipe) -> None:
    """Refuse names that are there twice, and those of what is not there."""
    columns = [column.name for column in recipe.columns]
    rows = [row.name for row in recipe.rows]
    stages = list(dict.fromkeys(
        stage for row in recipe.rows for stage in row.stages))
    # Titles name rows and columns in tables and pictures.
    for values, where in (
            (recipe.seeds, 'seeds has'), (columns, 'columns has'),
            (rows, 'rows has'),
            ([column.title for column in recipe.columns],
             'columns has the title'),
            ([row.title for row in recipe.rows], 'rows has the title')):
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f'{where} {value!r} twice')
    for number, column in enumerate(recipe.columns):
        _check_known([column.stage], stages, f'columns[{number}].stage')
    for row in recipe.rows:
        where = f'row {row.name!r}'
        _check_known(row.paper or (), columns, f'{where}: paper')
        _check_known(row.metrics, columns, f'{where}: metrics')
        _check_known(row.small or (), row.stages, f'{where}: small')
        for column in recipe.columns:
            for what, given in (('value of the paper', row.paper or ()),
                                ('metric', row.metrics)):
                if column.name in given and column.stage not in row.stages:
                    raise ValueError(
                        f'{where} has a {what} for {column.name!r}, and no '
                        f'stage {column.stage!r}')
    _check_known(recipe.options, stages, 'options')
    _check_known(recipe.small, stages, 'small')
    if recipe.against is not None:
        _check_known([recipe.against], rows, 'against')


def _read_column(node: Any, where: str) -> TableColumn:
    return TableColumn(**_read_keys(node, f'{where}.', dict(
        name=_name, title=_text, stage=_text, metric=_text,
        logged=_choice_of(LOGGED_CHOICES), factor=_number,
        metafile=_read_metafile), ('name', 'title', 'stage', 'metric')))


def _read_metafile(node: Any, where: str) -> tuple[str, ...]:
    if not isinstance(node, list) or len(node) != 2:
        raise ValueError(f'{where} must be [data set, metric], got {node!r}')
    return tuple(_text(part, where) for part in node)


def _read_row(node: Any, where: str) -> Row:
    name = _dict(node, where).get('name')
    prefix = f'{where}.' if name is None else f'row {name!r}: '
    values = _read_keys(node, prefix, dict(
        name=_name, title=_text, stages=_dict_of(_read_stage),
        small=_or_left_out(_dict_of(_read_change)),
        paper=_or_left_out(_dict_of(_number)),
        metrics=_dict_of(_text), weights=_list_of(_read_weights, empty=True),
        note=_text), ('name', 'title', 'stages'))
    if not values['stages']:
        raise ValueError(f'row {name!r} has no stage')
    for stage in values['stages']:
        _name(stage, f'{prefix}stages')
    return Row(**values)


def _read_stage(node: Any, where: str) -> Stage:
    change = _read_change(node, where)
    if change.config is None:
        raise ValueError(f'{where} lacks config')
    return change.apply(Stage(''))


def _read_change(node: Any, where: str) -> Change:
    if isinstance(node, str):
        return Change(_text(node, where))
    return Change(**_read_keys(node, f'{where}.', dict(
        config=_text, checkpoint=_choice_of(CHECKPOINT_CHOICES),
        options=_read_options)))


def _or_left_out(read: Callable) -> Callable:
    """Read what may be ``false``, which leaves a row out at a scale."""
    return lambda node, where: None if node is False else read(node, where)


def _choice_of(choices: tuple[str, ...]) -> Callable[[Any, str], str]:
    def read(node: Any, where: str) -> str:
        _check_known([node], choices, where)
        return node
    return read


def _read_options(node: Any, where: str) -> dict[str, Any]:
    """Read options, each of which stands there once."""
    flat: dict[str, Any] = {}
    for key, value in _flatten(_dict(node, where), where):
        parts = key.split('.')
        if not all(part.strip() for part in parts):
            raise ValueError(f'{where} has the key {key!r}, of which a part '
                             'is empty')
        flat_parents = {'.'.join(parts[:end]) for end in range(1, len(parts))}
        other = next((given for given in flat if given == key
                      or given in flat_parents
                      or given.startswith(f'{key}.')), None)
        if other is not None:
            raise ValueError(f'{where} has {key!r} twice' if other == key else
                             f'{where} has {key!r} beside {other!r}: one of '
                             'them says what is in the other')
        flat[key] = value
    return flat


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
        raise ValueError(f'{where} is {value!r}, which yaml reads as text: '
                         f'write {float(value)!r} or a mantissa with a point '
                         'and a signed exponent, as in 1.0e-4')
    if isinstance(value, list):
        for number, item in enumerate(value):
            _check_option(item, f'{where}[{number}]')
    elif value is not None and not isinstance(value, str | int | float):
        raise ValueError(
            f'{where} is {value!r}, which cannot be given on a command line; '
            'valid are numbers, text, true, false, null and lists of them. '
            'Set the keys one by one, or make a config that inherits')


def _read_weights(node: Any, where: str) -> Weights:
    values = _read_keys(node, f'{where}.', {'path': _text, 'from': _text},
                        ('path', 'from'))
    path = values['path']
    if not path.startswith(DATA_PREFIX):
        raise ValueError(
            f'{where}.path must begin with {DATA_PREFIX!r}, got {path!r}')
    return Weights(path, values['from'])


def _read_data(node: Any, where: str) -> dict[str, dict[str, str]]:
    data = {}
    _check_known(_dict(node, where), DATA_SCALES, where)
    for scale, folders in node.items():
        data[scale] = {}
        for folder, source in _dict(folders or {}, f'data.{scale}').items():
            name = _text(folder, f'data.{scale}').strip('/')
            if name.startswith(DATA_PREFIX):
                raise ValueError(
                    f'data.{scale} has the folder {folder!r}: leave out '
                    f'{DATA_PREFIX!r}, it is below the data root')
            data[scale][name] = _text(source, f'data.{scale}.{folder}')
    return data


def _read_keys(node: Any, prefix: str, readers: Mapping[str, _Read],
               needed: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a dict by the reader of each key; messages begin with ``prefix``.
    """
    where = prefix.rstrip('.: ') or 'the file'
    _check_known(_dict(node, where), readers, where, 'key ')
    missing = [key for key in needed if node.get(key) is None]
    if missing:
        raise ValueError(f'{where} lacks {", ".join(missing)}')
    return {key: readers[key](value, f'{prefix}{key}')
            for key, value in node.items() if value is not None}


def _list_of(read: _Read, empty: bool = False) -> _Read:
    def read_list(node: Any, where: str) -> tuple:
        if not isinstance(node, list) or not (node or empty):
            rule = '' if empty else ' that is not empty'
            raise ValueError(f'{where} must be a list{rule}, got {node!r}')
        return tuple(read(item, f'{where}[{number}]')
                     for number, item in enumerate(node))
    return read_list


def _dict_of(read: _Read) -> _Read:
    return lambda node, where: {
        key: read(value, f'{where}.{key}')
        for key, value in _dict(node, where).items()}


def _check_known(values: Iterable[Any], valid: Iterable[str], where: str,
                 what: str = '') -> None:
    for value in values:
        if value not in valid:
            raise ValueError(
                f'{where} has the unknown {what}{value!r}.'
                f'{_nearest(str(value), valid)} Valid are {", ".join(valid)}')


def _nearest(value: str, valid: Iterable[str]) -> str:
    return did_you_mean(value, valid, cutoff=.5)


def _dict(node: Any, where: str) -> dict:
    if not isinstance(node, dict):
        raise ValueError(f'{where} must have keys and values, got {node!r}')
    for key in node:
        if not isinstance(key, str):
            raise ValueError(f'{where} has the key {key!r}, which is not '
                             'text: put it in quotes')
    return node


def _text(node: Any, where: str) -> str:
    if not isinstance(node, str) or not node.strip():
        raise ValueError(f'{where} must be text, got {node!r}')
    return ' '.join(node.split())


def _name(node: Any, where: str) -> str:
    text = _text(node, where)
    if not _NAME.fullmatch(text):
        raise ValueError(f'{where} must be a name of letters, digits and '
                         f'._+-, got {text!r}')
    return text


def _number(node: Any, where: str) -> float:
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise ValueError(f'{where} must be a number, got {node!r}')
    if not math.isfinite(node):
        raise ValueError(f'{where} must be finite, got {node!r}')
    return float(node)
