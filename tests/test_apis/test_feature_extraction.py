"""From slides to features: exact, resumable, one may fail."""

import csv
import json
import os
import signal

import h5py
import numpy as np
import pytest
from PIL import Image
from torch import nn

from mmmedmask.apis import slide_extraction as slide_features
from mmmedmask.apis.slide_extraction import extract_slides
from mmmedmask.apis.tile_bags import Tile, TileBag, encode_bags
from mmmedmask.datasets.slides import slide_readers
from mmmedmask.datasets.slides.slide_features import SlideFeatures
from mmmedmask.datasets.slides.slide_list import SlideTask, list_slides
from mmmedmask.datasets.slides.tile_stream import TilingOptions
from mmmedmask.models.layers.tile_encoders import TileEncoder
from mmmedmask.phantoms.whole_slides import draw_slide, write_slide

TILING = TilingOptions(tile_size=32, mpp=4.0)


class Means(nn.Module):
    """Features that can be checked by hand: the mean of each channel."""

    def forward(self, tiles):
        return tiles.mean(dim=(2, 3))


@pytest.fixture
def encoder():
    encoder = TileEncoder(Means(), 'means', mean=[0.] * 3, std=[1.] * 3)
    encoder.weights_id = 'none'
    return encoder


@pytest.fixture(scope='module')
def slides(tmp_path_factory):
    """Slides of 1024 x 768 µm: with tissue, without, and another."""
    folder = tmp_path_factory.mktemp('slides')
    for name, boxes in (('a', [(256, 128, 768, 512)]), ('b', []),
                        ('c', [(0, 0, 512, 384)])):
        write_slide(folder / f'{name}.tif',
                    draw_slide((1024, 768), boxes), mpp=1.0)
    return folder


def statuses(results):
    return {result.slide_id: result.status for result in results}


@pytest.mark.parametrize('workers', [0, 2])
def test_features_and_coordinates_of_drawn_slides(
        slides, tmp_path, encoder, workers):
    tasks, _ = list_slides([slides])
    seen = []
    results = extract_slides(
        tasks, tmp_path, encoder, TILING, batch_size=5, workers=workers,
        report=lambda *event: seen.append(event))
    assert statuses(results) == {'a': 'done', 'b': 'empty', 'c': 'done'}
    assert sorted(event[1:] for event in seen) == [(1, 3), (2, 3), (3, 3)]
    features = SlideFeatures(tmp_path / 'h5_files' / 'a.h5')
    assert features.coords.tolist() == [[x, y] for y in (128, 256, 384)
                                     for x in (256, 384, 512, 640)]
    assert (features.encoder, features.patch_size, features.dims) == (
        'means', 128, 3)
    pixels = draw_slide((1024, 768), [(256, 128, 768, 512)]).astype(float)
    wanted = [pixels[y:y + 128, x:x + 128].mean(axis=(0, 1))
              for x, y in features.coords.tolist()]
    # The level of 4 µm is rounded.
    np.testing.assert_allclose(features.read(), wanted, atol=.05)
    assert SlideFeatures(tmp_path / 'h5_files' / 'b.h5').num_patches == 0
    with h5py.File(tmp_path / 'h5_files' / 'a.h5') as file:
        assert dict(file['coords'].attrs) == {
            'patch_size': 32, 'patch_size_level0': 128, 'overlap': 0,
            'mpp': 4.0, 'level0_mpp': 1.0, 'level0_width': 1024,
            'level0_height': 768, 'level0_bounds_x': 0,
            'level0_bounds_y': 0, 'level': 2, 'name': 'a'}
    for kind in ('tiles', 'thumbnails'):
        assert sorted(path.name for path in (tmp_path / kind).iterdir()) == [
            'a.png', 'b.png', 'c.png']
    manifest, = (tmp_path / 'manifests').iterdir()
    with manifest.open() as file:
        rows = {row['slide_id']: row for row in csv.DictReader(file)}
    assert rows['a']['num_tiles'] == '12'
    assert rows['b']['status'] == 'empty'
    assert rows['c']['tile_mpp'] == '4.0'


def test_a_slide_smaller_than_a_tile(tmp_path, encoder):
    """Tissue from edge to edge, 127 pixels high; a tile has 128."""
    write_slide(tmp_path / 'a.tif', draw_slide((256, 127), [(0, 0, 256, 127)]),
                mpp=1.0, levels=1)
    result, = extract_slides(list_slides([tmp_path])[0], tmp_path / 'out',
                             encoder, TILING)
    assert (result.status, result.num_tiles) == ('too small', 0)
    assert result.error == ('a tile is 128 x 128 pixels of the finest level, '
                            'the slide 256 x 127')


def test_a_second_run_does_what_is_left(slides, tmp_path, encoder,
                                        monkeypatch):
    tasks, _ = list_slides([slides])
    extract_slides(tasks, tmp_path, encoder, TILING)
    files = tmp_path / 'h5_files'
    whole = (files / 'a.h5').read_bytes()
    (files / 'a.h5').write_bytes(whole[:-300])
    (files / 'c.h5').unlink()
    old = (files / 'b.h5').stat().st_mtime_ns
    results = extract_slides(tasks, tmp_path, encoder, TILING)
    assert statuses(results) == {'a': 'done', 'b': 'was there', 'c': 'done'}
    assert len(SlideFeatures(files / 'a.h5').read()) == 12
    assert (files / 'b.h5').stat().st_mtime_ns == old
    assert len(list((tmp_path / 'manifests').iterdir())) == 2
    # Other settings are neither mixed in nor written over without a word.
    other = TilingOptions(tile_size=32, mpp=2.0)
    for tiling, precision, told in (
            (other, 'float32', 'mpp 4.0 there, 2.0 now'),
            (TILING, 'bfloat16', "precision 'float32' there, 'bfloat16' now")):
        results = extract_slides(tasks, tmp_path, encoder, tiling,
                                 precision=precision)
        assert set(statuses(results).values()) == {'failed'}
        assert (f'was made with other settings ({told}): choose another '
                'folder, or --overwrite') in results[0].error
    results = extract_slides(tasks[:1], tmp_path, encoder, other,
                             overwrite=True)
    assert (results[0].status, results[0].num_tiles) == ('done', 48)


def test_another_slide_in_the_place_of_one_is_told(tmp_path, encoder):
    slide, h5 = tmp_path / 'a.tif', tmp_path / 'h5_files' / 'a.h5'

    def extract(box, **options):
        write_slide(slide, draw_slide((512, 384), [box]), mpp=1.0)
        return extract_slides([SlideTask('a', slide)], tmp_path, encoder,
                              TILING, **options)[0]

    first, second = (0, 0, 256, 384), (256, 0, 512, 384)
    assert extract(first).status == 'done'
    assert extract(first).status == 'was there'
    assert 'was made with other settings (slide ' in extract(second).error
    assert extract(second, overwrite=True).status == 'done'
    assert SlideFeatures(h5).coords[:, 0].min() == 256
    # Files of before the slide was a setting stay as they are.
    with h5py.File(h5, 'r+') as file:
        settings = json.loads(file.attrs['mmmedmask_settings'])
        del settings['slide']
        file.attrs['mmmedmask_settings'] = json.dumps(settings)
    assert extract(first).status == 'was there'


def test_features_of_other_units_are_not_taken_for_these(tmp_path):
    """Nor those of an earlier version, which did not note them."""
    write_slide(tmp_path / 'a.tif', draw_slide((512, 384), [
        (0, 0, 512, 384)]), mpp=1.0)
    tasks, h5 = list_slides([tmp_path])[0], tmp_path / 'h5_files' / 'a.h5'

    def extract(name='own', **units):
        encoder = TileEncoder(Means(), name, **units)
        encoder.weights_id = 'none'
        result, = extract_slides(tasks, tmp_path, encoder, TILING)
        return result.status, result.error

    assert extract()[0] == 'done'
    assert extract()[0] == 'was there'
    for units, told in (
            (dict(mean=[9., 9., 9.]),
             'mean [123.675, 116.28, 103.53] there, [9.0, 9.0, 9.0] now'),
            (dict(std=[9., 9., 9.]), 'std [58.395'),
            (dict(bgr=True), 'bgr False there, True now'),
            (dict(config_id='b'), "config None there, 'b' now")):
        status, error = extract(**units)
        assert (status, told in error) == ('failed', True)

    def forget(name):
        with h5py.File(h5, 'r+') as file:
            settings = json.loads(file.attrs['mmmedmask_settings'])
            for key in ('mean', 'std', 'bgr', 'config'):
                settings.pop(key, None)
            file.attrs['mmmedmask_settings'] = json.dumps(
                settings | dict(encoder=name))

    forget('own')
    assert ('(mean not noted there, [123.675, 116.28, 103.53] now, '
            'std not noted there') in extract()[1]
    # Those of networks by name can be told.
    forget('googlenet')
    assert extract('googlenet')[0] == 'was there'
    assert 'mean [123.675' in extract('googlenet', mean=[127.5] * 3)[1]
    forget('timm:vit')
    assert extract('timm:vit', mean=[127.5] * 3)[0] == 'was there'
    assert 'config not noted' in extract('timm:vit', config_id='b')[1]


def test_bags_of_tiles_keep_their_precision(tmp_path, encoder):
    tile = tmp_path / 'tile.png'
    Image.fromarray(np.full((32, 32, 3), 9, np.uint8)).save(tile)
    bags = [TileBag('one', 'a', (Tile(tile, 'a', 'tile'), ), 'train')]
    lines = []
    for _ in range(2):
        encode_bags(bags, tmp_path, encoder, 32, report=lines.append)
    assert lines == ['1/1 one: 1 tiles', '1/1 one: 1 tiles, was there']
    with pytest.raises(ValueError, match=r"one.h5 .* with other settings "
                       r"\(precision 'float32' there, 'bfloat16' now\)"):
        encode_bags(bags, tmp_path, encoder, 32, precision='bfloat16')
    encoder.mean += 1
    with pytest.raises(ValueError, match='mean .* there, .* now'):
        encode_bags(bags, tmp_path, encoder, 32)


def test_one_failing_slide_does_not_stop_the_others(slides, tmp_path,
                                                    encoder, monkeypatch):
    (tmp_path / 'broken.svs').write_text('no slide at all')
    write_slide(tmp_path / 'unknown.tif', draw_slide((128, 128), []), None,
                levels=1)
    tasks, _ = list_slides([slides / 'a.tif', tmp_path])
    tasks.append(SlideTask('nowhere', None))
    results = extract_slides(tasks, tmp_path / 'out', encoder, TILING)
    assert statuses(results) == {'a': 'done', 'broken': 'failed',
                                 'unknown': 'failed', 'nowhere': 'failed'}
    errors = {result.slide_id: result.error for result in results}
    assert 'can be read neither by OpenSlide' in errors['broken']
    assert 'give it with --slide-mpp' in errors['unknown']
    assert 'the csv lists it, and there is no file' in errors['nowhere']
    # A disk that is full while features are written.
    written = []

    def fail(*args):
        written.append(args)
        raise OSError('No space left on device')

    monkeypatch.setattr(slide_features.FeatureWriter, 'write', fail)
    results = extract_slides(tasks[:1], tmp_path / 'full', encoder, TILING,
                             batch_size=4)
    assert results[0].error == 'No space left on device'
    assert len(written) == 1
    assert not list((tmp_path / 'full' / 'h5_files').iterdir())


def test_a_killed_run_leaves_no_file_and_can_be_repeated(
        slides, tmp_path, encoder, monkeypatch):
    tasks = [SlideTask('a', slides / 'a.tif')]
    child = os.fork()
    if child == 0:
        calls = []

        def encode(*args):
            calls.append(1)
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return np.ones((4, 3), np.float32)

        slide_features.encode_tiles = encode
        extract_slides(tasks, tmp_path, encoder, TILING, batch_size=4)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    left, = (tmp_path / 'h5_files').iterdir()
    assert left.name.startswith('.a.h5.')
    assert left.name.endswith(f'.{child}.part')
    results = extract_slides(tasks, tmp_path, encoder, TILING)
    assert results[0].status == 'done'
    assert [path.name for path in (tmp_path / 'h5_files').iterdir()] == [
        'a.h5']
    # Stopped from the keyboard, it takes its part away itself.

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(slide_features, 'encode_tiles', stop)
    with pytest.raises(KeyboardInterrupt):
        extract_slides(tasks, tmp_path / 'other', encoder, TILING)
    assert not list((tmp_path / 'other' / 'h5_files').iterdir())


def test_a_reader_process_that_dies_is_reported(slides, tmp_path, encoder,
                                                monkeypatch):
    def die(path):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(slide_readers, 'open_slide', die)
    results = extract_slides([SlideTask('a', slides / 'a.tif')], tmp_path,
                             encoder, TILING, workers=1)
    assert results[0].status == 'failed'
    assert 'a process that reads slides died' in results[0].error


def test_bad_numbers_are_refused(tmp_path, encoder):
    for name, value in (('workers', -1), ('batch_size', 0)):
        with pytest.raises(ValueError, match=f'{name} must be .* got {value}'):
            extract_slides([], tmp_path, encoder, TILING, **{name: value})
