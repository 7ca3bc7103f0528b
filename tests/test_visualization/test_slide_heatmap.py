"""Heat maps and GeoJSON show the right value at the right place."""

import json
from operator import call

import matplotlib
import numpy as np
import pytest
from refusals import refuses

from mmmedmask.util.atomic_files import write_json
from mmmedmask.visualization import kept_tiles
from mmmedmask.visualization.slide_geojson import patch_features
from mmmedmask.visualization.slide_heatmap import (
    PatchMap,
    PatchPlaces,
    color_levels,
    draw_slide_heatmaps,
    paint_patches,
    percentile_ranks,
)

PLACES = PatchPlaces(np.array([[0, 0], [100, 0], [200, 100]]), 100, (400, 200))


def naive_rank(values, value):
    others = len(values) - 1
    smaller = sum(other < value for other in values)
    equal = sum(other == value for other in values) - 1
    return (smaller + equal / 2) / others


def test_percentile_ranks_are_those_of_a_naive_count():
    values = np.random.default_rng(0).integers(0, 9, 40).astype(float)
    np.testing.assert_allclose(percentile_ranks(values),
                               [naive_rank(values, value) for value in values])
    assert percentile_ranks(np.array([3., 1., 2.])).tolist() == [1, 0, .5]
    assert percentile_ranks(np.ones(5)).tolist() == [.5] * 5
    assert percentile_ranks(np.ones(1)).tolist() == [.5]
    assert percentile_ranks(np.ones(0)).tolist() == []


def test_levels_follow_the_scale():
    values = np.array([1., 2., 11.])
    assert color_levels(values, 'minmax').tolist() == [0, .1, 1]
    assert color_levels(values, 'percentile').tolist() == [0, .5, 1]
    assert color_levels(np.array([-.1, .3]), 'probability').tolist() == [0, .3]
    assert color_levels(np.full(3, 7.), 'minmax').tolist() == [.5] * 3


def test_patches_are_painted_where_they_are_and_overlaps_averaged():
    painted = paint_patches(np.array([.1, .2, .3]), PLACES, (20, 40))
    wanted = np.full((20, 40), np.nan)
    wanted[:10, :10], wanted[:10, 10:20], wanted[10:, 20:30] = .1, .2, .3
    np.testing.assert_allclose(painted, wanted)
    overlapping = PatchPlaces(np.array([[0, 0], [50, 0]]), 100, (400, 200))
    painted = paint_patches(np.array([0., 1.]), overlapping, (20, 40))
    np.testing.assert_allclose(painted[0, :16],
                               [0] * 5 + [.5] * 5 + [1] * 5 + [np.nan])
    # A patch smaller than a pixel is seen, also at the edge.
    for corner in ([390, 190], [396, 197]):
        tiny = PatchPlaces(np.array([corner]), 2, (400, 200))
        assert np.isfinite(paint_patches(np.ones(1), tiny, (20, 40)))[-1, -1]


def test_colours_on_an_empty_canvas_are_those_of_the_scale():
    values = np.array([0., 1., 2.])
    sheet = draw_slide_heatmaps(
        None, [PatchMap('Attention', values, 'minmax')], PLACES, 'slide',
        max_side=400)
    wanted = [tuple(np.round(255 * np.array(
        matplotlib.colormaps['inferno'](level)[:3])).astype(int))
        for level in (0., .5, 1.)]
    flat = sheet.reshape(-1, 3)
    for color in wanted:
        # A patch of 100 x 100 pixels, and what of it is in the bar.
        assert (flat == color).all(axis=1).sum() >= 100 * 100


def test_slide_and_every_map_are_shown_side_by_side():
    thumbnail = np.zeros((100, 200, 3), np.uint8)
    thumbnail[..., 0] = 250
    values = np.array([.2, .4, .9])
    sheet = draw_slide_heatmaps(
        thumbnail, [PatchMap('A', values), PatchMap(
            'B', values, 'probability')], PLACES, 'slide', 'note')
    red = (sheet == (250, 0, 0)).all(axis=2)
    assert red.sum() == 100 * 200
    # Below the maps it is gray.
    gray = (sheet == round(.299 * 250)).all(axis=2)
    assert gray.sum() >= 2 * (200 * 100 - 3 * 50 * 50)
    assert sheet.shape[1] > 3 * 200


test_what_does_not_fit_is_refused = refuses(call, [
    (lambda: PatchMap('A', np.ones(3), 'log'), "got 'log'"),
    (lambda: PatchMap('A', np.array([1, np.nan])), 'NaN or infinite'),
    (lambda: PatchPlaces(np.ones(3), 1, (4, 4)), r'shape \(N, 2\)'),
    (lambda: PatchPlaces(np.ones((3, 2)), 0, (4, 4)), 'side must be pos'),
    (lambda: draw_slide_heatmaps(None, [], PLACES), 'no map to draw'),
    (lambda: draw_slide_heatmaps(None, [PatchMap('A', np.ones(4))], PLACES),
     r'values of A must have the shape \(3,\), got \(4,\)'),
    (lambda: patch_features(PLACES, {'a': np.ones(2)}),
     r'values of a .* \(3,\), got \(2,\)'),
    (lambda: patch_features(PLACES, {'a': np.full(3, np.inf)}), 'infinite'),
    (lambda: patch_features(PLACES, {}, ('x', ), np.ones(2)),
     r'labels .* \(3,\), got \(2,\)')])


def test_geojson_is_what_qupath_reads(tmp_path):
    collection = patch_features(
        PLACES, {'attention': np.array([.1, .2, .7], np.float32)},
        ('tumour', 'stroma'), np.array([1, 0, 0]))
    write_json(tmp_path / 'a' / 'a.geojson', collection, indent=None)
    found = json.loads((tmp_path / 'a' / 'a.geojson').read_text())
    assert found['type'] == 'FeatureCollection'
    first, _, third = found['features']
    assert first['type'] == 'Feature'
    assert third['geometry'] == {'type': 'Polygon', 'coordinates': [
        [[200, 100], [300, 100], [300, 200], [200, 200], [200, 100]]]}
    properties = first['properties']
    assert properties['objectType'] == 'detection'
    assert properties['name'] == 'patch 0'
    assert properties['classification']['name'] == 'stroma'
    assert properties['measurements'] == {'attention': pytest.approx(.1)}
    color = properties['classification']['color']
    assert len(color) == 3
    assert all(isinstance(part, int) for part in color)
    assert color != third['properties']['classification']['color']
    assert 'classification' not in patch_features(PLACES, {})['features'][0][
        'properties']


def test_kept_tiles_have_blue_edges():
    thumbnail = np.full((200, 400, 3), 240, np.uint8)
    tissue = np.zeros((20, 40), bool)
    tissue[:10, :20] = True
    sheet = kept_tiles.draw_kept_tiles(
        thumbnail, PLACES.coords, 100, (400, 200), tissue, 'slide')
    blue = (sheet == kept_tiles.TILE_COLOR).all(axis=2)
    # The outline of the tissue runs over the outer edges of two squares.
    outline = 2 * (200 + 100) - 4
    assert (sheet == kept_tiles.TISSUE_COLOR).all(axis=2).sum() == outline
    assert blue.sum() == 3 * 4 * 99 - outline
