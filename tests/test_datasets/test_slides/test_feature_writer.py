"""A file of features is whole or not there."""

import os
import re
import socket

import h5py
import numpy as np
import pytest
import torch

from mmmedmask.datasets.slides.feature_files import SlideFeatureError
from mmmedmask.datasets.slides.feature_writer import (
    FeatureWriter,
    differing_settings,
)
from mmmedmask.datasets.slides.slide_features import SlideFeatures

SETTINGS = {'encoder': 'drawn', 'weights': 'none', 'mpp': 0.5,
            'sizes': (1, 2)}


def make(path, number=70, dims=5, settings=SETTINGS):
    coords = np.stack([np.arange(number) * 512, np.arange(number)], 1)
    return FeatureWriter(path, coords, dims, 'drawn', settings,
                         dict(patch_size=256, patch_size_level0=512))


def test_our_reader_finds_features_coords_encoder_and_patch_size(tmp_path):
    path = tmp_path / 'h5_files' / 'slide.h5'
    features = np.random.default_rng(0).normal(size=(70, 5)).astype('f4')
    writer = make(path)
    writer.write(0, features[:40])
    writer.write(40, features[40:])
    assert not path.exists()
    assert writer.finish() == path
    assert list(path.parent.iterdir()) == [path]
    with h5py.File(path) as file:
        assert file['features'].chunks == (32, 5)
        assert file['features'].dtype == np.float32
        assert file['coords'].dtype == np.int32
    slide = SlideFeatures(path)
    assert (slide.layout, slide.encoder, slide.patch_size,
            slide.coord_unit, slide.weights) == (
                'trident', 'drawn', 512, 'level0', 'none')
    assert torch.equal(slide.read(), torch.from_numpy(features))
    assert torch.equal(slide.coords[:, 0], torch.arange(70) * 512)
    # Files from before the precision was a setting are float32.
    for change, told in (({}, ''), (dict(precision='float32'), ''),
                         (dict(mpp=1.0), 'mpp 0.5 there, 1.0 now'),
                         (dict(precision='float16'),
                          "precision 'float32' there, 'float16' now")):
        assert differing_settings(path, {**SETTINGS, **change}) == told


def test_missing_rows_and_bad_features_are_refused(tmp_path):
    writer = make(tmp_path / 'a.h5')
    with pytest.raises(ValueError, match='rows from 5 on, expected .* 0 on'):
        writer.write(5, np.zeros((2, 5)))
    with pytest.raises(SlideFeatureError, match='NaN or infinite'):
        writer.write(0, np.full((2, 5), np.nan))
    writer.write(0, np.zeros((2, 5)))
    with pytest.raises(ValueError, match='2 of 70 rows are written'):
        writer.finish()
    writer.discard()
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=re.escape('(N, 2), got (3, 3)')):
        FeatureWriter(tmp_path / 'a.h5', np.zeros((3, 3)), 5, 'e', {}, {})
    with pytest.raises(ValueError, match='too large for int32'):
        FeatureWriter(
            tmp_path / 'a.h5', np.full((3, 2), 2**31), 5, 'e', {}, {})


def test_truncated_files_have_to_be_made_again(tmp_path):
    path = tmp_path / 'a.h5'
    assert differing_settings(path, SETTINGS) is None
    # One of an empty slide is complete.
    for number in (0, 70):
        writer = make(path, number)
        writer.write(0, np.ones((number, 5)))
        writer.finish()
        assert differing_settings(path, SETTINGS) is not None
        assert SlideFeatures(path).num_patches == number
    path.write_bytes(path.read_bytes()[:-500])
    assert differing_settings(path, SETTINGS) is None
    path.write_bytes(b'')
    assert differing_settings(path, SETTINGS) is None


@pytest.mark.parametrize('name', ['features', 'feats', None])
def test_files_of_others_are_left_alone(tmp_path, name):
    """CLAM's have our names, STAMP's do not, and one is not HDF5."""
    path = tmp_path / 'a.h5'
    if name is None:
        path.write_text('notes of somebody')
    else:
        with h5py.File(path, 'w') as file:
            file[name] = np.ones((3, 5), np.float32)
            file['coords'] = np.ones((3, 2), np.float32)
    with pytest.raises(SlideFeatureError, match='not written by mmmedmask'):
        differing_settings(path, SETTINGS)


def test_only_parts_of_dead_processes_are_removed(tmp_path):
    host = socket.gethostname()
    dead = tmp_path / f'.a[1].h5.{host}.{2**22 + 12345}.part'
    alive = tmp_path / f'.a[1].h5.{host}.{os.getppid()}.part'
    elsewhere = tmp_path / '.a[1].h5.other.7.part'
    other = tmp_path / f'.a1.h5.{host}.{2**22 + 12345}.part'
    for part in (dead, alive, elsewhere, other):
        part.touch()
    make(tmp_path / 'a[1].h5').discard()
    assert sorted(tmp_path.iterdir()) == sorted([alive, elsewhere, other])


def test_a_full_disk_leaves_nothing_and_the_next_slide_is_written(
        tmp_path, limited_files):
    """HDF5 would crash when it closes the file."""
    def work():
        with pytest.raises(OSError, match='large.h5.* needs 44.1 MB'):
            FeatureWriter(tmp_path / 'large.h5', np.zeros((10_000, 2)), 1024,
                          'resnet', {}, {})
        writer = FeatureWriter(tmp_path / 'small.h5', np.zeros((100, 2)), 64,
                               'resnet', {}, {})
        writer.write(0, np.ones((100, 64), np.float32))
        writer.finish()

    assert limited_files(10_000_000, work) == 0
    assert [path.name for path in tmp_path.iterdir()] == ['small.h5']
    # What was reserved is given back.
    assert (tmp_path / 'small.h5').stat().st_size < 100_000
