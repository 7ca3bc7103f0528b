"""Tiles lie where they should, at the resolution they should have."""

import re

import cv2
import numpy as np
import pytest

from mmmedmask.datasets.slides.slide_readers import SlideError, open_slide
from mmmedmask.datasets.slides.tile_stream import TilingOptions, plan_slide
from mmmedmask.datasets.slides.tiling import (
    plan_tiles,
    read_overview,
    read_tile,
    tile_grid,
    tissue_shares,
)
from mmmedmask.datasets.slides.tissue import TissueOptions, find_tissue
from mmmedmask.phantoms.whole_slides import draw_slide, write_slide

BOX = (256, 128, 768, 512)


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    pixels = draw_slide((1024, 768), [BOX])
    path = tmp_path_factory.mktemp('slide') / 'a.tif'
    return pixels, write_slide(path, pixels, mpp=1.0)


def block_means(pixels, x, y, side, size):
    """Average blocks of pixels, with loops."""
    step = side // size
    tile = np.empty((size, size, 3))
    for row in range(size):
        for column in range(size):
            block = pixels[y + row * step:y + (row + 1) * step,
                           x + column * step:x + (column + 1) * step]
            tile[row, column] = block.astype(float).mean(axis=(0, 1))
    return tile


@pytest.mark.parametrize(('mpp', 'level', 'tolerance'), [
    (1.0, 0, 0), (2.0, 1, .51), (3.0, 1, 3.1), (4.0, 2, 1.5), (8.0, 2, 1.5)])
def test_a_tile_is_the_average_of_its_pixels(drawn, mpp, level, tolerance):
    pixels, path = drawn
    with open_slide(path) as slide:
        geometry = plan_tiles(slide, 16, mpp)
        assert (geometry.level, geometry.side) == (level, 16 * mpp)
        assert geometry.mpp == mpp
        x, y = 240, 112
        tile = read_tile(slide, geometry, x, y)
    assert tile.shape == (16, 16, 3)
    wanted = block_means(pixels, x, y, geometry.side, 16)
    # Levels are rounded, and so is the tile; at 3.0, whole pixels of level 1
    # reach over the edges of what a pixel of the tile covers.
    assert np.abs(tile - wanted).max() <= tolerance


def test_resolutions_that_are_no_multiples(drawn):
    with open_slide(drawn[1]) as slide:
        # What the file tells must not be contradicted.
        assert plan_tiles(slide, 100, 1.0, slide_mpp=1.01).slide_mpp == 1.0
        with pytest.raises(SlideError, match=r'a\.tif tells 1 µm per pixel, '
                           r'but 0\.5 are given \(--slide-mpp'):
            plan_tiles(slide, 100, 1.0, slide_mpp=.5)
        for given, counts in ((.5, .5), (None, 1.0)):
            assert plan_tiles(slide, 100, 1.0, slide_mpp=given,
                              trust_slide_mpp=True).slide_mpp == counts
        slide.mpp = None
        geometry = plan_tiles(slide, 100, .5, slide_mpp=.2525, overlap=10)
        slide.mpp = 1.0
        assert (geometry.side, geometry.step, geometry.level) == (198, 178, 0)
        assert geometry.mpp == pytest.approx(.5, rel=.003)
        # A level that is 2.0005 times coarser counts as twice.
        slide.downsamples = (1.0, 2.0005, 4.1)
        assert plan_tiles(slide, 100, 2.0).level == 1
        assert plan_tiles(slide, 100, 1.9).level == 0
        assert plan_tiles(slide, 100, 4.0).level == 1
        # 5 % are made up without a word, more only if asked for.
        assert plan_tiles(slide, 100, .96).side == 96
        geometry = plan_tiles(slide, 100, .5, allow_enlarging=True)
        assert geometry.side == 50
        assert read_tile(slide, geometry, 0, 0).shape == (100, 100, 3)


@pytest.mark.parametrize(('options', 'message'), [
    (dict(tile_size=0), 'tile_size must be at least 1, got 0'),
    (dict(mpp=0), 'mpp must be positive, got 0'),
    (dict(overlap=16), r'overlap must be in \[0, 15\], got 16'),
    (dict(slide_mpp=-1), 'slide_mpp must be positive, got -1'),
    (dict(mpp=.5), re.escape(
        'has 1 µm per pixel, which is coarser than tiles of 0.5: ask for '
        '--mpp 1 or more, or let pixels be made up with --allow-enlarging')),
])
def test_bad_geometry_is_explained(drawn, options, message):
    with open_slide(drawn[1]) as slide, pytest.raises(
            ValueError, match=message):
        plan_tiles(slide, **{'tile_size': 16, 'mpp': 1.0, **options})


def test_a_missing_resolution_names_the_option(drawn):
    with open_slide(drawn[1]) as slide:
        slide.mpp, slide.mpp_note = None, 'the file says 264 µm per pixel'
        with pytest.raises(SlideError, match=re.escape(
                'a.tif: how many µm a pixel is wide is not known (the file '
                'says 264 µm per pixel); give it with --slide-mpp, or in the '
                'column mpp of the csv')):
            plan_tiles(slide, 16, 1.0)


def test_grid_has_whole_tiles_row_by_row(drawn):
    with open_slide(drawn[1]) as slide:
        coords = tile_grid((70, 50), plan_tiles(slide, 20, 1.0, overlap=5))
        assert coords.dtype == np.int32
        assert coords.tolist() == [[x, y] for y in (0, 15, 30)
                                   for x in (0, 15, 30, 45)]
        assert tile_grid((19, 50), plan_tiles(slide, 20, 1.0)).shape == (0, 2)


def test_shares_are_exact_areas():
    random = np.random.default_rng(0)
    mask = random.random((9, 13)) < .5
    size = (13 * 7, 9 * 7)
    # Every pixel of the slide is a part of one pixel of the mask.
    fine = np.kron(mask, np.ones((7, 7)))
    coords = np.stack([random.integers(0, 71, 40), random.integers(0, 43, 40)
                       ], axis=1)
    wanted = [fine[y:y + 20, x:x + 20].mean() for x, y in coords]
    np.testing.assert_allclose(tissue_shares(mask, coords, 20, size), wanted,
                               atol=1e-12)


def test_overview_is_the_slide_in_small(drawn, monkeypatch):
    from mmmedmask.datasets.slides import tiling
    pixels, path = drawn
    wanted = cv2.resize(pixels, (128, 96), interpolation=cv2.INTER_AREA)
    with open_slide(path) as slide:
        whole = read_overview(slide, 8.0)
        assert np.abs(whole.astype(int) - wanted).max() <= 1
        monkeypatch.setattr(tiling, '_STRIPE_PIXELS', 4000)
        np.testing.assert_array_equal(read_overview(slide, 8.0), whole)
        assert read_overview(slide, 7.3).shape == (105, 140, 3)
        with pytest.raises(ValueError, match='downsample must be positive'):
            read_overview(slide, 0)


@pytest.mark.parametrize('layout', ['pyramid', 'ome', 'strips'])
def test_exactly_the_tiles_of_the_tissue_are_kept(drawn, tmp_path, layout):
    pixels, _ = drawn
    path = write_slide(tmp_path / 'a.tif', pixels, 1.0, layout=layout)
    wanted = [[x, y] for y in range(128, 512, 128)
              for x in range(256, 768, 128)]
    options = TilingOptions(tile_size=64, mpp=2.0)
    with open_slide(path) as slide:
        plan = plan_slide(slide, options)
        assert plan.coords.tolist() == wanted
        assert plan.size == (1024, 768)
        assert plan.thumbnail.shape == (768, 1024, 3)
        # The same slide, said to be twice as coarse: sides of 64.
        slide.mpp = None
        half = plan_slide(slide, options, slide_mpp=2.0)
        slide.mpp = 1.0
        assert half.geometry.side == 64
        assert len(half.coords) == 4 * len(wanted)
        # Tiles of 192: those of the first row begin 128 above the tissue.
        options = TilingOptions(tile_size=192, mpp=1.0, min_tissue=.9)
        assert plan_slide(slide, options).coords.tolist() == [[384, 192],
                                                              [576, 192]]
        options = TilingOptions(tile_size=192, mpp=1.0, min_tissue=.6)
        assert plan_slide(slide, options).coords.tolist() == [
            [192, 192], [384, 192], [576, 192], [384, 384], [576, 384]]


@pytest.mark.parametrize(('kind', 'change', 'message'), [
    (TilingOptions, dict(min_tissue=0), r'min_tissue must be in \(0, 1\]'),
    (TissueOptions, dict(mpp=0), 'mpp must be positive'),
    (TissueOptions, dict(saturation=300), r'saturation .* in \[0, 255\]'),
    (TissueOptions, dict(saturation_limits=(40, 10)), r'\(low, high\)'),
    (TissueOptions, dict(median=4), 'median must be odd'),
    (TissueOptions, dict(min_area=-1), 'min_area must be at least 0'),
    (TissueOptions, dict(ink=-1), 'ink must be at least 0')])
def test_options_are_checked(kind, change, message):
    with pytest.raises(ValueError, match=message):
        kind(**change)


def test_tissue_is_what_is_colourful_and_large_enough():
    options = TissueOptions()
    pixels = draw_slide((200, 150), [(20, 30, 120, 130)])
    pixels[60:64, 60:64] = 244
    pixels[90:110, 90:110] = 244
    pixels[5:12, 150:157] = (196, 96, 160)
    pixels[70:100, 150:180] = (18, 2, 4)
    tissue = find_tissue(pixels, options)
    assert tissue[62, 62]
    assert not tissue[100, 100]
    assert not tissue[:, 125:].any()
    assert not tissue[:, :18].any()
    inside = tissue[33:127, 23:117].copy()
    inside[55:79, 65:89] = True
    assert inside.all()
    # A piece of 7 x 7 pixels of 8 µm has 0.0031 mm².
    small = find_tissue(pixels, TissueOptions(min_area=.002, median=1))
    assert small[8, 153]


@pytest.mark.parametrize(('glass', 'on_it'), [
    *((glass, True) for glass in (
        (240, 240, 240), (240, 238, 228), (240, 235, 205), (235, 225, 180),
        (230, 210, 150), (225, 228, 215), (255, 250, 220))),
    *((glass, False) for glass in (
        (225, 235, 245), (245, 235, 240), (230, 242, 232), (240, 215, 170)))])
def test_tinted_glass_is_no_tissue(glass, on_it):
    random = np.random.default_rng(0)
    noise = random.normal(0, 3, (300, 400, 3))
    blank = np.clip(np.array(glass) + noise, 0, 255).astype(np.uint8)
    assert find_tissue(blank, TissueOptions()).mean() < .01
    if not on_it:
        return
    # Glass that is tinted below the cover slip alone.
    blank[:, :150] = np.clip(242 + noise[:, :150], 0, 255)
    assert find_tissue(blank, TissueOptions()).mean() < .01
    # Stains, seen through it: haematoxylin and eosin, eosin, a pale one, DAB.
    for stain in ((196, 96, 160), (230, 150, 170), (225, 190, 215),
                  (150, 110, 75)):
        seen = np.array(stain) * np.array(glass) / 255
        picture = blank.copy()
        picture[100:200, 200:300] = np.clip(
            seen + noise[100:200, 200:300], 0, 255)
        tissue = find_tissue(picture, TissueOptions())
        assert tissue[105:195, 205:295].mean() > .98
        tissue[95:205, 195:305] = False
        assert tissue.mean() < .01


@pytest.mark.parametrize('ink', [
    (30, 60, 180), (90, 150, 220), (20, 40, 90), (30, 130, 70), (0, 110, 140)])
def test_ink_is_no_tissue_and_stains_are(ink):
    random = np.random.default_rng(0)
    picture = np.full((300, 400, 3), 242.)
    picture[20:60, 20:380] = ink
    # Nuclei, eosin, both, blood, DAB, and blue nuclei beside it.
    stains = [(90, 60, 130), (230, 140, 170), (150, 90, 160), (200, 70, 80),
              (150, 100, 60), (160, 170, 205), (130, 120, 185)]
    for place, stain in enumerate(stains):
        picture[100:200, 50 * place + 20:50 * place + 70] = stain
    # A line across tissue.
    picture[140:155, 20:370] = ink
    picture = np.clip(picture + random.normal(0, 3, picture.shape), 0, 255)
    tissue = find_tissue(picture.astype(np.uint8), TissueOptions())
    assert tissue[23:57, 23:377].mean() < .01
    assert tissue[143:152, 23:367].mean() < .01
    for part in (tissue[103:137, 23:367], tissue[158:197, 23:367]):
        assert part.mean() > .98
    if ink[2] > ink[1]:
        counted = find_tissue(picture.astype(np.uint8), TissueOptions(ink=0))
        assert counted[23:57, 23:377].mean() > .98


def test_pale_tissue_of_uneven_stain_is_found():
    random = np.random.default_rng(0)
    picture = np.clip(243 + random.normal(0, 2, (400, 400, 3)), 0, 255)
    stain = np.clip(random.normal(30, 15, (200, 200, 1)), 0, 90) / 255
    picture[100:300, 100:300] = 235 * (1 - stain * np.array([0, 1, .3]))
    tissue = find_tissue(picture.astype(np.uint8), TissueOptions())
    assert tissue[100:300, 100:300].mean() > .98
    tissue[95:305, 95:305] = False
    assert not tissue.any()


def test_slides_without_glass_or_without_tissue():
    options = TissueOptions()
    assert not find_tissue(draw_slide((90, 80), []), options).any()
    assert not find_tissue(np.zeros((80, 90, 3), np.uint8), options).any()
    full = draw_slide((90, 80), [(0, 0, 90, 80)])
    # Two stains: Otsu's threshold alone would call one of them glass.
    full[:, :45] = (228, 190, 210)
    assert find_tissue(full, options).all()
    pale = draw_slide((90, 80), [])
    pale[:] = (240, 228, 236)
    assert find_tissue(pale, TissueOptions(saturation=5)).all()
