"""Patches lie on the right picture, or an error says what is missing."""

import sys

import cv2
import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image
from slide_omic_files import draw_bag

from mmmedmask.datasets.slides.slide_features import SlideFeatures
from mmmedmask.datasets.slides.slide_pictures import find_picture
from mmmedmask.datasets.slides.slide_readers import open_slide
from mmmedmask.datasets.slides.tile_stream import TilingOptions, plan_slide
from mmmedmask.datasets.slides.tissue import TissueOptions
from mmmedmask.phantoms.slide_files import write_features
from mmmedmask.phantoms.whole_slides import draw_slide, write_slide
from mmmedmask.visualization.slide_geojson import patch_features
from mmmedmask.visualization.slide_heatmap import PatchPlaces, paint_patches


@pytest.fixture
def make(tmp_path):
    """Write a bag of 9 patches of 64 pixels, which span 192 pixels."""

    def write(layout='trident-h5', name='h5_files/a.h5', **options):
        features, coords = draw_bag(9, 4, patch_size=64)
        path = write_features(tmp_path / name, layout, features, coords,
                              patch_size=64)
        return SlideFeatures(path, **options)

    return write


def test_the_slide_itself_its_thumbnail_or_an_empty_canvas(make, tmp_path):
    pixels = draw_slide((256, 192), [(10, 10, 90, 90)])
    path = write_slide(tmp_path / 'a.tif', pixels)
    picture = find_picture(make(), slide=path, max_side=64)
    assert (picture.size, picture.side) == ((256, 192), 64)
    assert picture.thumbnail.shape == (48, 64, 3)
    picture = find_picture(make('clam-h5'))
    # The distance of neighbours.
    assert (picture.size, picture.side) == ((192, 192), 64)
    assert picture.thumbnail is None
    assert picture.source == 'an empty canvas'
    assert find_picture(make('clam-h5'), patch_size=32).side == 32


def write_clam(path, coords, **attributes):
    path.unlink(missing_ok=True)
    with h5py.File(path, 'w') as file:
        file['features'] = np.zeros((len(coords), 4), np.float32)
        file['coords'] = np.array(coords, np.int32)
        file['coords'].attrs.update(attributes)
    return SlideFeatures(path)


def grid(x, y, count, step=256):
    return [(x + step * i, y + step * j)
            for i in range(count) for j in range(count)]


def test_patches_of_several_pieces_of_tissue(tmp_path):
    """CLAM begins a grid at the box around each piece."""
    path = tmp_path / 'a.h5'
    pieces = grid(1000, 2000, 8) + grid(5013, 2007, 6)
    assert find_picture(write_clam(path, pieces)).side == 256
    # Its own attributes say it, at whatever level they were cut.
    for attributes, side in (
            (dict(patch_size=224, patch_level=0), 224),
            (dict(patch_size=256, patch_level=1, downsample=(4.0, 4.0)), 1024),
            (dict(patch_size=256, patch_level=1), 256)):
        features = write_clam(path, pieces, **attributes)
        assert features.layout == 'clam'
        assert find_picture(features).side == side
    # No two in a row or a column: nothing tells the side.
    with pytest.raises(ValueError, match='give its patch_size'):
        find_picture(write_clam(path, [(1000, 2000), (5013, 2007)]))


@pytest.mark.parametrize('reader', ['openslide', 'tifffile', 'picture'])
def test_marks_on_a_slide_whose_levels_are_uneven(tmp_path, monkeypatch,
                                                  reader):
    """The heat map and GeoJSON lie where the marks were drawn."""
    if reader == 'tifffile':
        monkeypatch.setitem(sys.modules, 'openslide', None)
    height, width = 1203, 1701
    pixels = np.full((height, width, 3), 240, np.uint8)
    marks = [(64, 64), (1472, 960), (704, 512)]
    for x, y in marks:
        pixels[y:y + 64, x:x + 64] = (200, 30, 150)
    path = tmp_path / 'a.tif'
    with tifffile.TiffWriter(path) as file:
        for level in range(4):
            small = cv2.resize(pixels, (width >> level, height >> level),
                               interpolation=cv2.INTER_AREA)
            file.write(small, tile=(64, 64), photometric='rgb',
                       subfiletype=int(level > 0), metadata=None)
    if reader == 'picture':
        path = tmp_path / 'a.png'
        cv2.imwrite(str(path), pixels[..., ::-1])
    coords = [(x, y) for y in range(0, height - 64, 64)
              for x in range(0, width - 64, 64)]
    features = write_clam(tmp_path / 'a.h5', coords, patch_size=64,
                          patch_level=0)
    picture = find_picture(features, path, max_side=300)
    assert picture.size == (width, height)
    pink = (picture.thumbnail[..., 1] < 135)
    scale = picture.thumbnail.shape[1] / width
    values = np.array([float(place in marks) for place in coords])
    places = PatchPlaces(features.coords.numpy(), picture.side, picture.size,
                         (100, 40))
    painted = np.nan_to_num(paint_patches(values, places, pink.shape))
    assert pink.any()
    # Within the pixel at the edge of each mark.
    both = (painted > .5) & pink
    assert both.sum() > .85 * pink.sum()
    assert both.sum() > .85 * (painted > .5).sum()
    assert abs(scale * width - pink.shape[1]) < 1
    # QuPath counts from what was scanned.
    found = patch_features(places, {'x': values})['features']
    corners = [one['geometry']['coordinates'][0][0] for one in found
               if one['properties']['measurements']['x']]
    assert sorted(map(tuple, corners)) == sorted(
        (x - 100, y - 40) for x, y in marks)


LEICA = """<?xml version="1.0"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">
<collection sizeX="384000" sizeY="192000"><barcode/><image>
<creationDate>2010-01-01</creationDate><device model="a" version="1"/>
<pixels sizeX="256" sizeY="192">
<dimension sizeX="256" sizeY="192" r="0" ifd="0"/></pixels>
<view sizeX="128000" sizeY="96000" offsetX="128000" offsetY="32000"/>
<scanSettings><objectiveSettings><objective>20</objective>
</objectiveSettings><illuminationSettings>
<numericalAperture>0.4</numericalAperture>
<illuminationSource>brightfield</illuminationSource>
</illuminationSettings></scanSettings></image></collection></scn>"""


def test_bounds_of_a_scan(make, tmp_path):
    """What OpenSlide tells of a Leica file comes as far as GeoJSON."""
    # 256 x 192 pixels of half a micrometre, in the middle of 768 x 384.
    pixels = draw_slide((256, 192), [(44, 36, 144, 136)])
    path = tmp_path / 'a.scn'
    tifffile.imwrite(
        path, pixels, bigtiff=True, tile=(64, 64), photometric='rgb',
        metadata=None, description=LEICA, resolution=(20_000, 20_000),
        resolutionunit='CENTIMETER')
    reader = open_slide(path)
    assert reader.size == (768, 384)
    assert reader.origin == (256, 64)
    plan = plan_slide(reader, TilingOptions(
        tile_size=32, mpp=.5, tissue=TissueOptions(mpp=2, min_area=0)))
    assert plan.origin == (256, 64)
    assert plan.coords.min(axis=0).tolist() == [288, 96]
    features = make()
    features.close()
    with h5py.File(features.path, 'a') as file:
        file['coords'].attrs.update(level0_bounds_x=256, level0_bounds_y=64)
    assert find_picture(SlideFeatures(features.path)).origin == (256, 64)
    reader.close()
    path = write_slide(tmp_path / 'a.tif', pixels)
    with open_slide(path) as plain:
        assert plain.origin == (0, 0)
    with pytest.raises(ValueError, match=r'tells 0\.5 µm .* but 0\.25 are'):
        find_picture(SlideFeatures(features.path), path, slide_mpp=.25)


def test_a_thumbnail_beside_the_features_is_found(make, tmp_path):
    features = make()
    features.close()
    with h5py.File(features.path, 'a') as file:
        file['coords'].attrs.update(level0_width=400, level0_height=300)
    (tmp_path / 'thumbnails').mkdir()
    place = tmp_path / 'thumbnails' / 'a.png'
    for mode, colour, shown in (
            ('RGB', (1, 2, 3), (1, 2, 3)), ('RGBA', (0, 0, 0, 0), 3 * (255, )),
            ('I;16', 100 * 257, 3 * (100, ))):
        Image.new(mode, (40, 30), colour).save(place)
        picture = find_picture(SlideFeatures(features.path))
        assert picture.thumbnail.shape == (30, 40, 3)
        assert (picture.thumbnail == shown).all(), mode
        assert picture.size == (400, 300)
    place.write_bytes(place.read_bytes()[:-20])
    with pytest.raises(ValueError, match='truncated'):
        find_picture(SlideFeatures(features.path))
    with pytest.raises(FileNotFoundError, match=r'no\.png does not exist'):
        find_picture(SlideFeatures(features.path),
                     thumbnail=tmp_path / 'no.png')


def test_what_is_missing_is_said(make, tmp_path):
    small = write_slide(tmp_path / 's.tif', draw_slide((128, 128), []),
                        levels=1)
    Image.new('RGB', (40, 30)).save(tmp_path / 't.png')
    for layout, options, message in (
            ('npy', {}, 'has no coordinates'),
            ('stamp-h5', {}, 'micrometres: .* slide_mpp'),
            ('trident-h5', dict(slide=small),
             'outside of the slide of 128 x 128'),
            ('clam-h5', dict(thumbnail=tmp_path / 't.png'),
             'does not tell how large the slide')):
        with pytest.raises(ValueError, match=message):
            find_picture(make(layout), **options)
    assert find_picture(make('stamp-h5', mpp=.5)).side == 64
