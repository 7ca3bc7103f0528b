"""All shipped recipes fit their configs, and their chains carry weights.

Every config takes a step in test_configs.py. What is tested here is what lies
between configs: weights are saved, exported, loaded, compared by value on
arrival, and what was trained from them is tested and gives the metrics that
the columns name. By default one row per kind of chain does so, at scale
smoke, and of a row with several data sets the first. All rows and columns, at
about a minute each, are run with MMMEDMASK_SLOW_RECIPES=1.
"""

import dataclasses
import functools
from pathlib import Path

import pytest
from recipe_check import check_recipe

from mmmedmask.experiments.execute import execute_here, find_failures
from mmmedmask.experiments.manifest import read_manifest
from mmmedmask.experiments.plan import Axis, plan_runs
from mmmedmask.experiments.results_table import collect_cells, write_tables
from mmmedmask.experiments.schema import find_recipes, read_recipe
from mmmedmask.experiments.smoke import SmokeSteps

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
RECIPES = find_recipes()
#: Table, row and tested stages: one per pair of model before and after.
CHAINS = [
    # Our CNN, and a plain transformer of mmpretrain, into Mask R-CNN.
    ('cmim_table1', 'ours', ['glas']),
    ('cmim_table1', 'mae', ['glas']),
    # MSMAE into its classifier on visible tokens, and into SETR.
    ('msmae_table1', 'ours', ['messidor2']),
    ('msmae_table2', 'ours', ['lesions']),
    # Genes, then slides with genes, then both: no export, three modules.
    ('gimp_table1', 'gimp', ['classifier']),
    # What a training logs, without a test.
    ('cmim_sgd', 'mocov2', ['pretrain']),
]


@functools.cache
def load(name):
    return read_recipe(RECIPES[name])


ROWS = [(name, row.name) for name in RECIPES for row in load(name).rows]


def test_found_the_recipes():
    """A wrong pattern must not make tests of nothing."""
    assert len(RECIPES) >= 9
    assert len(ROWS) >= 60
    assert {(table, row) for table, row, _ in CHAINS} <= set(ROWS)


@pytest.mark.parametrize('name', RECIPES)
def test_fits_its_configs(name):
    check_recipe(load(name))


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    """Rows share runs and drawn data."""
    return tmp_path_factory.mktemp('smoke')


def run_row(name, row, work_dir, stages=None):
    recipe = load(name)
    if stages is not None:
        recipe = dataclasses.replace(recipe, columns=tuple(
            column for column in recipe.columns if column.stage in stages))
    plan = plan_runs([(recipe, [recipe.row(row)])], 'smoke', work_dir,
                     seeds=[0])
    status = execute_here(plan, TOOLS, SmokeSteps(work_dir / 'data'))
    assert find_failures(plan) == {}
    assert status == 0
    for run in plan.runs:
        manifest = read_manifest(run.folder)
        assert manifest['status'] == 'done'
        checks = manifest['load_checks']
        if run.sources:
            # All checked modules come from a run, and arrived whole.
            assert checks
            assert {check.get('percent') for check in checks} == {100.0}
            files = {source.file() for source in run.sources.values()}
            assert all(any(file in check['what'] for file in files)
                       for check in checks)
    for cell in collect_cells(plan, recipe):
        if cell.has_stage:
            assert cell.problems == {}, cell.column
            assert list(cell.values) == [Axis(0, None)]
            assert cell.difference('smoke') is None
    text = write_tables(plan, recipe, 'pytest')
    assert 'smoke: drawn data' in text.splitlines()[0]


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'row', 'stages'), CHAINS)
def test_chains_carry_weights(name, row, stages, work_dir):
    run_row(name, row, work_dir, stages)


@pytest.mark.slow
@pytest.mark.slow_recipes
@pytest.mark.parametrize(('name', 'row'), ROWS)
def test_every_row_runs(name, row, work_dir):
    run_row(name, row, work_dir)
