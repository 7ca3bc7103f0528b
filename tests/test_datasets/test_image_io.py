"""Reading images: every kind of file, exactly, or an error that names it."""

import itertools
import pickle
import re
import struct
import zlib

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from mmmedmask.datasets.image_io import (
    ImageFileError,
    read_image,
    write_image,
)


@pytest.fixture
def pixels():
    return np.random.default_rng(0)


def draw(rng, shape, dtype):
    if np.dtype(dtype).kind == 'f':
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize(('suffix', 'mode'), [
    *itertools.product(('.png', '.bmp', '.tif', '.TIFF'), ('L', 'RGB')),
    ('.png', 'LA'), ('.png', 'RGBA')])
def test_8_bit_is_read_exactly_in_rgb_order(tmp_path, pixels, suffix, mode):
    image = draw(pixels, (5, 7, len(mode) if mode != 'L' else 1), np.uint8)
    path = tmp_path / f'image{suffix}'
    # Pillow as an independent writer, which thinks in RGB.
    Image.fromarray(image.squeeze(), mode).save(path)
    read = read_image(path)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, image)


@pytest.mark.parametrize('compression', [
    None, 'zlib', 'lzw', 'zstd', 'lzma', 'packbits'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [1, 3, 5])
def test_interleaved_tiff(tmp_path, pixels, channels, dtype, compression):
    image = draw(pixels, (9, 7, channels), dtype)
    tifffile.imwrite(tmp_path / 'image.tif', image.squeeze(),
                     photometric='rgb' if channels == 3 else 'minisblack',
                     planarconfig='contig' if channels > 1 else None,
                     compression=compression)
    np.testing.assert_array_equal(read_image(tmp_path / 'image.tif'), image)


@pytest.mark.parametrize('pages', [2, 3, 6])
def test_pages_become_channels(tmp_path, pixels, pages):
    image = draw(pixels, (9, 7, pages), np.uint16)
    with tifffile.TiffWriter(tmp_path / 'image.tif') as writer:
        for page in range(pages):
            writer.write(image[..., page], contiguous=True)
    np.testing.assert_array_equal(read_image(tmp_path / 'image.tif'), image)


@pytest.mark.parametrize('compression', [
    33003, 33005, 'jpeg2000', 'jpegxr', 'jpegxl', 'png', 'webp', 'jpeg'])
def test_picture_codecs_in_tiff(tmp_path, compression):
    image = np.full((200, 150, 3), (200, 100, 160), np.uint8)
    image[:90] = (30, 220, 90)
    tifffile.imwrite(tmp_path / 'image.tif', image, photometric='rgb',
                     tile=(128, 128), compression=compression)
    read = read_image(tmp_path / 'image.tif').astype(int)
    assert read.shape == image.shape
    # Some are lossy; a black tile is another matter.
    assert abs(read - image).mean() < 3


@pytest.mark.parametrize('photometric', ['rgb', 'ycbcr', 'minisblack'])
def test_jpeg_in_tiff_is_what_tifffile_reads(tmp_path, photometric):
    rows, columns = np.mgrid[:100, :90]
    image = np.dstack([rows, columns, rows + columns]).astype(np.uint8)
    if photometric == 'minisblack':
        image = image[..., 0]
    tifffile.imwrite(tmp_path / 'image.tif', image, rowsperstrip=32,
                     photometric='rgb' if photometric == 'ycbcr'
                     else photometric, compression='jpeg',
                     compressionargs={'outcolorspace': photometric}
                     if photometric != 'minisblack' else None)
    np.testing.assert_array_equal(read_image(tmp_path / 'image.tif').squeeze(),
                                  tifffile.imread(tmp_path / 'image.tif'))


@pytest.mark.parametrize('bits', [1, 2, 4])
@pytest.mark.parametrize('white_is_zero', [False, True])
def test_few_bits_are_spread_over_eight(tmp_path, pixels, bits, white_is_zero):
    image = draw(pixels, (9, 16), np.uint8) >> (8 - bits)
    packed = np.packbits(
        np.unpackbits(image[..., None], axis=2)[..., 8 - bits:].reshape(9, -1),
        axis=1).tobytes()
    tags = [(256, 16), (257, 9), (258, bits), (259, 1),
            (262, 0 if white_is_zero else 1), (273, 8), (277, 1), (278, 9),
            (279, len(packed))]
    (tmp_path / 'image.tif').write_bytes(
        struct.pack('<2sHI', b'II', 42, 8 + len(packed)) + packed
        + struct.pack('<H', len(tags))
        + b''.join(struct.pack('<HHII', tag, 4, 1, value)
                   for tag, value in tags) + bytes(4))
    expected = image * (255 // (2**bits - 1))
    np.testing.assert_array_equal(
        read_image(tmp_path / 'image.tif')[..., 0],
        255 - expected if white_is_zero else expected)


def make_png(colours, bits, parts=1, change=lambda packed: packed,
             between=b''):
    """A PNG of 9 x 7 random values, each row with another filter."""
    def chunk(kind, data):
        return (struct.pack('>I', len(data)) + kind + data
                + struct.pack('>I', zlib.crc32(kind + data)))

    random = np.random.default_rng(0)
    values = -(-9 * bits * {0: 1, 2: 3, 4: 2, 6: 4}[colours] // 8)
    packed = change(zlib.compress(b''.join(
        bytes([row % 5]) + random.bytes(values) for row in range(7))))
    cuts = np.linspace(0, len(packed), parts + 1).astype(int)
    return b''.join([
        b'\x89PNG\r\n\x1a\n',
        chunk(b'IHDR', struct.pack('>IIBBBBB', 9, 7, bits, colours, 0, 0, 0)),
        between.join(chunk(b'IDAT', packed[start:stop])
                     for start, stop in itertools.pairwise(cuts)),
        chunk(b'tEXt', b'a\0b'), chunk(b'IEND', b'')])


@pytest.mark.parametrize('parts', [1, 3])
@pytest.mark.parametrize(('colours', 'bits'), [
    (0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (4, 8), (4, 16),
    (6, 8), (6, 16)])
def test_png_of_every_kind_is_what_libpng_reads(tmp_path, monkeypatch,
                                                colours, bits, parts):
    encoded = make_png(colours, bits, parts)
    want = imagecodecs.png_decode(encoded)
    decoded, decode = [], imagecodecs.png_decode
    monkeypatch.setattr(imagecodecs, 'png_decode', lambda data: decode(
        decoded.append(data) or data))
    (tmp_path / 'image.png').write_bytes(encoded)
    image = read_image(tmp_path / 'image.png')
    np.testing.assert_array_equal(image, want.reshape(image.shape))
    assert image.dtype == want.dtype
    # Another library than libpng's has unpacked the pixels into one chunk.
    assert decoded[0] != encoded
    assert decoded[0].count(b'IDAT') == 1


@pytest.mark.parametrize('change', [
    lambda packed: packed + b'more', lambda packed: packed[:-1],
    lambda packed: packed[:-4] + b'else', lambda packed: packed[:20],
    lambda packed: zlib.compress(zlib.decompress(packed)[:-1]),
    lambda packed: zlib.compress(zlib.decompress(packed) + b'0'),
    lambda packed: zlib.compress(b'\7' + zlib.decompress(packed)[1:])])
def test_odd_pixels_of_png_are_left_to_libpng(tmp_path, change):
    """Too many, too few, damaged, or with a filter that does not exist."""
    encoded = make_png(2, 8, change=change)
    (tmp_path / 'image.png').write_bytes(encoded)
    try:
        want = imagecodecs.png_decode(encoded)
    except imagecodecs.PngError as error:
        with pytest.raises(ImageFileError, match=re.escape(str(error))):
            read_image(tmp_path / 'image.png')
    else:
        np.testing.assert_array_equal(read_image(tmp_path / 'image.png'), want)


def test_palette_of_png_becomes_its_colours(tmp_path, pixels):
    image = Image.fromarray(draw(pixels, (9, 7, 3), np.uint8)).quantize(20)
    image.save(tmp_path / 'image.png')
    np.testing.assert_array_equal(
        read_image(tmp_path / 'image.png'), image.convert('RGB'))
    image.save(tmp_path / 'alpha.png', transparency=bytes(range(20)))
    np.testing.assert_array_equal(
        read_image(tmp_path / 'alpha.png'),
        Image.open(tmp_path / 'alpha.png').convert('RGBA'))
    # libpng would leave a damaged part out that is not needed for colours.
    damaged = bytearray((tmp_path / 'alpha.png').read_bytes())
    damaged[damaged.index(b'tRNS') + 5] ^= 1
    (tmp_path / 'damaged.png').write_bytes(damaged)
    with pytest.raises(ImageFileError, match=r"checksum of its part b'tRNS'"):
        read_image(tmp_path / 'damaged.png')
    # A palette of 19 colours, and pixels of the twentieth.
    content = (tmp_path / 'image.png').read_bytes()
    begin = content.index(b'PLTE')
    part = content[begin:begin + 4 + 57]
    (tmp_path / 'short.png').write_bytes(
        content[:begin - 4] + struct.pack('>I', 57) + part
        + struct.pack('>I', zlib.crc32(part)) + content[begin + 68:])
    with pytest.raises(ImageFileError, match='short.png.*19 colours.* 19'):
        read_image(tmp_path / 'short.png')


@pytest.mark.parametrize('tag', [256, 257])
def test_a_header_that_claims_too_much(tmp_path, tag):
    path = tmp_path / 'image.tif'
    tifffile.imwrite(path, np.zeros((40, 40, 3), np.uint8),
                     photometric='rgb', compression='lzw')
    content = bytearray(path.read_bytes())
    page, = struct.unpack_from('<I', content, 4)
    place = content.index(struct.pack('<H', tag), page)
    struct.pack_into('<HI', content, place + 2, 4, 1)
    struct.pack_into('<I', content, place + 8, 1 << 30)
    path.write_bytes(content)
    with pytest.raises(ImageFileError, match=r'image.tif: its header claims'):
        read_image(path)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('suffix', ['tif', 'big.tif', 'png', 'webp', 'jpg'])
def test_orientation_is_applied_in_every_format(tmp_path, pixels, suffix,
                                                orientation):
    image = np.kron(draw(pixels, (3, 2, 3), np.uint8),
                    np.ones((8, 8, 1), np.uint8))
    path = tmp_path / f'image.{suffix}'
    if 'tif' in suffix:
        tifffile.imwrite(
            path, image, photometric='rgb', bigtiff=suffix == 'big.tif',
            extratags=[(274, 3, 1, orientation, True)])
    else:
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(image).save(path, exif=exif, quality=100, **(
            dict(lossless=True) if suffix == 'webp'
            else dict(subsampling=0) if suffix == 'jpg' else {}))
    read = read_image(path).astype(int)
    shown = Image.fromarray(image)
    shown.getexif()[274] = orientation
    expected = np.array(ImageOps.exif_transpose(shown), int)
    assert read.shape == expected.shape
    assert abs(read - expected).max() <= (8 if suffix == 'jpg' else 0)


def smooth(seed=0):
    coarse = np.random.default_rng(seed).integers(
        0, 255, (8, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (96, 96), interpolation=cv2.INTER_CUBIC)


RGB = Image.fromarray(np.full((64, 64, 3), (200, 100, 160), np.uint8))
FRAMES = [Image.fromarray(smooth(seed)) for seed in range(3)]


def tiff(image, **options):
    return lambda path: tifffile.imwrite(path, image, **options)


def write_two_sizes(path):
    with tifffile.TiffWriter(path) as writer:
        writer.write(np.zeros((9, 7), np.uint8))
        writer.write(np.zeros((4, 3), np.uint8))


def write_pages_elsewhere(path):
    """tifffile fills them with zeros and logs it."""
    tifffile.imwrite(path, np.ones((4, 9, 7), np.uint8), ome=True,
                     photometric='minisblack', metadata={'axes': 'ZYX'})
    path.write_bytes(path.read_bytes().replace(b'SizeZ="4"', b'SizeZ="9"'))


def animate(path):
    FRAMES[0].save(path, save_all=True, append_images=FRAMES[1:])


def to_lab(rgb):
    return ImageCms.applyTransform(
        rgb, ImageCms.buildTransformFromOpenProfiles(
            ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB'),
            'RGB', 'LAB'))


@pytest.mark.parametrize(('name', 'write', 'message'), [
    ('sizes.tif', write_two_sizes, r'several images.*\(9, 7\)'),
    ('pages.tif', tiff(np.zeros((4, 9, 7, 3), np.uint8), photometric='rgb'),
     'at most one axis of channels'),
    ('palette.tif', lambda path: RGB.convert('P').save(path), 'palette'),
    ('cmyk.tif', lambda path: RGB.convert('CMYK').save(path), 'CMYK'),
    ('cmyk.jpg', lambda path: RGB.convert('CMYK').save(path), 'CMYK'),
    ('lab.tif', lambda path: to_lab(RGB).save(path), 'CIELab'),
    ('turned.tif', tiff(np.zeros((4, 4), np.uint8),
                        extratags=[(274, 3, 1, 9, True)]),
     'orientation tag .* 9'),
    ('nan.tif', tiff(np.float32([[0, np.nan]])), '1 of its 2 values are NaN'),
    ('inf.tif', tiff(np.float32([[0, np.inf]])), '1 of its 2 values are NaN'),
    ('alpha.tif', tiff(np.full((9, 7, 4), 90, np.uint8), photometric='rgb',
                       extrasamples=['assocalpha']), 'multiplied by alpha'),
    ('moving.png', animate, 'animated'), ('moving.webp', animate, 'animated'),
    ('a.ome.tif', write_pages_elsewhere, 'missing'),
    ('page.png', lambda path: path.write_text('<html>404'), 'neither TIFF'),
    ('lost.png', lambda path: None, 'No such file'),
    ('folder.png', lambda path: path.mkdir(), 'directory')])
def test_what_is_refused(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(ImageFileError, match=rf'{name}.*{message}'):
        read_image(tmp_path / name)


@pytest.mark.parametrize('in_tiff', [False, True])
def test_damage_inside_a_jpeg_is_refused(tmp_path, in_tiff):
    path = tmp_path / ('a.tif' if in_tiff else 'a.jpg')
    if in_tiff:
        tifffile.imwrite(path, smooth(), photometric='rgb', compression='jpeg')
    else:
        Image.fromarray(smooth()).save(path, quality=90)
    encoded = bytearray(path.read_bytes())
    middle = encoded.index(b'\xff\xda') + 400
    encoded[middle:middle + 100] = bytes(range(100))
    path.write_bytes(encoded)
    with pytest.raises(ImageFileError, match='Corrupt JPEG data'):
        read_image(path)


@pytest.mark.parametrize('trailer', [False, True])
def test_a_progressive_jpeg_without_its_last_scans_is_refused(
        tmp_path, trailer):
    """What libjpeg shows of it is blurred, and no warning is given."""
    path = tmp_path / 'a.jpg'
    Image.fromarray(smooth()).save(path, quality=90, progressive=True)
    whole = path.read_bytes()
    scans = [found.start() for found in re.finditer(b'\xff\xda', whole)]
    assert len(scans) > 5
    for scan in scans[1:]:
        # With the tables that stand in front of the scan.
        end = whole.rindex(b'\xff\xc4', 0, scan)
        path.write_bytes(whole[:end] + b'\xff\xd9' + trailer * whole)
        with pytest.raises(ImageFileError, match='before its last scan'):
            read_image(path)


def test_scans_of_arithmetic_jpegs_are_known(tmp_path):
    """The decoder judges what it may not have been built for."""
    path = tmp_path / 'a.jpg'
    Image.fromarray(smooth()).save(path, quality=90)
    path.write_bytes(path.read_bytes().replace(b'\xff\xc0', b'\xff\xc9', 1))
    with pytest.raises(ImageFileError, match='JPEG'):
        read_image(path)


@pytest.mark.parametrize('compression', ['zlib', 'lzma', 'png'])
def test_damage_that_a_checksum_shows_is_refused(tmp_path, compression):
    path = tmp_path / 'a.tif'
    tifffile.imwrite(path, smooth(), photometric='rgb',
                     compression=compression)
    encoded = bytearray(path.read_bytes())
    encoded[-200:-180] = bytes(20)
    path.write_bytes(encoded)
    with pytest.raises(ImageFileError, match=r'a\.tif'):
        read_image(path)


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'bmp', 'webp', 'tif'])
def test_bytes_behind_the_end_play_no_part(tmp_path, suffix):
    path = tmp_path / f'a.{suffix}'
    Image.fromarray(smooth()).save(path)
    whole = read_image(path)
    with path.open('ab') as file:
        file.write(b'a trailer' * 1000)
    np.testing.assert_array_equal(read_image(path), whole)


@pytest.mark.parametrize(('suffix', 'shape', 'dtype'), [
    ('.png', (4, 6), 'uint16'), ('.png', (4, 6, 2), 'uint8'),
    ('.png', (4, 6, 4), 'uint16'), ('.tif', (4, 6, 3), 'uint16'),
    ('.bmp', (4, 6, 3), 'uint8'), ('.tif', (4, 6, 2), 'uint8'),
    ('.tif', (4, 6, 5), 'uint16'), ('.tif', (4, 6, 3), 'float32'),
    ('.tif', (4, 6), 'float32')])
def test_what_is_written_is_read(tmp_path, pixels, suffix, shape, dtype):
    image = draw(pixels, shape, dtype)
    write_image(tmp_path / f'deep/a{suffix}', image)
    np.testing.assert_array_equal(read_image(tmp_path / f'deep/a{suffix}'),
                                  image.reshape(4, 6, -1))


@pytest.mark.parametrize(('suffix', 'shape', 'dtype'), [
    ('.png', (4, 6), 'float32'), ('.png', (4, 6, 5), 'uint8'),
    ('.jpg', (4, 6, 4), 'uint8'), ('.jpeg', (4, 6, 2), 'uint8'),
    ('.webp', (4, 6), 'uint8'), ('.jpg', (4, 6), 'uint16'),
    ('.tif', (4, 6, 2), 'float64')])
def test_what_a_format_cannot_hold_is_not_written(tmp_path, suffix, shape,
                                                  dtype):
    with pytest.raises(OSError, match=f'{suffix} holds .* {dtype}'):
        write_image(tmp_path / f'a{suffix}', np.zeros(shape, dtype))
    assert not any(tmp_path.iterdir())


def test_error_survives_the_way_from_a_worker():
    error = ImageFileError('Cannot read image a.png: broken')
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(type(error)('a message')) == 'a message'
