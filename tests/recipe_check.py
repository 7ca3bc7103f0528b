"""What shipped recipes promise beside that their runs can be planned."""

import itertools
from pathlib import Path

from mmmedmask.experiments.chain import resolve_chain
from mmmedmask.experiments.config_content import (
    find_checkpoints,
    last_checkpoint_name,
)
from mmmedmask.experiments.plan import plan_runs
from mmmedmask.experiments.schema import DATA_PREFIX, DATA_SCALES


def check_recipe(recipe):
    """Raise a ValueError with all that is wrong at one of the scales.

    Data and weights are named, and read; every stage has a setting of its
    own at scale small; configs start from the last epoch of their source;
    rows that are the same at one scale are so at the other.
    """
    same = {scale: _same_runs(recipe, scale) for scale in DATA_SCALES}
    for scale, other in (DATA_SCALES, DATA_SCALES[::-1]):
        left_out = {row.name for row in recipe.rows
                    if recipe.stages(row, other) is None}
        for pair in same[scale] - same[other]:
            if not pair & left_out:
                raise ValueError(f'rows {", ".join(sorted(pair))} are the '
                                 f'same runs at scale {scale} alone')
    for scale in DATA_SCALES:
        plan = plan_runs([(recipe, recipe.rows)], scale, 'runs')
        paths = {path: run for run in plan.runs for path in run.data.values()}
        weights = [one.path for row in recipe.rows for one in row.weights]
        named = [*weights, *(f'{DATA_PREFIX}{folder}'
                             for folder in recipe.data.get(scale, ()))]
        problems = [
            f'{run.name} reads {path!r}, and data.{scale} says nothing of it'
            for path, run in paths.items() if path.startswith(DATA_PREFIX)
            and not any(f'{path}/'.startswith(f'{one}/') for one in named)]
        if scale == 'paper':
            problems += [f'no stage reads the weights {path!r}'
                         for path in weights if path not in paths]
        for row in recipe.rows:
            problems += _row_problems(recipe, row, scale)
        if problems:
            raise ValueError('\n'.join(problems))


def _same_runs(recipe, scale):
    """Pairs of rows that are made of the same runs."""
    runs = {row.name: {run.folder for run in plan_runs(
        [(recipe, [row])], scale, 'runs', seeds=[0]).runs}
        for row in recipe.rows if recipe.stages(row, scale) is not None}
    return {frozenset(pair) for pair in itertools.combinations(runs, 2)
            if len({frozenset(runs[name]) for name in pair}) == 1}


def _row_problems(recipe, row, scale):
    chain = resolve_chain(recipe, row, scale) or ()
    stages = recipe.stages(row, scale)
    lasts = {stage.name: last_checkpoint_name(stage.config) for stage in chain}
    for stage in chain:
        where = f'row {row.name!r}, stage {stage.name!r}'
        if scale == 'small' and stages[stage.name] == row.stages[
                stage.name]:
            yield f'{where}: has nothing at scale small'
        for place, source in stage.sources.items() if scale == 'paper' else ():
            given = Path(find_checkpoints(stage.config)[place]).name
            if given.startswith(('epoch_', 'iter_')) and given != lasts[
                    source]:
                yield (f'{where}: starts from {given} of stage {source!r}, '
                       f'whose last checkpoint is {lasts[source]}')
