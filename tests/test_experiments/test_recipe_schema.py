"""Recipes are read, and what is wrong with one is said."""

import pytest
import yaml
from recipe_check import check_recipe
from tiny_recipe import pretrain, tiny_recipe, write_recipe

from mmmedmask.experiments import schema
from mmmedmask.experiments.schema import locate_recipe, read_recipe

STAGE = ('rows', 0, 'stages', 'pretrain')


def changed(where, value):
    """The tiny recipe with one value changed, or a key taken out (None)."""
    recipe = tiny_recipe()
    node = recipe
    for key in where[:-1]:
        node = node[key]
    if value is None:
        del node[where[-1]]
    else:
        node[where[-1]] = value
    return recipe


def test_reads_a_recipe(tmp_path):
    recipe = read_recipe(write_recipe(tmp_path))
    assert recipe.name == 'tiny'
    assert recipe.seeds == (0, 1)
    assert [row.name for row in recipe.rows] == ['ours', 'scratch']
    assert recipe.row('ours').paper == {'accuracy': 12.5}
    assert list(recipe.row('ours').stages) == ['pretrain', 'classify']
    assert recipe.columns[0].factor == 100
    check_recipe(recipe)


def test_a_config_at_scale_small_drops_the_options_for_another(tmp_path):
    content = tiny_recipe(pretrain(**{'optim_wrapper.optimizer.lr': 0.5}))
    content['rows'][0]['small'] = dict(
        pretrain=dict(config='tiny_downstream', options={'seed': 3}),
        classify=dict(options={'optim_wrapper.optimizer': {'lr': 0.25}}))
    recipe = read_recipe(write_recipe(tmp_path, content))
    stages = recipe.stages(recipe.row('ours'), 'small')
    assert stages['pretrain'].config == 'tiny_downstream'
    assert stages['pretrain'].options == {'seed': 3}
    assert stages['classify'].options == {
        'train_cfg.max_epochs': 1, 'optim_wrapper.optimizer.lr': 0.25}
    paper = recipe.stages(recipe.row('ours'), 'paper')
    assert paper['pretrain'].options == {'optim_wrapper.optimizer.lr': 0.5}


@pytest.mark.parametrize('scale', ['paper', 'small'])
def test_a_row_can_be_left_out_at_a_scale(scale, tmp_path):
    content = tiny_recipe()
    content['rows'][0][scale] = False
    recipe = read_recipe(write_recipe(tmp_path, content))
    check_recipe(recipe)
    for other in ('paper', 'small', 'smoke'):
        left_out = recipe.stages(recipe.row('ours'), other) is None
        assert left_out == ((scale == 'small') == (other == 'small'))


def test_options_of_the_table_come_first_at_every_scale(tmp_path):
    content = tiny_recipe(
        pretrain(**{'optim_wrapper.optimizer.lr': 0.25}),
        options=dict(pretrain={'optim_wrapper.optimizer.lr': 0.5,
                               'train_dataloader.batch_size': 8}))
    content['rows'][0]['small'] = dict(pretrain='tiny_downstream')
    recipe = read_recipe(write_recipe(tmp_path, content))
    paper, small = (recipe.stages(recipe.row('ours'), scale)['pretrain']
                    for scale in ('paper', 'small'))
    assert paper.options == {'optim_wrapper.optimizer.lr': 0.25,
                             'train_dataloader.batch_size': 8}
    # Those of the row were made for the other config; the table's stay.
    assert small.options == {'optim_wrapper.optimizer.lr': 0.5,
                             'train_dataloader.batch_size': 8}


@pytest.mark.parametrize(('where', 'value', 'message'), [
    (('options', ), {'pretrian': {}}, "options has the unknown 'pretrian'"),
    (('rows', 0, 'stages', 'pretrain'), dict(conifg='x'),
     r"row 'ours': stages.pretrain has the unknown key 'conifg'. Did you "
     r"mean config\? Valid are config, "),
    (('rows', 0, 'stages', 'pretrain'),
     dict(config='x', checkpoint='lst'), "unknown 'lst'. Did you mean last"),
    (('rows', 0, 'paper'), dict(acuracy=1),
     "row 'ours': paper has the unknown 'acuracy'. Did you mean accuracy"),
    (('rows', 0, 'paper'), dict(accuracy='12'), "must be a number, got '12'"),
    (('rows', 0, 'name'), 'a b', "must be a name .* got 'a b'"),
    (('rows', 1, 'name'), 'ours', "rows has 'ours' twice"),
    (('rows', 1, 'stages'), {}, "row 'scratch' has no stage"),
    (('rows', 1, 'stages'), dict(other='tiny_scratch'),
     "'scratch' has a value of the paper for 'accuracy', and no stage"),
    (('rows',), [], 'rows must be a list that is not empty'),
    (('columns', 0, 'stage'), 'clasify',
     r"columns\[0\].stage has the unknown 'clasify'. Did you mean"),
    (('columns', 0, 'metafile'), ['GlaS'], r'must be \[data set, metric\]'),
    (('columns', 0, 'logged'), 'frist',
     r"columns\[0\].logged has the unknown 'frist'. Did you mean first"),
    (('columns', 0, 'metric'), None, r'columns\[0\] lacks metric'),
    (('small', 'pretrian'), {}, "small has the unknown 'pretrian'"),
    (('small', 'pretrain', 'options'), {'optim_wrapper.optimizer.lr': '1e-4'},
     "is '1e-4', which yaml reads as text: write 0.0001"),
    (('small', 'pretrain', 'options'), {'pipeline': [dict(type='A')]},
     'cannot be given on a command line'),
    (('data', 'smoke'), {}, "data has the unknown 'smoke'"),
    (('data', 'paper'), {'data/glas': 'x'}, "leave out 'data/'"),
    (('rows', 0, 'weights'), [dict(path='vqkd.pth', **{'from': 'x'})],
     "must begin with 'data/', got 'vqkd.pth'"),
    (('seeds',), [0, -1], 'seeds must be at least 0, got -1'),
    (('seeds',), [0, 0], 'seeds has 0 twice'),
    (('name',), 'other', "name is 'other', and the file is called"),
    (('rows', 1, 'metrics'), dict(acuracy='accuracy/top5'),
     "'scratch': metrics has the unknown 'acuracy'. Did you mean accuracy"),
    (('against',), 'scrtch',
     "against has the unknown 'scrtch'. Did you mean scratch"),
    (('rows', 1, 'title'), 'Ours', "rows has the title 'Ours' twice"),
    (('columns',), 2 * [dict(name='a', title='A', stage='classify',
                             metric='x')], "columns has 'a' twice"),
    (('columns',), [dict(name=name, title='A', stage='classify', metric='x')
                    for name in 'ab'], "columns has the title 'A' twice"),
    (('rows', 0, 'paper'), dict(accuracy=float('nan')), 'must be finite'),
    (('columns', 0, 'factor'), float('inf'), 'must be finite, got inf'),
    (('rows', 1), dict(name='other', title='x', stages=dict(pretrain='y'),
                       metrics=dict(accuracy='z')),
     "a metric for 'accuracy', and no stage 'classify'"),
    (('small', 'pretrain', 'options'),
     {'train_cfg.max_epochs': 3, 'train_cfg': dict(max_epochs=5)},
     "options has 'train_cfg.max_epochs' twice"),
    (('small', 'pretrain', 'options'),
     {'train_cfg': None, 'train_cfg.max_epochs': 3},
     "has 'train_cfg.max_epochs' beside 'train_cfg'"),
    (('small', 'pretrain', 'options'),
     {'train_cfg.max_epochs': 3, 'train_cfg': None},
     "has 'train_cfg' beside 'train_cfg.max_epochs'"),
    (('small', 'pretrain', 'options'), {'train_cfg..max_epochs': 3},
     "the key 'train_cfg..max_epochs', of which a part is empty"),
    (('title',), None, 'the file lacks title'),
    (('titel',), 'x', "unknown key 'titel'. Did you mean title"),
])
def test_says_what_is_wrong(where, value, message, tmp_path):
    path = write_recipe(tmp_path, changed(where, value), 'tiny')
    with pytest.raises(ValueError, match=message) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)


def test_refuses_a_key_that_is_there_twice(tmp_path):
    path = write_recipe(tmp_path)
    path.write_text(path.read_text() + 'name: again\n')
    with pytest.raises(ValueError, match="'name' is there twice"):
        read_recipe(path)


@pytest.mark.parametrize(('content', 'message'), [
    (b'name: tiny\ntitle: caf\xe9\n', 'is not yaml in UTF-8: .*0xe9'),
    (b'name: tiny\noptions: &o {pretrain: *o}\n',
     'has an anchor that contains itself')])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, message):
    path = tmp_path / 'tiny.yml'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf'tiny.yml {message}'):
        read_recipe(path)


def write_base(path, name='_base.yml', **content):
    """Write a file beside a recipe."""
    path.with_name(name).write_text(yaml.safe_dump(content))


def test_a_base_is_merged_as_those_of_configs_are(tmp_path):
    content = tiny_recipe(base='_middle.yml')
    columns, seeds = content.pop('columns'), content.pop('seeds')
    content['small'] = {'pretrain': {'options': {'train_cfg.max_epochs': 2}}}
    path = write_recipe(tmp_path, content)
    write_base(path, '_middle.yml', base='_base.yml', seeds=seeds, small={
        'pretrain': {'options': {'train_dataloader.batch_size': 8}}})
    write_base(path, seeds=[5, 6, 7], columns=columns, folds='splits', small={
        'pretrain': {'options': {'train_cfg.max_epochs': 1}},
        'classify': {'options': {'train_cfg.max_epochs': 1}}},
        data={'paper': {'tiles': 'x'}}, options={'pretrain': {'a': 1}})
    recipe = read_recipe(path)
    assert recipe.path == path
    assert recipe.seeds == (0, 1)
    assert recipe.folds == 'splits'
    assert [column.name for column in recipe.columns] == ['accuracy']
    assert {stage: change.options for stage, change in recipe.small.items()
            } == {'pretrain': {'train_cfg.max_epochs': 2,
                               'train_dataloader.batch_size': 8},
                  'classify': {'train_cfg.max_epochs': 1}}
    # A key that is null is taken away, also one in another.
    path.write_text(path.read_text() + 'folds: null\n')
    assert read_recipe(path).folds is None
    content['small'] = {'classify': None}
    content['options'] = {'pretrain': None}
    content['data'] = {'paper': {'tiles': None, 'images': 'x'}}
    recipe = read_recipe(write_recipe(tmp_path, content))
    assert recipe.small.keys() == {'pretrain'}
    assert recipe.data['paper'].keys() == {'images'}
    del content['options'], content['data']
    # A key that is not there cannot be.
    for wrong, message in (
            (dict(small={'pretrian': None}),
             'small.pretrian is null, and the base has no such key to take '
             'away. Did you mean pretrain'),
            (dict(options={'classify': None}), 'options.classify is null'),
            (dict(rows=[dict(content['rows'][0], stages=dict(a=None))]),
             'stages.a must have keys and values, got None'),
            (dict(base=None), 'small.classify must have keys and values')):
        with pytest.raises(ValueError, match=message):
            read_recipe(write_recipe(tmp_path, content | wrong))
    # Options are replaced, however the one and the other are written.
    content['small'] = {'pretrain': {'options': {
        'train_cfg': {'max_epochs': 5}}}}
    path = write_recipe(tmp_path, content)
    assert read_recipe(path).small['pretrain'].options[
        'train_cfg.max_epochs'] == 5


@pytest.mark.parametrize(('base', 'message'), [
    ('_bsae.yml', "base is '_bsae.yml', and there is no such file beside the "
     'recipe. Did you mean _base.yml'),
    ('../_base.yml', 'base must be the name of a file beside the recipe, got '
     "'../_base.yml'"),
    ('tiny.yml', 'base leads back to where it came from: tiny.yml -> '
     'tiny.yml'),
    ('_back.yml', 'leads back .*: tiny.yml -> _back.yml -> tiny.yml'),
    ('_wrong.yml', "_wrong.yml: the file has the unknown key 'colums'. Did "
     'you mean columns'),
    ('_base.yml', r"small.classify has keys and values, and the base has 'x' "
     'there: write that with keys, too'),
    ('_empty.yml', '_empty.yml: the file must have keys and values, got None'),
])
def test_says_what_is_wrong_with_a_base(base, message, tmp_path):
    path = write_recipe(tmp_path, tiny_recipe(base=base))
    write_base(path, small={'classify': 'x'})
    write_base(path, '_back.yml', base='tiny.yml')
    write_base(path, '_wrong.yml', colums=[])
    path.with_name('_empty.yml').write_text('')
    with pytest.raises(ValueError, match=message) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(f'{path}: ')


def test_a_base_is_no_table(tmp_path, monkeypatch):
    path = write_recipe(tmp_path)
    write_base(path, seeds=[0])
    monkeypatch.setattr(schema, 'find_config_folder', lambda: tmp_path)
    assert schema.find_recipes() == {'tiny': path}


def test_merge_keys_of_yaml_work(tmp_path):
    path = write_recipe(tmp_path)
    path.write_text(path.read_text().replace(
        "small:\n  pretrain:\n    options:\n      train_cfg.max_epochs: 1\n"
        '  classify:\n    options:\n      train_cfg.max_epochs: 1\n',
        'small:\n  pretrain:\n    options: &short\n      '
        'train_cfg.max_epochs: 1\n      randomness.seed: 1\n'
        '  classify:\n    options:\n      <<: *short\n      '
        'train_cfg.max_epochs: 2\n'))
    recipe = read_recipe(path)
    assert recipe.small['classify'].options == {
        'train_cfg.max_epochs': 2, 'randomness.seed': 1}


def test_says_which_recipes_there_are(tmp_path):
    with pytest.raises(FileNotFoundError, match='neither a file nor a recipe'):
        locate_recipe('gimp_tabel1')
    with pytest.raises(ValueError, match="no row 'our'. Did you mean ours"):
        read_recipe(write_recipe(tmp_path)).row('our')


@pytest.mark.parametrize(('where', 'value', 'message'), [
    (STAGE, 'tiny_pretrian',
     "row 'ours', stage 'pretrain': there is no config 'tiny_pretrian' in .*"
     'Did you mean tiny_pretrain'),
    (('rows', 1, 'stages'), dict(classify='tiny_downstream'),
     "starts from 'work_dirs/tiny_pretrain/epoch_3.pth' "
     r'\(model.backbone.init_cfg.checkpoint\), which no earlier stage makes'),
    (STAGE, pretrain(**{'train_cfg.max_epoch': 5})['pretrain'],
     "has the key 'max_epoch', which the config does not have; the nearest "
     "is 'max_epochs'"),
    (STAGE, pretrain(**{'loader.batch_size': 5})['pretrain'],
     "'loader' is nothing that a runner reads"),
    (('rows', 1, 'stages', 'classify'),
     dict(config='tiny_scratch', checkpoint='best', options={
         'default_hooks.checkpoint.type': 'CheckpointHook'}),
     'the CheckpointHook of default_hooks.checkpoint keeps no file'),
    (STAGE, pretrain(**{'train_dataloader.dataset.data_root.2': 'x'})[
        'pretrain'], "has '2' where a list has the places 0 to 1"),
    (STAGE, pretrain(**{'train_cfg.max_epochs': 4})['pretrain'],
     "starts from epoch_3.pth of stage 'pretrain', whose last checkpoint is "
     'epoch_4.pth'),
    (STAGE, pretrain('best')['pretrain'], 'saves no best checkpoint'),
    (('columns', 0, 'stage'), 'pretrain', 'has nothing to test: it lacks'),
    (('data', 'paper'), dict(tiles='x'),
     "reads 'data/images', and data.paper says nothing of it"),
    (('small',), {}, 'has nothing at scale small'),
    (('rows',), [*tiny_recipe()['rows'], dict(
        tiny_recipe()['rows'][1], name='longer', title='Longer', small=dict(
            classify=dict(options={'train_cfg.max_epochs': 7})))],
     'rows longer, scratch are the same runs at scale paper alone'),
    (('rows', 0, 'weights'), [dict(path='data/w.pth', **{'from': 'x'})],
     "no stage reads the weights 'data/w.pth'"),
])
def test_check_says_what_does_not_fit_the_configs(where, value, message,
                                                  tmp_path):
    content = changed(where, value)
    if where[0] == 'columns':
        for row in content['rows']:
            del row['paper']
    recipe = read_recipe(write_recipe(tmp_path, content))
    with pytest.raises(ValueError, match=message):
        check_recipe(recipe)
