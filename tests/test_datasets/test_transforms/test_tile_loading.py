"""LoadTile and PackTile: what is declared is what arrives."""

from itertools import product

import numpy as np
import pytest
import tifffile
import torch
from mmcv.transforms import LoadImageFromFile as MMCVLoader
from PIL import Image
from refusals import refuses

from mmmedmask.datasets.image_io import ImageFileError
from mmmedmask.datasets.transforms.tile_loading import (
    LoadImageFromFile,
    LoadTile,
    PackTile,
    channels_first,
)
from mmmedmask.registry import TRANSFORMS


def write(path, image):
    if path.suffix == '.tif':
        tifffile.imwrite(
            path, image,
            photometric='rgb' if image.shape[2:] == (3, ) else 'minisblack',
            planarconfig='contig' if image.ndim == 3 else None)
    else:
        Image.fromarray(image).save(path)
    return {'img_path': str(path), 'sample_idx': 4}


@pytest.mark.parametrize(('shape', 'dtype', 'arguments'), [
    ((4, 6, 3), np.uint8, {}), ((4, 6), np.uint8, {'in_channels': 1}),
    ((4, 6), np.uint16, {'in_channels': 1, 'dtype': 'uint16'}),
    ((4, 6, 3), np.uint16, {'dtype': 'uint16'}),
    ((4, 6, 7), np.uint16, {'in_channels': 7, 'dtype': 'uint16'}),
    ((4, 6), np.float32, {'in_channels': 1, 'dtype': 'float32'}),
    ((4, 6), np.float64, {'in_channels': 1, 'dtype': 'float32'})])
def test_declared_channels_and_types(tmp_path, shape, dtype, arguments):
    image = (np.arange(np.prod(shape)) * 7).astype(dtype).reshape(shape)
    results = LoadTile(**arguments).transform(write(tmp_path / 'a.tif', image))
    assert results['img'].dtype == np.dtype(arguments.get('dtype', 'uint8'))
    np.testing.assert_array_equal(
        results['img'], image.reshape(*shape[:2], -1))
    assert results['ori_shape'] == results['img_shape'] == (4, 6)


@pytest.mark.parametrize('dtype', ['uint16', 'float32'])
def test_values_are_those_of_the_range(tmp_path, dtype):
    load = LoadTile(1, dtype, data_range=7)
    image = np.array([[0, 3], [5, 7]], dtype)
    file = write(tmp_path / 'a.tif', image)
    np.testing.assert_array_equal(
        load.transform(file)['img'][..., 0], image)
    for value in (8, *[-1] * (dtype == 'float32')):
        image[0, 0] = value
        with pytest.raises(ImageFileError, match=r'a\.tif holds values from '
                           r'.*, expected 0 to data_range 7'):
            load.transform(write(tmp_path / 'a.tif', image))
    with pytest.raises(ValueError, match='data_range must be .*0'):
        LoadTile(data_range=0)
    with pytest.raises(ValueError, match='whole range of uint16, got data_r'):
        LoadTile(dtype='uint16', window=(4, 8), data_range=7)


def test_gray_to_rgb_and_drop_alpha_only_when_asked(tmp_path):
    gray = np.arange(24, dtype=np.uint8).reshape(4, 6)
    rgba = np.arange(96, dtype=np.uint8).reshape(4, 6, 4)
    rgba[..., 3] = 255
    gray_file = write(tmp_path / 'gray.png', gray)
    rgba_file = write(tmp_path / 'rgba.png', rgba)
    with pytest.raises(ImageFileError, match=r'gray\.png has 1 .* expected 3'
                       r'.*gray_to_rgb'):
        LoadTile().transform(dict(gray_file))
    with pytest.raises(ImageFileError, match=r'rgba\.png has 4 .* expected 3'
                       r'.*drop_alpha'):
        LoadTile().transform(dict(rgba_file))
    both = LoadTile(gray_to_rgb=True, drop_alpha=True)
    np.testing.assert_array_equal(
        both.transform(gray_file)['img'], np.stack([gray] * 3, axis=-1))
    np.testing.assert_array_equal(
        both.transform(rgba_file)['img'], rgba[..., :3])


@pytest.mark.parametrize('suffix', ['png', 'tif'])
@pytest.mark.parametrize('channels', [1, 3])
def test_gray_with_alpha(tmp_path, suffix, channels):
    gray = np.arange(24, dtype=np.uint8).reshape(4, 6)
    path = tmp_path / f'a.{suffix}'
    opaque = Image.new('L', (6, 4), 255)
    Image.merge('LA', [Image.fromarray(gray), opaque]).save(path)
    load = LoadTile(channels, gray_to_rgb=channels == 3, drop_alpha=True)
    np.testing.assert_array_equal(
        load.transform({'img_path': str(path)})['img'],
        np.stack([gray] * channels, axis=-1))


@pytest.mark.parametrize(('image', 'dtype', 'message'), [
    (np.full((4, 6), 1e300), 'float32', r'1e\+300'),
    (np.zeros((4, 6), np.uint16), 'uint8', 'uint16.*uint8'),
    (np.zeros((4, 6), np.uint8), 'float32', 'uint8.*float32')])
def test_other_type_is_an_error(tmp_path, image, dtype, message):
    sample = write(tmp_path / 'odd.tif', image)
    with pytest.raises(ImageFileError, match=rf'odd\.tif.*{message}'):
        LoadTile(in_channels=1, dtype=dtype).transform(sample)


def test_arrays_without_pixels_are_refused():
    with pytest.raises(ImageFileError, match=r'no pixels.*\(0, 5, 3\)'):
        LoadTile().transform({'img': np.zeros((0, 5, 3), np.uint8)})


test_bad_arguments_of_load_tile = refuses(LoadTile, [
    ({'in_channels': 0}, 'in_channels.*0'),
    ({'in_channels': '3'}, "in_channels.*'3'"),
    ({'dtype': 'int8'}, "dtype.*'int8'"),
    ({'in_channels': 1, 'gray_to_rgb': True}, 'gray_to_rgb.*1'),
    ({'in_channels': 5, 'drop_alpha': True}, 'drop_alpha.*5')])


def test_bad_arguments_of_pack_tile():
    with pytest.raises(ValueError, match="'img_path'"):
        PackTile(meta_keys='img_path')
    sample = {'img': np.zeros((4, 6, 3), np.uint8), 'img_path': 'a'}
    with pytest.raises(KeyError, match='sample_idx'):
        PackTile().transform(sample)


def test_pack_tile():
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    packed = PackTile().transform({
        'img': image, 'img_path': 'a.png', 'sample_idx': 7,
        'ori_shape': (4, 6), 'gt_label': 2})
    # SelfSupDataPreprocessor unpacks the two in this order.
    assert list(packed) == ['inputs', 'data_samples']
    assert packed['inputs'].dtype == torch.uint8
    assert packed['inputs'].is_contiguous()
    assert packed['inputs'].shape == (3, 4, 6)
    assert packed['inputs'][1, 2, 3] == image[2, 3, 1]
    data_sample = packed['data_samples']
    assert data_sample.metainfo == {
        'img_path': 'a.png', 'sample_idx': 7, 'ori_shape': (4, 6)}
    assert data_sample.gt_label.tolist() == [2]
    packed = PackTile(meta_keys=()).transform({'img': image})
    assert 'gt_label' not in packed['data_samples']


@pytest.mark.parametrize('channels', [1, 2, 3, 4, 5, 40])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_channels_first_against_loops(channels, dtype):
    rng = np.random.default_rng(channels)
    image = (rng.random((3, 5, channels)) * 65535).astype(dtype)
    image.flat[:2] = 0, np.iinfo(dtype).max if dtype != np.float32 else 1
    tensor = channels_first(image)
    # uint16 has no full support in torch; int32 holds all its values.
    expected = {np.uint8: torch.uint8, np.uint16: torch.int32,
                np.float32: torch.float32}[dtype]
    assert tensor.dtype == expected
    for row in range(3):
        for column in range(5):
            for channel in range(channels):
                assert tensor[channel, row, column].item() == image[
                    row, column, channel].item()


def test_built_from_configs():
    load = TRANSFORMS.build(
        {'type': 'mmmedmask.LoadTile', 'in_channels': 5, 'dtype': 'uint16'})
    assert repr(load) == (
        "LoadTile(in_channels=5, dtype='uint16', gray_to_rgb=False, "
        'drop_alpha=False, window=None, data_range=None)')
    assert 'img_path' in repr(TRANSFORMS.build({'type': 'mmmedmask.PackTile'}))


@pytest.mark.parametrize(('mode', 'suffix'), [
    *product(('RGB', 'L'), ('png', 'jpg', 'bmp', 'tif')),
    ('P', 'png'), ('RGBA', 'png'), ('RGBA', 'tif'), ('upright', 'jpg')])
def test_plain_images_are_what_mmcv_reads(tmp_path, mode, suffix):
    path = tmp_path / f'a.{suffix}'
    rgb = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    exif = Image.Exif()
    exif[0x112] = 6
    image = Image.fromarray(rgb)
    image = image if mode == 'upright' else image.convert(mode)
    image.save(path, **dict(exif=exif) if mode == 'upright' else {})
    found = LoadImageFromFile()({'img_path': str(path)})
    expected = MMCVLoader()({'img_path': str(path)})
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal(found['img'], expected['img'])
    assert found['img'].flags.c_contiguous
    for key in ('img_shape', 'ori_shape'):
        assert found[key] == expected[key] == (
            (56, 40) if mode == 'upright' else (40, 56))


def with_alpha(image):
    image.putalpha(254)
    return image


@pytest.mark.parametrize(('name', 'change', 'message'), [
    ('cut.jpg', lambda rgb: rgb, 'Premature end'),
    ('cmyk.jpg', lambda rgb: rgb.convert('CMYK'), 'CMYK'),
    ('deep.png', lambda rgb: Image.new('I;16', (56, 40), 9000), 'uint16'),
    ('alpha.png', with_alpha, 'transparent'),
    ('gray.png', lambda rgb: with_alpha(rgb.convert('L')), 'transparent'),
    ('float.tif', lambda rgb: Image.new('F', (56, 40), .5), 'float32')])
def test_what_mmcv_converts_in_silence_is_refused(tmp_path, name, change,
                                                  message):
    path = tmp_path / name
    change(Image.new('RGB', (56, 40))).save(path)
    if name == 'cut.jpg':
        path.write_bytes(path.read_bytes()[:-20])
    for load in (LoadImageFromFile(), LoadTile(3, 'uint8', True, True)):
        with pytest.raises(ImageFileError, match=f'{name}.*{message}'):
            load({'img_path': str(path)})


def test_hidden_pixels_of_16_bit_are_refused():
    image = np.full((4, 6, 4), 65535, np.uint16)
    load = LoadTile(dtype='uint16', drop_alpha=True)
    assert load({'img': image})['img'].shape == (4, 6, 3)
    image[0, 0, 3] = 7
    with pytest.raises(ImageFileError, match='its last channel is 7 there'):
        load({'img': image})


def test_arrays_of_inferencers_stay_bgr():
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    np.testing.assert_array_equal(
        LoadImageFromFile()({'img': image})['img'], image)
