"""Views, masks and colours of batches, from the loader to the model.

Checks 7, 8 and 16 of CMIM; what a sample gets depends on it alone.
"""

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.logging import MessageHub
from mmpretrain.structures import DataSample
from PIL import Image
from refusals import refuses
from torch.utils.data import DataLoader

from mmmedmask.datasets import TileFolder, collate_tiles
from mmmedmask.datasets.transforms import CMIMTwoViews, LoadTile, PackTile
from mmmedmask.functional.randomness import per_sample_uniform
from mmmedmask.functional.views import (
    VIEW_DRAWS,
    ViewFamily,
    draw_view,
    split_view_draws,
)
from mmmedmask.models.cmim import CMIMDataPreprocessor

from .tiny import batch, draw_tile

ROTATED = dict(max_angle=180., max_shear=20., vertical_flip_prob=.5)


def build(**changes):
    return CMIMDataPreprocessor(
        **{**dict(view_size=64, patch_size=16, seed=3), **changes})


def inputs(preprocessor, indices, **tile):
    return preprocessor(batch(indices, **tile), training=True)['inputs']


def assert_equal(got, want, place=slice(None), index=slice(None)):
    """All tensors of inputs, or those of one sample, bit for bit."""
    for name, value in got.items():
        if name != 'separable':
            assert value.dtype == torch.float32
            assert torch.equal(value[place], want[name][index]), name


def crops_of(preprocessor, indices, image_size):
    """The boxes that samples get, drawn by themselves."""
    uniform = per_sample_uniform(preprocessor.seed, 0, indices, VIEW_DRAWS)
    return [draw_view(draws, image_size, preprocessor.view_size,
                      preprocessor.family)[0]
            for draws in split_view_draws(uniform)[:2]]


@pytest.mark.parametrize(('ratio', 'masked'), [(.3, 2), (.7, 4)])
def test_shapes_and_types(ratio, masked):
    """Check 8: the ratio is exact in every image."""
    got = inputs(build(view_size=(64, 96), patch_size=32, mask_ratio=ratio),
                 [4, 5, 6], size=(64, 80))
    assert got['mask'].sum(dim=(1, 2, 3)).tolist() == [masked] * 3
    assert got.pop('separable') is True
    assert {name: tuple(value.shape) for name, value in got.items()} == dict(
        query=(3, 3, 64, 96), key=(3, 3, 64, 96), mask=(3, 1, 2, 3),
        theta_query=(3, 3, 3), theta_key=(3, 3, 3))
    assert {value.dtype for value in got.values()} == {torch.float32}


@pytest.mark.parametrize('flip_prob', [0., 1.])
@pytest.mark.parametrize('size', [(48, 64), (150, 200)])
def test_views_are_pillows_crops(size, flip_prob):
    """Check 7: theta reproduces what Pillow cuts, resizes and flips."""
    views = build(views=dict(flip_prob=flip_prob), mean=[0] * 3, std=[1] * 3)
    got = inputs(views, range(6), size=size)
    for name, crops in zip(('query', 'key'), crops_of(views, range(6), size),
                           strict=True):
        for index in range(6):
            tile = draw_tile(index, size).permute(1, 2, 0).numpy()
            top, left, height, width = (int(side[index]) for side in crops[:4])
            want = Image.fromarray(tile).resize(
                (64, 64), Image.Resampling.BILINEAR,
                box=(left, top, left + width, top + height))
            want = torch.from_numpy(np.array(want)).permute(2, 0, 1)
            if flip_prob:
                want = want.flip(-1)
            # Pillow rounds to 8 bits after each axis.
            assert (got[name][index] - want).abs().max() < 1.1


def test_loader_path_makes_the_same_views():
    """Check 7: the CPU transform and the batched path, the same numbers."""
    views = build(views=dict(scale=(.3, 1.)))
    transform = CMIMTwoViews(view_size=64, views=dict(scale=(.3, 1.)))
    loaded = build(view_source='loader')
    samples = []
    uniform = per_sample_uniform(3, 0, range(4), VIEW_DRAWS)
    for index in range(4):
        results = dict(img=draw_tile(index, (60, 70)).permute(1, 2, 0).numpy(),
                       sample_idx=index)
        results = transform.make_views(results, uniform[index:index + 1])
        samples.append((torch.from_numpy(
            results['img']).permute(0, 3, 1, 2), DataSample(metainfo={
                key: results[key]
                for key in ('sample_idx', 'theta_query', 'theta_key')})))
    pairs, data_samples = map(list, zip(*samples, strict=True))
    got = loaded(
        dict(inputs=pairs, data_samples=data_samples), training=True)['inputs']
    want = inputs(views, range(4), size=(60, 70))
    for name in ('theta_query', 'theta_key', 'mask'):
        assert torch.equal(got[name], want[name])
    assert got['separable'] is True
    for name in ('query', 'key'):
        difference = (got[name] - want[name]).abs() * views.std
        assert difference.max() < 1.1


@pytest.mark.parametrize('color_impl', ['torchvision', 'kornia'])
@pytest.mark.parametrize('views', [dict(), ROTATED])
def test_color_acts_on_the_query_alone(color_impl, views):
    """Check 16: the key has the pixels of the same view without colour."""
    plain = inputs(build(views=views), range(6))
    got = inputs(build(views=views, color=dict(), color_impl=color_impl),
                 range(6))
    for name in ('key', 'mask', 'theta_query', 'theta_key'):
        assert torch.equal(got[name], plain[name])
    difference = (got['query'] - plain['query']).abs().amax(dim=(1, 2, 3))
    assert (difference > .1).sum() >= 4


def test_color_is_applied_to_the_stored_range():
    """Brightness by a factor is a factor of what is stored."""
    color = dict(brightness=.4, contrast=0, saturation=0, hue=0,
                 jitter_prob=1, gray_prob=0, blur_prob=0)
    plain = inputs(build(mean=[0] * 3, std=[1] * 3), range(4))
    got = inputs(build(mean=[0] * 3, std=[1] * 3, color=color), range(4))
    for index in range(4):
        # Neither clipped nor so dark that rounding to 8 bits shows.
        middle = (plain['query'][index] - 105).abs() < 45
        ratio = (got['query'][index] / plain['query'][index])[middle]
        assert ratio.std() < .02
        assert .59 < ratio.mean() < 1.41
        assert abs(ratio.mean() - 1) > .01


@pytest.mark.parametrize('color', [None, dict()])
def test_same_view_is_one_view(color):
    """The ablations "emb. masking" (no colour) and colour-only."""
    got = inputs(build(same_view=True, color=color), range(4))
    assert torch.equal(got['theta_query'], got['theta_key'])
    assert torch.equal(got['query'], got['key']) == (color is None)
    # They are those of the query otherwise, where the key has its own.
    two = inputs(build(), range(4))
    assert torch.equal(got['theta_query'], two['theta_query'])
    assert not torch.equal(two['theta_query'], two['theta_key'])


@pytest.mark.parametrize('changes', [
    dict(color=dict()),
    dict(color=dict(), color_impl='kornia'),
    dict(views=ROTATED),
    dict(same_view=True, color=dict()),
], ids=['torchvision', 'kornia', 'rotated', 'same-view'])
@pytest.mark.parametrize('size', [(64, 64), (96, 80), (170, 150)])
def test_a_sample_does_not_depend_on_its_batch(changes, size):
    """Bit for bit: other mates, another place, alone."""
    views = build(**changes)
    together = inputs(views, range(8), size=size)
    for indices in ([5], [7, 0, 5], [5, 2, 3, 1]):
        assert_equal(inputs(views, indices, size=size), together,
                     indices.index(5), 5)


def test_tiles_of_mixed_sizes():
    views = build(color=dict())
    sizes = [(64, 64), (96, 80), (40, 130), (96, 80)]
    mixed = dict(inputs=[], data_samples=[])
    for index, size in enumerate(sizes):
        one = batch([index], size=size)
        mixed['inputs'] += one['inputs']
        mixed['data_samples'] += one['data_samples']
    got = views(mixed, training=True)['inputs']
    for index, size in enumerate(sizes):
        assert_equal(inputs(views, [index], size=size), got, 0, index)


def test_step_and_seed_change_what_is_drawn():
    first = inputs(build(), [0, 1])
    hub = MessageHub.get_current_instance()
    hub.update_info('iter', 1)
    second = inputs(build(), [0, 1])
    hub.update_info('iter', 0)
    assert torch.equal(inputs(build(), [0, 1])['query'], first['query'])
    other_seed = inputs(build(seed=4), [0, 1])
    for other in (second, other_seed):
        for name in ('theta_query', 'theta_key', 'query', 'mask'):
            assert not torch.equal(other[name], first[name])
    hub.update_info('seed', 4)
    of_the_run = inputs(build(seed=None), [0, 1])
    assert torch.equal(of_the_run['query'], other_seed['query'])


def test_number_of_workers_does_not_matter(tmp_path):
    """Bit for bit, through the loader of real files."""
    for index in range(8):
        Image.fromarray(draw_tile(index, (48, 56)).permute(
            1, 2, 0).numpy()).save(tmp_path / f'{index}.png')
    folder = TileFolder(str(tmp_path), pipeline=[LoadTile(), PackTile()])
    views = build(color=dict())
    runs = []
    for workers, batch_size, collate in (
            (0, 4, pseudo_collate), (2, 4, collate_tiles),
            (1, 2, collate_tiles)):
        loader = DataLoader(folder, batch_size, num_workers=workers,
                            collate_fn=collate)
        parts = [views(data, training=True)['inputs'] for data in loader]
        runs.append({name: torch.cat([part[name] for part in parts])
                     for name in parts[0] if name != 'separable'})
        assert_equal(runs[-1], runs[0])


def naive_view(tile, crops, index, size):
    """A shrunk crop in float64, one axis after the other, with triangles."""

    def weights(first, length, flip, count, cells):
        rows, step = [], length / cells
        for cell in range(cells):
            centre = first + (cell + .5) * step
            row = [max(0., 1 - abs(pixel + .5 - centre) / max(1., step))
                   for pixel in range(count)]
            rows.append([value / sum(row) for value in row])
        return torch.tensor(rows[::-1] if flip else rows, dtype=torch.float64)

    height, width = tile.shape[-2:]
    rows = weights(int(crops.top[index]), int(crops.height[index]), False,
                   height, size[0])
    columns = weights(int(crops.left[index]), int(crops.width[index]),
                      bool(crops.flip[index]), width, size[1])
    return rows @ tile.double() @ columns.T


@pytest.mark.parametrize('size', [(150, 100), (64, 260)])
def test_larger_tiles_are_antialiased(size):
    views = build(view_size=(48, 32), patch_size=16, mean=[0] * 3, std=[1] * 3)
    got = inputs(views, range(3), size=size)
    query, key = crops_of(views, range(3), size)
    for index in range(3):
        tile = draw_tile(index, size)
        for name, crops in (('query', query), ('key', key)):
            want = naive_view(tile, crops, index, (48, 32))
            assert (got[name][index] - want).abs().max() < 2e-3


def test_rotated_views_of_larger_tiles_are_averaged():
    """A fine checkerboard becomes gray, not a pattern of its own."""
    rows, columns = torch.meshgrid(
        torch.arange(256), torch.arange(256), indexing='ij')
    board = ((rows + columns) % 2 * 255).byte().expand(3, -1, -1)
    views = build(view_size=32, patch_size=16, mean=[0] * 3, std=[1] * 3,
                  views=dict(scale=(1, 1), ratio=(1, 1), max_angle=90))
    got = views(batch([1, 2, 3]) | dict(inputs=[board] * 3),
                training=True)['inputs']
    assert got['separable'] is False
    assert (got['query'] - 127.5).abs().max() < 1


@pytest.mark.parametrize('data_range', [None, 65535.])
def test_sixteen_bits_keep_their_depth(data_range):
    """Values far apart in 16 bits, but equal in 8, stay apart.

    uint16 tiles arrive as int32, from which the range follows.
    """
    color = dict(brightness=0, contrast=0, saturation=0, hue=0, gray_prob=0,
                 blur_prob=1, blur_sigma=(.1, .1))
    views = build(mean=[0], std=[1], data_range=data_range, color=color)
    tile = torch.full((1, 64, 64), 30000, dtype=torch.int32)
    tile[:, :, 32:] = 30100
    got = views(batch([0]) | dict(inputs=[tile]), training=True)['inputs']
    for name in ('query', 'key'):
        assert 29999 < got[name].min() < 30001
    both = torch.cat([got['query'], got['key']])
    assert both.max() > 30099


@pytest.mark.parametrize(('dtype', 'data_range'), [
    (torch.int32, 255), (torch.uint8, 65535), (torch.float32, None)])
def test_tiles_that_do_not_fit_the_data_range(dtype, data_range):
    tile = torch.full((3, 64, 64), 200).to(dtype) * (
        100 if dtype == torch.int32 else 1)
    with pytest.raises(ValueError, match='data_range'):
        build(data_range=data_range, color=dict())(
            batch([0]) | dict(inputs=[tile]), training=True)


@pytest.mark.parametrize(('value', 'message'), [
    (70000, 'up to 70000; name the largest'), (-5, 'the least .* is -5')])
def test_whole_numbers_that_are_no_uint16(value, message):
    """int32 is what PackTile makes of uint16; other loaders may mean more."""
    tile = torch.full((3, 64, 64), value, dtype=torch.int32)
    with pytest.raises(ValueError, match=message):
        build(color=dict())(batch([0]) | dict(inputs=[tile]), training=True)


def test_colours_take_no_values_below_zero():
    tile = torch.linspace(-1000, 900, 64 * 64).view(1, 64, 64)
    views = build(mean=[0], std=[1], data_range=1000, color=dict(
        saturation=0, hue=0, gray_prob=0))
    with pytest.raises(ValueError, match=r'\[0, 1000\], .* -1000.0: .*window'):
        views(batch([0]) | dict(inputs=[tile]), training=True)


@pytest.mark.parametrize('empty', [
    [], torch.zeros(0, 3, 40, 40, dtype=torch.uint8)], ids=['list', 'tensor'])
def test_no_tiles_have_no_range(empty):
    with pytest.raises(ValueError, match='data_range must be named'):
        build(color=dict())(batch([]) | dict(inputs=empty), training=True)


def test_an_empty_batch_stays_one():
    data = batch([]) | dict(inputs=torch.zeros(0, 3, 40, 40).byte())
    assert build()(data)['inputs'].shape == (0, 3, 40, 40)


def test_without_training_images_are_only_normalised():
    views = build(color=dict(), mean=[10., 20., 30.], std=[1., 2., 4.])
    data = batch([0, 1])
    got = views(data, training=False)
    for number, (mean, std) in enumerate(((10, 1), (20, 2), (30, 4))):
        want = torch.stack([tile[number] for tile in data['inputs']]).float()
        torch.testing.assert_close(got['inputs'][:, number],
                                   (want - mean) / std)
    assert got['data_samples'] is data['data_samples']


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_views_are_drawn_in_float32_under_autocast(dtype):
    """Check 13: the same bits as without autocast."""
    for views in (build(color=dict()), build(views=ROTATED)):
        want = inputs(views, range(3), size=(80, 80))
        with torch.autocast('cpu', dtype=dtype):
            assert_equal(inputs(views, range(3), size=(80, 80)), want)


def test_checkpoints_hold_nothing_of_it():
    assert not build(color=dict()).state_dict()


def test_families_are_those_of_the_config():
    views = build(views=dict(scale=(.5, .6)), color=dict(hue=.2))
    assert views.family == ViewFamily(scale=(.5, .6))
    assert views.color.hue == .2


test_bad_arguments_are_refused_by_value = refuses(build, [
    (dict(mean=[1., 2.], std=[1.]), '2 and 1'),
    (dict(mean=[], std=[]), '0 and 0'),
    (dict(mean=[1.], std=[0.]), 'std .* 0.0'),
    (dict(mask_ratio=0.), 'mask_ratio .* 0.0'),
    (dict(mask_ratio=1.), 'mask_ratio .* 1.0'),
    (dict(mask_ratio=.01), '0.01 masks 0 of 16'),
    (dict(mask_ratio=.99), '0.99 masks 16 of 16'),
    (dict(view_size=60), r'patch_size 16, got \(60, 60\)'),
    (dict(view_size=(64, 64, 64)), r'\(64, 64, 64\)'),
    (dict(view_size=0), 'view_size .* 0'),
    (dict(patch_size=0), 'patch_size .* 0'),
    (dict(view_source='disk'), "'disk'"),
    (dict(view_source='loader', color=dict()), 'color={}'),
    (dict(view_source='loader', views=dict(scale=(.5, 1))), '0.5, 1'),
    (dict(view_source='loader', same_view=True), 'same_view=True'),
    (dict(color_impl='pillow'), "'pillow'"),
    (dict(data_range=0), 'data_range .* 0'),
    (dict(data_range=65535, color_impl='torchvision'), '65535'),
    (dict(mean=[0] * 5, std=[1] * 5, color_impl='torchvision'), '5 channels'),
    (dict(mean=[0], std=[1], color=dict()), 'got 1'),
    (dict(views=dict(scale=(0, 1))), r'\(0, 1\)'),
    (dict(color=dict(hue=1)), 'hue .* 1')])


def per_tile(change):
    def work(tiles, samples):
        tiles[:] = map(change, tiles)
    return work


def pair(tile):
    return torch.stack([tile, tile])


@pytest.mark.parametrize(('source', 'change', 'message'), [
    ('device', lambda tiles, samples: samples.__setitem__(1, DataSample()),
     'sample_idx'),
    ('device', lambda tiles, samples: samples.clear(), 'sample_idx'),
    ('device', lambda tiles, samples: tiles.__setitem__(1, tiles[1][:1]),
     '1 and 3 channels'),
    ('device', per_tile(lambda tile: tile[:1]), '1 channels'),
    ('device', per_tile(lambda tile: tile.numpy()), 'ndarray'),
    ('device', per_tile(pair), r"\(2, 3, 64, 64\).*'loader'"),
    ('loader', per_tile(lambda tile: tile),
     r'\(2, 3, 64, 64\), got \(3, 64, 64\)'),
    ('loader', per_tile(pair), 'theta_key'),
    ('loader', per_tile(lambda tile: pair(tile[:1])),
     r'got \(2, 1, 64, 64\)')])
def test_bad_batches_are_refused_by_value(source, change, message):
    data = batch([0, 1])
    change(data['inputs'], data['data_samples'])
    with pytest.raises(ValueError, match=message):
        build(view_source=source)(data, training=True)


@pytest.mark.parametrize('training', [True, False])
def test_tiles_without_pixels_are_refused(training):
    data = batch([0]) | dict(inputs=[torch.zeros(3, 0, 4)])
    with pytest.raises(ValueError, match=r'one pixel .*\(3, 0, 4\)'):
        build()(data, training=training)


def test_different_sizes_cannot_be_stacked_outside_of_training():
    data = batch([0, 1])
    data['inputs'][1] = data['inputs'][1][:, :32]
    with pytest.raises(ValueError, match=r'\(32, 64\), \(64, 64\)'):
        build()(data, training=False)
