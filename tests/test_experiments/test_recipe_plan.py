"""Rows and seeds become runs, and runs become commands."""

import shlex

import pytest
from tiny_recipe import (
    classify,
    pretrain,
    tiny_recipe,
    write_data,
    write_recipe,
)

from mmmedmask.experiments import commands
from mmmedmask.experiments.fingerprints import (
    DataFingerprints,
    digest_files,
)
from mmmedmask.experiments.plan import Axis, plan_runs
from mmmedmask.experiments.run import read_runs, write_runs
from mmmedmask.experiments.schema import read_recipe

COHORT = """
cohort = dict(type='SlideOmicDataset', data_root='data/cohort/')
train_dataloader = dict(dataset=dict(split='train', **cohort))
test_dataloader = dict(dataset=dict(split='test', **cohort))
"""


RATE = {'optim_wrapper.optimizer.lr': .2}


def make_plan(folder, content=None, **options):
    recipe = read_recipe(write_recipe(folder, content))
    options = dict(scale='paper', folder=folder / 'runs',
                   seeds=(0, 1)) | options
    return plan_runs([(recipe, recipe.rows)], **options)


def test_every_seed_has_a_whole_chain(tmp_path):
    plan = make_plan(tmp_path)
    assert [(run.name, run.seed) for run in plan.runs] == [
        ('tiny_pretrain', 0), ('tiny_downstream', 0), ('tiny_scratch', 0),
        ('tiny_pretrain', 1), ('tiny_downstream', 1), ('tiny_scratch', 1)]
    for number in (1, 4):
        source, = plan.runs[number].sources.values()
        assert source.run is plan.runs[number - 1]
        assert source.exported
    assert plan.runs[0].exports == ['last']
    assert plan.runs[0].tests == []
    assert plan.runs[1].tests == ['last']
    assert plan.runs[1].digest == plan.runs[4].digest
    assert plan.runs[1].folder == tmp_path / 'runs' / \
        f'tiny_downstream-{plan.runs[1].digest[:8]}' / 'seed0'


def test_pretraining_can_be_shared_by_the_seeds(tmp_path):
    plan = make_plan(tmp_path)
    shared = make_plan(tmp_path, share_pretraining=True)
    assert [(run.name, run.seed) for run in shared.runs] == [
        ('tiny_pretrain', 0), ('tiny_downstream', 0), ('tiny_scratch', 0),
        ('tiny_downstream', 1), ('tiny_scratch', 1)]
    source, = shared.runs[3].sources.values()
    assert source.run is shared.runs[0]
    # The first seed's chain is the same run; the others' are not.
    assert shared.runs[1].folder == plan.runs[1].folder
    assert shared.runs[3].digest != plan.runs[4].digest


def test_folds_are_an_axis_beside_the_seeds(tmp_path):
    content = tiny_recipe()
    with pytest.raises(ValueError, match='has no SlideOmicDataset'):
        make_plan(tmp_path, content, folds=dict(tiny={0: tmp_path}))
    path = write_recipe(tmp_path, content)
    for name in ('pretrain', 'downstream'):
        config = path.parent.parent / f'tiny_{name}.py'
        config.write_text(config.read_text() + COHORT)
    recipe = read_recipe(path)
    folds = {number: tmp_path / f'splits_{number}.csv' for number in (0, 2)}
    rows = [recipe.row('ours')]
    plan = plan_runs([(recipe, rows)], 'paper', tmp_path, seeds=(0, 1),
                     folds=dict(tiny=folds))
    assert plan.axes['tiny'] == (
        Axis(0, 0), Axis(0, 2), Axis(1, 0), Axis(1, 2))
    assert [(run.name, run.folder.name) for run in plan.runs[:4]] == [
        ('tiny_pretrain', 'seed0_fold0'), ('tiny_downstream', 'seed0_fold0'),
        ('tiny_pretrain', 'seed0_fold2'), ('tiny_downstream', 'seed0_fold2')]
    last = plan.runs[3]
    source, = last.sources.values()
    assert source.run is plan.runs[2]
    assert last.digest == plan.runs[1].digest
    for loader in ('train', 'test'):
        assert f'{loader}_dataloader.dataset.split_file={folds[2]}' in \
            last.settings
    assert last.data['splits_2.csv'] == str(folds[2])


def test_runs_are_written_and_read(tmp_path):
    plan = make_plan(tmp_path)
    file = write_runs(tmp_path, plan.runs, folder=3)
    # Another command's plan is another file.
    assert write_runs(tmp_path, plan.runs[:1], folder=3) != file
    assert write_runs(tmp_path, plan.runs, folder=3) == file
    assert len(list(tmp_path.glob('*.json'))) == 2
    runs, rest = read_runs(file)
    assert rest == dict(folder=3)
    assert list(runs) == [run.key for run in plan.runs]
    for run in plan.runs:
        assert commands.run_steps(
            runs[run.key], tmp_path) == commands.run_steps(run, tmp_path)
        assert runs[run.key].title == run.title
        assert runs[run.key].data == run.data


def test_rows_and_tables_share_runs(tmp_path):
    content = tiny_recipe(seeds=[0])
    content['rows'].append({
        **content['rows'][0], 'name': 'again', 'title': 'Again',
        'stages': pretrain() | classify('best')})
    first = read_recipe(write_recipe(tmp_path, content))
    second = read_recipe(write_recipe(tmp_path, tiny_recipe(name='other')))
    plan = plan_runs([(first, first.rows), (second, second.rows)], 'paper',
                     tmp_path, seeds=[0])
    assert len(plan.runs) == 3
    assert plan.runs[1].tests == ['last', 'best']
    assert plan.runs[1].users == ['tiny: ours, classify',
                                  'tiny: again, classify',
                                  'other: ours, classify']


def test_other_settings_are_another_folder(tmp_path):
    def digests(content=None, **options):
        return [run.digest for run in
                make_plan(tmp_path, content, **options).runs[:2]]

    before = digests()
    assert digests(tiny_recipe(pretrain(**{
        'train_dataloader.num_workers': 7, 'work_dir': 'x',
        'default_hooks.logger.interval': 7}))) == before
    probed = [digests(tiny_recipe(pretrain(**{
        'default_hooks.probe.interval': interval,
        'default_hooks.probe.loader.num_workers': workers})))
        for interval, workers in ((1, 1), (1, 2), (2, 2))]
    assert probed[0] == probed[1] != probed[2]
    # What starts from it changes with it.
    assert not set(digests(tiny_recipe(pretrain(**RATE)))) & set(before)
    assert not set(digests(gpus=2)) & set(before)
    assert [new == old for new, old in zip(
        digests(tiny_recipe(classify(**RATE))), before, strict=True)] == [
            True, False]


def plan_with_steps(folder, **options):
    """Plan a pre-training whose images go through four steps."""
    path = write_recipe(folder, tiny_recipe(pretrain(**{
        f'train_dataloader.dataset.pipeline.{key}': value
        for key, value in options.items()})))
    config = path.parent.parent / 'tiny_pretrain.py'
    config.write_text(config.read_text().replace("type='Tiles',", """
        type='Tiles', pipeline=[
            dict(type='Load'), dict(type='mmmedmask.Crop', scale=8),
            dict(type='Flip'), dict(type='mmcv.Flip')],"""))
    recipe = read_recipe(path)
    return plan_runs([(recipe, recipe.rows)], 'paper', folder, seeds=[0])


def test_a_type_stands_for_the_position_in_a_list(tmp_path):
    """A command line knows positions alone, and the run is the same."""
    named, placed = (plan_with_steps(tmp_path, **{key: 4}).runs[0]
                     for key in ('Crop.scale', '1.scale'))
    assert named.digest == placed.digest
    assert named.options == placed.options
    assert 'train_dataloader.dataset.pipeline.1.scale=4' in named.settings


@pytest.mark.parametrize(('options', 'message'), [
    ({'Crops.scale': 4}, "'Crops' where a list has the places 0 to 3 and the "
     'types Load, Crop, Flip, Flip: nothing fits'),
    ({'Flip.prob': 1}, 'types Load, Crop, Flip, Flip: several of them fit'),
    ({'1.scale': 4, 'Crop.scale': 8}, 'is there twice')])
def test_types_that_are_not_clear_are_refused(tmp_path, options, message):
    key = list(options)[-1]
    with pytest.raises(ValueError, match=(
            r"tiny.yml: row 'ours', stage 'pretrain': the option "
            f"'train_dataloader.dataset.pipeline.{key}' .*{message}")):
        plan_with_steps(tmp_path, **options)


def test_commands_are_complete(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = make_plan(tmp_path, data_root='else_where')
    tools = tmp_path / 'tools'
    first, second = plan.runs[:2]
    lines = [commands.shell_line(step.command) for run in (first, second)
             for step in commands.run_steps(run, tools)]
    weights = first.folder / 'backbone.pth'
    last = first.folder / 'epoch_3.pth'
    assert lines[0] == (
        f'python tools/train.py family/tiny_pretrain.py --work-dir '
        f'{first.folder} --resume --cfg-options '
        'train_dataloader.dataset.data_root.0=else_where/tiles/a '
        'train_dataloader.dataset.data_root.1=else_where/tiles/b '
        'randomness.seed=0')
    assert lines[1] == ('python tools/model_converters/export_backbone.py '
                        f'{last} {weights} --force')
    # 4 samples per step, and the rate is for 8.
    assert lines[2] == (
        f'python tools/train.py family/tiny_downstream.py --work-dir '
        f'{second.folder} --resume --auto-scale-lr --cfg-options '
        'train_dataloader.dataset.data_root=else_where/images/ '
        'test_dataloader.dataset.data_root=else_where/images/ '
        'test_evaluator.ann_file=else_where/images/test.json '
        f'randomness.seed=0 model.backbone.init_cfg.checkpoint={weights}')
    assert shlex.split(lines[3])[:6] == [
        'python', 'tools/test.py', 'family/tiny_downstream.py',
        str(second.folder / 'epoch_2.pth'), '--work-dir',
        str(second.folder / 'test')]
    assert len(lines) == 4
    # Where the data lie by default, nothing has to be moved.
    assert make_plan(tmp_path).runs[0].settings == ('randomness.seed=0', )


def test_several_gpus_scale_the_rate(tmp_path):
    plan = make_plan(tmp_path, gpus=2)
    assert [run.scales_lr for run in plan.runs[:2]] == [True, False]
    train = commands.run_steps(plan.runs[0], tmp_path)[0].command
    assert train[:2] == ('bash', str(tmp_path / 'dist_train.sh'))
    assert train[3] == '2'
    assert '--auto-scale-lr' in train
    # A rate of the recipe is for the batch of one process, also if it is that
    # of the config, which is for 8 samples.
    assert make_plan(tmp_path).runs[1].scales_lr
    for gpus in (1, 2):
        run = make_plan(tmp_path, tiny_recipe(classify(**{
            'optim_wrapper.optimizer.lr': .1})), gpus=gpus).runs[1]
        assert run.scales_lr == (gpus == 2)
        assert 'auto_scale_lr.base_batch_size=4' in run.settings


def test_accumulated_samples_count_for_the_rate(tmp_path):
    """The rates are for 4 and for 8 samples in an update."""
    halves = {'train_dataloader.batch_size': 2,
              'optim_wrapper.accumulative_counts': 2}
    for gpus in (1, 2):
        first, second = make_plan(tmp_path, tiny_recipe(
            pretrain(**halves) | classify(**RATE, **{
                'optim_wrapper.accumulative_counts': 3})), gpus=gpus).runs[:2]
        assert first.scales_lr == second.scales_lr == (gpus == 2)
        assert 'auto_scale_lr.base_batch_size=12' in second.settings


def test_a_best_checkpoint_is_found_by_the_shell(tmp_path):
    run = make_plan(tmp_path, tiny_recipe(classify('best'))).runs[1]
    step = commands.run_steps(run, tmp_path)[-1]
    assert step.name == 'test_best'
    pointer = run.folder / 'best_checkpoint'
    assert f'"$(cat {pointer})"' in commands.shell_line(step.command)
    run.folder.mkdir(parents=True)
    for epoch in (10, 9):
        best = run.folder / f'best_accuracy_top1_epoch_{epoch}.pth'
        best.touch()
    # As it was before the folder was moved.
    pointer.write_text(f'elsewhere/{best.name}')
    assert commands.run_steps(run, tmp_path)[-1].command[3] == str(best)


@pytest.mark.parametrize(('value', 'text'), [
    (1, '1'), (0.0001, '0.0001'), (True, 'true'), (None, 'None'),
    ('a/b.pth', 'a/b.pth'), ([1, 2], '[1,2]'), ([[1, 2.5], ['a']],
                                                '[[1,2.5],[a]]'), ([], '[]')])
def test_options_are_read_as_they_were(value, text):
    assert commands.format_option('a.b', value) == f'a.b={text}'


@pytest.mark.parametrize('value', [
    'my folder/x.pth', 'a,b', '1', 'true', ['1'], ("x'", )])
def test_options_that_would_be_misread_are_refused(value):
    with pytest.raises(ValueError, match='MMEngine would read'):
        commands.format_option('a.b', value)


def test_a_row_can_be_left_out_at_scale_small(tmp_path):
    content = tiny_recipe()
    content['rows'][1]['small'] = False
    recipe = read_recipe(write_recipe(tmp_path, content))
    plan = plan_runs([(recipe, recipe.rows)], 'small', tmp_path)
    assert plan.left_out == (('tiny', 'scratch'), )
    assert len(plan.runs) == 4


def test_a_name_with_a_dot_makes_what_another_config_starts_from(tmp_path):
    content = tiny_recipe()
    content['rows'] = content['rows'][:1]
    content['rows'][0]['stages']['pretrain'] = 'tiny_0.5x'
    content['small']['pretrain'] = 'tiny_pretrain_small'
    path = write_recipe(tmp_path, content)
    configs = path.parent.parent
    (configs / 'tiny_pretrain.py').rename(configs / 'tiny_0.5x.py')
    (configs / 'tiny_pretrain_small.py').write_text("_base_ = 'tiny_0.5x.py'")
    downstream = configs / 'tiny_downstream.py'
    downstream.write_text(downstream.read_text().replace(
        'work_dirs/tiny_pretrain/', 'work_dirs/tiny_0.5x/'))
    recipe = read_recipe(path)
    for scale in ('paper', 'small'):
        plan = plan_runs([(recipe, recipe.rows)], scale, tmp_path)
        source, = plan.runs[1].sources.values()
        assert source.run is plan.runs[0]


def test_says_where_the_batch_is_not_that_of_the_paper(tmp_path):
    content = tiny_recipe()
    content['rows'] = content['rows'][1:]
    content['rows'][0]['stages']['classify'] = 'tiny_8xb4-9i'
    del content['small']['pretrain']
    path = write_recipe(tmp_path, content)
    config = path.parent.parent / 'tiny_8xb4-9i.py'
    config.write_text("_base_ = 'tiny_scratch.py'")
    recipe = read_recipe(path)

    def notes(**options):
        return commands.batch_notes(plan_runs(
            [(recipe, recipe.rows)], options.pop('scale', 'paper'), tmp_path,
            **options).runs)

    note, = notes()
    assert 'made for 8 processes and trained with 1, so with 0.125 times' \
        in note
    assert note.endswith('in a step, are tiny_8xb4-9i.')
    assert notes(gpus=8) == notes(scale='small') == []
    config.write_text(
        "_base_ = 'tiny_scratch.py'\n"
        'train_cfg = dict(_delete_=True, by_epoch=False, max_iters=9)')
    note, = notes()
    assert 'all of these count iterations, and see 0.125 times' in note


def test_fingerprints_see_names_sizes_and_tables(tmp_path):
    data = write_data(tmp_path / 'data')
    first, second = make_plan(tmp_path).runs[:2]
    prints = DataFingerprints(data)
    assert set(prints.of_run(first)) == {'data/tiles/a', 'data/tiles/b'}
    # The annotations are in the folder of the images.
    assert set(prints.of_run(second)) == {'data/images'}
    before = digest_files(data / 'tiles')
    (data / 'tiles' / '.hidden').touch()
    assert digest_files(data / 'tiles') == before
    (data / 'tiles' / 'a' / '1.png').write_text('longer than it was')
    assert digest_files(data / 'tiles') != before
    before = digest_files(data / 'images')
    assert before != digest_files(data / 'images' / 'test.json')
    # Another label, and as many bytes.
    (data / 'images' / 'test.json').write_text('images/text.json')
    assert digest_files(data / 'images') != before
    (data / 'more').symlink_to(data / 'tiles')
    assert digest_files(data / 'more') == digest_files(data / 'tiles')
    (data / 'tiles' / 'loop').symlink_to(data / 'tiles')
    assert digest_files(data / 'tiles')
    assert digest_files(data / 'nothing') is None
    assert DataFingerprints(tmp_path).missing(second) == ['data/images']


@pytest.mark.parametrize('ending', ['h5', 'hdf5', 'npy', 'pt'])
def test_features_of_another_encoder_count(tmp_path, ending):
    """As many patches of as many dimensions: the size says nothing."""
    slides = tmp_path / 'slides'
    slides.mkdir()
    (slides / f'a.{ending}').write_bytes(bytes(2**22))
    before = digest_files(slides)
    content = bytearray(2**22)
    content[-2] = 1
    (slides / f'a.{ending}').write_bytes(content)
    assert digest_files(slides) != before


def test_tables_of_all_kinds_count_by_their_content(tmp_path):
    packed = [f'a.{ending}' for ending in ('csv.gz', 'xlsx', 'parquet', 'zip')]
    before = {}
    for text in ('x', 'y'):
        (tmp_path / 'set').mkdir(exist_ok=True)
        for name in packed:
            (tmp_path / name).write_text(text)
        (tmp_path / 'set' / 'image.nii.gz').write_text(text)
        found = {name: digest_files(tmp_path / name) for name in packed}
        assert not set(found.items()) & set(before.items())
        # In a folder it is an image, and counts by its size.
        folder = digest_files(tmp_path / 'set')
        assert before.setdefault('set', folder) == folder
        before.update(found)
