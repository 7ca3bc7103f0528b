"""Check a recipe against its configs, without building anything."""

from collections.abc import Iterator
from pathlib import Path

from mmmedmask.config_files import best_pointers
from mmmedmask.experiments.chain import ChainStage, resolve_chain
from mmmedmask.experiments.config_content import (
    find_checkpoints,
    find_data,
    last_checkpoint_name,
    missing_test_keys,
    required_data,
)
from mmmedmask.experiments.schema import DATA_PREFIX, DATA_SCALES, Recipe, Row


def check_recipe(recipe: Recipe) -> None:
    """Check that a recipe can run at the scales paper and small.

    Every config is loaded with its options. Checked are the chains, that
    stages with a column can be tested and the best checkpoint is saved where
    it is asked for, that weights and data are named, and that every stage
    has a setting of its own at scale small.

    Raises:
        ValueError: If something is wrong; all of it is listed.
    """
    problems = []
    for scale in DATA_SCALES:
        for row in recipe.rows:
            problems += [
                f'scale {scale}: {problem}'
                for problem in _row_problems(recipe, row, scale)]
    if problems:
        raise ValueError('\n'.join(
            f'{recipe.path}: {problem}'
            for problem in dict.fromkeys(problems)))


def _row_problems(recipe: Recipe, row: Row, scale: str) -> Iterator[str]:
    try:
        chain = resolve_chain(recipe, row, scale)
    except ValueError as error:
        yield str(error)
        return
    if chain is None:
        return
    for stage in chain:
        where = f'row {row.name!r}, stage {stage.name!r}'
        for problem in (*_stage_problems(recipe, stage, scale),
                        *_data_problems(recipe, row, stage, scale)):
            yield f'{where}: {problem}'
        if scale == 'small' and stage.stage == row.stages[stage.name]:
            yield (f'{where}: has nothing at scale small, it would be as '
                   'large as in the paper; `small: false` leaves a row out')
    if scale == 'paper':
        yield from _weight_problems(row, chain)
        yield from _length_problems(row, chain)


def _stage_problems(recipe: Recipe, stage: ChainStage,
                    scale: str) -> Iterator[str]:
    config = stage.config
    try:
        last_checkpoint_name(config)
    except ValueError as error:
        yield str(error)
    if stage.stage.checkpoint == 'best' and not best_pointers(config):
        yield (f'{stage.path.name} saves no best checkpoint: its '
               'default_hooks.checkpoint has no save_best')
    if any(column.stage == stage.name for column in recipe.columns):
        missing = missing_test_keys(config)
        if missing:
            yield (f'{stage.path.name} cannot be tested, it lacks '
                   f'{", ".join(missing)}, and a column names the stage')


def _data_problems(recipe: Recipe, row: Row, stage: ChainStage,
                   scale: str) -> Iterator[str]:
    folders = recipe.data.get(scale, {})
    weights = [weight.path for weight in row.weights]
    for path in sorted(set(required_data(stage.config).values())):
        inner = path.removeprefix(DATA_PREFIX).strip('/')
        if path in weights or any(
                inner == folder or inner.startswith(f'{folder}/')
                for folder in folders):
            continue
        yield (f'{stage.path.name} reads {path!r}, and data.{scale} says '
               'nothing about it: its folders are '
               f'{", ".join(folders) or "none"}')


def _weight_problems(row: Row, chain: list[ChainStage]) -> Iterator[str]:
    named = {path for stage in chain
             for path in find_data(stage.config).values()}
    for weight in row.weights:
        if weight.path not in named:
            yield (f'row {row.name!r}: no stage reads the weights '
                   f'{weight.path!r}')


def _length_problems(row: Row, chain: list[ChainStage]) -> Iterator[str]:
    """Find configs that start from another epoch than their source's last."""
    lasts = {stage.name: last_checkpoint_name(stage.config)
             for stage in chain if stage.config.get('train_cfg')}
    for stage in chain:
        checkpoints = find_checkpoints(stage.config)
        for where, source in stage.sources.items():
            given = Path(checkpoints[where]).name
            if given.startswith(('epoch_', 'iter_')) \
                    and given != lasts.get(source, given):
                yield (f'row {row.name!r}, stage {stage.name!r}: '
                       f'{stage.path.name} starts from {given} of stage '
                       f'{source!r}, whose last checkpoint is '
                       f'{lasts[source]}')
