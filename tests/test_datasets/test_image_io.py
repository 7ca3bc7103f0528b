"""Reading images: every kind of file, exactly, or an error that names it."""

import pickle

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from mmmedmask.datasets.image_io import ImageFileError, read_image


@pytest.fixture
def pixels() -> np.random.Generator:
    return np.random.default_rng(0)


def draw(rng, shape, dtype):
    if np.dtype(dtype).kind == 'f':
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize('suffix', ['.png', '.bmp', '.tif', '.TIFF'])
@pytest.mark.parametrize('channels', [1, 3])
def test_8_bit_is_read_exactly_in_rgb_order(
        tmp_path, pixels, suffix, channels):
    image = draw(pixels, (5, 7, channels), np.uint8)
    path = tmp_path / f'image{suffix}'
    # Pillow as an independent writer, which thinks in RGB.
    Image.fromarray(image.squeeze()).save(path)
    read = read_image(path)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, image)


def test_jpeg_is_read_in_rgb_order(tmp_path):
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    Image.fromarray(red).save(tmp_path / 'red.jpg', quality=95)
    read = read_image(tmp_path / 'red.jpg').astype(int)
    assert read.shape == (16, 16, 3)
    assert abs(read - red).max() < 8


@pytest.mark.parametrize('mode', ['RGBA', 'LA'])
def test_alpha_is_kept(tmp_path, pixels, mode):
    image = draw(pixels, (6, 5, len(mode)), np.uint8)
    Image.fromarray(image, mode).save(tmp_path / 'image.png')
    read = read_image(tmp_path / 'image.png')
    np.testing.assert_array_equal(read[..., -1], image[..., -1])
    np.testing.assert_array_equal(read[..., 0], image[..., 0])


def test_16_bit_png_keeps_its_values(tmp_path, pixels):
    image = draw(pixels, (5, 7), np.uint16)
    cv2.imwrite(str(tmp_path / 'image.png'), image)
    np.testing.assert_array_equal(
        read_image(tmp_path / 'image.png'), image[..., None])


@pytest.mark.parametrize('compression', [None, 'zlib'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [1, 3, 5])
def test_interleaved_tiff(tmp_path, pixels, channels, dtype, compression):
    image = draw(pixels, (9, 7, channels), dtype)
    tifffile.imwrite(
        tmp_path / 'image.tif', image.squeeze(),
        photometric='rgb' if channels == 3 else 'minisblack',
        planarconfig='contig' if channels > 1 else None,
        compression=compression)
    np.testing.assert_array_equal(read_image(tmp_path / 'image.tif'), image)


def test_planar_rgb_tiff(tmp_path, pixels):
    image = draw(pixels, (9, 7, 3), np.uint8)
    tifffile.imwrite(
        tmp_path / 'image.tif', np.moveaxis(image, -1, 0),
        photometric='rgb', planarconfig='separate')
    np.testing.assert_array_equal(read_image(tmp_path / 'image.tif'), image)


@pytest.mark.parametrize('pages', [2, 3, 6])
def test_pages_become_channels(tmp_path, pixels, pages):
    image = draw(pixels, (9, 7, pages), np.uint16)
    with tifffile.TiffWriter(tmp_path / 'image.tif') as writer:
        for page in range(pages):
            writer.write(image[..., page], contiguous=True)
    np.testing.assert_array_equal(read_image(tmp_path / 'image.tif'), image)


def test_bigtiff_and_float(tmp_path, pixels):
    image = draw(pixels, (9, 7), np.float32)
    tifffile.imwrite(tmp_path / 'image.tif', image, bigtiff=True)
    read = read_image(tmp_path / 'image.tif')
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, image[..., None])


def test_white_is_zero_is_turned_round(tmp_path, pixels):
    image = draw(pixels, (9, 7), np.uint8)
    tifffile.imwrite(
        tmp_path / 'image.tif', image, photometric='miniswhite')
    np.testing.assert_array_equal(
        read_image(tmp_path / 'image.tif')[..., 0], 255 - image)


def test_pages_of_several_sizes_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / 'image.tif') as writer:
        writer.write(np.zeros((9, 7), np.uint8))
        writer.write(np.zeros((4, 3), np.uint8))
    with pytest.raises(ImageFileError, match=r'several images.*\(9, 7\)'):
        read_image(tmp_path / 'image.tif')


def test_pages_of_rgb_are_refused(tmp_path):
    tifffile.imwrite(
        tmp_path / 'image.tif', np.zeros((4, 9, 7, 3), np.uint8),
        photometric='rgb')
    with pytest.raises(ImageFileError, match=r'at most one axis of channels'):
        read_image(tmp_path / 'image.tif')


def test_palette_tiff_is_refused(tmp_path):
    Image.fromarray(np.zeros((9, 7), np.uint8)).convert('P').save(
        tmp_path / 'image.tif')
    with pytest.raises(ImageFileError, match='palette'):
        read_image(tmp_path / 'image.tif')


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'tif', 'bmp'])
@pytest.mark.parametrize('part', [0.0, 0.02, 0.6, 0.97])
def test_truncated_file_is_named(tmp_path, pixels, suffix, part, capfd):
    whole = tmp_path / f'whole.{suffix}'
    Image.fromarray(draw(pixels, (64, 64, 3), np.uint8)).save(whole)
    encoded = whole.read_bytes()
    broken = tmp_path / f'broken.{suffix}'
    broken.write_bytes(encoded[:int(len(encoded) * part)])
    with pytest.raises(ImageFileError, match=str(broken)):
        read_image(broken)


@pytest.mark.parametrize('name', ['a.png', 'a.tif', 'a.jpg'])
def test_file_of_another_kind_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b'<html>404 Not Found</html>' * 40)
    with pytest.raises(ImageFileError, match=name):
        read_image(tmp_path / name)


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(ImageFileError, match=r'lost\.png.*No such file'):
        read_image(tmp_path / 'lost.png')
    (tmp_path / 'folder.png').mkdir()
    with pytest.raises(ImageFileError, match=r'folder\.png'):
        read_image(tmp_path / 'folder.png')


def test_error_survives_the_way_from_a_worker():
    error = ImageFileError('Cannot read image a.png: broken')
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(type(error)('a message')) == 'a message'
