"""NCTCRC: list files as ConCL ships them, and what is wrong with others."""

import numpy as np
import pytest
from PIL import Image

from mmmedmask.datasets import nct_crc

PIPELINE = ({'type': 'mmmedmask.LoadTile'}, {'type': 'mmmedmask.PackTile'})
TILES = ['TUM/TUM-AAAA.tif', 'BACK/BACK-AAAA.tif', 'MUS/MUS-AAAA.tif']


@pytest.fixture
def root(tmp_path):
    (tmp_path / 'meta').mkdir()
    for number, name in enumerate(TILES):
        path = tmp_path / 'data' / name
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((224, 224, 3), number, np.uint8)).save(path)
    for split in ('train', 'val'):
        # CRLF, and the last line has no end: 2 line ends for 3 tiles.
        (tmp_path / f'meta/{split}.txt').write_bytes(
            '\r\n'.join(TILES).encode())
        (tmp_path / f'meta/{split}_labeled.txt').write_bytes('\r\n'.join(
            f'{tile} {label}'
            for tile, label in zip(TILES, (8, 0, 5), strict=True)).encode())
    return tmp_path


def test_unlabelled(root):
    dataset = nct_crc.NCTCRC(str(root), split='val', pipeline=PIPELINE)
    assert len(dataset) == 3
    assert [packed['inputs'][0, 0, 0].item() for packed in dataset] == [
        0, 1, 2]
    assert 'gt_label' not in dataset[0]['data_samples']
    assert dataset.metainfo['classes'] == nct_crc.NCT_CLASSES


def test_labelled(root):
    dataset = nct_crc.NCTCRC(str(root), with_labels=True, pipeline=PIPELINE)
    assert [packed['data_samples'].gt_label.item()
            for packed in dataset] == [8, 0, 5]


def test_number_of_tiles_is_compared_with_concl(root, monkeypatch):
    lines = []
    monkeypatch.setattr('mmmedmask.datasets.nct_crc.print_log',
                        lambda message, **_: lines.append(message))
    nct_crc.NCTCRC(str(root))
    assert '3 tiles' in lines[0]
    assert '80000' in lines[0]
    nct_crc.NCTCRC(str(root), ann_file='meta/val.txt')
    assert len(lines) == 1
    monkeypatch.setitem(nct_crc.NCT_SPLIT_SIZES, 'train', 3)
    nct_crc.NCTCRC(str(root))
    assert len(lines) == 1


def test_another_folder_of_tiles(root):
    (root / 'data').rename(root / 'NCT-CRC-HE-100K-NONORM')
    with pytest.raises(FileNotFoundError, match='NCT-CRC-HE-100K-NONORM'):
        nct_crc.NCTCRC(str(root))
    assert len(
        nct_crc.NCTCRC(str(root), image_folder='NCT-CRC-HE-100K-NONORM')) == 3


@pytest.mark.parametrize(('arguments', 'error', 'message'), [
    ({'split': 'test'}, ValueError, "'test'"),
    ({'data_root': 'nowhere'}, FileNotFoundError, 'nowhere'),
    ({'ann_file': 'lost.txt'}, FileNotFoundError, r'lost\.txt'),
    ({'on_error': 'never'}, ValueError, "'never'"),
    ({'ann_file': 'meta/train_labeled.txt'}, ValueError, 'entry 1')])
def test_bad_arguments(root, arguments, error, message):
    with pytest.raises(error, match=message):
        nct_crc.NCTCRC(**{'data_root': str(root), **arguments})


@pytest.mark.parametrize(('line', 'with_label', 'message'), [
    ('TUM/a.tif', True, 'LABEL'), ('TUM/a.tif 8', False, 'CLASS/NAME'),
    ('TUM/a.tif 7', True, 'label of TUM is 8'),
    ('TUM/a.tif eight', True, 'label of TUM is 8'),
    ('TUMOR/a.tif', False, 'TUMOR'), ('TUM', False, 'expected a path')])
def test_bad_lines(line, with_label, message, tmp_path):
    (tmp_path / 'list.txt').write_text(line)
    with pytest.raises(ValueError, match=message):
        nct_crc.read_tile_list(tmp_path / 'list.txt', with_label)


def test_labels_are_those_of_concl(tmp_path):
    lines = ['BACK/x.tif 0', 'ADI/x.tif 1', 'DEB/x.tif 2', 'LYM/x.tif 3',
             'MUC/x.tif 4', 'MUS/x.tif 5', 'NORM/x.tif 6', 'STR/x.tif 7',
             'TUM/x.tif 8']
    (tmp_path / 'list.txt').write_text('\n'.join(lines))
    tiles = nct_crc.read_tile_list(tmp_path / 'list.txt', True)
    assert [f'{name} {label}' for name, label in tiles] == lines
