"""The views that loader workers make, against those made on the device."""

import numpy as np
import pytest
import torch
from skimage import data

from mmmedmask.datasets.transforms import CMIMTwoViews
from mmmedmask.functional.randomness import per_sample_uniform
from mmmedmask.functional.views import VIEW_DRAWS
from mmmedmask.models.cmim import CMIMDataPreprocessor


def tissue(size, index):
    """A piece of a real section, uint8 (size, size, 3)."""
    picture = data.immunohistochemistry()
    top, left = 31 * index, 43 * index
    return np.ascontiguousarray(picture[top:top + size, left:left + size])


@pytest.mark.parametrize('size', [96, 224], ids=['enlarge', 'shrink'])
@pytest.mark.parametrize('color', [None, {}, dict(stain_prob=1)],
                         ids=['plain', 'color', 'stains'])
@pytest.mark.parametrize('implementation', ['torchvision', 'kornia'])
def test_loader_and_device_agree(size, color, implementation):
    """The same numbers give the same matrices and, up to rounding, pixels."""
    transform = CMIMTwoViews(view_size=96, color=color)
    preprocessor = CMIMDataPreprocessor(
        view_size=96, color=color, color_impl=implementation)
    for index in range(4):
        tile = tissue(size, index)
        uniform = per_sample_uniform(3, 1, [index], VIEW_DRAWS)
        loaded = transform.make_views(dict(img=tile), uniform)
        query, key, theta_query, theta_key = preprocessor.draw_views(
            [torch.from_numpy(tile).permute(2, 0, 1)], uniform)
        assert np.array_equal(loaded['theta_query'], theta_query[0].numpy())
        assert np.array_equal(loaded['theta_key'], theta_key[0].numpy())
        views = torch.from_numpy(loaded['img']).permute(0, 3, 1, 2).float()
        assert (key[0] - views[1]).abs().max() <= 1.01
        # Every colour step of the 8-bit path rounds; gray amplifies hue.
        difference = (query[0] - views[0]).abs()
        assert difference.mean() < (0.5 if color is None else 2.5)
        assert difference.max() <= (1.01 if color is None else 16)
        # And the views are not trivially alike.
        assert (query[0] - key[0]).abs().mean() > 5


def test_shared_view():
    """With same_view both views show the same place."""
    transform = CMIMTwoViews(view_size=64, same_view=True)
    results = transform(dict(img=tissue(96, 0), sample_idx=0))
    assert np.array_equal(results['theta_query'], results['theta_key'])
    assert np.array_equal(results['img'][0], results['img'][1])


@pytest.mark.parametrize(('pixels', 'found'), [
    (np.zeros((8, 8, 3), np.uint16), 'uint16'),
    (np.zeros((8, 8, 5), np.uint8), '5 channels')])
def test_unsuitable_tiles(pixels, found):
    """Tiles that Pillow cannot colour are refused with their file's name."""
    transform = CMIMTwoViews(view_size=8)
    with pytest.raises(ValueError, match=found) as error:
        transform(dict(img=pixels, sample_idx=0, img_path='a/b.tif'))
    assert 'a/b.tif' in str(error.value)


def test_gray_tiles_need_colours_for_gray():
    """At the first tile, whatever is drawn for it."""
    tile = dict(img=np.zeros((8, 8, 1), np.uint8), sample_idx=0,
                img_path='a/b.tif')
    with pytest.raises(ValueError, match=r'need 3 channels, got 1 '
                       r'\(a/b\.tif\); set them to 0'):
        CMIMTwoViews(8, color=dict(gray_prob=1e-9))(dict(tile))
    color = dict(saturation=0, hue=0, gray_prob=0)
    assert CMIMTwoViews(8, color=color)(tile)['img'].shape == (2, 8, 8, 1)


@pytest.mark.parametrize('views', [
    dict(max_angle=10), dict(max_shear=5), dict(vertical_flip_prob=0.5)])
def test_only_crops_and_flips(views):
    """Other families are sent to the device path."""
    with pytest.raises(ValueError, match='on the device'):
        CMIMTwoViews(views=views)
