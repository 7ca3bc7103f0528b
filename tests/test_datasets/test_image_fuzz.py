"""Drawn, cut and damaged image files: the right pixels, or an error.

What is right, another reader says: the array that was written, or Pillow's
and tifffile's reading of the same bytes.
"""

import io
import logging

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmmedmask.datasets.image_io import ImageFileError, read_image

QUICK = settings(max_examples=30, deadline=None, derandomize=True,
                 suppress_health_check=[HealthCheck.function_scoped_fixture])
IMAGE = np.random.default_rng(0).integers(0, 256, (29, 33, 3), np.uint8)
IMAGE[8:20, 5:28] = (200, 90, 140)
PICTURE = Image.fromarray(IMAGE)


def encode_pillow(image, suffix, **options):
    buffer = io.BytesIO()
    image.save(buffer, suffix, **options)
    return buffer.getvalue()


def encode_tiff(image, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, **options)
    return buffer.getvalue()


FILES = {
    'png': encode_pillow(PICTURE, 'png'),
    'palette': encode_pillow(PICTURE.quantize(20), 'png', transparency=7),
    'jpeg': encode_pillow(PICTURE, 'jpeg'),
    'bmp': encode_pillow(PICTURE, 'bmp'),
    'webp': encode_pillow(PICTURE, 'webp', lossless=True),
    'strips': encode_tiff(IMAGE, photometric='rgb', rowsperstrip=8),
    **{name: encode_tiff(IMAGE, photometric='rgb', tile=(16, 16),
                         compression=name)
       for name in ('lzw', 'zlib', 'zstd', 'lzma', 'jpeg2000', 'jpegxl')},
    'jpeg in tiff': encode_tiff(
        IMAGE, photometric='rgb', tile=(16, 16), compression='jpeg'),
}
CHECKED = ('png', 'palette', 'zlib')
"""Formats in which a checksum covers the pixels."""


def read(folder, encoded):
    """The pixels, or None after an error that names the file."""
    path = folder / 'image.bin'
    path.write_bytes(encoded)
    try:
        image = read_image(path)
    except ImageFileError as error:
        if str(path) not in str(error):
            raise
        return None
    assert image.ndim == 3
    assert image.size
    return image


@QUICK
@given(data=st.data())
def test_drawn_tiff_is_what_was_written(tmp_path, data):
    dtype = np.dtype(data.draw(st.sampled_from(
        ['uint8', 'uint16', 'int16', 'uint32', 'float32', 'float64'])))
    channels = data.draw(st.sampled_from([1, 3, 4, 6]))
    height, width = (data.draw(st.integers(1, 40)) for _ in range(2))
    compression = data.draw(st.sampled_from(
        [None, 'lzw', 'zlib', 'zstd', 'lzma', 'packbits']))
    image = np.random.default_rng(height).integers(
        0, 120, (height, width, channels)).astype(dtype)
    layout = data.draw(st.sampled_from([
        {}, {'rowsperstrip': 4}, {'tile': (16, 16)}]))
    planes = channels > 1 and data.draw(st.booleans())
    white = channels == 1 and dtype.kind == 'u' and data.draw(st.booleans())
    encoded = encode_tiff(
        np.moveaxis(image, 2, 0) if planes else
        image if channels > 1 else image[..., 0], compression=compression,
        photometric='rgb' if channels == 3 else
        'miniswhite' if white else 'minisblack',
        planarconfig=('separate' if planes else 'contig')
        if channels > 1 else None,
        byteorder=data.draw(st.sampled_from('<>')),
        bigtiff=data.draw(st.booleans()),
        predictor=compression in ('lzw', 'zlib')
        and dtype.kind in 'ui' and data.draw(st.booleans()), **layout)
    if white:
        image = np.iinfo(dtype).max - image
    assert np.array_equal(read(tmp_path, encoded), image)


@pytest.mark.parametrize('name', FILES)
@QUICK
@given(share=st.floats(0, 1, exclude_max=True))
def test_truncated_file_is_an_error(tmp_path, name, share):
    encoded = FILES[name]
    assert read(tmp_path, encoded[:int(share * len(encoded))]) is None


@pytest.mark.parametrize('name', FILES)
@QUICK
@given(changes=st.lists(st.tuples(st.integers(0, 299), st.integers(0, 255)),
                        min_size=1, max_size=3))
def test_damaged_header(tmp_path, name, changes):
    """Read as another reader reads it, or refused."""
    damaged = bytearray(FILES[name])
    for place, value in changes:
        damaged[place] = value
    image = read(tmp_path, damaged)
    if image is None or np.array_equal(image, read(tmp_path, FILES[name])):
        return
    assert name not in CHECKED[:2]
    try:
        expected = list(other_reading(bytes(damaged)))
    # We may read what the other one does not.
    except Exception:
        return
    assert any(np.array_equal(image, other) for other in expected)


def other_reading(encoded):
    """What tifffile or Pillow reads, in the ways it may be shown."""
    if encoded[:2] not in (b'II', b'MM'):
        with Image.open(io.BytesIO(encoded)) as file:
            if file.mode in ('P', '1'):
                file = file.convert('RGB')
            image = np.asarray(file)
            yield image if image.ndim == 3 else image[..., None]
        return
    logging.getLogger('tifffile').setLevel(logging.CRITICAL)
    with tifffile.TiffFile(io.BytesIO(encoded)) as file:
        image, page = file.series[0].asarray(), file.pages.first
        orientation = page.tags.valueof(274, 1)
    image = image.squeeze()
    if image.ndim == 2:
        image = image[..., None]
    if page.bitspersample in (1, 2, 4):
        image = image.astype(np.uint8) * (255 // (2**page.bitspersample - 1))
    for shown in (image, np.moveaxis(image, 0, -1)):
        for way in (shown, np.iinfo(shown.dtype).max - shown
                    if shown.dtype.kind == 'u' else shown):
            if orientation <= 1:
                yield way
            else:
                for flipped in (way, way.swapaxes(0, 1)):
                    for turns in range(4):
                        yield np.rot90(flipped, turns)


@pytest.mark.parametrize('name', CHECKED)
@QUICK
@given(place=st.floats(0, .95), value=st.integers(1, 255))
def test_a_changed_byte_that_a_checksum_covers(tmp_path, name, place, value):
    damaged = bytearray(FILES[name])
    # A TIFF has none for its header.
    first = 300 if name == 'zlib' else 33
    damaged[first + int(place * (len(damaged) - first))] ^= value
    image = read(tmp_path, damaged)
    assert image is None or np.array_equal(image, read(tmp_path, FILES[name]))
