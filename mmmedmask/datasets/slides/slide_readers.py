"""Read regions of whole slides: OpenSlide, else tifffile, else a picture.

TIFF that OpenSlide cannot read (OME-TIFF with levels in sub-directories,
strips, gray of 16 bits) is decoded with tifffile by segments, small pictures
as a whole.
"""

import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from mmmedmask.datasets.image_io import (
    ImageFileError,
    on_white,
    picture_on_white,
    read_image,
)
from mmmedmask.datasets.slides.feature_files import PICTURE_SUFFIXES, as_number

# Micrometres per pixel that a microscope can give: a file that says 352.8 has
# a screen's resolution of 72 dots per inch.
_PLAUSIBLE_MPP = (0.05, 20.0)
_TIFF_MAGIC = (b'II*\x00', b'MM\x00*', b'II+\x00', b'MM\x00+')
_CACHED_BYTES = 64 << 20
_UM_PER = {'nm': 1e-3, 'µm': 1.0, 'um': 1.0, 'mm': 1e3, 'cm': 1e4}
# TIFF's PlanarConfiguration, PhotometricInterpretation (black is zero, RGB,
# YCbCr), ExtraSamples (0 is of no kind) and ResolutionUnit.
_SEPARATE = 2
_RGB = 2
_GRAY_OR_RGB = (1, _RGB, 6)
_ASSOCIATED_ALPHA, _ALPHA = 1, 2
_TIFF_UNITS = {2: 25400.0, 3: 10000.0}


class SlideError(ValueError):
    """A slide that cannot be used; the message names it."""


class SlideReader(ABC):
    """An open slide.

    Attributes:
        level_sizes: (width, height) of every level in pixels, finest first.
        downsamples: Pixels of the finest level that one of each level spans.
        origin: (x, y) on the finest level of what the scanner scanned. MIRAX
            and Leica leave much of the slide out (``openslide.bounds``).
        mpp: Micrometres per pixel of the finest level, if the file tells.
        mpp_note: Why the file's own value was not taken, or empty.
    """

    path: Path
    level_sizes: tuple[tuple[int, int], ...]
    downsamples: tuple[float, ...]
    origin: tuple[int, int] = (0, 0)
    mpp: float | None = None
    mpp_note: str = ''

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the finest level."""
        return self.level_sizes[0]

    def read(self, level: int, x: int, y: int, width: int,
             height: int) -> np.ndarray:
        """Read a region as RGB, uint8 (height, width, 3), white beyond it.

        ``x`` and ``y`` are pixels of the finest level, width and height those
        of ``level``. Raises a SlideError if the file is damaged there.
        """
        try:
            return self._read(level, x, y, width, height)
        except SlideError:
            raise
        # Decoders fail in many ways on a damaged file.
        except Exception as error:
            raise SlideError(f'{self.path} is damaged at x {x}, y {y}, level '
                             f'{level} ({error})') from error

    @abstractmethod
    def _read(self, level: int, x: int, y: int, width: int,
              height: int) -> np.ndarray:
        """Read without care for errors."""

    @abstractmethod
    def close(self) -> None:
        """Close the file, or let go of the picture."""

    def __enter__(self) -> 'SlideReader':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _set_levels(self, sizes: list[tuple[int, int]]) -> None:
        self.level_sizes = tuple(sizes)
        width, height = sizes[0]
        self.downsamples = tuple((width / w + height / h) / 2
                                 for w, h in sizes)

    def _set_mpp(self, across: float | None, down: float | None) -> None:
        """Take the file's own value if a microscope can have it."""
        if not across or not down:
            return
        low, high = _PLAUSIBLE_MPP
        if not low <= across <= high or not low <= down <= high:
            self.mpp_note = (f'the file says {across:g} µm per pixel, which '
                             'no microscope has')
        elif abs(across - down) > .01 * across:
            self.mpp_note = (f'the file says {across:g} µm per pixel across '
                             f'and {down:g} down')
        else:
            self.mpp = (across + down) / 2


class OpenSlideReader(SlideReader):
    """A slide read by OpenSlide."""

    def __init__(self, path: Path, slide) -> None:
        self.path = path
        self._slide = slide
        # Levels may be cropped unevenly, so OpenSlide's own values count.
        self.level_sizes = tuple(slide.level_dimensions)
        self.downsamples = tuple(slide.level_downsamples)
        self.origin = tuple(int(slide.properties.get(
            f'openslide.bounds-{axis}', 0)) for axis in 'xy')
        self._set_mpp(*(
            as_number(slide.properties.get(f'openslide.mpp-{axis}'))
            for axis in 'xy'))

    def _read(self, level: int, x: int, y: int, width: int,
              height: int) -> np.ndarray:
        return on_white(np.asarray(
            self._slide.read_region((x, y), level, (width, height))))

    def close(self) -> None:
        self._slide.close()


class TiffReader(SlideReader):
    """A TIFF of gray or RGB, 8 or 16 bit, decoded segment by segment."""

    def __init__(self, path: Path) -> None:
        import tifffile
        self.path = path
        try:
            self._file = tifffile.TiffFile(path)
            levels = self._file.series[0].levels
            pages = [list(level.pages) for level in levels]
        # tifffile fails in many ways on broken files.
        except Exception as error:
            raise SlideError(f'{path} is a broken TIFF ({error})') from error
        try:
            self._pages = [self._check(content) for content in pages]
        except SlideError:
            self._file.close()
            raise
        self._set_levels([(page.imagewidth, page.imagelength)
                          for page in self._pages])
        self._set_mpp(*self._find_mpp())
        self._cache: OrderedDict[tuple, np.ndarray] = OrderedDict()

    def _check(self, pages: list):
        page = pages[0]
        if len(pages) != 1 or page is None or page.imagedepth != 1:
            raise SlideError(f'{self.path} has {len(pages)} planes, expected '
                             'one of gray or RGB')
        if page.dtype not in (np.uint8, np.uint16) or \
                page.samplesperpixel not in (1, 3, 4):
            raise SlideError(
                f'{self.path} has {page.samplesperpixel} channels of '
                f'{page.dtype}, expected gray or RGB of 8 or 16 bit')
        if page.photometric not in _GRAY_OR_RGB:
            raise SlideError(f'{self.path} has colours of the kind '
                             f'{page.photometric!r}, expected gray or RGB')
        if _ASSOCIATED_ALPHA in page.extrasamples:
            raise SlideError(f'{self.path} has colours that are multiplied by '
                             'alpha: store them without')
        _check_orientation(self.path, page.tags.valueof('Orientation', 1))
        return page

    def _find_mpp(self) -> tuple[float | None, float | None]:
        if self._file.is_ome:
            return _mpp_of_ome(self._file.ome_metadata)
        description = self._pages[0].description or ''
        if description.startswith('Aperio') and 'MPP' in description:
            value = as_number(
                description.split('MPP')[1].lstrip(' =').split('|')[0])
            return value, value
        tags = self._pages[0].tags
        unit = _TIFF_UNITS.get(tags.valueof('ResolutionUnit', 2))
        resolutions = [tags.valueof(f'{axis}Resolution') for axis in 'XY']
        if unit is None or None in resolutions:
            return None, None
        return tuple(unit * below / above if above else None
                     for above, below in resolutions)

    def _read(self, level: int, x: int, y: int, width: int,
              height: int) -> np.ndarray:
        page = self._pages[level]
        scale = (self.size[0] / page.imagewidth,
                 self.size[1] / page.imagelength)
        left, top = round(x / scale[0]), round(y / scale[1])
        tall, wide = (
            (page.tilelength, page.tilewidth) if page.is_tiled else
            (min(page.rowsperstrip, page.imagelength), page.imagewidth))
        separate = page.planarconfig == _SEPARATE
        planes = page.samplesperpixel if separate else 1
        region = np.full((height, width, page.samplesperpixel), 255, np.uint8)
        bottom = min(top + height, page.imagelength)
        right = min(left + width, page.imagewidth)
        rows = math.ceil(page.imagelength / tall)
        columns = math.ceil(page.imagewidth / wide)
        for row in range(max(top, 0) // tall, math.ceil(bottom / tall)):
            for column in range(max(left, 0) // wide, math.ceil(right / wide)):
                for plane in range(planes):
                    index = (plane * rows + row) * columns + column
                    segment = self._segment(level, page, index)
                    if segment is None:
                        continue
                    y0, x0 = row * tall, column * wide
                    channels = (slice(plane, plane + 1) if separate
                                else slice(None))
                    # Tiles go on behind the page.
                    _paste(region[..., channels], x0 - left, y0 - top, segment[
                        :page.imagelength - y0, :page.imagewidth - x0])
        if region.shape[2] == 1:
            return np.repeat(region, 3, axis=2)
        return on_white(region if _ALPHA in page.extrasamples
                        else region[..., :3])

    def _segment(self, level: int, page, index: int) -> np.ndarray | None:
        """Decode a tile or a strip, or take it from those last used."""
        key = (level, index)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        length = page.databytecounts[index]
        if not length:
            return None
        handle = self._file.filehandle
        handle.seek(page.dataoffsets[index])
        data = handle.read(length)
        if len(data) != length:
            raise SlideError(f'{self.path} is truncated: segment {index} of '
                             f'level {level} is missing')
        segment = page.decode(data, index, jpegtables=page.jpegtables)[0]
        if segment is None:
            return None
        segment = _eight_bit(segment[0])
        self._cache[key] = segment
        while len(self._cache) * segment.nbytes > _CACHED_BYTES and len(
                self._cache) > 1:
            self._cache.popitem(last=False)
        return segment

    def close(self) -> None:
        self._file.close()


class PictureReader(SlideReader):
    """A small picture, read as a whole: on white, 8 bit, without mpp."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._pixels = picture_on_white(_eight_bit(read_image(path)), path)
        except ImageFileError as error:
            raise SlideError(
                f'{path} cannot be read as a picture ({error})') from error
        self._set_levels([self._pixels.shape[1::-1]])

    def _read(self, level: int, x: int, y: int, width: int,
              height: int) -> np.ndarray:
        region = np.full((height, width, 3), 255, np.uint8)
        _paste(region, -x, -y, self._pixels)
        return region

    def close(self) -> None:
        self._pixels = None


def open_slide(path: str | Path) -> SlideReader:
    """Open a slide with the first reader that can, or raise a SlideError."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'The slide {path} does not exist')
    with path.open('rb') as file:
        begin = file.read(8)
    if not begin:
        raise SlideError(f'{path} is empty (0 bytes)')
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return PictureReader(path)
    is_tiff = begin.startswith(_TIFF_MAGIC)
    try:
        import openslide
    except ModuleNotFoundError as error:
        if is_tiff:
            return TiffReader(path)
        raise SlideError(
            f'{path} needs OpenSlide, which is not installed: pip install '
            'openslide-python openslide-bin') from error
    kind = openslide.OpenSlide.detect_format(path)
    if kind == 'generic-tiff':
        is_misread, orientation = _look_into(path)
        _check_orientation(path, orientation)
        kind = None if is_misread else kind
    if is_tiff and kind is None:
        return TiffReader(path)
    if kind is None:
        raise SlideError(f'{path} can be read neither by OpenSlide nor by '
                         f'tifffile: it begins with {begin!r}')
    try:
        return OpenSlideReader(path, openslide.OpenSlide(path))
    except openslide.OpenSlideError as error:
        if kind == 'generic-tiff' and 'compression' in str(error):
            return TiffReader(path)
        raise SlideError(f'{path} cannot be opened by OpenSlide, it may be '
                         f'truncated ({error})') from error


def _paste(region: np.ndarray, x: int, y: int, pixels: np.ndarray) -> None:
    """Put what fits of pixels, whose corner is (x, y) of it, into a region."""
    left, top = max(x, 0), max(y, 0)
    height, width = region.shape[:2]
    inside = pixels[top - y:max(height - y, 0), left - x:max(width - x, 0)]
    region[top:top + inside.shape[0], left:left + inside.shape[1]] = inside


def _look_into(path: Path) -> tuple[bool, int]:
    """Whether OpenSlide would misread a TIFF, and its orientation."""
    import tifffile
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            # Of OME-TIFF it would see the finest level alone, without mpp; of
            # gray of 16 bits what is in cut-off tiles on the right as black;
            # of RGB and something else, often 0, the latter as alpha.
            return (file.is_ome or page.samplesperpixel == 1
                    and page.bitspersample > 8 or page.samplesperpixel == 4
                    and page.photometric == _RGB
                    and not any(page.extrasamples),
                    page.tags.valueof('Orientation', 1))
    # What is wrong with it, OpenSlide may say better.
    except Exception:
        return False, 1


def _check_orientation(path: Path, orientation: int) -> None:
    """Refuse a slide that is turned: OpenSlide turns each tile by itself."""
    if orientation > 1:
        raise SlideError(
            f'{path} has the orientation {orientation}, which is not applied '
            'to slides: store it upright, with orientation 1')


def _mpp_of_ome(xml: str) -> tuple[float | None, float | None]:
    """Read the size of a pixel from OME-XML; its unit is µm by default."""
    for element in ElementTree.fromstring(xml).iter():
        if element.tag.rpartition('}')[2] == 'Pixels':
            return tuple(
                size * _UM_PER.get(
                    element.get(f'PhysicalSize{axis}Unit', 'µm'), 0)
                if (size := as_number(element.get(f'PhysicalSize{axis}')))
                else None for axis in 'XY')
    return None, None


def _eight_bit(pixels: np.ndarray) -> np.ndarray:
    """Scale 16 bit to 8, by the range of the type."""
    if pixels.dtype != np.uint16:
        return pixels
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
