"""The metafiles are OpenMMLab's, complete, and agree with the recipes.

Cells of the papers are typed here a second time, from the papers' text, so
that a slip in a metafile or a recipe shows.
"""

from collections import Counter
from pathlib import Path

import modelindex
import pytest
import yaml

from mmmedmask.experiments.schema import find_recipes, read_recipe

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs'
METAFILES = sorted(CONFIGS.rglob('metafile.yml'))
RECIPES = find_recipes()
# Sizes for a laptop and parts of the demo are in no paper.
WITHOUT_ENTRY = {'_base_', 'demo', 'small'}
TASKS = {
    'Image Classification', 'Image-Omic Classification',
    'Instance Segmentation', 'Object Detection', 'Semantic Segmentation',
    'Whole Slide Image Classification',
}


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


def test_names_are_those_of_configs_and_unique():
    twice = [name for name, count in Counter(
        model['Name'] for model in MODELS).items() if count > 1]
    assert twice == []
    for model in MODELS:
        path = ROOT / model['Config']
        assert path.is_file(), model['Config']
        assert path.stem == model['Name']


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


def test_downstream_models_exist():
    for model in MODELS:
        missing = set(model.get('Downstream', [])) - set(BY_NAME)
        assert not missing, f'{model["Name"]}: {sorted(missing)}'
        assert model['Name'] not in model.get('Downstream', [])


def test_results_are_numbers_of_known_tasks():
    for model in MODELS:
        for result in model.get('Results', []):
            assert result['Task'] in TASKS, model['Name']
            assert result['Dataset'], model['Name']
        for key, value in _cells(model).items():
            assert isinstance(value, int | float), (model['Name'], key)
            assert 0 < value <= 100, (model['Name'], key)


# --- recipes --------------------------------------------------------------


def _config(stage):
    """Bare name of a stage's config; it may have a point in it."""
    return stage.config.rpartition('/')[2].removesuffix('.py')


@pytest.mark.parametrize('name', RECIPES)
def test_a_recipes_cells_are_those_of_the_metafiles(name):
    recipe = read_recipe(RECIPES[name])
    columns = {column.name: column for column in recipe.columns}
    for row in recipe.rows:
        configs = [_config(stage) for stage in row.stages.values()]
        for column, value in row.paper.items():
            key = columns[column].metafile
            assert key is not None, f'{column} has values and no metafile'
            told = {config: _cells(BY_NAME[config])[key]
                    for config in configs
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
                 for column in row.paper}
    told = {(model['Name'], *key) for model in MODELS for key in _cells(model)}
    assert len(told) > 250
    assert sorted(told - made) == []


# --- cells as the papers print them ---------------------------------------

_OURS = [60.8, 71.1, 61.7, 72.1, 57.1, 64.4, 56.4, 64.3]
_OUR_BOXES = [60.8, 71.1, 57.1, 64.4]
# Row to the values of the paper, in the order of the recipe's columns.
PRINTED = {
    'cmim_table1': {
        'scratch': [49.8, 57.3, 52.1, 60.7, 51.1, 57.0, 50.6, 57.3],
        'scratch_vit': [49.3, 55.5, 51.2, 58.3, 57.6, 52.5, 48.8, 52.7],
        'supervised': [50.2, 56.9, 53.2, 62.1, 49.2, 55.2, 49.4, 55.0],
        'supervised_vit': [44.2, 49.4, 47.3, 53.4, 40.6, 43.1, 42.1, 44.2],
        'simclr': [50.6, 56.8, 53.9, 62.9, 48.1, 52.0, 47.8, 53.7],
        'byol': [50.2, 56.9, 54.4, 63.9, 49.3, 54.1, 48.7, 54.6],
        'mocov1': [49.8, 55.1, 53.1, 61.7, 47.2, 51.9, 47.9, 53.0],
        'mocov2': [55.2, 63.6, 58.3, 68.3, 51.8, 57.6, 52.1, 58.7],
        'densecl': [56.0, 64.8, 58.8, 68.7, 52.5, 58.2, 52.9, 60.0],
        'concl': [58.6, 68.1, 61.0, 71.3, 55.1, 61.4, 54.5, 62.6],
        'spark': [56.0, 65.8, 57.4, 67.6, 53.4, 59.7, 53.0, 59.6],
        'mae': [57.2, 65.3, 59.4, 68.8, 56.0, 61.9, 55.8, 61.8],
        'beitv2': [57.1, 65.3, 59.7, 68.1, 56.1, 63.2, 55.8, 62.3],
        'eva': [57.5, 66.2, 60.2, 69.9, 55.2, 62.6, 55.6, 62.0],
        'ours': _OURS,
    },
    'cmim_table2': {
        'spark': [56.0, 65.8, 53.4, 59.7],
        'emb_masking': [59.9, 70.0, 56.6, 64.0],
        'emb_invariance': [58.7, 68.6, 56.5, 63.6],
        'ours': _OUR_BOXES,
    },
    'cmim_table3': {
        'schedule_0.5x': [60.0, 70.3, 60.7, 71.0, 57.5, 65.0, 56.7, 65.2],
        'schedule_1x': _OURS,
        'schedule_2x': [61.0, 71.2, 61.8, 72.2, 57.6, 65.2, 56.5, 65.4],
        'schedule_3x': [60.9, 71.3, 62.1, 72.6, 57.7, 64.9, 56.5, 65.2],
        'schedule_5x': [61.1, 70.9, 61.9, 72.3, 57.7, 65.1, 56.7, 65.5],
    },
    'cmim_table4': {
        'epochs_200': [58.5, 65.4, 56.3, 63.4],
        'epochs_400': [59.7, 69.1, 56.8, 63.7],
        'epochs_800': _OUR_BOXES,
        'epochs_1600': [60.8, 71.2, 57.4, 64.6],
    },
    'cmim_table5': {
        'resnet18': _OUR_BOXES,
        'resnet34': [61.5, 72.2, 58.0, 65.3],
        'resnet50': [60.5, 69.8, 58.3, 66.1],
    },
    'msmae_table1': {
        'mocov3': [61.30, 89.01, 76.24],
        'ccrop': [59.77, 95.96, 75.31],
        'simclr': [59.75, 90.62, 75.00],
        'mae': [60.54, 82.46, 75.01],
        'simmim': [58.43, 70.33, 70.08],
        'amt': [60.92, 98.17, 81.53],
        'vit': [59.77, 89.78, 79.54],
        'resnet50': [58.43, 69.18, 67.01],
        'swin': [58.43, 91.00, 81.70],
        'ours': [63.41, 98.39, 81.97],
    },
    'msmae_table2': {
        'baseline': [56.15, 43.33],
        'mae': [57.09, 43.95],
        'amt': [56.17, 43.07],
        'vit': [56.22, 42.66],
        'ours': [60.66, 45.53],
    },
    'msmae_table3': {
        'baseline': [60.54],
        'II': [60.92],
        'III': [62.07],
        'IV': [60.58],
        'V': [61.39],
        'VI': [63.41],
    },
    'msmae_table7': {
        'mae': [72.96],
        'amt': [66.09],
        'vit': [74.25],
        'ours': [77.68],
    },
    'msmae_table8': {
        'a_64': [63.41, 98.39],
        'a_128': [62.87, 97.70],
        'a_256': [62.98, 97.77],
        'b_64': [63.98, 97.52],
        'b_128': [63.17, 98.03],
        'b_256': [63.41, 98.39],
        'c_75_0': [62.93, 97.58],
        'c_45_40': [63.04, 97.93],
        'c_45_30': [63.41, 98.39],
        'c_30_45': [63.02, 98.16],
        'd_20': [62.27, 97.25],
        'd_40': [63.41, 98.39],
        'd_60': [63.55, 98.03],
        'd_80': [63.06, 97.94],
        'e_10': [62.88, 97.16],
        'e_20': [63.41, 98.39],
        'e_30': [63.36, 98.27],
        'e_40': [63.30, 97.29],
        'f_true': [63.41, 98.39],
        'f_false': [63.03, 98.47],
    },
    'gimp_table1': {
        'abmil': [77.37],
        'dsmil': [75.66],
        'clam_sb': [85.19],
        'clam_mb': [88.89],
        'transmil': [88.36],
        'gimp_slides': [89.95],
        'porpoise': [95.24],
        'pathomic_fusion': [96.84],
        'mcat': [96.32],
        'gimp_scratch': [97.37],
        'infonce': [],
        'gimp': [99.47],
    },
    'gimp_table2': {
        'snn': [96.84],
        'scratch': [97.37],
        'mpm': [95.79],
        'triplets': [92.63],
        'no_mpm': [95.26],
        'full': [99.74],
    },
}


def test_every_table_is_typed():
    """Figures have no numbers but the one row that Table 1 has, too."""
    assert {name for name in RECIPES if '_table' in name} == set(PRINTED)


@pytest.mark.parametrize('name', PRINTED)
def test_the_cells_are_those_that_the_paper_prints(name):
    recipe = read_recipe(RECIPES[name])
    order = [column.name for column in recipe.columns]
    assert {
        row.name: [row.paper[column] for column in order
                   if column in row.paper] for row in recipe.rows
    } == PRINTED[name]


def test_denominators_of_gimps_accuracies():
    """What the recipe says of them: k of 190 or of 189, and one of neither."""

    def is_share_of(value, size):
        return round(100 * round(value * size / 100) / size, 2) == value

    table = PRINTED['gimp_table1']
    of_validation = {'dsmil', 'clam_sb', 'clam_mb', 'transmil', 'porpoise',
                     'gimp_slides'}
    for name, values in table.items():
        for value in values:
            size = 189 if name in of_validation else 190
            assert is_share_of(value, size), name
            # 188 of 189 is 99.47, too.
            assert name == 'gimp' or not is_share_of(value, 379 - size)
    wrong = [value for value, in PRINTED['gimp_table2'].values()
             if not is_share_of(value, 190)]
    assert wrong == [99.74]
    assert not is_share_of(99.74, 189)


def test_rows_of_two_tables_are_one_run_at_small_scale():
    """Both tables of GiMP have the whole model and the one from scratch."""
    first, second = (read_recipe(RECIPES[f'gimp_table{number}'])
                     for number in (1, 2))
    for one, other in (('gimp', 'full'), ('gimp_scratch', 'scratch')):
        for scale in ('paper', 'small'):
            assert first.stages(first.row(one), scale) == \
                second.stages(second.row(other), scale)
