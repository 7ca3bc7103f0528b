"""Decode a TIFF as it is stored, and read its tags.

libtiff, through imagecodecs, takes plain files, which is fast. All others go
to tifffile: libtiff knows fewer compressions, and lets damaged Deflate and
JPEG data pass.
"""

import io
import logging
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from mmmedmask.util.checks import check_integer

# TIFF 6.0 tags.
_WIDTH, _HEIGHT = 256, 257
_BITS, _COMPRESSION, _PHOTOMETRIC, _DESCRIPTION, _ORIENTATION = (
    258, 259, 262, 270, 274)
_SAMPLES, _PLANAR, _FORMAT = 277, 284, 339
_ASCII, _SHORT, _LONG = 2, 3, 4
_NONE, _LZW, _JPEG, _ALT_JPEG, _OLD_JPEG, _APERIO_YCC = (
    1, 5, 7, 33007, 6, 33003)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR = 0, 1, 2, 6
_COLOURS = {3: 'a colour palette', 5: 'CMYK', 8: 'CIELab', 9: 'ICCLab',
            10: 'ITULab', 32803: 'the raw mosaic of a camera'}
_JPEG_COLOURS = (('Gray', _BLACK_IS_ZERO, 1), ('Gray', _WHITE_IS_ZERO, 1),
                 ('RGB', _RGB, 3), ('YCbCr', _YCBCR, 3))
_ASSOCIATED_ALPHA = 1
# Of descriptions that tell of more pictures than the pages that are there.
_DESCRIBES_MORE = (b'ImageJ=', b'"truncated"', b'<OME')


def read_tiff(encoded: bytes, max_pixels: int) -> np.ndarray:
    """Decode a TIFF as (H, W) or (H, W, C), pages as channels, unturned.

    ``max_pixels`` is the largest number of values that a header may claim.
    A file that is broken, holds several images, or has other colours than
    gray or RGB raises a ValueError, or what tifffile and its decoders raise.
    """
    tags, next_page = read_tags(encoded)
    size = [(tags or {}).get(tag, 0) for tag in (_HEIGHT, _WIDTH, _SAMPLES)]
    if size[0] * size[1] * max(size[2], 1) > max_pixels:
        raise ValueError(f'its header claims {size[0]} x {size[1]} pixels')
    plain = (
        tags is not None and not next_page
        and tags.get(_COMPRESSION, 1) in (_NONE, _LZW)
        and tags.get(_BITS, 1) in (8, 16) and tags.get(_FORMAT, 1) == 1
        and tags.get(_PLANAR, 1) == 1
        and (tags.get(_SAMPLES, 1), tags.get(_PHOTOMETRIC)) in (
            (1, _BLACK_IS_ZERO), (3, _RGB))
        and not any(hint in tags.get(_DESCRIPTION, b'')
                    for hint in _DESCRIBES_MORE))
    if plain:
        import imagecodecs
        return imagecodecs.tiff_decode(encoded)
    return _read_with_tifffile(encoded, max_pixels)


def orientation_of(encoded: bytes) -> int:
    """Read the orientation, 1 to 8, of a TIFF or EXIF; 1 if it tells none."""
    try:
        tags, _ = read_tags(encoded)
    except (struct.error, ValueError):
        return 1
    if tags is None:
        import tifffile
        with tifffile.TiffFile(io.BytesIO(encoded)) as file:
            value = file.pages.first.tags.valueof(_ORIENTATION, 1)
    else:
        value = tags.get(_ORIENTATION, 1)
    # Some cameras write 0 for unknown.
    if value == 0:
        return 1
    return check_integer('its orientation tag', value, 1, 8)


def read_tags(encoded: bytes) -> tuple[dict | None, int]:
    """Parse the first page's header of a classic TIFF.

    Gives its tags' values, integers (the first of several) and texts, or None
    for BigTIFF; and the offset of the next page, 0 if there is none. A
    truncated header is a struct.error; what is behind it may be missing.
    """
    order = {b'II': '<', b'MM': '>'}.get(encoded[:2])
    if order is None:
        raise ValueError('no TIFF byte order mark')
    (version, ) = struct.unpack_from(order + 'H', encoded, 2)
    if version == 43:
        return None, 0
    if version != 42:
        raise ValueError(f'a TIFF has the version 42 or 43, got {version}')
    (page, ) = struct.unpack_from(order + 'I', encoded, 4)
    (num_tags, ) = struct.unpack_from(order + 'H', encoded, page)
    tags = {}
    for start in range(page + 2, page + 2 + 12 * num_tags, 12):
        tag, kind, count = struct.unpack_from(order + 'HHI', encoded, start)
        size = {_ASCII: 1, _SHORT: 2, _LONG: 4}.get(kind)
        if size is None:
            continue
        where = start + 8
        if size * count > 4:
            (where, ) = struct.unpack_from(order + 'I', encoded, where)
        if kind == _ASCII:
            tags[tag] = encoded[where:where + count]
        else:
            (tags[tag], ) = struct.unpack_from(
                order + ('H' if kind == _SHORT else 'I'), encoded, where)
    end = page + 2 + 12 * num_tags
    # EXIF may end here.
    next_page = (struct.unpack_from(order + 'I', encoded, end)[0]
                 if end + 4 <= len(encoded) else 0)
    return tags, next_page


@contextmanager
def _warnings_are_errors() -> Iterator[None]:
    """Raise what tifffile would only log, such as frames of zeros."""
    records: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        records.append(record.getMessage())
        return False  # It goes to no handler.

    logger = logging.getLogger('tifffile')
    level = logger.level
    logger.setLevel(logging.WARNING)
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
        logger.setLevel(level)
    if records:
        raise ValueError(records[0])


def _read_with_tifffile(encoded: bytes, max_pixels: int) -> np.ndarray:
    """Decode with tifffile; one non-spatial axis becomes the channels."""
    # Imported late: most data sets never need it, and it is slow to import.
    import tifffile
    with _warnings_are_errors(), tifffile.TiffFile(
            io.BytesIO(encoded)) as file:
        if len(file.series) != 1:
            raise ValueError(
                'it holds several images of the shapes '
                f'{[series.shape for series in file.series]}; expected one')
        series = file.series[0]
        page = series.keyframe
        _check_colours(page)
        if math.prod(series.shape) > max_pixels:
            raise ValueError(f'its header claims the shape {series.shape}')
        for part in series.pages:
            _check_segments(part, encoded)
        parts = [_decode_jpegs(part, encoded) for part in series.pages]
        axes = series.axes
        image = (parts[0] if len(parts) == 1 and parts[0] is not None
                 else series.asarray(maxworkers=1))
    image = _to_stored_range(image, page)
    keep = [axis for axis, length in zip(axes, image.shape, strict=True)
            if length > 1 or axis in 'YX']
    others = [axis for axis in keep if axis not in 'YX']
    if 'Y' not in keep or 'X' not in keep or len(others) > 1:
        raise ValueError(f'axes {axes} of shape {series.shape}; expected '
                         'height, width and at most one axis of channels')
    image = image.squeeze(tuple(
        place for place, axis in enumerate(axes) if axis not in keep))
    if not others:
        return image
    image = np.ascontiguousarray(np.moveaxis(image, keep.index(others[0]), -1))
    if _ASSOCIATED_ALPHA in page.extrasamples and (
            image[..., -1] != np.iinfo(image.dtype).max
            if image.dtype.kind == 'u' else image[..., -1] != 1).any():
        raise ValueError('its colours are multiplied by alpha: store them '
                         'without')
    return image


def _check_colours(page) -> None:
    """Refuse what would be taken for gray or RGB and is not."""
    kind, compression = int(page.photometric), int(page.compression)
    jpeg = compression in (_JPEG, _ALT_JPEG, _OLD_JPEG)
    if kind == _YCBCR and not jpeg or compression == _APERIO_YCC \
            and page.is_svs:
        name = 'YCbCr, not as JPEG'
    elif kind in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR):
        return
    else:
        name = _COLOURS.get(kind, f'of the kind {kind}')
    raise ValueError(f'its colours are {name}: convert it to gray or RGB '
                     'first')


def _check_segments(page, encoded: bytes) -> None:
    """See that no strip or tile is missing: tifffile would give zeros."""
    if page is None:
        raise ValueError('pages are missing that its description names')
    offsets, sizes = page.dataoffsets, page.databytecounts
    expected = math.prod(page.keyframe.chunked)
    if page.is_contiguous:
        expected = len(offsets)
    if not len(offsets) == len(sizes) == expected or not all(sizes) or any(
            offset + size > len(encoded)
            for offset, size in zip(offsets, sizes, strict=True)):
        raise ValueError('strips or tiles are missing; it may be truncated')


def _decode_jpegs(page, encoded: bytes) -> np.ndarray | None:
    """Decode a page of 8-bit JPEGs strictly, of usual colours, else None."""
    frame = page.keyframe
    if frame.compression not in (_JPEG, _ALT_JPEG) or frame.bitspersample != 8:
        return None
    import simplejpeg
    tables, colours = page.jpegtables, frame.samplesperpixel
    tall, wide = ((frame.tilelength, frame.tilewidth) if frame.is_tiled
                  else (frame.rowsperstrip, frame.imagewidth))
    image = np.empty((frame.imagelength, frame.imagewidth, colours), np.uint8)
    columns = math.ceil(frame.imagewidth / wide)
    whole = frame.planarconfig == 1 and frame.imagedepth == 1
    for index, (offset, size) in enumerate(
            zip(page.dataoffsets, page.databytecounts, strict=True)):
        data = encoded[offset:offset + size]
        if tables is not None:
            data = tables[:-2] + data[2:]
        kind = simplejpeg.decode_jpeg_header(data)[2]
        whole &= (kind, frame.photometric, colours) in _JPEG_COLOURS
        part = simplejpeg.decode_jpeg(data, 'GRAY' if colours == 1 else 'RGB')
        if whole:
            top, left = index // columns * tall, index % columns * wide
            place = image[top:top + tall, left:left + wide]
            place[:] = part[:place.shape[0], :place.shape[1]]
    return image.reshape(frame.shape) if whole else None


def _to_stored_range(image: np.ndarray, page) -> np.ndarray:
    """Spread few bits over eight, and turn round where white is zero."""
    bits = page.bitspersample
    largest = (1 << bits) - 1
    if image.dtype.kind in 'ub' and bits in (1, 2, 4):
        image = image.astype(np.uint8) * np.uint8(255 // largest)
        largest = 255
    if page.photometric != _WHITE_IS_ZERO:
        return image
    if image.dtype.kind != 'u':
        raise ValueError(f'white is zero, but it holds {image.dtype}')
    return image.dtype.type(largest) - image
