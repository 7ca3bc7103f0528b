"""Patches lie on the right picture, or an error says what is missing."""

import numpy as np
import pytest
from PIL import Image

from mmmedmask.datasets.slides.slide_features import SlideFeatures
from mmmedmask.datasets.slides.slide_pictures import find_picture
from mmmedmask.phantoms.slide_files import draw_bag, write_features
from mmmedmask.phantoms.whole_slides import draw_slide, write_slide


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
    # The least distance of two patches.
    assert (picture.size, picture.side) == ((192, 192), 64)
    assert picture.thumbnail is None
    assert picture.source == 'an empty canvas'
    assert find_picture(make('clam-h5'), patch_size=32).side == 32


def test_a_thumbnail_beside_the_features_is_found(make, tmp_path):
    import h5py
    features = make()
    features.close()
    with h5py.File(features.path, 'a') as file:
        file['coords'].attrs.update(level0_width=400, level0_height=300)
    (tmp_path / 'thumbnails').mkdir()
    Image.new('RGB', (40, 30)).save(tmp_path / 'thumbnails' / 'a.png')
    picture = find_picture(SlideFeatures(features.path))
    assert picture.thumbnail.shape == (30, 40, 3)
    assert picture.size == (400, 300)
    with pytest.raises(FileNotFoundError, match=r'no\.png does not exist'):
        find_picture(SlideFeatures(features.path),
                     thumbnail=tmp_path / 'no.png')


def test_what_is_missing_is_said(make, tmp_path):
    with pytest.raises(ValueError, match='has no coordinates'):
        find_picture(make('npy', 'b.npy'))
    with pytest.raises(ValueError, match='micrometres: .* --slide-mpp'):
        find_picture(make('stamp-h5'))
    assert find_picture(make('stamp-h5', mpp=.5)).side == 64
    features, _ = draw_bag(1, 4)
    path = write_features(tmp_path / 'one.h5', 'clam-h5', features,
                          np.zeros((1, 2), np.int32))
    with pytest.raises(ValueError, match='give it with --patch-size'):
        find_picture(SlideFeatures(path))
    small = write_slide(tmp_path / 's.tif', draw_slide((128, 128), []),
                        levels=1)
    with pytest.raises(ValueError, match='outside of the slide of 128 x 128'):
        find_picture(make(), slide=small)
    Image.new('RGB', (40, 30)).save(tmp_path / 't.png')
    with pytest.raises(ValueError, match='does not tell how large the slide'):
        find_picture(make('clam-h5'), thumbnail=tmp_path / 't.png')
