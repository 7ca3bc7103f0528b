"""Seeded transforms draw for each view of MultiView anew."""

import copy

import numpy as np
import pytest
import torch
from mmpretrain.registry import TRANSFORMS

from mmmedmask.datasets.transforms import RandomResizedCrop
from mmmedmask.functional.randomness import per_sample_uniform, stream_seed

CROP = dict(type='mmmedmask.RandomResizedCrop', scale=24)
CONTENT_CROP = dict(type='mmmedmask.ContrastiveCrop', scale=24)
FLIP = dict(type='mmmedmask.RandomFlip')
SEED, EPOCH, INDEX = 5, 2, 7


def sample():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    return dict(img=image, sample_idx=INDEX, img_path='a.png')


@pytest.fixture
def streams(monkeypatch):
    """Numbers that crops are drawn from, with the streams that give them."""
    drawn = []
    draw = RandomResizedCrop.draw

    def note(self, results, count, stream=''):
        uniform = draw(self, results, count, stream)
        names = (f'{stream}{view}' for view in ('', ' 0', ' 1', ' 2'))
        drawn.extend(name for name in names if torch.equal(
            uniform, per_sample_uniform(stream_seed(SEED, name), EPOCH,
                                        [INDEX], count)))
        return uniform

    monkeypatch.setattr(RandomResizedCrop, 'draw', note)
    return drawn


def build(config):
    """A transform at an epoch, with those in it."""
    transform = TRANSFORMS.build(copy.deepcopy(config))
    for pipeline in getattr(transform, 'pipelines', [[transform]]):
        for part in pipeline:
            if hasattr(part, 'set_epoch'):
                part.set_epoch(EPOCH, SEED)
    return transform


@pytest.mark.parametrize(('num_views', 'pipelines'), [
    (3, [[CROP, FLIP]]), ([1, 1, 1], [[CROP], [CROP, FLIP], [CROP]]),
    ([1, 2], [[CROP], [CROP]])])
def test_each_view_has_a_stream_of_its_own(streams, num_views, pipelines):
    views = build(dict(type='MultiView', num_views=num_views,
                       transforms=pipelines))
    results = sample()
    got = views(results)
    assert streams == ['crop 0', 'crop 1', 'crop 2']
    first, second, third = got['img']
    assert not (first == second).all()
    assert not (second == third).all()
    # As before, nothing of the views but their pixels is left.
    assert got is results
    assert got.keys() == sample().keys()
    # The same again.
    again = views(sample())['img']
    assert all(map(np.array_equal, got['img'], again))


@pytest.mark.parametrize(('crop', 'stream'), [
    (CROP, 'crop'), (CONTENT_CROP, 'contrastive crop 0'),
    (dict(CONTENT_CROP, view=2), 'contrastive crop 2')])
def test_draws_without_views_are_as_ever(streams, crop, stream):
    build(crop)(sample())
    assert streams == [stream]


def test_content_crops_draw_as_when_each_said_its_view(streams):
    build(dict(type='MultiView', num_views=2, transforms=[[CONTENT_CROP]]))(
        sample())
    build(dict(type='MultiView', num_views=[1, 1], transforms=[
        [dict(CONTENT_CROP, view=view)] for view in (0, 1)]))(sample())
    assert streams == 2 * ['contrastive crop 0', 'contrastive crop 1']


def test_global_draws_are_as_ever():
    """mmpretrain's transforms are called in turn, on copies."""
    crop = dict(type='mmpretrain.RandomResizedCrop', scale=24)
    np.random.seed(0)
    got = build(dict(type='MultiView', num_views=2, transforms=[[crop]]))(
        sample())['img']
    np.random.seed(0)
    transform = build(crop)
    for view in got:
        np.testing.assert_array_equal(view, transform(sample())['img'])
