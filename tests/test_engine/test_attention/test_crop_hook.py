"""ContrastiveCropHook: regions of all images, in time, in all workers."""

from pathlib import Path

import pytest
import torch
from tiny_runs import crop_hook, crop_pipeline, crop_runner, write_images

from mmmedmask.engine.hooks.transform_epoch import transforms_of


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('crops') / 'data')


@pytest.fixture(scope='module')
def whole_run(data, tmp_path_factory):
    runner, recorder = crop_runner(tmp_path_factory.mktemp('whole'), data)
    runner.train()
    return runner, recorder


def test_regions_are_those_of_single_images(whole_run):
    _, recorder = whole_run
    assert list(recorder.stores) == [1, 3]
    for epoch, regions in recorder.stores.items():
        # Kept with half precision.
        assert (regions - recorder.naive[epoch]).abs().max() < 6e-4
    first, second = recorder.stores.values()
    assert len({tuple(box) for box in first.tolist()}) > 3
    assert not torch.equal(first, second)


def test_crops_follow_the_regions(whole_run, data):
    """Uniform before, with the centre in the region afterwards."""
    runner, _ = whole_run
    dataset = runner.train_dataloader.dataset
    crop = next(one for one in transforms_of(dataset)
                if hasattr(one, 'share_regions'))
    info = dataset.get_data_info(4)
    load, *_ = dataset.pipeline.transforms
    region = crop.region(info['img_path'])
    centres = []
    for epoch in range(200):
        crop.set_epoch(epoch, 0)
        box = crop(load(dict(info)))['crop_box']
        centres.append([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
        # As far as the crop then lies in the image; 36 x 20 pixels.
        for axis, length in ((0, 36), (1, 20)):
            side = (box[axis + 2] - box[axis]) / 2
            low = max(region[axis], side) - 1 / length
            high = min(region[axis + 2], 1 - side) + 1 / length
            assert low <= centres[-1][axis] <= high or side > (high - low)
    crop.share_regions({}, torch.zeros(0, 4))
    assert crop.region(info['img_path']) is None
    crop.share_regions(
        {info['img_path']: 0}, torch.tensor([[0.4, 0.4, 0.4, 0.4]]))
    box = crop(load(dict(info)))['crop_box']
    assert box[0] <= 0.41
    assert box[2] >= 0.39


def test_views_and_epochs_draw_their_own_crops(data, tmp_path):
    """TransformEpochHook reaches transforms inside of MultiView."""
    runner, _ = crop_runner(tmp_path, data, epochs=1)
    runner.train()
    dataset = runner.train_dataloader.dataset
    crop, = (one for one in transforms_of(dataset)
             if hasattr(one, 'share_regions'))
    first, second = dataset[3]['inputs']
    assert not torch.equal(first, second)
    assert torch.equal(first, dataset[3]['inputs'][0])
    crop.set_epoch(1, runner.seed)
    assert not torch.equal(first, dataset[3]['inputs'][0])


def test_persistent_workers_see_new_regions(whole_run, data, tmp_path):
    runner, recorder = crop_runner(
        tmp_path, data, crop=dict(num_workers=1),
        loader=dict(num_workers=2, persistent_workers=True))
    runner.train()
    _, expected = whole_run
    assert len(recorder.losses) == 8
    assert recorder.losses == expected.losses


def test_resumed_run_goes_on_with_its_regions(whole_run, data, tmp_path):
    """Epoch 2 has the regions that were made before epoch 1."""
    whole, expected = whole_run
    runner, recorder = crop_runner(tmp_path, data, resume=True, load_from=str(
        Path(whole.work_dir) / 'epoch_2.pth'))
    runner.train()
    assert list(recorder.stores) == [3]
    assert recorder.losses == expected.losses[4:]
    assert torch.equal(recorder.stores[3], expected.stores[3])


def test_without_its_hook_nothing_is_lost(data, tmp_path):
    runner, recorder = crop_runner(tmp_path, data, crop=dict(begin=9))
    runner.train()
    assert recorder.stores == {}
    assert crop_hook(runner).regions.isnan().all()
    saved = torch.load(tmp_path / 'epoch_4.pth', weights_only=False)
    assert 'contrastive_crop_regions' not in saved


@pytest.mark.parametrize(('pipeline', 'extra', 'words'), [
    (crop_pipeline(), dict(transform_hook=False), 'TransformEpochHook'),
    (crop_pipeline()[::2], {}, 'no mmmedmask.ContrastiveCrop')])
def test_what_cannot_work_is_refused(data, tmp_path, pipeline, extra, words):
    runner, _ = crop_runner(tmp_path, data, pipeline=pipeline, **extra)
    with pytest.raises(ValueError, match=words):
        runner.train()
