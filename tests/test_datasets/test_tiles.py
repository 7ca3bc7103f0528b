"""TileFolder: what is listed, in which order, and broken files."""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from mmengine.dataset import ConcatDataset, pseudo_collate
from PIL import Image
from torch.utils.data import DataLoader, Subset

from mmmedmask.datasets.image_io import ImageFileError
from mmmedmask.datasets.tiles import TileFolder
from mmmedmask.registry import DATASETS

PIPELINE = ({'type': 'mmmedmask.LoadTile'}, {'type': 'mmmedmask.PackTile'})


def write_tile(path, gray=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), gray, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Six tiles of gray 0, 10, ...; number 1, 2 and 5 get broken."""
    for number in range(6):
        write_tile(tmp_path / f'{number}.png', 10 * number)
    return tmp_path


def break_tiles(folder, *numbers):
    for number in numbers:
        (folder / f'{number}.png').write_bytes(b'no image')


def grays(dataset):
    return [dataset[index]['inputs'][0, 0, 0].item()
            for index in range(len(dataset))]


def relative_paths(dataset, root):
    return [os.path.relpath(dataset.get_data_info(index)['img_path'], root)
            for index in range(len(dataset))]


def test_all_depths_and_extensions_sorted(tmp_path):
    names = ['b/2.PNG', 'b/1.jpeg', 'b-c/1.jpg', 'a.tif', 'c/d/e/1.Tiff',
             '10.bmp', '9.png']
    for name in names:
        write_tile(tmp_path / name)
    (tmp_path / 'notes.txt').write_text('no tile')
    write_tile(tmp_path / '.hidden.png')
    write_tile(tmp_path / '.cache' / '1.png')
    dataset = TileFolder(str(tmp_path))
    # By folder: 'b' comes before 'b-c', as in no sort of whole strings.
    assert relative_paths(dataset, tmp_path) == [
        '10.bmp', '9.png', 'a.tif', 'b/1.jpeg', 'b/2.PNG', 'b-c/1.jpg',
        'c/d/e/1.Tiff']
    assert [dataset.get_data_info(index)['sample_idx']
            for index in range(7)] == list(range(7))
    several = TileFolder([str(tmp_path / 'c'), str(tmp_path / 'b')])
    assert relative_paths(several, tmp_path) == [
        'c/d/e/1.Tiff', 'b/1.jpeg', 'b/2.PNG']


def test_linked_folders_and_loops(tmp_path):
    write_tile(tmp_path / 'elsewhere' / '1.png')
    root = tmp_path / 'root'
    write_tile(root / '0.png')
    (root / 'link').symlink_to(tmp_path / 'elsewhere')
    (root / 'loop').symlink_to(root)
    assert relative_paths(TileFolder(str(root)), root) == [
        '0.png', 'link/1.png']


def test_a_folder_that_cannot_be_read_is_named(folder, lock_folder):
    write_tile(folder / 'locked' / '1.png')
    lock_folder(folder / 'locked')
    with pytest.raises(PermissionError, match='locked'):
        TileFolder(str(folder))


@pytest.mark.parametrize('in_root', [True, False])
def test_list_file(folder, in_root, tmp_path_factory):
    place = folder if in_root else tmp_path_factory.mktemp('lists')
    # As ConCL writes its lists: CRLF, and no end of the last line.
    (place / 'list.txt').write_bytes(b'3.png\r\n\r\n1.png')
    dataset = TileFolder(
        str(folder),
        ann_file='list.txt' if in_root else str(place / 'list.txt'),
        pipeline=PIPELINE)
    assert grays(dataset) == [30, 10]


def test_empty_folder_names_what_is_there(tmp_path):
    (tmp_path / 'a.svs').write_text('')
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}.*'\.svs': 1"):
        TileFolder(str(tmp_path))


@pytest.mark.parametrize(('change', 'error', 'message'), [
    ({'data_root': 'nowhere'}, FileNotFoundError, 'nowhere'),
    ({'data_root': ''}, ValueError, 'data_root'),
    ({'data_root': []}, ValueError, 'data_root'),
    ({'data_root': ['.', './']}, ValueError,
     r'\., which is or lies in \./: its tiles would count twice'),
    ({'data_root': ['a', 'b', 'a/c']}, ValueError,
     'a/c, which is or lies in a: its tiles would count twice'),
    ({'extensions': ['.svs']}, TypeError, 'extensions'),
    ({'on_error': 'ignore'}, ValueError, "'ignore'"),
    ({'ann_file': 'lost.txt'}, FileNotFoundError, r'lost\.txt'),
    ({'data_root': ['a', 'b'], 'ann_file': 'x'}, ValueError, 'single')])
def test_bad_arguments(folder, change, error, message):
    with pytest.raises(error, match=message):
        TileFolder(**{'data_root': str(folder), **change})


@pytest.mark.parametrize('link', ['a/sub', 'a', 'a/sub/1.png', 'b/2.png'])
def test_links_that_give_a_tile_twice(tmp_path, link):
    """A folder of one root is there once; of two roots, which has it?"""
    for name in ('a/sub/1.png', 'b/2.png', 'c/3.png', 'd/4.png'):
        write_tile(tmp_path / name)
    roots = [str(tmp_path / name) for name in 'ab']
    (tmp_path / 'b/link.png').symlink_to(tmp_path / 'd/4.png')
    (tmp_path / 'b/more').symlink_to(tmp_path / 'c')
    assert len(TileFolder(roots)) == 4
    (tmp_path / 'b' / f'again{Path(link).suffix}').symlink_to(tmp_path / link)
    wrong = [dict(data_root=order) for order in (roots, roots[::-1])]
    if link.startswith('b'):
        # Stores by content have equal tiles once. A share could part them.
        assert len(TileFolder(roots)) == 5
        wrong = [dict(data_root=roots[1], held_out_share=.5)]
    for options in wrong:
        with pytest.raises(ValueError, match=r'\.png, which .* count twice'):
            TileFolder(**options)
    assert len(TileFolder(roots[0])) == 1


def test_a_name_that_is_no_text_is_on_one_side(tmp_path):
    write_tile(tmp_path / 'a.png')
    os.rename(tmp_path / 'a.png', os.fsencode(tmp_path) + b'/Tum\xf6r.png')
    folders = []
    for held_out in (False, True):
        with suppress(FileNotFoundError):
            folders.append(TileFolder(str(tmp_path), held_out_share=.5,
                                      held_out=held_out))
    assert [len(folder) for folder in folders] == [1]


def test_many_roots_are_not_compared_in_pairs(tmp_path, monkeypatch):
    seen = []
    compare = Path.is_relative_to
    monkeypatch.setattr(Path, 'is_relative_to', lambda *paths: (
        seen.append(paths), compare(*paths))[1])
    for index in range(30):
        write_tile(tmp_path / f'{index}' / 'a.png', index)
    roots = [str(tmp_path / f'{index}') for index in range(30)]
    assert len(TileFolder(roots)) == 30
    assert len(seen) <= 30


def test_broken_file_raises_and_is_named(folder):
    break_tiles(folder, 2)
    dataset = TileFolder(str(folder), pipeline=PIPELINE)
    assert dataset[1]['inputs'][0, 0, 0] == 10
    with pytest.raises(ImageFileError, match=r'2\.png'):
        dataset[2]
    assert dataset.skipped_paths() == []


def test_skip_takes_the_next_usable_one(folder, monkeypatch):
    """And logs each file once."""
    lines = []
    monkeypatch.setattr('mmmedmask.datasets.image_files.print_log',
                        lambda message, **_: lines.append(message))
    break_tiles(folder, 1, 2, 5)
    dataset = TileFolder(str(folder), pipeline=PIPELINE, on_error='skip')
    for _ in range(2):
        assert grays(dataset) == [0, 30, 30, 30, 40, 0]
    assert dataset[-1]['inputs'][0, 0, 0] == 0
    for index in (6, -7):
        with pytest.raises(IndexError, match=str(index)):
            dataset[index]
    sample = dataset[1]['data_samples']
    assert sample.img_path.endswith('3.png')
    assert sample.sample_idx == 3
    assert relative_paths(dataset, folder)[1] == '1.png'
    assert [os.path.basename(path) for path in dataset.skipped_paths()] == [
        '1.png', '2.png', '5.png']
    assert len(lines) == 3
    for number, line in zip((1, 2, 5), lines, strict=True):
        assert f'{number}.png' in line
    assert 'Skipped 2 of 6 files' in lines[1]


def test_skip_does_not_hide_wrong_code(folder):
    def fail(results):
        raise KeyError('a mistake in a transform')

    dataset = TileFolder(str(folder), pipeline=[fail], on_error='skip')
    with pytest.raises(KeyError, match='a mistake'):
        dataset[0]


def test_skip_ends_when_all_are_broken(folder):
    break_tiles(folder, *range(6))
    dataset = TileFolder(str(folder), pipeline=PIPELINE, on_error='skip')
    for _ in range(2):
        with pytest.raises(ImageFileError, match='None of the 6 files'):
            dataset[4]


def test_missing_file_of_a_list_follows_the_policy(folder):
    (folder / 'list.txt').write_text('0.png\nlost.png\n4.png\n')
    arguments = {'ann_file': 'list.txt', 'pipeline': PIPELINE}
    with pytest.raises(ImageFileError, match=r'lost\.png'):
        TileFolder(str(folder), **arguments)[1]
    dataset = TileFolder(str(folder), on_error='skip', **arguments)
    assert grays(dataset) == [0, 40, 40]


@pytest.mark.parametrize('serialize_data', [True, False])
def test_wrappers_and_subsets(folder, serialize_data):
    break_tiles(folder, 1)

    def make():
        return TileFolder(str(folder), pipeline=PIPELINE, on_error='skip',
                          serialize_data=serialize_data)

    assert grays(ConcatDataset([make(), make()])) == 2 * [
        0, 20, 20, 30, 40, 50]
    assert grays(Subset(make(), [4, 1])) == [40, 20]
    whole = make()
    part = whole.get_subset([1, 5])
    assert grays(part) == [50, 50]
    assert len(part.skipped_paths()) == 1
    assert whole.skipped_paths() == []
    whole.get_subset_(3)
    assert grays(whole) == [0, 20, 20]
    lazy = TileFolder(str(folder), pipeline=PIPELINE, indices=2,
                      lazy_init=True, serialize_data=serialize_data)
    lazy.full_init()
    assert len(lazy) == 2


@pytest.mark.parametrize('workers', [0, 2])
def test_loader_workers_share_the_skip_marks(folder, workers):
    break_tiles(folder, 1, 2, 5)
    dataset = TileFolder(str(folder), pipeline=PIPELINE, on_error='skip')
    loader = DataLoader(
        dataset, batch_size=2, num_workers=workers, collate_fn=pseudo_collate)
    seen = [tile[0, 0, 0].item() for batch in loader
            for tile in batch['inputs']]
    # The same for any number of workers.
    assert seen == [0, 30, 30, 30, 40, 0]
    assert len(dataset.skipped_paths()) == 3


def test_real_tiles(data_root):
    folder = data_root / 'lc25000'
    if not folder.is_dir():
        pytest.skip(f'no {folder}')
    dataset = DATASETS.build({
        'type': 'mmmedmask.TileFolder', 'data_root': str(folder),
        'pipeline': list(PIPELINE)})
    assert len(dataset) == 900
    for index in range(0, 900, 100):
        packed = dataset[index]
        assert packed['inputs'].shape == (3, 224, 224)
        # Tissue is pink: less green than red.
        red, green, _ = packed['inputs'].float().mean(dim=(1, 2))
        assert red > green
        reference = np.asarray(Image.open(packed['data_samples'].img_path))
        # Two decoders of JPEG round differently.
        difference = packed['inputs'].permute(1, 2, 0).numpy().astype(
            int) - reference
        assert abs(difference).max() <= 3
