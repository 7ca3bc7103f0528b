"""AttentionMaskHook: the right map at the right time, and nothing else.

Checks 15 to 17 of the method (17 with processes is in
``test_mask_hook_processes.py``).
"""

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import load
from mmcv.transforms import BaseTransform
from mmengine.dataset import (
    BaseDataset,
    ClassBalancedDataset,
    Compose,
    ConcatDataset,
    RepeatDataset,
)
from mmengine.logging import MMLogger
from mmpretrain.datasets import KFoldDataset
from mmpretrain.structures import DataSample
from PIL import Image
from tiny_runs import (
    GRID,
    META_KEYS,
    SIZE,
    TRAIN_PIPELINE,
    WHOLE_PIPELINE,
    dataset,
    first_samples,
    mask_hook,
    mask_runner,
    msmae_model,
    naive_maps,
    write_images,
)
from torch.utils.data import Subset

from mmmedmask.datasets.image_io import ImageFileError
from mmmedmask.engine.attention import refresh, whole_images
from mmmedmask.engine.attention.mask_hook import check_flips, check_sample
from mmmedmask.engine.attention.refresh import combine_parts, is_refresh_epoch
from mmmedmask.engine.checkpoint.reading import read_checkpoint
from mmmedmask.registry import DATASETS, TRANSFORMS


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('data') / 'images_a')


@pytest.fixture(scope='module')
def whole_run(data, tmp_path_factory):
    """Four epochs without interruption, refreshed before 1 and 3."""
    return train(
        tmp_path_factory.mktemp('whole') / 'run', dataset(data), mask={})


@pytest.fixture
def warnings(monkeypatch):
    """What is logged as a warning."""
    seen = []
    monkeypatch.setattr(
        MMLogger, 'warning', lambda self, message, *args: seen.append(message))
    return seen


def train(*arguments, naive=True, **options):
    """Train a runner that records its maps; return both."""
    runner, recorder = mask_runner(*arguments, **options)
    if not naive:
        # Naive maps are those of a single, whole set.
        recorder.before_train_epoch = lambda runner: None
    runner.train()
    return runner, recorder


# Check 15.
def refresh_epochs(begin, interval, max_epochs):
    return [epoch for epoch in range(max_epochs)
            if is_refresh_epoch(epoch, begin, interval)]


@pytest.mark.parametrize(
    ('begin', 'interval', 'max_epochs'),
    # The first two are the paper's.
    [(40, 40, 300), (0, 20, 100), (5, 1, 8), (10, 5, 10), (0, 1, 5),
     (3, 4, 20), (7, 3, 8), (2, 9, 9)])
def test_schedules_against_counting(begin, interval, max_epochs):
    expected, upcoming = [], begin
    for epoch in range(max_epochs):
        if epoch == upcoming:
            expected.append(epoch)
            upcoming += interval
    assert refresh_epochs(begin, interval, max_epochs) == expected


def test_maps_are_made_on_time_from_the_weights_of_that_time(whole_run):
    runner, recorder = whole_run
    hook = mask_hook(runner)
    assert list(recorder.stores) == refresh_epochs(1, 2, 4) == [1, 3]
    assert hook.store.epoch == 3
    assert hook.refresh_seconds > 0
    for epoch, maps in recorder.stores.items():
        assert maps.shape == (7, *GRID)
        assert maps.dtype == torch.float16
        # Half precision: 2^-11 below 1.
        assert (maps - recorder.naive[epoch]).abs().max() < 6e-4
    # Maps of different images and times differ, and are not flat.
    assert (recorder.naive[1] - recorder.naive[3]).abs().max() > .02
    assert recorder.stores[1].flatten(1).std(dim=1).min() > .02
    assert torch.cdist(*[recorder.stores[1].float().flatten(1)] * 2).add(
        torch.eye(7)).min() > .1


def test_each_sample_gets_its_own_map(whole_run, data):
    """From the first refresh on, and nothing before."""
    runner, recorder = whole_run
    keys = mask_hook(runner).store.images.keys
    assert keys == tuple(f'images/{number}.png' for number in range(7))
    # Seven images, in batches of three.
    assert len(recorder.attached) == 4 * 7
    for epoch, path, attached in recorder.attached:
        if epoch == 0:
            assert attached is None
            continue
        row = keys.index(Path(path).relative_to(data).as_posix())
        maps = recorder.stores[1 if epoch < 3 else 3]
        assert torch.equal(attached, maps[row])


def test_the_maps_change_what_is_trained(whole_run, data, tmp_path):
    """The losses part at the first refresh, not before."""
    _, recorder = train(tmp_path, dataset(data), mask=dict(begin=4))
    _, with_maps = whole_run
    assert recorder.losses[:3] == with_maps.losses[:3]
    assert not set(recorder.losses[3:]) & set(with_maps.losses[3:])


def test_look_up_gives_copies(whole_run, data):
    runner, _ = whole_run
    store = mask_hook(runner).store
    path = str(data / 'images' / '3.png')
    one = store.lookup(path)
    assert torch.equal(one, store.values[3])
    one.zero_()
    store.gather([path]).zero_()
    assert store.values[3].any()
    assert store.lookup('images/99.png') is None
    with pytest.raises(ValueError, match=r'images/99\.png has no attention '
                       'map: it is not among the 7 images'):
        store.gather([path, 'images/99.png'])


@TRANSFORMS.register_module(force=True)
class DrawFromEverything(BaseTransform):
    """A transform that uses up global random numbers."""

    def transform(self, results):
        random.random()
        np.random.rand()
        torch.rand(1)
        return results


@pytest.mark.parametrize('num_workers', [0, 1])
def test_a_refresh_leaves_no_trace(data, tmp_path, num_workers):
    """Random states, modes, weights, the state dict's names."""
    model = msmae_model(drop_rate=.2)
    draw = dict(type='mmmedmask.DrawFromEverything')
    runner, _ = train(
        tmp_path, dataset(data, pipeline=[draw, *TRAIN_PIPELINE]), epochs=1,
        model=model,
        mask=dict(num_workers=num_workers, pipeline=[draw, *WHOLE_PIPELINE]))
    hook = mask_hook(runner)
    assert not hook.store.is_filled
    model.train()
    model.backbone.layers[0].eval()
    modes = [module.training for module in model.modules()]
    weights = {name: value.clone()
               for name, value in model.state_dict().items()}
    states = (random.getstate(), np.random.get_state()[1].copy(),
              torch.get_rng_state())
    hook.before_train(runner)  # looks at a sample
    hook.before_train_epoch(runner)  # the epoch after the last is 1
    assert hook.store.epoch == 1
    assert random.getstate() == states[0]
    assert (np.random.get_state()[1] == states[1]).all()
    assert torch.equal(torch.get_rng_state(), states[2])
    assert [module.training for module in model.modules()] == modes
    after = model.state_dict()
    assert list(after) == list(weights)
    assert all(torch.equal(after[name], weights[name]) for name in weights)
    # Attached maps take part in training: no inference tensors.
    assert not hook.store.values.is_inference()
    # Nor is there a trace of training, dropout, in the maps.
    assert (hook.store.values - naive_maps(runner)).abs().max() < 6e-4


# Check 16.
def assert_same_maps(attached, expected):
    """The same samples had the same maps, or none, at the same times."""
    for (*place, one), (*other_place, other) in zip(attached, expected,
                                                    strict=True):
        assert place == other_place
        assert one is other is None or torch.equal(one, other)


@pytest.mark.parametrize('save_state', [True, 'file'])
@pytest.mark.parametrize('epochs', [1, 2, 3])
def test_a_resumed_run_is_the_uninterrupted_one(
        whole_run, data, tmp_path, save_state, epochs, warnings):
    """On a refresh epoch (1 and 3), and between two (2)."""
    whole, expected = whole_run
    source = Path(whole.work_dir)
    if save_state == 'file':
        source = tmp_path / 'first'
        train(source, dataset(data), epochs=epochs,
              mask=dict(save_state='file'))
        warnings.clear()
    runner, recorder = train(
        tmp_path / 'second', dataset(data), mask=dict(save_state=save_state),
        load_from=str(source / f'epoch_{epochs}.pth'), resume=True)
    assert list(recorder.stores) == [
        epoch for epoch in (1, 3) if epoch >= epochs]
    assert recorder.losses == expected.losses[3 * epochs:]
    assert torch.equal(mask_hook(runner).store.values,
                       mask_hook(whole).store.values)
    assert_same_maps(recorder.attached, expected.attached[7 * epochs:])
    for one, other in zip(runner.model.parameters(),
                          whole.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not any('ttention' in message for message in warnings)
    files = {file.name for file in (tmp_path / 'second').glob('att*')}
    # Beside the second run's checkpoints are the maps that they refer to.
    assert files == ({f'attention_masks_epoch_{epoch}.pth'
                      for epoch in ((3, ) if epochs == 3 else (1, 3))}
                     if save_state == 'file' else set())


def test_a_checkpoint_holds_plain_data(whole_run):
    """Readable without unpickling objects; none before the first refresh."""
    whole, recorder = whole_run
    folder = Path(whole.work_dir)
    assert 'attention_masks' not in read_checkpoint(folder / 'epoch_1.pth')
    state = read_checkpoint(folder / 'epoch_3.pth')['attention_masks']
    assert set(state) == {'version', 'fingerprint', 'epoch', 'keys', 'maps'}
    assert state['version'] == 1
    assert state['epoch'] == 1
    assert state['keys'] == [f'images/{number}.png' for number in range(7)]
    assert state['fingerprint'] == mask_hook(whole).store.images.fingerprint
    assert state['maps'].dtype == torch.float16
    assert torch.equal(state['maps'], recorder.stores[1])


def test_a_published_model_has_no_maps(whole_run, tmp_path):
    tool = load('model_converters/publish_model.py')
    whole, _ = whole_run
    source = Path(whole.work_dir) / 'epoch_4.pth'
    assert b'images/3.png' in source.read_bytes()
    published = tool.publish_model(source, tmp_path / 'msmae.pth')
    checkpoint = torch.load(published, weights_only=True)
    assert set(checkpoint) == {'state_dict', 'meta'}
    assert not any('attention_m' in name for name in checkpoint['state_dict'])
    assert b'images/3.png' not in published.read_bytes()


def test_without_saved_maps_a_resumed_run_makes_them_at_once(
        whole_run, data, tmp_path, warnings):
    whole, _ = whole_run
    checkpoint = torch.load(
        Path(whole.work_dir) / 'epoch_2.pth', weights_only=False)
    del checkpoint['attention_masks']
    torch.save(checkpoint, tmp_path / 'bare.pth')
    _, recorder = train(
        tmp_path / 'run', dataset(data), mask=dict(save_state=False),
        load_from=str(tmp_path / 'bare.pth'), resume=True)
    assert list(recorder.stores) == [2, 3]
    assert any('the checkpoint has none' in message for message in warnings)
    saved = read_checkpoint(tmp_path / 'run' / 'epoch_3.pth')
    assert 'attention_masks' not in saved


def test_a_later_begin_counts_for_a_resumed_run(whole_run, data, tmp_path):
    """Its maps wait until then, and are new then."""
    whole, _ = whole_run
    _, recorder = train(
        tmp_path, dataset(data), mask=dict(begin=3), resume=True,
        load_from=str(Path(whole.work_dir) / 'epoch_2.pth'))
    assert list(recorder.stores) == [3]
    assert [one is None for _, _, one in recorder.attached] == [
        True] * 7 + [False] * 7


def test_maps_of_other_images_are_ignored(whole_run, tmp_path, warnings):
    whole, _ = whole_run
    other = write_images(tmp_path / 'other', count=6, seed=1)
    _, recorder = train(
        tmp_path / 'run', dataset(other), mask={},
        load_from=str(Path(whole.work_dir) / 'epoch_2.pth'), resume=True)
    assert list(recorder.stores) == [2, 3]
    assert any('another set of images (7 there, 6 here' in message
               for message in warnings)


@pytest.mark.parametrize('begin', [0, 1])
def test_maps_are_not_taken_from_load_from(
        whole_run, data, tmp_path, begin, warnings):
    """Weights are, but a new training starts with its own schedule."""
    whole, _ = whole_run
    runner, recorder = train(
        tmp_path, dataset(data), mask=dict(begin=begin), epochs=1,
        load_from=str(Path(whole.work_dir) / 'epoch_4.pth'))
    assert list(recorder.stores) == [0][begin:]
    assert mask_hook(runner).store.is_filled == (begin == 0)
    assert any('only a resumed run' in message for message in warnings)
    assert all((one is None) == (begin == 1)
               for _, _, one in recorder.attached)


@pytest.mark.parametrize(('damage', 'message'), [
    (lambda file: file.unlink(), 'is missing'),
    (lambda file: file.write_bytes(file.read_bytes()[:900]), 'cannot be read'),
    (lambda file: torch.save(
        torch.load(file, weights_only=True) | dict(epoch=7), file),
     'epoch 7, not 1'),
    (lambda file: torch.save(
        torch.load(file, weights_only=True) | dict(version=9), file),
     'version 9')])
def test_a_lost_side_file_is_reported(
        data, tmp_path_factory, side_file_run, damage, message, tmp_path,
        warnings):
    source = shutil.copytree(side_file_run, tmp_path / 'source')
    file, = source.glob('attention_masks_epoch_*.pth')
    damage(file)
    runner, _ = mask_runner(
        tmp_path / 'run', dataset(data), mask=dict(save_state='file'),
        load_from=str(source / 'epoch_2.pth'), resume=True)
    runner.load_or_resume()
    runner.train_loop.runner.call_hook('before_train')
    assert not mask_hook(runner).store.is_filled
    assert any(message in warning for warning in warnings), warnings


@pytest.fixture(scope='module')
def side_file_run(data, tmp_path_factory):
    """Two epochs whose maps are beside the checkpoints."""
    folder = tmp_path_factory.mktemp('side') / 'run'
    train(folder, dataset(data), epochs=2, mask=dict(save_state='file'))
    state = read_checkpoint(folder / 'epoch_2.pth')['attention_masks']
    assert set(state) == {'version', 'fingerprint', 'epoch', 'file'}
    return folder


def test_auto_resume_finds_the_side_file(side_file_run, data, warnings):
    _, recorder = train(side_file_run, dataset(data), epochs=3,
                        mask=dict(save_state='file'), resume=True)
    assert recorder.stores == {}
    assert recorder.attached[0][2] is not None
    assert not any('ttention' in message for message in warnings)


# Check 17, in one process.
def test_persistent_workers_use_the_new_maps(whole_run, data, tmp_path):
    """Workers that never start anew, also for the refreshes' own loader."""
    _, recorder = train(tmp_path, dataset(data), mask=dict(num_workers=1),
                        loader=dict(num_workers=2, persistent_workers=True))
    _, expected = whole_run
    assert recorder.losses == expected.losses
    assert list(recorder.stores) == [1, 3]
    assert_same_maps(recorder.attached, expected.attached)


@pytest.fixture(scope='module')
def second_data(tmp_path_factory):
    """Other images under the same names."""
    return write_images(
        tmp_path_factory.mktemp('data') / 'images_b', count=4, seed=5)


def built(root, **arguments):
    return DATASETS.build(dataset(root, **arguments))


def test_equal_names_in_two_sets_are_kept_apart(data, second_data, tmp_path):
    runner, recorder = train(
        tmp_path, dict(type='ConcatDataset',
                       datasets=[dataset(data), dataset(second_data)]),
        epochs=1, mask=dict(begin=0, batch_size=4), naive=False)
    store = mask_hook(runner).store
    assert store.images.keys[6:8] == ('0/images/6.png', '1/images/0.png')
    assert len(store) == len(store.values) == 11
    seen = {path: one for _, path, one in recorder.attached}
    assert len(seen) == 11
    for path, one in seen.items():
        number = '0' if path.startswith(str(data)) else '1'
        row = store.images.keys.index(f'{number}/images/{Path(path).name}')
        assert torch.equal(one, store.values[row])
    assert not torch.equal(seen[str(data / 'images' / '0.png')],
                           seen[str(second_data / 'images' / '0.png')])


class Categories(BaseDataset):
    """Five files of two categories, of which the first is rare."""

    def load_data_list(self):
        return [dict(img_path=f'{self.data_root}/{number}.png')
                for number in range(5)]

    def get_cat_ids(self, idx):
        return [int(idx > 0)]


def categories(**arguments):
    return Categories(data_root='/data', serialize_data=False, **arguments)


def names(dataset):
    return [Path(source.dataset.get_data_info(source.index)['img_path']).stem
            for source in whole_images.list_sources(dataset)]


def test_wrappers_are_looked_through(data):
    """Sources are in the order of the data set, with its repeats."""
    plain = categories()
    assert names(plain) == list('01234')
    assert names(categories(indices=[3, 1])) == ['3', '1']
    assert names(RepeatDataset(plain, 2)) == list('0123401234')
    assert names(Subset(plain, [4, 0, 0])) == list('400')
    assert names(Subset(RepeatDataset(plain, 2), [9, 5])) == list('40')
    balanced = ClassBalancedDataset(plain, oversample_thr=.8)
    assert names(balanced) == list('001234')
    assert names(Subset(balanced, [1, 2])) == list('01')
    assert names(Subset(ConcatDataset([plain, plain]), [7, 1])) == list('21')
    # num_batch_per_epoch takes the first samples.
    assert names(first_samples(plain, 3)) == list('012')
    assert names(first_samples(RepeatDataset(plain, 2), 7)) == list(
        '0123401')
    assert names(first_samples(ConcatDataset([plain, plain]), 6)) == list(
        '012340')
    for test_mode, fold in ((False, '023456'), (True, '1')):
        assert names(KFoldDataset(dataset(data), fold=1, num_splits=7,
                                  test_mode=test_mode)) == list(fold)


@pytest.mark.parametrize('wrap', [
    lambda data: data, lambda data: RepeatDataset(data, 3),
    lambda data: ConcatDataset([data, categories()]),
    lambda data: Subset(RepeatDataset(data, 2), [3, 5, 1, 7, 4, 3, 6])])
def test_each_file_counts_once(wrap):
    index = whole_images.ImageIndex(wrap(categories()))
    assert index.keys == tuple(f'{number}.png' for number in range(5))
    assert [index.rows.get(f'/data/{number}.png')
            for number in range(5)] == list(range(5))
    assert index.rows.get('/data/9.png') is None


def test_the_fingerprint_is_that_of_the_relative_paths(data, tmp_path):
    """A moved folder and another order are the same set; a subset is not."""
    moved = shutil.copytree(data, tmp_path / 'moved')

    def fingerprint(dataset):
        return whole_images.ImageIndex(dataset).fingerprint

    one = fingerprint(built(data))
    assert fingerprint(built(moved)) == one
    assert fingerprint(built(data, indices=[6, 5, 4, 3, 2, 1, 0])) == one
    assert fingerprint(built(data, indices=6)) != one
    folders = [str(data / 'images'), str(moved / 'images')]
    single, double = (
        DATASETS.build(dict(
            type='mmmedmask.TileFolder', data_root=roots,
            serialize_data=False)) for roots in (folders[:1], folders))
    assert fingerprint(single) != one
    assert whole_images.ImageIndex(double).keys[::7] == ('0/0.png', '1/0.png')


def test_paths_of_other_spelling_and_outside_the_root():
    outside = f'{os.sep}outside/a.png'

    class Mixed(BaseDataset):
        def load_data_list(self):
            return [dict(img_path=path) for path in (
                'set/a.png', './set/b/../c.png', outside,
                's3://bucket/d.png')]

    index = whole_images.ImageIndex(
        Mixed(data_root='set/', serialize_data=False))
    assert index.keys == (outside, 'a.png', 'c.png', 's3://bucket/d.png')
    assert index.rows.get('./set/b/../c.png') == 2


def test_data_sets_that_cannot_be_listed():
    with pytest.raises(ValueError, match='list.*TorchDataset|get_data_info'):
        whole_images.list_sources([1, 2])
    mixing = Subset(categories(), [0])
    mixing.pipeline = []
    with pytest.raises(ValueError, match='Subset'):
        whole_images.list_sources(mixing)
    with pytest.raises(ValueError, match='no images'):
        whole_images.ImageIndex(Subset(categories(), []))

    class InMemory(BaseDataset):
        def load_data_list(self):
            return [dict(img=np.zeros((2, 2, 3)))]

    with pytest.raises(ValueError, match=r"img_path.*\['img', 'sample_idx'"):
        whole_images.ImageIndex(InMemory(serialize_data=False))


def test_files_that_are_skipped_have_no_map(data, tmp_path):
    """An unreadable file does not stop a refresh if training skips it."""
    root = shutil.copytree(data, tmp_path / 'data')
    (root / 'images' / '2.png').write_bytes(b'broken')
    runner, recorder = train(tmp_path / 'run', dataset(root, on_error='skip'),
                             epochs=1, mask=dict(begin=0), naive=False)
    store = mask_hook(runner).store
    assert store.values.isnan().flatten(1).any(dim=1).nonzero().tolist() == [
        [2]]
    assert store.lookup(str(root / 'images' / '2.png')) is None
    with pytest.raises(ValueError, match=r'2\.png.*could not be read'):
        store.gather([str(root / 'images' / '2.png')])
    assert len(recorder.attached) == 7
    assert all(one.isfinite().all() for _, _, one in recorder.attached)
    # A subset does not read the broken one.
    train(tmp_path / 'strict', dataset(root, indices=[0, 1, 3]), epochs=1,
          mask=dict(begin=0), naive=False)
    with pytest.raises(ImageFileError, match=r'2\.png'):
        train(tmp_path / 'raise', dataset(root), epochs=1, mask=dict(begin=0))


def test_maps_under_bfloat16(data, tmp_path, whole_run):
    """The autocast of training is used, and the maps are as good."""
    _, recorder = train(
        tmp_path, dataset(data), epochs=2, mask=dict(begin=0, interval=1),
        optim_wrapper=dict(type='mmmedmask.Bfloat16OptimWrapper',
                           optimizer=dict(type='SGD', lr=.2)))
    for epoch in (0, 1):
        # Eight bits; the naive maps are without autocast.
        difference = recorder.stores[epoch] - recorder.naive[epoch]
        assert 6e-4 < difference.abs().max() < .1
    assert np.isfinite(recorder.losses).all()


def test_maps_are_those_of_the_trained_model(whole_run, data, tmp_path):
    """EMAHook changes neither the maps nor the losses."""
    runner, recorder = train(tmp_path, dataset(data), mask={},
                             hooks=[dict(type='EMAHook', momentum=.01)])
    _, expected = whole_run
    assert recorder.losses == expected.losses
    for epoch in (1, 3):
        assert torch.equal(recorder.stores[epoch], expected.stores[epoch])
    ema, = (hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook')
    assert not any('attention_m' in name
                   for name in ema.ema_model.state_dict())


def without(key):
    return [*TRAIN_PIPELINE[:3], dict(type='mmmedmask.PackTile', meta_keys=[
        name for name in META_KEYS if name != key])]


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(train_cfg=dict(by_epoch=False, max_iters=4)),
     'EpochBasedTrainLoop, got IterBasedTrainLoop'),
    (dict(transform_hook=False), 'RandomResizedCrop.*TransformEpochHook'),
    (dict(pipeline=without('crop_box')), 'crop_box.*RandomResizedCrop'),
    (dict(pipeline=without('img_path')), "img_path.*'img_path'"),
    (dict(pipeline=without('flip')), 'no flip, .*RandomFlip'),
    *((dict(pipeline=[
        *TRAIN_PIPELINE[:2], flip, without('flip_direction')[3]]),
       'no flip_direction, .*Random') for flip in (
           # The first sample is mirrored, or a later one may be.
           TRAIN_PIPELINE[2], dict(type='RandomFlip', prob=1e-9))),
    (dict(pipeline=[*TRAIN_PIPELINE[:3], dict(type='RandomFlip', prob=.5),
                    TRAIN_PIPELINE[3]]), 'forgets .*mmmedmask.RandomFlip'),
    *((dict(pipeline=[*TRAIN_PIPELINE[:3], step, TRAIN_PIPELINE[3]]),
       f'{step["type"].rpartition("mmmedmask.")[2].rpartition("/")[2]}.* '
       'use mmmedmask.RandomResizedCrop') for step in (
           dict(type='mmmedmask.RandomRotate90'),
           dict(type='Translate', magnitude=.5),
           dict(type='RandomCrop', crop_size=SIZE, padding=8),
           dict(type='torchvision/RandomRotation', degrees=9),
           dict(type='torchvision/RandAugment'),
           dict(type='Rotate', angle=90.))),
    (dict(pipeline=TRAIN_PIPELINE[:3]), 'PackTile')])
def test_trainings_that_do_not_fit(data, tmp_path, changes, message):
    changes = dict(changes)
    pipeline = changes.pop('pipeline', TRAIN_PIPELINE)
    with pytest.raises(ValueError, match=message):
        train(tmp_path, dataset(data, pipeline), mask=dict(begin=0), **changes)


def test_flips_count_where_an_image_meets_both():
    own, other = (dict(type=kind, prob=.5) for kind in (
        'mmmedmask.RandomFlip', 'RandomFlip'))
    either = dict(type='RandomChoice', transforms=[[other], [other, own]])
    for pipeline in ([other, own], [either], [own], []):
        assert check_flips(Compose(pipeline)) == bool(pipeline)
    for pipeline in ([own, either], [either, other]):
        with pytest.raises(ValueError, match='forgets that one'):
            check_flips(Compose(pipeline))


def test_samples_that_are_not_mirrored_need_no_direction():
    sample = DataSample()
    sample.set_metainfo(dict(img_path='a', crop_box=(0, 0, 1, 1), flip=False))
    check_sample(sample)
    sample.set_metainfo(dict(flip=True))
    with pytest.raises(ValueError, match='no flip_direction'):
        check_sample(sample)


def test_models_that_do_not_fit(data, tmp_path):
    linear, mixed, diverged = torch.nn.Linear(2, 2), *(
        msmae_model() for _ in range(2))
    linear.train_step = None
    mixed.data_preprocessor.batch_augments = torch.nn.Identity()
    maps_of = diverged.attention_maps
    diverged.attention_maps = lambda inputs: maps_of(inputs) * torch.nan
    for model, message in (
            (linear, 'Linear has no method attention_m'), (mixed, 'Mixup'),
            (diverged, r'7 of 7.*images/0\.png.*diverged')):
        with pytest.raises(ValueError, match=message):
            train(tmp_path, dataset(data), mask=dict(begin=0, batch_size=7),
                  model=model)


@pytest.mark.parametrize(('pipeline', 'message'), [
    ([WHOLE_PIPELINE[0], dict(type='mmmedmask.RandomResizedCrop', scale=SIZE),
      WHOLE_PIPELINE[2]], 'neither crop.*RandomResizedCrop; use'),
    ([*WHOLE_PIPELINE[:2], dict(type='mmmedmask.RandomFlip', prob=1.),
      WHOLE_PIPELINE[2]], 'neither crop nor mirror.*RandomFlip'),
    ([WHOLE_PIPELINE[0], dict(type='CenterCrop', crop_size=SIZE),
      WHOLE_PIPELINE[2]], 'neither crop nor mirror.*CenterCrop'),
    (WHOLE_PIPELINE[:2], 'must end with.*PackTile.*dict for'),
    ([WHOLE_PIPELINE[0],
      dict(type='mmmedmask.PackTile', meta_keys=['img_path'])],
     r'one size.*\(3, 16, 24\).*\(3, 20, 36\).*ResizeImage')])
@pytest.mark.parametrize('batch_size', [1, 7])
def test_pipelines_that_do_not_show_whole_images(
        data, tmp_path, pipeline, message, batch_size):
    root = shutil.copytree(data, tmp_path / 'data')
    file = root / 'images' / '0.png'
    Image.open(file).resize(SIZE[::-1]).save(file)
    with pytest.raises(ValueError, match=message):
        train(tmp_path / 'run', dataset(root), epochs=1, mask=dict(
            begin=0, pipeline=pipeline, batch_size=batch_size))


def test_wrappers_that_spread_the_weights_are_refused(data, tmp_path):
    runner, _ = mask_runner(tmp_path, dataset(data), mask=dict(begin=0))
    runner.model = torch.nn.DataParallel(runner.model)
    runner.model.train_step = None
    with pytest.raises(ValueError, match='not with DataParallel'):
        runner.train()


def test_repeats_within_an_epoch_are_reported(data, tmp_path, warnings):
    """They would be the same crop: draws follow epoch and sample."""
    runner, recorder = train(
        tmp_path, dict(type='RepeatDataset', dataset=dataset(data), times=2),
        epochs=1, mask=dict(begin=0), naive=False)
    assert sum('RepeatDataset: an image that comes several times' in message
               for message in warnings) == 1
    assert len(recorder.attached) == 14
    for _, path, one in recorder.attached:
        assert torch.equal(one, mask_hook(runner).store.lookup(path))


def test_a_schedule_that_never_begins_is_reported(data, tmp_path, warnings):
    train(tmp_path, dataset(data), epochs=1, mask=dict(begin=5))
    assert any('begin 5 is not below max_epochs 1' in message
               for message in warnings)


def test_parts_are_put_in_their_rows_and_gaps_are_nan(monkeypatch):
    gathered = []

    def gather(content):
        gathered.append(content)
        return [content]

    monkeypatch.setattr(refresh, 'all_gather_object', gather)
    monkeypatch.setattr(refresh, 'GATHERED_ROWS', 2)
    maps = torch.tensor([.5, .25]).half()[:, None, None].expand(2, 2, 3)
    combined, present = combine_parts([3, 0], [maps[:1], maps[1:]], 5)
    assert combined.dtype == torch.float16
    assert combined.shape == (5, 2, 3)
    assert combined[0].unique().tolist() == [.25]
    assert combined[3].unique().tolist() == [.5]
    assert present.tolist() == [True, False, False, True, False]
    assert combined[~present].isnan().all()
    # Rows 0 and 1, 2 and 3, 4: no more at a time.
    assert [rows.tolist() for rows, _ in gathered[1:]] == [[0], [3], []]


def test_collation_leaves_out_what_is_skipped():
    item = dict(inputs=torch.zeros(3, 2, 2), data_samples=None)
    rows, batch = whole_images.collate_whole([(4, item), (5, None), (6, item)])
    assert rows == [4, 6]
    assert len(batch['inputs']) == 2
    assert whole_images.collate_whole([(5, None)]) == ([], None)
