"""Jitter of colours in RGB, against torchvision on the same image."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.datasets import ColorJitter as BGRColorJitter
from PIL import Image
from torchvision.transforms import functional as TF  # noqa: N812

from mmmedmask.datasets.transforms import ColorJitter
from mmmedmask.registry import TRANSFORMS
from mmmedmask.util.nested import nested_dicts

# Brightness, contrast, saturation, hue; as torchvision has them.
STEPS = dict(brightness=(TF.adjust_brightness, 1.3),
             contrast=(TF.adjust_contrast, 1.4),
             saturation=(TF.adjust_saturation, .4), hue=(TF.adjust_hue, .1))
BASES = sorted(
    (Path(__file__).resolve().parents[3] / 'configs/_base_/datasets').glob(
        '*.py'))


def stained():
    """Pink and purple, as haematoxylin and eosin stain, with noise."""
    image = np.empty((24, 32, 3), int)
    image[:, :16], image[:, 16:] = (205, 95, 150), (95, 60, 165)
    noise = np.random.default_rng(0).integers(-25, 26, image.shape)
    return (image + noise).astype(np.uint8)


def jitter(kind, image, **factors):
    return kind(**{name: (value, value) for name, value in factors.items()}
                )(dict(img=image))['img']


@pytest.mark.parametrize('step', STEPS)
def test_each_step_is_that_of_torchvision(step):
    adjust, factor = STEPS[step]
    image = stained()
    expected = np.asarray(adjust(Image.fromarray(image), factor))
    np.testing.assert_array_equal(
        jitter(ColorJitter, image, **{step: factor}), expected)
    np.testing.assert_array_equal(image, stained())


def test_hue_of_swapped_channels_is_another_one():
    """What mmpretrain's does to an image in RGB: pink turns to orange."""
    image = stained()
    wrong = jitter(BGRColorJitter, image, hue=.1).astype(int)
    right = jitter(ColorJitter, image, hue=.1).astype(int)
    assert np.abs(wrong - right).mean() > 40
    np.testing.assert_array_equal(
        jitter(BGRColorJitter, image[..., ::-1], hue=.1)[..., ::-1], right)


def test_draws_are_those_of_mmpretrain():
    options = dict(brightness=.4, contrast=.4, saturation=.4, hue=.1)
    image = stained()
    for seed in range(5):
        np.random.seed(seed)
        found = ColorJitter(**options)(dict(img=image))['img']
        np.random.seed(seed)
        expected = BGRColorJitter(**options)(dict(img=image[..., ::-1]))
        np.testing.assert_array_equal(found, expected['img'][..., ::-1])
        assert not np.array_equal(found, image)


@pytest.mark.parametrize('shape', [(8, 8), (8, 8, 1), (8, 8, 4)])
def test_other_channels_are_refused(shape):
    with pytest.raises(ValueError, match=r'tile.png .*\(H, W, 3\), got .*RGB'):
        ColorJitter(hue=.1)(
            dict(img=np.zeros(shape, np.uint8), img_path='tile.png'))


def test_jitter_fits_the_loader():
    """RGB goes with ours, BGR with mmpretrain's, in every base."""
    pairs = {'ColorJitter': 'mmmedmask.LoadImageFromFile',
             'mmmedmask.ColorJitter': 'mmmedmask.LoadTile'}
    checked = 0
    for path in BASES:
        if 'views' not in path.name and 'nct' not in path.name:
            continue
        types = {str(node.get('type')) for node in nested_dicts(
            Config.fromfile(path).to_dict())}
        kinds = {one for one in types if one.endswith('ColorJitter')}
        if not kinds:
            continue
        (kind, ) = kinds
        loaders = {one for one in types
                   if one.split('.')[-1].startswith('Load')}
        assert loaders == {pairs[kind]}, path.name
        checked += 1
    assert checked >= 9


def test_config_builds():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        built = TRANSFORMS.build(dict(type='mmmedmask.ColorJitter', hue=.1))
    assert type(built) is ColorJitter
