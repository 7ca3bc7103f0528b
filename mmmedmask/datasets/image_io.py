"""Read an image file exactly as it is stored, or say what is wrong.

Shared by the transforms that load tiles and by the converters that check
data sets, so that "readable" means the same in both.
"""

import struct
from pathlib import Path

import cv2
import numpy as np

# Loader workers are the parallelism; threads inside each only compete.
cv2.setNumThreads(0)

IMAGE_EXTENSIONS = ('.tif', '.tiff', '.png', '.jpg', '.jpeg', '.bmp')
"""Extensions (lower case) that :func:`read_image` understands."""

_TIFF_SUFFIXES = ('.tif', '.tiff')
_JPEG_END = b'\xff\xd9'
# TIFF 6.0 tags that decide who decodes a file.
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _FORMAT = (
    258, 259, 262, 277, 284, 339)
_SHORT, _LONG = 3, 4


class ImageFileError(RuntimeError):
    """A file that cannot be used: missing, broken or not as declared.

    The message names the file. It takes the message alone, so that it
    survives the way from a loader worker to the main process.
    """


def read_image(path: str | Path) -> np.ndarray:
    """Read an image in the dtype and with the channels that are stored.

    TIFF (one page, several pages as channels, or interleaved), PNG, JPEG
    and BMP. No conversion takes place: gray stays gray and 16 bit stay
    16 bit. An orientation tag (EXIF) is not applied.

    Args:
        path: The image file.

    Returns:
        Array of shape (H, W, C), C >= 1; three channels are in RGB order,
        four in RGBA order. uint8 or uint16, and for TIFF whatever numeric
        type the file holds.

    Raises:
        ImageFileError: If the file is missing, empty, broken, or holds no
            image that has the shape (H, W, C).
    """
    path = Path(path)
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise ImageFileError(
            f'Cannot open image {path}: {error.strerror or error}'
        ) from error
    if not encoded:
        raise ImageFileError(f'Cannot read image {path}: the file is empty')
    if path.suffix.lower() in _TIFF_SUFFIXES and _needs_tifffile(
            encoded, path):
        return _read_tiff(encoded, path)
    return _read_with_opencv(encoded, path)


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write an image, so that :func:`read_image` gives it back.

    Args:
        path: The file, whose extension says the format; its folder is made
            if need be.
        image: uint8 or uint16, shape (H, W), or (H, W, C) with one channel,
            RGB or RGBA.

    Raises:
        OSError: If the format cannot hold the image.
    """
    path = Path(path)
    if image.ndim == 3 and image.shape[2] > 1:
        image = np.dstack([image[..., 2::-1], image[..., 3:]])
    encodable, encoded = cv2.imencode(path.suffix.lower(), image)
    if not encodable:
        raise OSError(f'Cannot encode {path}')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.tobytes())


def gray_channel(image: np.ndarray) -> np.ndarray:
    """Take the one channel of an image whose colours are equal.

    Args:
        image: Shape (H, W, C). With two or four channels the last one is
            alpha and plays no part.

    Returns:
        Shape (H, W).

    Raises:
        ValueError: If channels differ; the message goes on a sentence that
            begins with the image.
    """
    colours = image[..., :-1] if image.shape[2] in (2, 4) else image
    if (colours != colours[..., :1]).any():
        raise ValueError(f'has colours: {colours.shape[2]} channels that '
                         'differ, expected gray values')
    return colours[..., 0]


def _read_with_opencv(encoded: bytes, path: Path) -> np.ndarray:
    """Decode with OpenCV and bring colours into RGB(A) order."""
    is_jpeg = encoded[:2] == b'\xff\xd8'
    # Some releases of OpenCV fill the missing part of a truncated JPEG with
    # gray instead of failing.
    if is_jpeg and _JPEG_END not in encoded[-4096:]:
        raise ImageFileError(
            f'Cannot read image {path}: the JPEG data is truncated')
    try:
        image = cv2.imdecode(
            np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageFileError(
            f'Cannot read image {path}: {error.err}') from error
    if image is None:
        raise ImageFileError(
            f'Cannot read image {path}: the file is broken or of an '
            'unknown format')
    if image.ndim == 2:
        return image[..., None]
    if image.shape[2] == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if image.shape[2] == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)
    return image


def _needs_tifffile(encoded: bytes, path: Path) -> bool:
    """Say whether OpenCV would lose something of this TIFF.

    OpenCV is the faster one, but reads only the first page, drops channels
    beyond four and inverts nothing. It gets single-page files of 8 or 16
    bit gray or RGB, everything else goes to tifffile.
    """
    try:
        tags, next_page = _first_tiff_page(encoded)
    except (struct.error, KeyError, ValueError) as error:
        raise ImageFileError(
            f'Cannot read image {path}: broken TIFF header '
            f'({error})') from error
    if tags is None or next_page:
        return True
    plain = (
        tags.get(_BITS, 1) in (8, 16) and tags.get(_FORMAT, 1) == 1
        and tags.get(_PLANAR, 1) == 1)
    gray = tags.get(_SAMPLES, 1) == 1 and tags.get(_PHOTOMETRIC) == 1
    # 6 is YCbCr, the usual colour space of JPEG inside TIFF.
    colour = tags.get(_SAMPLES) == 3 and tags.get(_PHOTOMETRIC) in (2, 6)
    return not (plain and (gray or colour))


def _first_tiff_page(encoded: bytes) -> tuple[dict[int, int] | None, int]:
    """Parse the first page's header of a classic TIFF.

    Returns:
        Tag values of the first page (the first value where a tag holds
        several; None for BigTIFF) and the offset of the next page, 0 if
        there is none.
    """
    order = {b'II': '<', b'MM': '>'}.get(encoded[:2])
    if order is None:
        raise ValueError('no TIFF byte order mark')
    (version,) = struct.unpack_from(order + 'H', encoded, 2)
    if version == 43:
        return None, 0
    if version != 42:
        raise ValueError(f'version {version}')
    (page,) = struct.unpack_from(order + 'I', encoded, 4)
    (num_tags,) = struct.unpack_from(order + 'H', encoded, page)
    tags = {}
    for start in range(page + 2, page + 2 + 12 * num_tags, 12):
        tag, kind, count = struct.unpack_from(order + 'HHI', encoded, start)
        if kind not in (_SHORT, _LONG):
            continue
        size = 2 if kind == _SHORT else 4
        where = start + 8
        if size * count > 4:
            (where,) = struct.unpack_from(order + 'I', encoded, where)
        (tags[tag],) = struct.unpack_from(
            order + ('H' if kind == _SHORT else 'I'), encoded, where)
    (next_page,) = struct.unpack_from(
        order + 'I', encoded, page + 2 + 12 * num_tags)
    return tags, next_page


def _read_tiff(encoded: bytes, path: Path) -> np.ndarray:
    """Decode with tifffile; one non-spatial axis becomes the channels."""
    # Imported late: most data sets never need it, and it is slow to import.
    import io

    import tifffile
    try:
        with tifffile.TiffFile(io.BytesIO(encoded)) as file:
            if len(file.series) != 1:
                shapes = [series.shape for series in file.series]
                raise ImageFileError(
                    f'Cannot read image {path}: it holds several images of '
                    f'the shapes {shapes}; expected one')
            series = file.series[0]
            axes, image = series.axes, series.asarray()
            inverted = (
                file.pages[0].photometric
                == tifffile.PHOTOMETRIC.MINISWHITE)
            palette = (
                file.pages[0].photometric == tifffile.PHOTOMETRIC.PALETTE)
    except ImageFileError:
        raise
    # A broken file can make the decoder fail in any way.
    except Exception as error:
        raise ImageFileError(f'Cannot read image {path}: {error}') from error
    if palette:
        raise ImageFileError(
            f'Cannot read image {path}: TIFF with a colour palette; convert '
            'it to RGB first')
    keep = [axis for axis, length in zip(axes, image.shape, strict=True)
            if length > 1 or axis in 'YX']
    image = image.reshape([
        length for axis, length in zip(axes, image.shape, strict=True)
        if axis in keep])
    others = [axis for axis in keep if axis not in 'YX']
    if 'Y' not in keep or 'X' not in keep or len(others) > 1:
        raise ImageFileError(
            f'Cannot read image {path}: axes {axes} of shape {series.shape}; '
            'expected height, width and at most one axis of channels')
    if inverted and image.dtype.kind == 'u':
        image = np.iinfo(image.dtype).max - image
    if not others:
        return image[..., None]
    return np.ascontiguousarray(
        np.moveaxis(image, keep.index(others[0]), -1))
