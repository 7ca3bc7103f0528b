"""Read an image file exactly as it is stored, or say what is wrong."""

import io
import re
import struct
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from mmmedmask.datasets.radiology import (
    HEADER_BYTES,
    StoredImage,
    read_dicom,
    read_nifti,
    split_part,
    stored_kind,
)
from mmmedmask.datasets.tiff_pages import orientation_of, read_tiff
from mmmedmask.util.atomic_files import write_bytes

# Loader workers are the parallelism; threads inside each only compete.
cv2.setNumThreads(0)

IMAGE_EXTENSIONS = ('.tif', '.tiff', '.png', '.jpg', '.jpeg', '.bmp', '.webp')
"""Extensions (lower case) of what :func:`read_image` understands."""

MAX_PIXELS = 1 << 30
"""A header that claims more is taken for a broken one."""

# Of a JPEG, but for those within scans.
_MARKER = re.compile(rb'\xff[^\x00\xff\xd0-\xd8]', re.DOTALL)
_EXIF = b'Exif\0\0'
_STORED_BYTES = 0xffff  # of a block of a deflate stream


class ImageFileError(RuntimeError):
    """A file that cannot be used: missing, broken or not as declared.

    It takes a message alone, which names the file, so that it survives the
    way from a loader worker to the main process.
    """


def read_image(path: str | Path,
               window: str | tuple[float, float] | None = None) -> np.ndarray:
    """Read an image in the dtype and with the channels that are stored.

    What a file is, its first bytes say: TIFF (one page, several pages as
    channels, or interleaved; every compression that tifffile and imagecodecs
    know), PNG, JPEG, BMP, WebP, DICOM or NIfTI. Gray stays gray and 16 bit
    stay 16 bit; gray of 1, 2 or 4 bits is spread over 8. PNG's and BMP's
    palettes become their colours. The orientation tag of a TIFF, or in the
    EXIF of a JPEG, PNG or WebP, is applied: the array is upright, as viewers
    show it. DICOM and NIfTI: see :mod:`mmmedmask.datasets.radiology`.

    Damage is an error wherever a decoder or a checksum can see it; bytes
    behind the end of a picture play no part.

    Args:
        path: The image file; ``FILE#frame=3`` or ``FILE#axial=57`` where a
            DICOM or NIfTI file holds several.
        window: Range of gray values to map to [0, 1]: (center, width), or
            ``'header'`` for a DICOM's or NIfTI's own; None maps nothing.

    Returns:
        Array of shape (H, W, C), C >= 1. One channel is gray, two are gray
        with alpha, three RGB, four RGBA. uint8 or uint16, and for TIFF
        whatever numeric type the file holds; what a DICOM or NIfTI has
        signed or scaled is float32 or float64. With a window float32.
        Floats are finite.

    Raises:
        ImageFileError: If the file is missing, empty or broken, animated,
            holds several images of which none is named, or has other
            colours: CMYK, CIELab, a TIFF with a palette. Or if a window is
            asked for that it cannot have.
    """
    name, part = split_part(path) if '#' in str(path) else (path, None)
    try:
        with open(name, 'rb') as stream:
            return decode_image(stream, path, part, window)
    except OSError as error:
        raise ImageFileError(
            f'Cannot open image {name}: {error.strerror or error}') from error


def decode_image(stream: BinaryIO,
                 name: str | Path,
                 part: tuple[str, int] | None = None,
                 window: str | tuple[float, float] | None = None
                 ) -> np.ndarray:
    """Read an image from an open file, see :func:`read_image`.

    ``name`` is for errors, ``part`` the kind and number of a frame or slice.
    """
    head = stream.read(HEADER_BYTES)
    kind = stored_kind(head)
    # Any decoder may read the rest; a scan is read in parts, where it can be.
    rest = b'' if kind else stream.read()
    try:
        if kind is None:
            if part is not None:
                raise ValueError(
                    'it holds one picture, and no {}={}'.format(*part))
            image = StoredImage(_decode(head + rest)).show(window)
        else:
            stream.seek(0)
            read = read_dicom if kind == 'DICOM' else read_nifti
            image = read(stream, part).show(window)
        if image.dtype.kind in 'fc' and not np.isfinite(image).all():
            raise ValueError(f'{np.count_nonzero(~np.isfinite(image))} of its '
                             f'{image.size} values are NaN or infinite')
    except ModuleNotFoundError:
        raise
    # A broken file can make a decoder fail in any way.
    except Exception as error:
        message = str(error) or type(error).__name__
        raise ImageFileError(f'Cannot read image {name}: {message}') from error
    return image


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write an image, so that :func:`read_image` gives it back.

    Args:
        path: The file, whose extension says the format; its folder is made
            if need be.
        image: uint8 or, for PNG and TIFF, uint16; shape (H, W), or
            (H, W, C) with one channel (not WebP), RGB or RGBA (not JPEG), or
            for PNG gray with alpha. TIFF takes float32 and any number of
            channels, too.

    Raises:
        OSError: If the format cannot hold the image.
    """
    path = Path(path)
    write_bytes(path, encode_image(path.suffix, image), durable=False)


def encode_image(extension: str, image: np.ndarray) -> bytes:
    """Encode an image, see :func:`write_image`; the extension has a dot."""
    extension = extension.lower()
    is_tiff = extension in ('.tif', '.tiff')
    channels = image.shape[2] if image.ndim == 3 else 1
    if is_tiff and (image.dtype == np.float32 or channels not in (1, 3, 4)
                    and image.dtype in (np.uint8, np.uint16)):
        import tifffile
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, image, photometric='minisblack',
                         planarconfig='contig' if channels > 1 else None)
        return buffer.getvalue()
    types = ('uint8', 'uint16') if is_tiff or extension == '.png' else (
        'uint8', )
    counts = {'.png': (1, 2, 3, 4), '.jpg': (1, 3), '.jpeg': (1, 3),
              '.webp': (3, 4)}.get(extension, (1, 3, 4))
    if image.dtype.name not in types or channels not in counts:
        raise OSError(f'{extension} holds {counts} channels of '
                      f'{" or ".join(types)}, got {channels} of {image.dtype}')
    if channels == 2:
        import imagecodecs
        return bytes(imagecodecs.png_encode(np.ascontiguousarray(image)))
    if channels > 1:
        image = np.dstack([image[..., 2::-1], image[..., 3:]])
    encodable, encoded = cv2.imencode(extension, image)
    if not encodable:
        raise OSError(f'OpenCV cannot write {extension}')
    return encoded.tobytes()


def picture_on_white(image: np.ndarray, path: str | Path) -> np.ndarray:
    """Show what :func:`read_image` gives as RGB, uint8 (H, W, 3), on white.

    Raises:
        ImageFileError: If it has other than 8 bits, or channels beside gray
            or RGB that are no alpha, such as the pages of a TIFF.
    """
    channels = image.shape[2]
    if image.dtype != np.uint8 or channels > 4 or (
            channels in (2, 4) and not _has_alpha(path, channels)):
        raise ImageFileError(
            f'{path} has {channels} channels of {image.dtype}, expected gray '
            'or RGB of 8 bits, perhaps with alpha')
    if channels < 3:
        image = image[..., [0, 0, 0, *range(1, channels)]]
    return on_white(image)


def on_white(image: np.ndarray) -> np.ndarray:
    """Put an RGBA picture, uint8 (H, W, 4), on white; leave RGB as it is."""
    alpha = image[..., 3:]
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(image[..., :3])
    share = alpha.astype(np.uint16)
    mixed = image[..., :3] * share + 255 * (255 - share)
    return ((mixed + 127) // 255).astype(np.uint8)


def _has_alpha(path: str | Path, channels: int) -> bool:
    """Whether the last of two or four channels is alpha: TIFF has others."""
    with open(path, 'rb') as file:
        if file.read(2) not in (b'II', b'MM'):
            return True
        import tifffile
        file.seek(0)
        page = tifffile.TiffFile(file).pages.first
    # Writers often leave the kind of the fourth of RGB open.
    return page.samplesperpixel == channels and (
        page.photometric == tifffile.PHOTOMETRIC.RGB if channels == 4
        else bool({1, 2}.intersection(page.extrasamples)))


def gray_channel(image: np.ndarray) -> np.ndarray:
    """Take the one channel (H, W) of an image (H, W, C) of equal colours.

    With two or four channels the last one is alpha and plays no part. If
    channels differ, the error goes on a sentence that begins with the image.
    """
    colours = image[..., :-1] if image.shape[2] in (2, 4) else image
    if (colours != colours[..., :1]).any():
        raise ValueError(f'has colours: {colours.shape[2]} channels that '
                         'differ, expected gray values')
    return colours[..., 0]


def _decode(encoded: bytes) -> np.ndarray:
    """Decode what the first bytes say it is, upright, (H, W, C)."""
    if encoded.startswith(b'\xff\xd8'):
        image, exif = _read_jpeg(encoded)
    elif encoded.startswith(b'\x89PNG\r\n\x1a\n'):
        image, exif = _read_png(encoded)
    elif encoded.startswith(b'RIFF') and encoded[8:12] == b'WEBP':
        image, exif = _read_webp(encoded)
    elif encoded.startswith(b'BM'):
        image, exif = _read_with_opencv(encoded), b''
    elif encoded.startswith((b'II', b'MM')):
        image, exif = read_tiff(encoded, MAX_PIXELS), encoded
    elif not encoded:
        raise ValueError('the file is empty')
    else:
        raise ValueError('it is neither TIFF nor PNG, JPEG, BMP, WebP, DICOM '
                         f'or NIfTI, and begins with {encoded[:16]!r}')
    if image.ndim == 2:
        image = image[..., None]
    return _turn_upright(image, orientation_of(exif))


def _turn_upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Apply TIFF's orientation, 1 to 8, where row 0 and column 0 lie."""
    if orientation == 1:
        return image
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _check_size(height: int, width: int) -> None:
    if not 0 < height * width <= MAX_PIXELS:
        raise ValueError(f'its header claims {height} x {width} pixels')


def _read_jpeg(encoded: bytes) -> tuple[np.ndarray, bytes]:
    """Decode a JPEG; a warning of libjpeg is an error."""
    import simplejpeg
    height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
    _check_size(height, width)
    if colours in ('CMYK', 'YCCK'):
        raise ValueError('its colours are CMYK: convert it to RGB first')
    exif = _check_scans(encoded)
    return simplejpeg.decode_jpeg(
        encoded, 'GRAY' if colours == 'Gray' else 'RGB'), exif


def _check_scans(encoded: bytes) -> bytes:
    """See that no scan of a JPEG is missing, and return its first EXIF.

    libjpeg would show the others. Scans hold components, and if progressive
    some of their 64 coefficients, to a bit that is 0 in the last.
    """
    position, missing, exif = 2, {}, b''
    while marker := _MARKER.search(encoded, position):
        kind, start = marker[0][1], marker.end()
        if kind == 0xd9:
            break
        (length, ) = struct.unpack_from('>H', encoded, start)
        if kind == 0xe1 and encoded.startswith(_EXIF, start + 2):
            exif = exif or encoded[start + 2 + len(_EXIF):start + length]
        elif kind in (0xc0, 0xc1, 0xc2, 0xc9, 0xca):  # Huffman, arithmetic
            first, count = start + 8, encoded[start + 7]
            # A bit per coefficient.
            missing = dict.fromkeys(encoded[first:first + 3 * count:3],
                                    (1 << 64) - 1)
        elif kind == 0xda:
            first, count = start + 3, encoded[start + 2]
            low, high, bits = encoded[first + 2 * count:][:3]
            if bits & 15 == 0:
                for component in encoded[first:first + 2 * count:2]:
                    missing[component] &= ~((2 << high) - (1 << low))
            if not any(missing.values()):
                return exif
        position = start + length
    raise ValueError('the JPEG is truncated: it ends before its last scan')


def _read_png(encoded: bytes) -> tuple[np.ndarray, bytes]:
    """Decode a PNG whose checksums are right."""
    import imagecodecs
    exif, view, position, kind = b'', memoryview(encoded), 8, b''
    colours, pixels = None, []
    while kind != b'IEND':
        if position + 12 > len(view):
            raise ValueError('the PNG is truncated')
        length, kind = struct.unpack_from('>I4s', view, position)
        end = position + 8 + length
        if end + 4 > len(view):
            raise ValueError('the PNG is truncated')
        if imagecodecs.deflate_crc32(
                view[position + 4:end]) != struct.unpack_from(
                    '>I', view, end)[0]:
            raise ValueError(f'the PNG is damaged: the checksum of its part '
                             f'{kind!r} is wrong')
        if kind == b'IHDR':
            _check_size(*struct.unpack_from('>II', view, position + 8))
            has_palette = view[position + 17] == 3
        elif kind == b'PLTE' and has_palette:
            colours = length // 3
        elif kind == b'eXIf':
            exif = bytes(view[position + 8:end])
        elif kind == b'acTL':
            raise ValueError('the PNG is animated')
        elif kind == b'IDAT':
            pixels.append((position, end + 4))
        position = end + 4
    if colours is not None:
        # libpng shows what no colour stands for as black.
        with Image.open(io.BytesIO(encoded)) as indices:
            largest = indices.getextrema()[1]
        if largest >= colours:
            raise ValueError(f'the PNG is damaged: it has {colours} colours, '
                             f'and a pixel has number {largest}')
    return imagecodecs.png_decode(_unpacked_png(encoded, pixels)), exif


def _unpacked_png(encoded: bytes, parts: list[tuple[int, int]]
                  ) -> bytes | bytearray:
    """The PNG with its pixels stored as they are, not compressed.

    libdeflate unpacks twice to three times as fast as the zlib inside of
    libpng. ``parts`` are where the IDAT chunks begin and end. An interlaced
    or odd PNG is returned as it is: libpng then says what is wrong.
    """
    import imagecodecs
    width, height, bits, colours, *_, interlaced = struct.unpack_from(
        '>IIBBBBB', encoded, 16)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colours, 0)
    if interlaced or not channels or any(
            stop != start for (_, stop), (start, _) in pairwise(parts)):
        return encoded
    view = memoryview(encoded)
    packed = b''.join([view[start + 8:stop - 4] for start, stop in parts])
    size = height * (1 + -(-width * channels * bits // 8))
    try:
        raw = imagecodecs.deflate_decode(packed, out=size)
    except imagecodecs.DeflateError:
        return encoded
    # The checksum is at the end: nothing stands behind the pixels.
    if len(raw) != size or packed[-4:] != struct.pack(
            '>I', imagecodecs.deflate_adler32(raw)):
        return encoded
    blocks, whole = [], memoryview(raw)
    for start in range(0, size, _STORED_BYTES):
        block = whole[start:start + _STORED_BYTES]
        blocks += [struct.pack('<BHH', start + len(block) == size, len(block),
                               len(block) ^ 0xffff), block]
    begin, length = parts[0][0], size + 6 + 5 * (len(blocks) // 2)
    stored = bytearray().join([
        view[:begin], struct.pack('>I4s', length, b'IDAT'), b'\x78\x01',
        *blocks, packed[-4:], bytes(4), view[parts[-1][1]:]])
    end = begin + 8 + length
    struct.pack_into('>I', stored, end, imagecodecs.deflate_crc32(
        memoryview(stored)[begin + 4:end]))
    return stored


def _read_webp(encoded: bytes) -> tuple[np.ndarray, bytes]:
    """Decode a WebP that is not an animation."""
    (length, ) = struct.unpack_from('<I', encoded, 4)
    if len(encoded) < length + 8:
        raise ValueError('the WebP is truncated')
    exif, position = b'', 12
    while position + 8 <= length + 8:
        kind = encoded[position:position + 4]
        (size, ) = struct.unpack_from('<I', encoded, position + 4)
        if kind == b'ANIM':
            raise ValueError('the WebP is animated')
        if kind == b'EXIF':
            exif = encoded[position + 8:position + 8 + size]
            exif = exif.removeprefix(_EXIF)
        position += 8 + size + size % 2
    return _read_with_opencv(encoded[:length + 8]), exif


def _read_with_opencv(encoded: bytes) -> np.ndarray:
    """Decode with OpenCV and bring colours into RGB(A) order."""
    try:
        image = cv2.imdecode(
            np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(error.err) from error
    if image is None:
        raise ValueError('the file is broken or truncated')
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3
                             else cv2.COLOR_BGRA2RGBA)
    return image
