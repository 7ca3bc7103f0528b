"""Un-normalised pictures: values, channels, windows, bad arguments."""

import numpy as np
import pytest
import torch
from refusals import refuses

from mmmedmask.models.cmim import CMIMDataPreprocessor
from mmmedmask.visualization import PictureUnits


def naive_picture(image, mean, std, window, channels):
    """One channel at a time, in float64."""
    shares = [(image[channel].numpy() * std[channel] + mean[channel]
               - window[0]) / (window[1] - window[0])
              for channel in (*channels * 3, )[:3]]
    return np.stack(shares, -1).clip(0, 1) * 255


@pytest.mark.parametrize(('num_channels', 'chosen', 'shown'), [
    (1, None, (0, )), (3, None, (0, 1, 2)), (3, (2, ), (2, )),
    (5, (4, 0, 2), (4, 0, 2)), (5, (3, ), (3, ))])
@pytest.mark.parametrize('window', [(0.0, 255.0), (300.0, 4000.0)])
def test_equals_the_formula(num_channels, chosen, shown, window):
    generator = torch.Generator().manual_seed(num_channels)
    images = torch.randn(
        2, num_channels, 4, 5, generator=generator, dtype=torch.float64)
    middle = sum(window) / 2
    mean = tuple(middle + 3 * i for i in range(num_channels))
    std = tuple((window[1] - middle) / (1 + i) for i in range(num_channels))
    units = PictureUnits(mean, std, window, chosen)
    pictures = units.to_pictures(images)
    assert pictures.dtype == np.uint8
    for image, picture in zip(images, pictures, strict=True):
        expected = naive_picture(image, mean, std, window, shown)
        # float32 may round a value at .5 to the other side.
        difference = np.abs(expected.round() - picture)
        assert difference.max() <= 1
        assert (difference == 0).mean() > 0.95


def test_normalised_tile_comes_back():
    preprocessor = CMIMDataPreprocessor(
        mean=[900.0], std=[350.0], data_range=65535)
    tile = torch.randint(0, 65536, (1, 1, 32, 32)).int()
    normalised = preprocessor.normalise(tile.float())
    pictures = PictureUnits.from_preprocessor(preprocessor).to_pictures(
        normalised)
    assert (pictures[..., 0] == pictures[..., 2]).all()
    expected = (tile[:, 0] / 65535 * 255).round().numpy()
    assert np.abs(expected - pictures[..., 0]).max() <= 1
    # What is not a number is black.
    assert not PictureUnits((100.0, ), (10.0, )).to_pictures(
        torch.full((1, 1, 2, 2), float('nan'))).any()


test_bad_arguments = refuses(PictureUnits, [
    (dict(mean=(0, ), std=(1, 1)), '1 and 2 values'),
    (dict(mean=(0, ), std=(1, ), window=(5, 5)), r'\(5, 5\)'),
    (dict(mean=(0, ) * 5, std=(1, ) * 5), '5 channels .* 0 to 4'),
    (dict(mean=(0, ) * 5, std=(1, ) * 5, channels=(0, 1)), r'\(0, 1\)'),
    (dict(mean=(0, ) * 3, std=(1, ) * 3, channels=(3, )), r'0 to 2.*\(3,\)')])


def test_units_of_mmpretrains_preprocessor():
    """It knows no range of values: 8 bits, unless the mean says more."""
    from mmpretrain.models import ClsDataPreprocessor
    preprocessor = ClsDataPreprocessor(
        mean=[120.0, 90.0, 60.0], std=[40.0, 50.0, 60.0])
    images = torch.randint(0, 256, (2, 3, 8, 8)).byte()
    inputs = preprocessor(dict(inputs=images))['inputs']
    units = PictureUnits.from_preprocessor(preprocessor)
    np.testing.assert_array_equal(
        units.to_pictures(inputs), images.permute(0, 2, 3, 1))
    wider = PictureUnits.from_preprocessor(preprocessor, window=(0, 510))
    assert wider.to_pictures(inputs).max() <= 128
    deep = ClsDataPreprocessor(mean=[900.0], std=[300.0])
    assert PictureUnits.from_preprocessor(deep).window == (0, 65535)
    hounsfield = ClsDataPreprocessor(mean=[-300.0], std=[400.0])
    assert PictureUnits.from_preprocessor(hounsfield).window == (-1100, 500)
    # What normalises nothing leaves the stored units.
    np.testing.assert_array_equal(
        PictureUnits.from_preprocessor(ClsDataPreprocessor()).to_pictures(
            images), images.permute(0, 2, 3, 1))


def test_pictures_of_a_network_that_sees_bgr_are_rgb():
    from mmpretrain.models import ClsDataPreprocessor
    images = torch.randint(0, 256, (2, 3, 8, 8)).byte()
    config = dict(train_dataloader=dict(dataset=dict(
        pipeline=[dict(type='LoadImageFromFile')])))
    shown = PictureUnits.from_preprocessor(
        ClsDataPreprocessor(), config=config).to_pictures(images)
    np.testing.assert_array_equal(shown, images.flip(1).permute(0, 2, 3, 1))
