"""Resolve the chain of a row: its configs, and what starts from what.

A stage starts from ``work_dirs/NAME/epoch_9.pth`` if its config names that
file and ``NAME`` is the config of an earlier stage of the row. That is how
configs name each other's results outside of recipes, too.
"""

import copy
import difflib
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmedmask.apis.fold_stages import Where, find_checkpoints
from mmmedmask.compat.config_bases import find_config_folder
from mmmedmask.config_files import (
    load_config,
    override_settings,
    runner_keys,
)
from mmmedmask.experiments.schema import (
    DATA_PREFIX,
    RECIPE_FOLDER,
    Recipe,
    Row,
    Stage,
)

#: Folder that configs name before the name of a run.
RUN_PREFIX = 'work_dirs/'
# How alike an unknown key must be to one beside it to be a misspelling.
_MISSPELLED = .85


@dataclass(frozen=True)
class ChainStage:
    """A stage with its config.

    Attributes:
        name: Its name in the recipe.
        stage: What the recipe says about it.
        path: The config file.
        config: The config with the stage's options; not to be changed.
        sources: Where the config names a checkpoint of an earlier stage, and
            the name of that stage.
    """

    name: str
    stage: Stage
    path: Path
    config: Config
    sources: Mapping[Where, str]


def resolve_chain(recipe: Recipe, row: Row,
                  scale: str) -> list[ChainStage] | None:
    """Find the configs of a row, and which stage each one starts from.

    Args:
        recipe: The recipe.
        row: One of its rows.
        scale: ``'paper'``, ``'small'`` or ``'smoke'``.

    Returns:
        The stages in their order; None if the row is left out at the scale.

    Raises:
        ValueError: If a config is missing or not clear, an option fits
            nothing, or a stage starts from what no earlier stage makes.
    """
    stages = recipe.stages(row, scale)
    if stages is None:
        return None
    # A stage's config may name the one that made its source in the paper.
    makers: dict[str, str] = {}
    chain = []
    weights = [one.path for one in row.weights]
    for name, stage in stages.items():
        where = f'row {row.name!r}, stage {name!r}'
        try:
            path = locate_config(stage.config, recipe.path)
            config = load_stage_config(path, stage.options)
            sources = _find_sources(config, path, makers, weights)
        except (OSError, ValueError, KeyError, TypeError) as error:
            text = error.args[0] if isinstance(error, KeyError) else error
            raise ValueError(f'{where}: {text}') from None
        chain.append(ChainStage(name, stage, path, config, sources))
        makers[_config_name(row.stages[name].config)] = name
        makers[path.stem] = name
    return chain


def locate_config(name: str, recipe_file: Path) -> Path:
    """Find a config by its bare name, as ``mim`` does, or by its path.

    Args:
        name: Bare name of a shipped config or of one near the recipe (in
            its folder, or below the folder that has its ``recipes``), or a
            path, relative to the recipe or the working folder.
        recipe_file: The recipe.

    Returns:
        The file.

    Raises:
        FileNotFoundError: If there is none; similar names are listed.
        ValueError: If several files have the name.
    """
    beside = recipe_file.parent
    if '/' in name or name.endswith('.py'):
        for folder in (beside, Path()):
            if (folder / name).is_file():
                return folder / name
        raise FileNotFoundError(
            f'there is no config {name!r}, neither from {beside} nor from '
            'the working folder')
    found = {path.resolve(): path for path in (
        *_shipped_configs().get(name, ()),
        *_nearby_configs(beside).get(name, ()))}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise ValueError(
            f'several configs have the name {name!r}: '
            f'{", ".join(map(str, found))}; give a path')
    near = difflib.get_close_matches(
        name, [*_shipped_configs(), *_nearby_configs(beside)], n=3, cutoff=.6)
    hint = f', the nearest are {", ".join(near)}' if near else ''
    raise FileNotFoundError(
        f'there is no config {name!r}{hint} (looked in '
        f'{find_config_folder()} and beside the recipe)')


def load_stage_config(path: Path, options: Mapping[str, Any]) -> Config:
    """Load a config with options; what was loaded before is used again.

    Args:
        path: The file.
        options: Dotted key to value.

    Returns:
        The config, not to be changed.

    Raises:
        ValueError: If an option fits nothing in the config.
    """
    path = Path(path)
    return _load_with_options(path, path.stat().st_mtime_ns,
                              json.dumps(options))


def check_options(config: Config, options: Mapping[str, Any]) -> None:
    """Refuse options that are probably misspelled.

    A key that the config does not have is allowed, for what it leaves to
    defaults, unless one beside it is spelled almost alike.

    Args:
        config: The config without them.
        options: Dotted key to value.

    Raises:
        ValueError: If a key is like another one, or an index too large.
    """
    content = config.to_dict()
    for option in options:
        node: Any = content
        for key in option.split('.'):
            if isinstance(node, list | tuple):
                if not key.isdigit() or int(key) >= len(node):
                    raise ValueError(
                        f'the option {option!r} has {key!r} where a list has '
                        f'the places 0 to {len(node) - 1}')
                node = node[int(key)]
                continue
            if not isinstance(node, Mapping):
                break
            if key not in node:
                near = difflib.get_close_matches(
                    key, map(str, node), n=1, cutoff=_MISSPELLED)
                if near:
                    raise ValueError(
                        f'the option {option!r} has the key {key!r}, which '
                        f'the config does not have; the nearest is '
                        f'{near[0]!r}')
                break
            node = node[key]


def find_strings(config: Config) -> Iterator[tuple[Where, str]]:
    """Find all strings of a config that a runner reads.

    Args:
        config: The config.

    Yields:
        The keys from the top, and the string.
    """
    keys = runner_keys()
    for key, value in config.items():
        if key in keys:
            yield from _strings(value, (key, ))


def find_data(config: Config) -> dict[Where, str]:
    """Find the paths below the data root that a config names.

    Args:
        config: The config.

    Returns:
        Keys from the top to path, which begins with ``data/``.
    """
    return {where: text for where, text in find_strings(config)
            if text.startswith(DATA_PREFIX)}


def last_checkpoint_name(config: Config) -> str:
    """Say how the last checkpoint of a run will be called.

    Args:
        config: The config.

    Returns:
        ``'epoch_9.pth'`` or ``'iter_900.pth'``.

    Raises:
        ValueError: If the config does not say how long it trains.
    """
    loop = config.get('train_cfg') or {}
    for unit in ('epoch', 'iter'):
        length = loop.get(f'max_{unit}s')
        if length is not None:
            return f'{unit}_{length}.pth'
    raise ValueError(
        f'{config.filename} has neither train_cfg.max_epochs nor '
        f'train_cfg.max_iters, train_cfg is {loop}')


def best_checkpoint_pattern(config: Config) -> str:
    """Shell pattern of the name of a run's best checkpoint.

    Args:
        config: The config.

    Returns:
        Such as ``'best_slide_auc_*.pth'``.

    Raises:
        ValueError: If the config saves no best checkpoint.
    """
    hook = (config.get('default_hooks') or {}).get('checkpoint') or {}
    key = hook.get('save_best')
    if not key:
        raise ValueError(
            f'{config.filename} saves no best checkpoint: its default_hooks.'
            'checkpoint has no save_best')
    key = key if isinstance(key, str) else key[0]
    return 'best_*.pth' if key == 'auto' \
        else f'best_{key.replace("/", "_")}_*.pth'


def _config_name(name: str) -> str:
    """Bare name of a config that is given by name or path.

    A name may have a dot, as in ``..._8xb2-0.5x_glas``.
    """
    return Path(name).name.removesuffix('.py')


def _find_sources(config: Config, path: Path, makers: Mapping[str, str],
                  weights: list[str]) -> dict[Where, str]:
    sources = {}
    for where, file in find_checkpoints(config).items():
        stages = [makers[folder] for folder in Path(file).parent.parts
                  if folder in makers]
        if stages:
            sources[where] = stages[-1]
        elif '://' not in file and file not in weights:
            raise ValueError(_unknown_source(path, where, file, makers))
    return sources


def _unknown_source(path: Path, where: Where, file: str,
                    makers: Mapping[str, str]) -> str:
    key = '.'.join(where)
    if not file:
        return f'{path.name} has no checkpoint at {key}'
    if file.startswith(DATA_PREFIX):
        return (f"{path.name} starts from {file!r} ({key}), which is not "
                "among the row's weights: say there where it comes from")
    return (f'{path.name} starts from {file!r} ({key}), which no earlier '
            f'stage makes; the configs of those are '
            f'{", ".join(makers) or "none"}')


def _strings(node: Any, where: Where) -> Iterator[tuple[Where, str]]:
    if isinstance(node, str):
        yield where, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _strings(value, (*where, str(key)))
    elif isinstance(node, list | tuple):
        for place, value in enumerate(node):
            yield from _strings(value, (*where, str(place)))


def _by_name(paths: Iterator[Path]) -> dict[str, tuple[Path, ...]]:
    names: dict[str, tuple[Path, ...]] = {}
    for path in sorted(paths):
        if '_base_' not in path.parts:
            names[path.stem] = (*names.get(path.stem, ()), path)
    return names


@functools.lru_cache(maxsize=1)
def _shipped_configs() -> dict[str, tuple[Path, ...]]:
    return _by_name(find_config_folder().rglob('*.py'))


def _nearby_configs(folder: Path) -> dict[str, tuple[Path, ...]]:
    if folder.name == RECIPE_FOLDER:
        return _by_name(folder.parent.rglob('*.py'))
    return _by_name(folder.glob('*.py'))


@functools.lru_cache(maxsize=512)
def _load_file(path: Path, changed: int) -> Config:
    return load_config(path)


@functools.lru_cache(maxsize=1024)
def _load_with_options(path: Path, changed: int, options: str) -> Config:
    config = copy.deepcopy(_load_file(path, changed))
    chosen = json.loads(options)
    if chosen:
        check_options(config, chosen)
        override_settings(config, chosen)
    return config
