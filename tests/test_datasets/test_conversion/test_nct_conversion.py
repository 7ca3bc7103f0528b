"""List files and the check of NCT-CRC, on a drawn copy."""

import shutil

import numpy as np
import pytest
from PIL import Image

from mmmedmask.datasets.conversion import LayoutError
from mmmedmask.datasets.conversion.nct_crc_lists import (
    LIST_NAMES,
    NCT_CLASS_TOTALS,
    NCTConversion,
    copy_lists,
    draw_lists,
    list_tiles,
    read_lists,
)
from mmmedmask.datasets.nct_crc import NCT_CLASSES, NCTCRC


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """Two tiles of noise per class."""
    root = tmp_path_factory.mktemp('nct')
    rng = np.random.default_rng(0)
    for name in NCT_CLASSES:
        (root / 'data' / name).mkdir(parents=True)
        for letter in 'AB':
            coarse = rng.integers(0, 256, (28, 28, 3), np.uint8)
            Image.fromarray(coarse).resize((224, 224)).save(
                root / 'data' / name / f'{name}-{letter}.tif')
    return root


@pytest.fixture
def root(drawn, tmp_path):
    return shutil.copytree(drawn, tmp_path / 'nct')


@pytest.mark.parametrize(('spoil', 'message'), [
    (lambda data: shutil.rmtree(data / 'TUM'), r"missing: \['TUM'\]"),
    (lambda data: (data / 'TUMOUR').mkdir(), r"unknown: \['TUMOUR'\]"),
    (shutil.rmtree, 'does not exist')])
def test_folders_that_are_not_as_released(root, spoil, message):
    spoil(root / 'data')
    with pytest.raises(LayoutError, match=message):
        list_tiles(root / 'data')


def test_official_numbers(root):
    assert sum(NCT_CLASS_TOTALS.values()) == 100_000
    conversion = NCTConversion(root / 'data')
    conversion.names = [
        f'{name}/{number}.tif' for name, total in NCT_CLASS_TOTALS.items()
        for number in range(total)]
    assert conversion.notices == []
    conversion.names.pop()
    assert 'TUM 14316 of 14317 tiles' in conversion.notices[0]


def test_drawn_split(root):
    (root / 'data/TUM/.hidden.tif').write_text('')
    (root / 'data/TUM/notes.txt').write_text('')
    names = list_tiles(root / 'data')
    assert len(names) == 18
    assert names == sorted(names)
    assert names[0] == 'ADI/ADI-A.tif'
    draw_lists(names, root / 'meta', 0.25, seed=0)
    splits = read_lists(root / 'meta')
    # A quarter of 18 is 4.5, and Python rounds it to the even 4.
    assert {split: len(tiles) for split, tiles in splits.items()} == {
        'train': 14, 'val': 4}
    assert sorted(splits['train'] + splits['val']) == names
    draw_lists(names, root / 'again', 0.25, seed=0)
    assert read_lists(root / 'again') == splits
    draw_lists(names, root / 'other', 0.25, seed=1)
    assert read_lists(root / 'other') != splits
    dataset = NCTCRC(str(root), split='val', with_labels=True)
    for index in range(4):
        sample = dataset.get_data_info(index)
        assert NCT_CLASSES[sample['gt_label']] in sample['img_path']


@pytest.mark.parametrize('fraction', [0, 1, 0.01, 0.99])
def test_bad_fraction(root, fraction):
    with pytest.raises(ValueError, match=str(fraction)):
        draw_lists(list_tiles(root / 'data'), root / 'meta', fraction, seed=0)


def test_lists_are_copied_as_they_are(root):
    draw_lists(list_tiles(root / 'data'), root / 'meta', 0.2, seed=0)
    crlf = (root / 'meta/train.txt').read_bytes().replace(b'\n', b'\r\n')
    (root / 'meta/train.txt').write_bytes(crlf.rstrip())
    copy_lists(root / 'meta', root / 'deep' / 'copy')
    for name in LIST_NAMES:
        assert (root / 'deep/copy' / name).read_bytes() == (
            root / 'meta' / name).read_bytes()
    assert read_lists(root / 'deep/copy') == read_lists(root / 'meta')
    with pytest.raises(LayoutError, match='nothing to copy'):
        copy_lists(root / 'meta', root / 'deep' / '..' / 'meta')
    (root / 'meta/val.txt').unlink()
    with pytest.raises(LayoutError, match=r'val\.txt'):
        copy_lists(root / 'meta', root / 'other')


@pytest.mark.parametrize(('name', 'content', 'error', 'message'), [
    ('train.txt', None, FileNotFoundError, r'train\.txt does not exist'),
    ('train.txt', 'TUM/TUM-A.tif\n', LayoutError, 'same tiles'),
    ('train.txt', 'TUMOUR/A.tif\n', ValueError,
     r'train\.txt, entry 1: .*TUMOUR'),
    ('val_labeled.txt', 'TUM/TUM-A.tif 3\n', ValueError,
     r'val_labeled\.txt.* label of TUM is 8'),
    ('val.txt', '', ValueError, r'val\.txt is empty')])
def test_lists_that_are_wrong(root, name, content, error, message):
    draw_lists(list_tiles(root / 'data'), root / 'meta', 0.2, seed=0)
    if content is None:
        (root / 'meta' / name).unlink()
    else:
        (root / 'meta' / name).write_text(content)
    with pytest.raises(error, match=message):
        read_lists(root / 'meta')


def test_check_of_a_good_copy(root):
    conversion = NCTConversion(root / 'data')
    assert conversion.write(root / 'meta')[-2:] == [
        'train: 14 tiles (ConCL: 80000)', 'val: 4 tiles (ConCL: 20000)']
    report = conversion.check(root / 'meta')
    assert report.problems == []
    assert report.notices == []
    assert report.checked[:2] == ['train: 14 tiles', 'val: 4 tiles']


def test_check_names_all_problems(root):
    data = root / 'data'
    names = list_tiles(data)
    (root / 'meta').mkdir()
    for split, tiles in (('train', names[:12]),
                         ('val', names[12:16] + names[:1])):
        labels = [NCT_CLASSES.index(tile.split('/')[0]) for tile in tiles]
        (root / f'meta/{split}.txt').write_text('\n'.join(tiles))
        (root / f'meta/{split}_labeled.txt').write_text('\n'.join(
            f'{tile} {label}'
            for tile, label in zip(tiles, labels, strict=True)))
    (data / names[1]).write_bytes(b'II*\0')
    Image.new('RGB', (100, 224)).save(data / names[2])
    shutil.copy(data / names[3], data / names[12])
    tile = np.asarray(Image.open(data / names[4]))
    Image.fromarray(tile[::-1]).save(data / names[13])
    (data / names[5]).unlink()
    report = NCTConversion(data).check(root / 'meta')
    base = [name.rsplit('/')[-1] for name in names]
    assert [(finding.kind, [file.rsplit('/')[-1] for file in finding.files])
            for finding in report.problems] == [
                ('listed_twice', [base[0]]), ('missing_tile', [base[5]]),
                ('broken_file', [base[1]]), ('wrong_shape', [base[2]]),
                ('identical_across_splits', [base[0], base[0]]),
                ('identical_across_splits', [base[3], base[12]]),
                ('near_identical_across_splits', [base[4], base[13]])]
    assert [finding.kind for finding in report.notices] == 2 * [
        'unlisted_tile']
