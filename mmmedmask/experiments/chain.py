"""Resolve the chain of a row: its configs, and what starts from what.

A stage starts from ``work_dirs/NAME/epoch_9.pth`` if its config names that
file and ``NAME`` is the config of an earlier stage of the row. That is how
configs name each other's results outside of recipes, too.
"""

import copy
import functools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmedmask.compat.config_bases import find_config_folder
from mmmedmask.config_files import load_config, override_settings
from mmmedmask.experiments import schema
from mmmedmask.experiments.config_content import find_checkpoints
from mmmedmask.experiments.run import Where
from mmmedmask.util.nearest import did_you_mean, nearest_names

# How alike an unknown key must be to one beside it to be a misspelling.
_MISSPELLED = .85


@dataclass(frozen=True)
class ChainStage:
    """A stage with its config, which is not to be changed.

    Options of the stage are those of a command line, lists by position.
    ``sources`` says where the config names a checkpoint of an earlier stage,
    and the name of that stage.
    """

    name: str
    stage: schema.Stage
    path: Path
    config: Config
    sources: Mapping[Where, str]


def resolve_chain(recipe: schema.Recipe, row: schema.Row,
                  scale: str) -> list[ChainStage] | None:
    """Find the configs of a row, and which stage each one starts from.

    None if the row is left out at the scale. A ValueError if a config is
    missing or not clear, an option fits nothing, or a stage starts from what
    no earlier stage makes.
    """
    stages = recipe.stages(row, scale)
    if stages is None:
        return None
    # A stage's config may name the one that made its source in the paper.
    makers: dict[str, str] = {}
    chain: list[ChainStage] = []
    weights = [weight.path for weight in row.weights]
    for name, stage in stages.items():
        where = f'row {row.name!r}, stage {name!r}'
        try:
            path = locate_config(stage.config, recipe.path)
            stage = replace(stage, options=resolve_options(
                load_stage_config(path, {}), stage.options))
            config = load_stage_config(path, stage.options)
            previous = chain[-1].name if recipe.ad_hoc and chain else None
            sources = _find_sources(config, makers, weights, previous,
                                    recipe.ad_hoc)
        except (OSError, ValueError, KeyError, TypeError) as error:
            text = error.args[0] if isinstance(error, KeyError) else error
            raise ValueError(f'{where}: {text}') from None
        chain.append(ChainStage(name, stage, path, config, sources))
        # A name may have a dot, as in ..._8xb2-0.5x_glas.
        makers[Path(row.stages[name].config).name.removesuffix('.py')] = name
        makers[path.stem] = name
    if recipe.ad_hoc:
        _check_all_used(chain)
    return chain


def locate_config(name: str, recipe_file: Path) -> Path:
    """Find a config by its bare name, as ``mim`` does, or by its path.

    A bare name is that of a shipped config or of one near the recipe (in its
    folder, or below the folder that has its ``recipes``); a path is relative
    to the recipe or the working folder.
    """
    beside = recipe_file.parent
    if '/' in name or name.endswith('.py'):
        for folder in (beside, Path()):
            if (folder / name).is_file():
                return folder / name
        raise FileNotFoundError(f'there is no config {name!r}, neither from '
                                f'{beside} nor from the working folder')
    nearby = _by_name(
        beside.parent.rglob('*.py') if beside.name == schema.RECIPE_FOLDER
        else beside.glob('*.py'))
    shipped = _shipped_configs()
    paths = {path.resolve(): path for path in (
        *shipped.get(name, ()), *nearby.get(name, ()))}
    if len(paths) == 1:
        return next(iter(paths.values()))
    if paths:
        raise ValueError(f'several configs have the name {name!r}: '
                         f'{", ".join(map(str, paths))}; give a path')
    raise FileNotFoundError(
        f'there is no config {name!r} in {find_config_folder()} or beside '
        f'the recipe.{did_you_mean(name, [*shipped, *nearby], count=3)}')


def load_stage_config(path: Path, options: Mapping[str, Any]) -> Config:
    """Load a config, not to be changed, with options; once for all."""
    return _load_with_options(path, path.stat().st_mtime_ns,
                              json.dumps(options))


def resolve_options(config: Config,
                    options: Mapping[str, Any]) -> dict[str, Any]:
    """Find the places of options in a config; refuse what fits nothing.

    ``param_scheduler.MultiStepLR.gamma`` becomes ``param_scheduler.1.gamma``
    if that is the one element of the list whose type, without a scope, has
    the name. A key that the config does not have is allowed, for what it
    leaves to defaults, unless one beside it is spelled almost alike.
    """
    content = config.to_dict()
    resolved: dict[str, Any] = {}
    for option, value in options.items():
        place = '.'.join(_find_place(content, option))
        if place in resolved:
            raise ValueError(f'the option {option!r} is there twice, also as '
                             'another name or position of the same element')
        resolved[place] = value
    return resolved


def _find_place(node: Any, option: str) -> Iterator[str]:
    for key in option.split('.'):
        if isinstance(node, list | tuple):
            key = _find_position(node, key, option)
            node = node[int(key)]
        elif isinstance(node, Mapping) and key in node:
            node = node[key]
        else:
            beside = map(str, node) if isinstance(node, Mapping) else ()
            near = nearest_names(key, beside, cutoff=_MISSPELLED)
            if near:
                raise ValueError(f'the option {option!r} has the key {key!r}, '
                                 'which the config does not have; the nearest '
                                 f'is {near[0]!r}')
            node = None
        yield key


def _find_position(elements: Sequence, key: str, option: str) -> str:
    if key.isdigit() and int(key) < len(elements):
        return key
    types = [str(element.get('type', '')).rpartition('.')[2]
             if isinstance(element, Mapping) else '' for element in elements]
    if types.count(key) != 1:
        raise ValueError(
            f'the option {option!r} has {key!r} where a list has the places 0 '
            f'to {len(types) - 1} and the types '
            f'{", ".join(filter(None, types)) or "none"}: '
            f'{"several of them fit" if key in types else "nothing fits"}')
    return str(types.index(key))


def _find_sources(config: Config, makers: Mapping[str, str],
                  weights: Collection[str], previous: str | None,
                  ad_hoc: bool) -> dict[Where, str]:
    """Find the stage that makes each checkpoint which a config names.

    Args:
        makers: Stage by the name of its config, for ``work_dirs/NAME/...``.
        weights: Files that no stage needs to make, of an ``ad_hoc`` recipe
            also those from the internet.
        previous: The stage right before, which makes what has another name
            if that is clear: the config names one other folder, and takes
            nothing else from it.
    """
    sources: dict[Where, str] = {}
    others: dict[Where, str] = {}
    for where, file in find_checkpoints(config).items():
        if file in weights:
            continue
        stages = [makers[folder] for folder in Path(file).parent.parts
                  if folder in makers]
        if stages:
            sources[where] = stages[-1]
        # A first stage may leave a checkpoint out.
        elif (file or previous) if ad_hoc else '://' not in file:
            others[where] = file
    folders = {str(Path(file).parent) for file in others.values() if file}
    if others and (previous is None or len(folders) > 1
                   or previous in sources.values()):
        raise ValueError(
            _unknown_in_row(config, others) if ad_hoc else
            _unknown_source(config, *next(iter(others.items())), makers))
    return {**sources, **dict.fromkeys(others, previous)}


def _unknown_source(config: Config, where: Where, file: str,
                    makers: Mapping[str, str]) -> str:
    key, name = '.'.join(where), Path(config.filename).name
    if not file:
        return f'{name} has no checkpoint at {key}'
    if file.startswith(schema.DATA_PREFIX):
        return (f"{name} starts from {file!r} ({key}), which is not among "
                "the row's weights: say there where it comes from")
    return (f'{name} starts from {file!r} ({key}), which no earlier stage '
            f'makes; the configs of those are {", ".join(makers) or "none"}')


def _unknown_in_row(config: Config, others: Mapping[Where, str]) -> str:
    files = sorted(set(others.values()))
    return (
        f'{config.filename} starts from {" and ".join(map(repr, files))} '
        f'({", ".join(".".join(where) for where in others)}), which no '
        'earlier stage makes: if it has learned from this cohort, patients '
        "of a fold's test split were among those, and the scores are too "
        'good. Give the config that makes it, NAME.py for work_dirs/NAME/, '
        'as an earlier stage; a checkpoint of other data can be allowed: '
        f'--pretrained {" ".join(files)}')


def _check_all_used(chain: list[ChainStage]) -> None:
    for number, stage in enumerate(chain[:-1], 1):
        if not any(stage.name in later.sources.values()
                   for later in chain[number:]):
            raise ValueError(
                f'no later stage starts from what {stage.path} makes: '
                f'{chain[number].path} takes no checkpoint of it. It needs '
                "an init_cfg=dict(type='Pretrained', ...) in its model, or "
                'load_from')


def _by_name(paths: Iterator[Path]) -> dict[str, tuple[Path, ...]]:
    names: dict[str, tuple[Path, ...]] = {}
    for path in sorted(paths):
        if '_base_' not in path.parts:
            names[path.stem] = (*names.get(path.stem, ()), path)
    return names


@functools.cache
def _shipped_configs() -> dict[str, tuple[Path, ...]]:
    return _by_name(find_config_folder().rglob('*.py'))


@functools.lru_cache(maxsize=512)
def _load_file(path: Path, changed: int) -> Config:
    return load_config(path, import_modules=False)


@functools.lru_cache(maxsize=1024)
def _load_with_options(path: Path, changed: int, options: str) -> Config:
    config = copy.deepcopy(_load_file(path, changed))
    chosen = json.loads(options)
    if chosen:
        override_settings(config, resolve_options(config, chosen))
    return config
