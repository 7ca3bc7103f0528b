"""The metafiles are OpenMMLab's, complete, and agree with the recipes.

Cells of the papers are typed here a second time, from the papers' text, so
that a slip in a metafile or a recipe shows.
"""

from pathlib import Path

import modelindex
import pytest
import yaml
from printed_tables import PRINTED
from shipped_configs import CONFIGS, read

from mmmedmask.experiments.schema import find_recipes, read_recipe

ROOT = Path(__file__).resolve().parents[2]
METAFILES = sorted(CONFIGS.rglob('metafile.yml'))
RECIPES = find_recipes()
# Sizes for a laptop and parts of the demo are in no paper.
WITHOUT_ENTRY = {'_base_', 'demo', 'small'}
TASKS = {'Image Classification', 'Image-Omic Classification',
         'Instance Segmentation', 'Object Detection', 'Semantic Segmentation',
         'Whole Slide Image Classification'}


def _read(path):
    return yaml.safe_load(path.read_text('utf-8'))


MODELS = [model for path in METAFILES for model in _read(path)['Models']]
BY_NAME = {model['Name']: model for model in MODELS}


def _cells(model):
    """All values of a model: data set and metric to value."""
    cells = {}
    for result in model.get('Results', []):
        for metric, value in result['Metrics'].items():
            key = result['Dataset'], metric
            assert key not in cells, f'{model["Name"]}: {key} twice'
            cells[key] = value
    return cells


def test_found_metafiles_and_recipes():
    assert len(METAFILES) >= 4
    assert len(MODELS) >= 100
    assert len(RECIPES) >= 2


def test_the_index_imports_all():
    imports = _read(ROOT / 'model-index.yml')['Import']
    assert len(imports) == len(set(imports))
    assert set(imports) == {
        path.relative_to(ROOT).as_posix() for path in METAFILES}


def test_the_reader_of_openmmlab_finds_nothing_wrong():
    index = modelindex.load(str(ROOT / 'model-index.yml'))
    assert len(list(index.models)) == len(MODELS)
    # It looks for a README beside the metafile; OpenMMLab's libraries, and
    # mim, name it from the root.
    problems = [
        problem for problem in index.check(silent=True)
        if not any(f'README file {path.relative_to(ROOT).as_posix()} ' in
                   problem for path in CONFIGS.rglob('README.md'))]
    assert problems == []


def test_names_are_unique_and_results_are_numbers_of_known_tasks():
    assert len(BY_NAME) == len(MODELS)
    for name, model in BY_NAME.items():
        path = ROOT / model['Config']
        assert path.is_file(), model['Config']
        assert path.stem == name
        downstream = set(model.get('Downstream', []))
        assert downstream <= set(BY_NAME) - {name}, name
        for result in model.get('Results', []):
            assert result['Task'] in TASKS, name
            assert result['Dataset'], name
        for key, value in _cells(model).items():
            assert isinstance(value, int | float), (name, key)
            assert 0 < value <= 100, (name, key)


@pytest.mark.parametrize('path', METAFILES, ids=lambda path: path.parent.name)
def test_entries_are_complete(path):
    content = _read(path)
    collections = {one['Name']: one for one in content['Collections']}
    assert len(collections) == len(content['Collections'])
    for one in collections.values():
        assert (ROOT / one['README']).is_file(), one['README']
    used = {model['In Collection'] for model in content['Models']}
    assert used == set(collections)
    for model in content['Models']:
        name = model['Name']
        data = model['Metadata']
        assert data['Batch Size'] > 0, name
        # Detectors have schedules in their names, and data in their results.
        assert ('Epochs' in data) == ('Training Data' in data), name
        assert path.parent in (ROOT / model['Config']).parents, name


def test_every_config_of_a_method_has_an_entry():
    configs = {path.stem for path in CONFIGS.rglob('*.py')
               if not WITHOUT_ENTRY & set(path.parts)}
    assert sorted(configs - set(BY_NAME)) == []


@pytest.mark.parametrize('method', ['gimp', 'mil'])
def test_epochs_and_batch_are_those_of_the_config(method):
    """These methods train on one GPU."""
    for model in _read(CONFIGS / method / 'metafile.yml')['Models']:
        cfg = read(ROOT / model['Config'])
        assert model['Metadata']['Epochs'] == cfg.train_cfg.max_epochs
        assert model['Metadata']['Batch Size'] == \
            cfg.train_dataloader.batch_size


def _config(stage):
    """Bare name of a stage's config; it may have a point in it."""
    return stage.config.rpartition('/')[2].removesuffix('.py')


@pytest.mark.parametrize('name', RECIPES)
def test_a_recipes_cells_are_those_of_the_metafiles(name):
    recipe = read_recipe(RECIPES[name])
    columns = {column.name: column for column in recipe.columns}
    for row in recipe.rows:
        configs = [_config(stage) for stage in row.stages.values()]
        for column, value in (row.paper or {}).items():
            key = columns[column].metafile
            assert key is not None, f'{column} has values and no metafile'
            told = {config: _cells(BY_NAME[config])[key] for config in configs
                    if key in _cells(BY_NAME.get(config, {}))}
            assert told, f'{row.name}: no metafile has {key} of {configs}'
            assert set(told.values()) == {value}, f'{row.name}: {key}'


def test_every_cell_of_the_metafiles_is_in_a_recipe():
    made = set()
    for path in RECIPES.values():
        recipe = read_recipe(path)
        columns = {column.name: column for column in recipe.columns}
        made |= {(_config(stage), *columns[column].metafile)
                 for row in recipe.rows for stage in row.stages.values()
                 for column in row.paper or ()}
    told = {(model['Name'], *key) for model in MODELS for key in _cells(model)}
    assert len(told) > 250
    assert sorted(told - made) == []


def test_every_table_is_typed():
    """Figures have no numbers but the one row that Table 1 has, too."""
    assert {name for name in RECIPES if '_table' in name} == {
        name for name in PRINTED if '_table' in name}


@pytest.mark.parametrize('name', PRINTED)
def test_the_cells_are_those_that_the_paper_prints(name):
    recipe = read_recipe(RECIPES[name])
    order = [column.name for column in recipe.columns]
    if name.startswith('cmim'):
        kinds = ('box_ap', 'mask_ap') if name == 'cmim_table6' else (
            'box_ap', 'box_ap75', 'mask_ap', 'mask_ap75')
        assert order == [f'{data}_{kind}' for data in ('glas', 'crag')
                         for kind in kinds[:len(order) // 2]]
    cells = {row.name: [row.paper[column] for column in order
                        if column in (row.paper or ())] for row in recipe.rows}
    if '_figure' in name:
        cells = {row: values for row, values in cells.items() if values}
    assert cells == PRINTED[name]


def test_rows_of_two_tables_are_one_run_at_small_scale():
    """Both tables of GiMP have the whole model and the one from scratch."""
    first, second = (read_recipe(RECIPES[f'gimp_table{number}'])
                     for number in (1, 2))
    for one, other in (('gimp', 'full'), ('gimp_scratch', 'scratch')):
        for scale in ('paper', 'small'):
            assert first.stages(first.row(one), scale) == \
                second.stages(second.row(other), scale)
