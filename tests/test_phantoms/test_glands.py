"""Gland phantoms: exact masks, varied images, reproducible files."""

import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle_tools
from refusals import refuses

from mmmedmask.datasets.image_io import read_image
from mmmedmask.phantoms import gland_shapes, glands


@pytest.fixture(scope='module')
def phantoms():
    return [glands.draw_gland_image(160, seed) for seed in range(10)]


def test_types_and_numbers(phantoms):
    for image, labels in phantoms:
        assert image.shape == (160, 160, 3)
        assert image.dtype == np.uint8
        assert labels.shape == (160, 160)
        assert labels.dtype == np.int32
        values = np.unique(labels)
        assert values[0] == 0
        np.testing.assert_array_equal(values, np.arange(values.size))
        assert values.size > 1


def test_the_task_is_no_threshold(phantoms):
    """No gray level separates glands from stroma."""
    best = []
    for image, labels in phantoms:
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        gland = labels > 0
        overlaps = []
        for limit in range(20, 250, 5):
            for guess in (gray < limit, gray >= limit):
                overlaps.append((guess & gland).sum() / (guess | gland).sum())
        best.append(max(overlaps))
    assert np.mean(best) < 0.7


def test_masks_fit_what_is_painted(phantoms):
    """At the border of glands there are nuclei: dark inside, not outside."""
    inside, outside = [], []
    for image, labels in phantoms:
        darkness = 255 - cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float)
        gland = (labels > 0).astype(np.uint8)
        depth = cv2.distanceTransform(gland, cv2.DIST_L2, 5)
        away = cv2.distanceTransform(1 - gland, cv2.DIST_L2, 5)
        inside.append(darkness[(depth > 1) & (depth < 5)].mean())
        outside.append(darkness[(away > 1) & (away < 5)].mean())
    assert np.mean(inside) > np.mean(outside) + 20


def test_images_vary(phantoms):
    images = np.stack([image for image, _ in phantoms]).astype(float)
    assert images.mean(axis=(1, 2)).std(axis=0).min() > 5
    numbers = [labels.max() for _, labels in phantoms]
    assert len(set(numbers)) > 3
    covered = [(labels > 0).mean() for _, labels in phantoms]
    assert max(covered) - min(covered) > 0.15


def test_some_glands_touch_and_some_are_cut():
    touching = cut = 0
    for seed in range(4):
        _, labels = glands.draw_gland_image(160, seed, malignant=True)
        pairs = zip([labels[1:], labels[:, 1:]], [labels[:-1], labels[:, :-1]],
                    strict=True)
        touching += sum(
            ((one != other) & (one > 0) & (other > 0)).any()
            for one, other in pairs)
        cut += (labels[0] > 0).any()
    assert touching
    assert cut


def test_a_whole_number_is_a_scale():
    for one, other in zip(glands.draw_gland_image(64, 1, 1),
                          glands.draw_gland_image(64, 1, 1.), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize('malignant', [True, False])
def test_glands_are_whole_on_the_canvas(malignant):
    rng = np.random.default_rng(3)
    labels = gland_shapes.draw_label_map(
        (300, 300), gland_shapes.GlandLayout.draw(malignant, rng), 0.4, rng)
    assert labels.max() > 3
    for number in range(1, labels.max() + 1):
        gland = (labels == number).astype(np.uint8)
        assert cv2.connectedComponents(gland, connectivity=8)[0] == 2
        # Without holes, what is outside is connected too.
        around = np.pad(1 - gland, 1, constant_values=1)
        assert cv2.connectedComponents(around, connectivity=4)[0] == 2


@pytest.mark.parametrize('length', [1.0, 3.7, 40.0])
def test_smooth_noise(length):
    noise = gland_shapes.smooth_noise(
        (200, 230), length, np.random.default_rng(0))
    assert noise.shape == (200, 230)
    assert 0.4 < noise.std() < 1.7
    # Neighbours differ the less, the longer the length.
    step = np.abs(np.diff(noise, axis=1)).mean()
    assert step < 2.5 * noise.std() / length


test_bad_arguments = refuses(glands.draw_gland_image, [
    ({'size': 63}, '63'), ({'size': (64, 32)}, '32'),
    ({'scale': 0.05}, '0.05'), ({'scale': 5}, '5')])


def test_data_set(tmp_path):
    root = glands.write_gland_dataset(tmp_path / 'glands', 2, 1, size=(64, 80))
    assert sorted(
        path.relative_to(root).as_posix() for path in root.rglob('*.*')
    ) == ['annotations/test.json', 'annotations/train.json',
          'images/test/0000.png', 'images/train/0000.png',
          'images/train/0001.png', 'masks/test/0000.png',
          'masks/train/0000.png', 'masks/train/0001.png']
    content = json.loads((root / 'annotations/train.json').read_text())
    for image in content['images']:
        assert read_image(root / image['file_name']).shape == (64, 80, 3)
        labels = read_image(
            root / image['file_name'].replace('images', 'masks'))[..., 0]
        masks = [
            rle_tools.decode(one['segmentation'])
            for one in content['annotations']
            if one['image_id'] == image['id']]
        assert len(masks) == labels.max()
        for number, mask in enumerate(masks, start=1):
            np.testing.assert_array_equal(mask, labels == number)
    image, _ = glands.draw_gland_image((64, 80), (0, 0, 1))
    np.testing.assert_array_equal(
        read_image(root / 'images/train/0001.png'), image)
    for split in ('train', 'test'):
        first = read_image(root / f'images/{split}/0000.png')
        assert (first != image).any()


@pytest.mark.parametrize('numbers', [(0, 1), (1, 0)])
def test_data_set_needs_images(tmp_path, numbers):
    with pytest.raises(ValueError, match='at least 1, got 0'):
        glands.write_gland_dataset(tmp_path, *numbers)
    assert not list(tmp_path.iterdir())


def test_tissue_tiles(tmp_path):
    paths = glands.write_tissue_tiles(
        tmp_path / 'tiles', tile_size=256, stride=128)
    assert len(paths) == 9
    whole = np.zeros((512, 512, 3), np.uint8)
    for path in paths:
        top, left = (int(part) for part in path.stem.split('_')[1:])
        whole[top:top + 256, left:left + 256] = read_image(path)
    from skimage.data import immunohistochemistry
    np.testing.assert_array_equal(whole, immunohistochemistry())


@pytest.mark.parametrize(('arguments', 'message'), [
    ({'tile_size': 513}, '513'), ({'tile_size': 0}, r'\[1, 512\]'),
    ({'stride': 0}, 'stride')])
def test_bad_tiles(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        glands.write_tissue_tiles(tmp_path, **arguments)
