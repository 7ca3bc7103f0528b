"""Bags of tiles keep groups together, in a split as well."""

import math
import re
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from mmmedmask.apis.tile_bags import (
    Tile,
    add_test_bags,
    draw_mosaic,
    find_tiles,
    make_bags,
    mosaic_coords,
    read_groups,
    read_tile_file,
    split_bags,
)
from mmmedmask.datasets.image_io import ImageFileError
from mmmedmask.datasets.slides.slide_list import list_slides


@pytest.fixture
def folders(tmp_path):
    """Two classes with 30 tiles of 2 x 12 groups, and the csv of groups."""
    random = np.random.default_rng(0)
    for label in ('aca', 'scc'):
        folder = tmp_path / label
        folder.mkdir()
        lines = ['cluster_label,img_path']
        for number in range(30):
            tile = random.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / f'{label}{number}.png'), tile)
            lines.append(f'{number % 12},./all/{label}/{label}{number}.png')
        (tmp_path / f'{label}.csv').write_text('\n'.join(lines))
    return [tmp_path / 'aca', tmp_path / 'scc']


def load(folders):
    return find_tiles(folders, read_groups(
        [folder.with_suffix('.csv') for folder in folders]))


def test_places_can_be_text(folders):
    lists = [str(folder.with_suffix('.csv')) for folder in folders]
    assert find_tiles(list(map(str, folders)), read_groups(lists)) == load(
        folders)
    # One needs no list.
    assert load(folders[:1]) == find_tiles(str(folders[0]),
                                           read_groups(lists[0]))
    with pytest.raises(ValueError, match='aca: no file ends with one of'):
        list_slides(str(folders[0]))


def test_groups_stay_in_one_bag_and_one_split(folders):
    tiles = load(folders)
    assert len(tiles) == 60
    assert len({tile.group for tile in tiles}) == 24
    bags, again = (split_bags(make_bags(tiles, 5, seed=1), {
        'train': .5, 'val': .25, 'test': .25}, seed=1) for _ in range(2))
    assert again == bags
    assert sorted(tile.path for bag in bags for tile in bag.tiles) == sorted(
        tile.path for tile in tiles)
    owner = {}
    for bag in bags:
        for tile in bag.tiles:
            assert tile.label == bag.label
            assert owner.setdefault(tile.group, bag.name) == bag.name
    for label in ('aca', 'scc'):
        sizes = [len(bag.tiles) for bag in bags if bag.label == label]
        assert set(sizes[:-1]) <= {5, 6, 7}
        assert 3 <= sizes[-1] <= 10
        splits = Counter(bag.split for bag in bags if bag.label == label)
        assert splits['train'] == round(len(sizes) / 2)
        assert splits['val'] > 0
        assert splits['test'] > 0
    assert make_bags(tiles, 5, seed=2) != make_bags(tiles, 5, seed=1)


def test_lists_of_one_name_have_groups_of_their_own(folders):
    for folder in folders:
        folder.with_suffix('.csv').rename(folder / 'groups.csv')
    groups = read_groups([folder / 'groups.csv' for folder in folders])
    tiles = find_tiles(folders, groups)
    assert len({tile.group for tile in tiles}) == 24


def test_remainder_joins_the_last_bag_if_it_is_small(folders):
    tiles = [tile for tile in find_tiles(folders) if tile.label == 'aca']
    assert [len(bag.tiles) for bag in make_bags(tiles, 14)] == [14, 16]
    assert [len(bag.tiles) for bag in make_bags(tiles, 11)] == [11, 11, 8]
    assert [len(bag.tiles) for bag in make_bags(tiles[:3], 11)] == [3]


def test_a_tile_without_a_group_is_an_error(folders):
    csv = folders[0].with_suffix('.csv')
    csv.write_text('\n'.join(csv.read_text().splitlines()[:-2]))
    with pytest.raises(ValueError, match=re.escape(
            '2 tiles are in no group of the csv, the first are '
            'aca/aca28.png, aca/aca29.png')):
        load(folders)


@pytest.mark.parametrize(('lines', 'columns', 'message'), [
    ('1,a.png', {}, "line 2: 'a.png' must name a folder"),
    ('NA,x/a.png', {}, "line 2: 'x/a.png' .* a group, got 'NA'"),
    ('1,x/a.png\n2,y/x/a.png', {}, r'in two groups \(of a path x/a.png'),
    ('1,x/a.png', dict(group_column='source'), r"lacks .* \['source'\]"),
    ('1,x/a.png', dict(path_column='file'), r"lacks .* \['file'\]")])
def test_bad_groups_are_refused(tmp_path, lines, columns, message):
    (tmp_path / 'a.csv').write_text(f'cluster_label,img_path\n{lines}\n')
    with pytest.raises(ValueError, match=message):
        read_groups([tmp_path / 'a.csv'], **columns)


def test_bad_folders_are_refused(folders, tmp_path):
    one = {(label, f'{label}{number}.png'): 'one'
           for label in ('aca', 'scc') for number in range(30)}
    (tmp_path / 'empty').mkdir()
    for places, groups, error, message in (
            (folders, one, ValueError, 'has tiles of aca and of scc'),
            ([folders[0], Path('other/aca')], None, ValueError,
             'several folders are called aca'),
            ([tmp_path / 'no'], None, FileNotFoundError, 'is not a folder'),
            ([tmp_path / 'empty'], None, FileNotFoundError,
             'has no file that ends')):
        with pytest.raises(error, match=message):
            find_tiles(places, groups)


def test_copies_of_a_file_are_in_one_bag(folders, monkeypatch):
    said = []
    monkeypatch.setattr('mmmedmask.apis.tile_bags.print_log',
                        lambda text, **_: said.append(text))
    picture = folders[0] / 'aca0.png'
    for number in range(12):
        shutil.copy(picture, folders[0] / f'z{number}.png')
    bags = make_bags(find_tiles(folders), 5)
    assert said == ['12 tiles are copies of others: ' + ', '.join(
        f'aca/z{number}.png of aca/aca0.png' for number in (0, 1, 10, 11, 2))
        + ', ...; copies are put in one bag']
    content = picture.read_bytes()
    assert [count for bag in bags if (count := sum(
        tile.path.read_bytes() == content for tile in bag.tiles))] == [13]
    # Other groups are stated.
    groups = {(tile.label, tile.path.name): tile.path.name
              for bag in bags for tile in bag.tiles}
    with pytest.raises(ValueError, match='12 tiles .* aca/z0.png of '
                       'aca/aca0.png, .*; give copies one group'):
        find_tiles(folders, groups)
    shutil.copy(picture, folders[1] / 'other.png')
    with pytest.raises(ValueError, match='has tiles of aca and of scc, '
                       'aca/aca0.png and scc/other.png: a bag has one class'):
        find_tiles(folders)
    # As tests.
    train = make_bags(find_tiles(folders[1:]), 5)
    with pytest.raises(ValueError, match='13 tiles of the test set, or .* '
                       'first are .*aca0.png'):
        add_test_bags([*train, *make_bags([
            Tile(picture.with_name('z3.png'), 'aca', '1')], 5)],
            make_bags(find_tiles(folders[:1]), 5))


def test_a_relative_folder_has_its_name(folders, monkeypatch):
    monkeypatch.chdir(folders[0])
    expected = find_tiles(folders)
    named = find_tiles([Path('.'), Path('../aca/../scc')])
    assert [str(tile) for tile in named] == [str(tile) for tile in expected]


def test_what_is_not_a_tile_is_left_out_and_logged(folders, monkeypatch):
    before = find_tiles(folders)
    (folders[0] / '._aca0.png').write_bytes(b'of another system')
    (folders[0] / 'notes.txt').write_text('none')
    said = []
    monkeypatch.setattr('mmmedmask.apis.tile_bags.print_log',
                        lambda text, logger: said.append(text))
    assert find_tiles(folders) == before
    assert len(said) == 1
    assert said[0].endswith("{'.txt': 1}")


@pytest.mark.parametrize(('shares', 'message'), [
    ({}, 'sum to 1'),
    ({'train': 1.2, 'test': -.2}, 'each of shares .* at least 0, got -0.2'),
    ({'train': 1., 'test': math.nan}, 'each of shares .* got nan'),
    ({'train': .5, 'test': .4}, 'sum to 1'),
    ({'train': .9, 'val': .05, 'test': .05}, "class 'aca' has 3 bags, too")])
def test_bad_shares_are_refused(folders, shares, message):
    bags = make_bags(find_tiles(folders), 10)
    with pytest.raises(ValueError, match=message):
        split_bags(bags, shares)
    with pytest.raises(ValueError, match='bag_size must be at least 1, got 0'):
        make_bags(find_tiles(folders), 0)


def test_mosaic_has_every_tile_at_its_coordinates():
    tiles = np.random.default_rng(0).integers(
        0, 255, (7, 4, 4, 3), dtype=np.uint8)
    coords = mosaic_coords(7, 4)
    assert coords.dtype == np.int32
    assert len(np.unique(coords, axis=0)) == 7
    picture = draw_mosaic(tiles)
    assert picture.shape == (12, 12, 3)
    for tile, (x, y) in zip(tiles, coords, strict=True):
        np.testing.assert_array_equal(picture[y:y + 4, x:x + 4], tile)
    assert (picture[8:, 4:] == 255).all()


def test_what_is_transparent_in_a_tile_is_white(tmp_path):
    """Mixed as by Pillow, which rounds otherwise."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (8, 8, 4), dtype=np.uint8)
    pixels[:4, :, 3] = 0, 255, 0, 255, 255, 0, 0, 0
    picture = Image.fromarray(pixels)
    for mode, name in (('RGBA', 'a.png'), ('LA', 'b.png'), ('RGBA', 'c.tif'),
                       ('RGBA', 'd.webp')):
        shown = picture.convert(mode)
        shown.save(tmp_path / name, **(
            dict(lossless=True, exact=True) if name == 'd.webp' else {}))
        shown = shown.convert('RGBA')
        wanted = Image.alpha_composite(
            Image.new('RGBA', shown.size, 'white'), shown).convert('RGB')
        tile = read_tile_file(Tile(tmp_path / name, 'scc', '1'), 8)
        assert np.abs(tile - np.asarray(wanted, int)).max() <= 1, name
        assert (tile[0, 0] == 255).all()
    for shape, options in (
            ((8, 8, 4), dict(photometric='minisblack', planarconfig='contig')),
            ((8, 8, 2), dict(photometric='minisblack', planarconfig='contig')),
            ((4, 8, 8), dict(photometric='minisblack'))):
        tifffile.imwrite(tmp_path / 'e.tif', random.integers(
            0, 256, shape, dtype=np.uint8), **options)
        with pytest.raises(ImageFileError, match=f'e.tif has {min(shape)} ch'):
            read_tile_file(Tile(tmp_path / 'e.tif', 'scc', '1'), 8)
    cv2.imwrite(str(tmp_path / 'f.tif'), pixels[..., [2, 1, 0, 3]])
    read_tile_file(Tile(tmp_path / 'f.tif', 'scc', '1'), 8)


def test_a_test_set_of_its_own_mixes_with_nothing(folders, tmp_path):
    bags = split_bags(make_bags(load(folders), 5), {'train': .8, 'val': .2})
    test_folder = tmp_path / 'test' / 'scc'
    test_folder.mkdir(parents=True)
    cv2.imwrite(str(test_folder / 'scc0.png'), np.zeros((16, 16, 3)))
    test_bags = make_bags(find_tiles([test_folder]), 5)
    joined = add_test_bags(bags, test_bags)
    assert joined[:-1] == bags
    assert (joined[-1].name, joined[-1].split) == ('test-scc-0000', 'test')
    assert joined[-1].tiles == test_bags[0].tiles
    with pytest.raises(ValueError, match='leaves no share for test'):
        add_test_bags(joined, test_bags)
    with pytest.raises(ValueError, match='30 tiles of the test set, or .* '
                       'the first are .*aca/aca'):
        add_test_bags(bags, make_bags(find_tiles(folders[:1]), 5))
    # A name that may have the group of either tile.
    groups = {('scc', 'scc0.png'): 'scc:99', ('scc', 'new.png'): 'scc:0'}
    alike = make_bags(find_tiles([test_folder], groups), 5)
    with pytest.raises(ValueError, match='1 tiles .* other names, .*scc0.png'):
        add_test_bags(bags, alike, grouped=True)
    # Another tile of a source that is in training.
    (test_folder / 'scc0.png').rename(test_folder / 'new.png')
    related = make_bags(find_tiles([test_folder], groups), 5)
    assert len(add_test_bags(bags, related)) == len(joined)
    with pytest.raises(ValueError, match='1 tiles of the test set, or other'):
        add_test_bags(bags, related, grouped=True)
    test_folder.rename(tmp_path / 'test' / 'csc')
    with pytest.raises(ValueError, match='the classes csc, which no other'):
        add_test_bags(bags, make_bags(
            find_tiles([tmp_path / 'test' / 'csc']), 5))
