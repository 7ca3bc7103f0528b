"""Crops and flips that record their box, against torchvision and loops."""

import copy
import itertools
from operator import call

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from mmpretrain.models.utils import ClsDataPreprocessor
from PIL import Image
from refusals import refuses
from torchvision.transforms import RandomResizedCrop as TorchvisionCrop
from torchvision.transforms import functional as TF  # noqa: N812

from mmmedmask.datasets.transforms import (
    PackTile,
    RandomFlip,
    RandomResizedCrop,
    ResizeImage,
)
from mmmedmask.datasets.transforms.recorded_crops import (
    draw_crop,
    resize_image,
    resize_sample,
)
from mmmedmask.registry import TRANSFORMS


def noise(shape, dtype=np.uint8, seed=0):
    """An image of random values over the whole range of its type."""
    values = np.random.default_rng(seed).random(shape)
    high = 1 if dtype == np.float32 else np.iinfo(dtype).max
    return (values * high).astype(dtype)


def draw_boxes(image_size, count, crop_ratio_range, aspect_ratio_range):
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(count, 40, generator=generator, dtype=torch.float64)
    return np.array([
        draw_crop(row, image_size, crop_ratio_range, aspect_ratio_range)
        for row in uniform.tolist()])


@pytest.mark.parametrize(('image_size', 'ratios', 'aspects'), [
    ((60, 80), (.2, 1.), (3 / 4, 4 / 3)), ((60, 80), (.9, 1.), (3 / 4, 4 / 3)),
    ((90, 30), (.3, 1.), (3 / 4, 4 / 3)), ((40, 40), (.08, .5), (1 / 3, 2.))])
def test_boxes_are_distributed_as_torchvisions(image_size, ratios, aspects):
    """Quantiles of all four numbers, and how often attempts run out."""
    count = 2000
    ours = draw_boxes(image_size, count, ratios, aspects)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        theirs = np.array([TorchvisionCrop.get_params(
                               torch.empty(1, *image_size), ratios, aspects)
                           for _ in range(count)])
    for column, side in enumerate(image_size * 2):
        one, other = ours[:, column] / side, theirs[:, column] / side
        values = np.union1d(one, other)
        steps = [np.searchsorted(np.sort(part), values, side='right') / count
                 for part in (one, other)]
        # Kolmogorov and Smirnov: 0.0618 is exceeded in 0.1 % of all cases.
        assert np.abs(steps[0] - steps[1]).max() < .0618
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, :2] + ours[:, 2:] <= image_size).all()
    assert (ours[:, 2:] > 0).all()


@pytest.mark.parametrize('image_size', [(90, 30), (30, 90), (1, 200)])
def test_a_box_that_never_fits_becomes_the_central_one(image_size):
    arguments = ([.999] * 40, image_size, (.99, 1.), (3 / 4, 4 / 3))
    expected = TorchvisionCrop.get_params(
        torch.empty(1, *image_size), (.99, 1.), (3 / 4, 4 / 3))
    assert draw_crop(*arguments) == tuple(expected)
    assert draw_crop(*arguments)[2:] != image_size


def test_the_first_attempt_that_fits_counts():
    too_wide = [.95, .999, .5, .5]  # 25 x 34 pixels
    fits = [0., .5, .999, 0.]
    assert draw_crop(too_wide + fits, (30, 30), (.2, 1.),
                     (3 / 4, 4 / 3)) == (17, 0, 13, 13)


@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('channels', [1, 3])
def test_pixels_are_torchvisions(channels, interpolation):
    """Cut out first, then resize: nothing outside the box counts."""
    image = noise((50, 70, channels))
    crop = RandomResizedCrop((24, 32), interpolation=interpolation)
    for index in range(5):
        results = crop(dict(img=image, sample_idx=index))
        x0, y0, x1, y1 = results['crop_box']
        top, left = round(y0 * 50), round(x0 * 70)
        expected = TF.resized_crop(
            TF.to_pil_image(image), top, left,
            round(y1 * 50) - top, round(x1 * 70) - left, [24, 32],
            TF.InterpolationMode(interpolation))
        np.testing.assert_array_equal(
            results['img'], np.asarray(expected).reshape(24, 32, channels))
        assert results['img_shape'] == (24, 32)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('channels', [1, 2, 3, 4, 5, 12])
def test_every_channel_is_resized_alike(channels, dtype):
    """Also the fourth, which is not an alpha, and in 16 bit and floats."""
    image = noise((40, 30, channels), dtype)
    resized = resize_image(image, (16, 20), 'bicubic')
    assert resized.dtype == dtype
    assert resized.shape == (16, 20, channels)
    for channel in range(channels):
        plane = Image.fromarray(image[..., channel].astype(np.float32))
        expected = np.asarray(plane.resize((20, 16), Image.Resampling.BICUBIC))
        if dtype != np.float32:
            expected = np.rint(expected).clip(0, np.iinfo(dtype).max)
        # Pillow calculates with 8 bit in integers of limited precision.
        np.testing.assert_allclose(
            resized[..., channel].astype(float), expected,
            atol=1 if dtype == np.uint8 else 0)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [3, 5])
def test_overshoot_is_clipped(channels, dtype):
    """Bicubic swings at an edge; in 16 bit 65535 must not become 0."""
    high = np.iinfo(dtype).max
    image = np.zeros((8, 8, channels), dtype)
    image[:, 4:] = high
    resized = resize_image(image, (32, 32), 'bicubic')
    assert (np.diff(resized[0, :, 0].astype(int))[8:24] >= 0).all()
    assert resized[:, :8].max() < high / 10
    assert resized[:, 24:].min() > high * .9
    assert resized.max() == high
    assert resized.min() == 0
    swinging = resize_image(image.astype(np.float32), (32, 32), 'bicubic')
    assert swinging.max() > high + high / 100
    assert swinging.min() < -high / 100


def test_shrinking_is_antialiased():
    """A pattern finer than the new pixels becomes its mean."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[::2] = 255
    resized = resize_image(image, (8, 8), 'bicubic')
    assert np.abs(resized.astype(float) - 127.5).max() < 8


def test_other_types_are_refused():
    with pytest.raises(ValueError, match='int64'):
        resize_image(np.zeros((4, 4, 1), np.int64), (2, 2), 'bicubic')


def ramp(size=64):
    """Each pixel holds its own place (x, y) in fractions, float32."""
    places = (np.arange(size, dtype=np.float32) + .5) / size
    return np.stack(np.meshgrid(places, places), axis=-1)


CROP = dict(type='mmmedmask.RandomResizedCrop', scale=(16, 24),
            interpolation='bilinear')
FLIP = dict(type='mmmedmask.RandomFlip', prob=.8,
            direction=['horizontal', 'vertical', 'diagonal'])
RESIZE = dict(type='mmmedmask.ResizeImage', scale=(40, 56))


@pytest.mark.parametrize('steps', [
    [CROP], [CROP, FLIP], [FLIP, CROP], [FLIP], [RESIZE, CROP, FLIP],
    [CROP, FLIP, RESIZE], [FLIP, CROP, dict(FLIP, seed=3)],
    [FLIP, CROP, dict(CROP, seed=7), dict(FLIP, seed=8)]])
def test_the_record_says_where_the_pixels_come_from(steps):
    """In any order: box and flips tell each pixel's place in the image."""
    pipeline = Compose(copy.deepcopy(steps))
    seen = set()
    for index in range(12):
        results = pipeline(dict(img=ramp(), sample_idx=index))
        left, top, right, bottom = results.get('crop_box', (0, 0, 1, 1))
        direction = results['flip_direction']
        assert results['flip'] == (direction is not None)
        seen.add(direction)
        if direction in ('horizontal', 'diagonal'):
            left, right = right, left
        if direction in ('vertical', 'diagonal'):
            top, bottom = bottom, top
        height, width = results['img'].shape[:2]
        x = left + (right - left) * (np.arange(width) + .5) / width
        y = top + (bottom - top) * (np.arange(height) + .5) / height
        found = results['img'][3:-3, 3:-3]
        # The rim of the interpolation is left out; a pixel is 1/64.
        np.testing.assert_allclose(
            found[..., 0], np.broadcast_to(x, (height, width))[3:-3, 3:-3],
            atol=.004)
        np.testing.assert_allclose(
            found[..., 1],
            np.broadcast_to(y[:, None], (height, width))[3:-3, 3:-3],
            atol=.004)
    assert len(seen) == (4 if FLIP in steps else 1)


def fields(places):
    """The number of the field of a board of 4 x 4 for places (x, y)."""
    return (np.floor(4 * places) @ [1, 4]).astype(np.uint8)


@pytest.mark.parametrize('step', [CROP, FLIP, RESIZE])
def test_labels_follow_the_image(step):
    transform = Compose([copy.deepcopy(step)])
    for index in range(6):
        results = transform(dict(img=ramp(), sample_idx=index, gt_seg_map=(
            fields(ramp())), seg_fields=['gt_seg_map']))
        labels = results['gt_seg_map']
        assert labels.dtype == np.uint8
        assert (fields(results['img']) == labels).mean() > .9


@pytest.mark.parametrize('dtype', [
    bool, np.uint8, np.int8, np.uint16, np.int32, np.int64, np.float32])
def test_labels_of_any_type_take_the_nearest_pixel(dtype):
    for height, width in ((24, 24), (7, 61), (48, 5), (41, 30)):
        image = noise((24, 30, 1)) // 128
        expected = resize_image(image, (height, width), 'nearest')[..., 0]
        results = dict(img=image, gt_seg_map=image[..., 0].astype(dtype),
                       seg_fields=['gt_seg_map'])
        resize_sample(results, (height, width), 'bicubic')
        assert results['gt_seg_map'].dtype == dtype
        np.testing.assert_array_equal(results['gt_seg_map'],
                                      expected.astype(dtype))


@pytest.mark.parametrize(('prob', 'direction', 'shares'), [
    (.5, 'horizontal', {'horizontal': .5}),
    (0., 'horizontal', {}),
    (1., 'vertical', {'vertical': 1.}),
    (.6, ['horizontal', 'vertical', 'diagonal'],
     {'horizontal': .2, 'vertical': .2, 'diagonal': .2}),
    ([.1, .3], ['vertical', 'horizontal'], {'horizontal': .3, 'vertical': .1}),
])
def test_flips_are_as_frequent_as_they_should_be(prob, direction, shares):
    flip = RandomFlip(prob, direction)
    image = noise((2, 3, 1))
    expected = {None: image, 'horizontal': image[:, ::-1],
                'vertical': image[::-1], 'diagonal': image[::-1, ::-1]}
    drawn = []
    for index in range(1500):
        results = flip(dict(img=image, sample_idx=index))
        drawn.append(results['flip_direction'])
        np.testing.assert_array_equal(
            results['img'], expected[results['flip_direction']])
        assert results['flip'] is (drawn[-1] is not None)
    for name in ('horizontal', 'vertical', 'diagonal'):
        share = shares.get(name, 0)
        error = 4 * (share * (1 - share) / 1500)**.5
        assert abs(drawn.count(name) / 1500 - share) <= error


def run(transforms, epoch, seed, index):
    results = dict(img=noise((30, 40, 3)), sample_idx=index)
    for transform in transforms:
        transform.set_epoch(epoch, seed)
        results = transform(results)
    return results['crop_box'], results['flip']


def test_draws_follow_seed_epoch_and_sample_and_nothing_else():
    transforms = [RandomResizedCrop(16), RandomFlip()]
    places = list(itertools.product((0, 1), (0, 5), (0, 9)))
    np.random.seed(0)
    first = {place: run(transforms, *place) for place in places}
    assert len({box for box, _ in first.values()}) == len(places)
    state = np.random.get_state()[1].copy(), torch.get_rng_state()
    again = [RandomResizedCrop(16), RandomFlip()]
    for place in reversed(places):
        assert run(again, *place) == first[place]
    assert (np.random.get_state()[1] == state[0]).all()
    assert torch.equal(torch.get_rng_state(), state[1])
    fixed = [RandomResizedCrop(16, seed=5), RandomFlip(seed=5)]
    for epoch, seed, index in places:
        assert run(fixed, epoch, seed, index) == first[epoch, 5, index]


def test_two_of_one_class_draw_apart():
    """With one seed, too; the first as if it were alone."""
    first, second = (RandomFlip(.5, direction) for direction in (
        'horizontal', 'vertical'))
    alone, both = ([Compose(steps)(dict(
        img=ramp(4), sample_idx=index))['flip_direction']
        for index in range(200)] for steps in ([first], [first, second]))
    assert min(both.count(direction) for direction in (
        None, 'horizontal', 'vertical', 'diagonal')) > 30
    assert [name is not None for name in alone] == [
        name in ('horizontal', 'diagonal') for name in both]


def test_crop_and_flip_are_independent():
    """The boxes of mirrored samples are the same as of the rest."""
    transforms = [RandomResizedCrop(4), RandomFlip()]
    drawn = [run(transforms, 0, 0, index) for index in range(600)]
    for number in range(4):
        parts = [[box[number] for box, flip in drawn if flip is wanted]
                 for wanted in (True, False)]
        assert abs(np.mean(parts[0]) - np.mean(parts[1])) < .07


test_bad_arguments = refuses(call, [
    (lambda: RandomResizedCrop(0), 'scale.*0'),
    (lambda: RandomResizedCrop((4, 5, 6)), r'scale.*\(4, 5, 6\)'),
    (lambda: RandomResizedCrop(8.5), r'scale.*8\.5'),
    (lambda: RandomResizedCrop(8, (0, 1)), r'crop_ratio_range.*\(0, 1\)'),
    (lambda: RandomResizedCrop(8, (.5, 1.5)), r'crop_ratio_range.*1\.5'),
    (lambda: RandomResizedCrop(8, (.9, .5)), r'crop_ratio_range.*0\.9'),
    (lambda: RandomResizedCrop(8, aspect_ratio_range=(2, 1)),
     r'aspect_ratio_range.*\(2, 1\)'),
    (lambda: RandomResizedCrop(8, interpolation='area'), "'area'"),
    (lambda: ResizeImage((4, -4)), r'scale.*-4'),
    (lambda: ResizeImage(8, 'linear'), "'linear'"),
    (lambda: RandomFlip(1.2), r'prob.*1\.2'),
    (lambda: RandomFlip(-.1), r'prob.*-0\.1'),
    (lambda: RandomFlip(float('nan')), 'prob.*nan'),
    (lambda: RandomFlip([.5, float('nan')], ['horizontal', 'vertical']),
     'prob.*nan'),
    (lambda: RandomFlip([.5, .6], ['horizontal', 'vertical']), r'0\.6'),
    (lambda: RandomFlip([.5], ['horizontal', 'vertical']), r'\[0\.5\]'),
    (lambda: RandomFlip(.5, 'sideways'), "'sideways'"),
    (lambda: RandomFlip(.5, []), r'direction.*\[\]')])


def test_reprs_tell_the_arguments():
    configs = [
        (dict(CROP, seed=2), 'RandomResizedCrop(scale=(16, 24)'),
        (FLIP, "direction=('horizontal', 'vertical', 'diagonal')"),
        (RESIZE, "ResizeImage(scale=(40, 56), interpolation='bicubic')")]
    for config, expected in configs:
        assert expected in repr(TRANSFORMS.build(config))


@pytest.mark.parametrize('stacked', [True, False])
@pytest.mark.parametrize(('dtype', 'channels'), [
    (np.uint8, 1), (np.uint8, 3), (np.uint16, 1), (np.uint16, 3),
    (np.uint16, 7), (np.float32, 5)])
def test_mmpretrains_preprocessor_takes_what_comes_out(
        dtype, channels, stacked):
    """16 bit (int32 in torch) and any number of channels are normalised."""
    pipeline = Compose([
        ResizeImage((6, 8)),
        PackTile(meta_keys=('crop_box', 'flip', 'flip_direction'))])
    images = [noise((9, 12, channels), dtype, seed) for seed in range(2)]
    packed = [pipeline(dict(img=image, gt_label=1)) for image in images]
    mean = [100. + channel for channel in range(channels)]
    std = [3. + channel for channel in range(channels)]
    inputs = [one['inputs'] for one in packed]
    assert packed[0]['inputs'].shape == (channels, 6, 8)
    batch = ClsDataPreprocessor(mean=mean, std=std, to_rgb=False)(dict(
        inputs=torch.stack(inputs) if stacked else inputs,
        data_samples=[one['data_samples'] for one in packed]), True)
    assert batch['inputs'].dtype == torch.float32
    for image, found in zip(images, batch['inputs'], strict=True):
        resized = resize_image(image, (6, 8), 'bicubic').astype(np.float64)
        expected = ((resized - mean) / std).transpose(2, 0, 1)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5,
                                   atol=1e-5)
    whole = batch['data_samples'][0]
    assert whole.crop_box == (0, 0, 1, 1)
    assert whole.flip is False
    assert whole.flip_direction is None
