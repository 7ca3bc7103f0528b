"""TransformEpochHook asks for epochs only where a transform draws by them."""

import pytest
from tiny_runs import PACK, Siamese, dataset, image_runner, write_images

LOAD = dict(type='mmmedmask.LoadTile')


def iterations(work_dir, crop):
    """A training of two views that counts iterations, as MoCo's."""
    data = dataset(write_images(work_dir / 'data'), [
        LOAD, dict(type='MultiView', num_views=2, transforms=[
            [dict(type=crop, scale=32)]]), PACK])
    return image_runner(
        work_dir, Siamese(), data,
        [dict(type='mmmedmask.TransformEpochHook')],
        loader=dict(sampler=dict(type='InfiniteSampler'),
                    collate_fn=dict(type='default_collate')),
        train_cfg=dict(by_epoch=False, max_iters=3))


def test_other_transforms_can_be_trained_by_iterations(tmp_path):
    runner = iterations(tmp_path, 'RandomResizedCrop')
    runner.train()
    assert runner.iter == 3


def test_transforms_that_draw_by_epochs_are_named(tmp_path):
    with pytest.raises(ValueError, match=(
            'RandomResizedCrop draws.* IterBasedTrainLoop counts none: set '
            r'train_cfg=dict\(by_epoch=True, max_epochs=.*mmpretrain')):
        iterations(tmp_path, 'mmmedmask.RandomResizedCrop').train()
