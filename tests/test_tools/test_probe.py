"""``tools/probe.py``: several encoders, their floors, paired differences."""

import csv
import shutil

import numpy as np
import pytest
import torch
from commands import call, load
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from torchvision.models import resnet18

from mmmedmask.config_files import load_config
from mmmedmask.engine.frozen_features import untrained_encoder
from mmmedmask.evaluation.paired_tests import interval_of_mean
from mmmedmask.evaluation.probes import ProbeScore


@pytest.fixture(scope='module')
def stripes(tmp_path_factory):
    """Two classes of equal colour: stripes across, and stripes down."""
    folder = tmp_path_factory.mktemp('stripes')
    random = np.random.default_rng(0)
    for split, count in (('train', 10), ('test', 8)):
        for name in ('across', 'down'):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                wave = np.sin(np.arange(48) * random.uniform(0.4, 0.6))
                image = np.tile(wave, (48, 1)) * 50 + random.normal(
                    128, 15, (48, 48))
                image = image if name == 'down' else image.T
                Image.fromarray(np.stack([image] * 3, -1).clip(0, 255).astype(
                    np.uint8)).save(folder / split / name / f'{number}.png')
    return folder


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp('checkpoints')
    for seed in (0, 1):
        torch.manual_seed(10 + seed)
        torch.save(resnet18(weights=None).state_dict(), folder / f'{seed}.pth')
    return [folder / '0.pth', folder / '1.pth']


def test_table_of_arms_random_weights_colour_and_chance(
        stripes, checkpoints, tmp_path):
    printed = call('probe.py', '--encoder', 'resnet18', '--data', stripes,
                   '--arm', 'ours', *checkpoints, '--arm', 'one',
                   checkpoints[0], '--out', tmp_path / 'scores.csv')
    lines = [line for line in printed.splitlines() if line.startswith('|')]
    cells = {line.split(' | ')[0].strip('| '): line.split(' | ')[1:]
             for line in lines}
    assert list(cells) == ['encoder', '---', 'random', 'ours', 'one',
                           'colour alone', 'chance', 'ours - random',
                           'one - random', 'one - ours']
    # The first checkpoint is that of both.
    assert cells['one - ours'][:2] == ['1', '+0.0 [+0.0, +0.0]']
    with (tmp_path / 'scores.csv').open(newline='') as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * (2 + 2 + 1 + 1)
    value = {(row['encoder'], row['place'], row['probe']):
             100 * float(row['value']) for row in rows}
    ours = [value['ours', place, 'rgb/knn'] for place in '01']
    random = [value['random', place, 'rgb/knn'] for place in '01']
    assert cells['ours'][:2] == [
        '2', f'{np.mean(ours):.1f} ± {np.std(ours, ddof=1):.1f}']
    difference = np.subtract(ours, random)
    assert cells['ours - random'][1] == '{:+.1f} [{:+.1f}, {:+.1f}]'.format(
        *interval_of_mean(difference))
    assert value['one', '0', 'rgb/knn'] == ours[0]
    # One checkpoint has the interval of its images.
    one = next(row for row in rows if row['encoder'] == 'one')
    low, high = (100 * float(one[end]) for end in ('low', 'high'))
    assert cells['one'][:2] == ['1', f'{ours[0]:.1f} [{low:.1f}, {high:.1f}]']
    count, text = cells['one - random'][:2]
    assert count == '1'
    assert text.startswith(f'{difference[0]:+.1f} [')
    # Stripes have no colour of their own; any convolution sees them.
    assert float(cells['colour alone'][1].split()[0]) < 75
    assert np.mean(random) > 75
    assert cells['chance'][1].strip('| ') == '50.0'


def test_arms_are_subtracted_seed_by_seed():
    """Seeds differ by more than the arms: unpaired, nothing would show."""
    def row(value):
        return {'rgb/knn': ProbeScore('knn', value, 0, 1, .5)}

    scores = dict(random=[row(.5)] * 3,
                  first=[row(.6), row(.9), row(.7)],
                  second=[row(.63), row(.92), row(.74)],
                  third=[row(.7), row(.8)])
    random = dict.fromkeys(['first', 'second', 'third'], 'random')
    tables = load('probe.py').tables
    _, to_random, to_first = tables(scores, random, row(.5))
    assert [line[:2] for line in to_random[1:]] == [
        ['first - random', '3'], ['second - random', '3'],
        ['third - random', '2']]
    assert [line[0] for line in to_first[1:]] == [
        'second - first', 'third - first']
    for line, percents in zip(to_first[1:], ([3, 2, 4], [10, -10]),
                              strict=True):
        assert line[1:] == [str(len(percents)), '{:+.1f} [{:+.1f}, {:+.1f}]'
                            .format(*interval_of_mean(percents))]
    # A single arm is compared with random weights alone.
    assert len(tables(dict(list(scores.items())[:2]), dict(first='random'),
                      row(.5))) == 2


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--arm', 'a'], '--arm a has no checkpoint'),
    (['--arm', 'a', 'x.pth', '--arm', 'a', 'y.pth'], 'must differ'),
    (['--arm', 'random', 'x.pth'], 'begin with random or color'),
    (['--arm', 'color', 'x.pth'], 'begin with random or color'),
    (['--arm', ' ', 'x.pth'], 'none may be empty'),
    (['--config', 'c.py', '--arm', 'a'], '--arm a has no checkpoint'),
    (['--arm', 'a', 'x.pth', '--config', 'c.py'],
     'no --arm stands behind --config c.py'),
    (['--config', 'c.py', '--arm', 'a', 'x.pth', '--encoder', 'vgg11'],
     'no --arm stands behind --encoder resnet18 and --encoder vgg11'),
    (['--arm', 'a', 'x.pth', '--few', '1'], '--few is an option of --dense'),
    (['--arm', 'a', 'x.pth', '--dense-size', '8'],
     '--dense-size is an option of --dense')])
def test_wrong_arguments_are_named(arguments, message):
    printed = call('probe.py', '--encoder', 'resnet18', '--data', 'x',
                   *arguments, status=2)
    assert message in printed


@pytest.mark.parametrize('option', ['--colors=gray', '--size=8'])
def test_options_of_whole_images_need_them(option):
    printed = call('probe.py', '--encoder', 'resnet18', '--dense', 'x',
                   '--arm', 'a', 'x.pth', option, status=2)
    assert f'{option.partition("=")[0]} is an option of --data' in printed


def write_masked(folder):
    """Write four images to train and two to test, with masks, as a table."""
    lines = ['path,split,mask']
    for number in range(6):
        image = np.random.default_rng(number).integers(
            0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / f'{number}.png')
        Image.fromarray((image[..., 0] > 128).astype(np.uint8) * 255).save(
            folder / f'mask{number}.png')
        lines.append(f'{number}.png,{"train" if number < 4 else "test"},'
                     f'mask{number}.png')
    (folder / 'a.csv').write_text('\n'.join(lines))


def test_all_broken_files_are_named_before_an_encoder_is_built(
        stripes, tmp_path):
    images = tmp_path / 'images'
    shutil.copytree(stripes, images)
    write_masked(tmp_path)
    broken = [*images.glob('t*/down/[12].png'),
              tmp_path / 'mask1.png', tmp_path / '5.png']
    for path in broken:
        path.write_bytes(path.read_bytes()[:100])
    Image.new('I;16', (48, 48)).save(images / 'test/across/0.png')
    broken.append(images / 'test/across/0.png')

    def probe(*arguments):
        printed = call('probe.py', '--encoder', 'resnet18', '--arm', 'a',
                       tmp_path / 'none.pth', *arguments, status=1)
        assert 'none.pth' not in printed
        return printed

    printed = probe('--data', images, '--colors', 'rgb', 'gray',
                    '--dense', tmp_path / 'a.csv')
    assert '7 of 42 images cannot be probed on:' in printed
    for path in broken:
        assert printed.count(f'{path}') == 1, path
    for path in tmp_path.glob('?.png'):
        path.write_bytes(b'')
    printed = probe('--dense', tmp_path / 'a.csv')
    assert '6 of 6 images cannot be probed on, the first: ' in printed
    assert printed.count('the file is empty') == 1


def test_more_images_than_there_are_is_an_error(tmp_path):
    write_masked(tmp_path)
    torch.save(resnet18(weights=None).state_dict(), tmp_path / 'a.pth')
    words = ('probe.py', '--encoder', 'resnet18', '--arm', 'a',
             tmp_path / 'a.pth', '--dense', tmp_path / 'a.csv')
    printed = call(*words, '--few', '2', '7', status=1)
    assert '--few 7: fewer training images' in printed
    # Of those by default the ones that there are.
    printed = call(*words)
    assert 'pixels/dense_1 |' in printed
    assert 'dense_5' not in printed


def test_the_size_that_an_encoder_takes_is_named(stripes, tmp_path):
    """At its random weights, before a checkpoint is read."""
    printed = call('probe.py', '--encoder', 'vit_b_32', '--data', stripes,
                   '--arm', 'a', tmp_path / 'none.pth', status=1)
    assert 'images of (224, 224) pixels and fails at (48, 48)' in printed
    assert 'give --size 224' in printed


def shifted(source, target):
    """Write a checkpoint whose running means are others."""
    weights = torch.load(source)['state_dict']
    torch.save({'state_dict': {
        name: value + 5 if name.endswith('running_mean') else value
        for name, value in weights.items()}}, target)
    return target


def test_arms_of_several_encoders_share_a_table(stripes, checkpoints,
                                                tmp_path):
    backbone = dict(type='ResNet', depth=18, base_channels=8, stem_channels=8)
    init_default_scope('mmpretrain')
    model = dict(type='ImageClassifier', backbone=backbone)
    Config(dict(default_scope='mmpretrain', model=model)).dump(
        tmp_path / 'narrow.py')
    torch.save({'state_dict': {
        f'backbone.{name}': value for name, value in untrained_encoder(
            model, 1).state_dict().items()}}, tmp_path / 'narrow.pth')
    narrow = tmp_path / 'narrow.pth'
    encoders = ('--encoder', 'resnet18', '--arm', 'wide', *checkpoints,
                '--config', tmp_path / 'narrow.py', '--arm', 'ours', narrow)
    printed = call('probe.py', '--data', stripes, *encoders,
                   '--out', tmp_path / 'scores.csv')
    lines = [line for line in printed.splitlines() if line.startswith('|')]
    assert [line.split(' | ')[:2] for line in lines[2:6]] == [
        ['| random resnet18', '2'], ['| random narrow.py', '1'],
        ['| wide', '2'], ['| ours', '1']]
    assert [line.split(' | ')[0] for line in lines if ' - ' in line] == [
        '| wide - random resnet18', '| ours - random narrow.py',
        '| ours - wide']
    # Files of one name in two folders are two encoders.
    (tmp_path / 'b').mkdir()
    wide = tmp_path / 'b' / 'narrow.py'
    Config(dict(default_scope='mmpretrain', model=dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet', depth=18)))).dump(wide)
    twins = call('probe.py', '--data', stripes, '--config', wide, '--arm',
                 'wide', *checkpoints, *encoders[-5:])
    names = [f'random config {name}' for name in (
        wide, tmp_path / 'narrow.py')]
    assert [line.split(' | ')[:2] for line in twins.splitlines()
            if line.startswith('| random')] == [
        [f'| {names[0]}', '2'], [f'| {names[1]}', '1']]
    assert f'| wide - {names[0]} | 2 |' in twins
    # Weights that are drawn are not listed.
    assert 'init_weights' not in printed
    # With the statistics of the file a constant shift of one is seen.
    kept = [call('probe.py', '--data', stripes, '--file-statistics',
                 '--config', tmp_path / 'narrow.py', '--arm', 'ours', path)
            for path in (narrow, shifted(narrow, tmp_path / 'shifted.pth'))]
    again = call('probe.py', '--data', stripes, '--config', tmp_path /
                 'narrow.py', '--arm', 'ours', tmp_path / 'shifted.pth')
    ours = [next(line for line in text.splitlines()
                 if line.startswith('| ours |'))
            for text in (*kept, again, printed)]
    assert ours[2] == ours[3]
    assert len({*ours[:3]}) > 1
    # An arm before all encoders could be of either.
    printed = call('probe.py', '--data', stripes, '--arm', 'first', narrow,
                   *encoders, status=2)
    assert '--arm first stands before all' in printed


def test_missing_files_are_named(stripes, tmp_path):
    printed = call('probe.py', '--encoder', 'resnet18', '--data', stripes,
                   '--arm', 'a', 'nowhere.pth', status=1)
    assert "'nowhere.pth'" in printed
    printed = call('probe.py', '--encoder', 'resnet18', '--data',
                   tmp_path / 'no', '--arm', 'a', 'b.pth', status=1)
    assert 'there is no folder' in printed
    (tmp_path / 'tiles.csv').write_text(
        'path,split,label\na.png,train,a\nb.png,test,a\n')
    printed = call('probe.py', '--encoder', 'resnet18', '--data',
                   tmp_path / 'tiles.csv', '--arm', 'a', 'b.pth', status=1)
    assert printed.startswith('probe.py: ')
    assert 'a.png' in printed


def test_random_weights_are_no_loaded_ones(tmp_path):
    backbone = dict(type='ResNet', depth=18, base_channels=8, stem_channels=8)
    init_default_scope('mmpretrain')
    model = dict(type='ImageClassifier', backbone=backbone)
    first = untrained_encoder(model, 0)
    torch.save({f'backbone.{name}': value + 1 for name, value
                in first.state_dict().items()}, tmp_path / 'all.pth')
    torch.save({name: value + 1 for name, value
                in first.state_dict().items()}, tmp_path / 'part.pth')
    for loading in (
            model | dict(pretrained=str(tmp_path / 'all.pth')),
            model | dict(backbone=backbone | dict(init_cfg=[
                dict(type='Kaiming', layer=['Conv2d']),
                dict(type='Pretrained',
                     checkpoint=str(tmp_path / 'part.pth'))]))):
        loaded = MODELS.build(loading)
        loaded.init_weights()
        assert not torch.equal(loaded.backbone.conv1.weight,
                               first.conv1.weight)
        assert not torch.equal(
            untrained_encoder(loading, 0).bn1.weight, loaded.backbone.bn1
            .weight)


def test_any_encoder_of_a_config_is_probed_as_its_run_starts(stripes,
                                                             tmp_path):
    """MSMAE's gives tokens, and its weights are drawn by the whole model."""
    config = load_config(
        'configs/msmae/small/msmae_vit-mini-p8_1xb64-30e_brain-tumor-mri.py')
    init_default_scope(config.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'run.pth')
    printed = call('probe.py', '--config', config.filename, '--data', stripes,
                   '--size', '64', '--arm', 'start', tmp_path / 'run.pth')
    cells = {line.split(' | ')[0].strip('| '): line.split(' | ')[1:]
             for line in printed.splitlines() if line.startswith('|')}
    # Seed 0 of random weights is the start of a run with this seed.
    assert cells['start - random'][:2] == ['1', '+0.0 [+0.0, +0.0]']
    assert cells['start'] == cells['random']
