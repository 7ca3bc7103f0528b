"""Samples that a run does not train on, where its data set wraps others."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS

from mmmedmask.datasets import TileFolder
from mmmedmask.datasets.shards import pack_shards
from mmmedmask.engine.held_out import (
    build_changed,
    build_held_out,
    own_held_out,
)
from mmmedmask.util.nested import innermost_datasets


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tiles')
    for name, count in (('a', 3), ('b', 2), ('c', 4)):
        (folder / name).mkdir()
        for number in range(count):
            cv2.imwrite(str(folder / name / f'{number}.png'),
                        np.zeros((8, 8, 3), np.uint8))
    return folder


def tiles(root, name):
    return dict(type='mmmedmask.TileFolder', data_root=str(root / name),
                pipeline=[], indices=2)


def repeat(dataset):
    return dict(type='RepeatDataset', times=3, dataset=dataset)


def concat(*datasets):
    return dict(type='ConcatDataset', datasets=list(datasets))


WRAPS = dict(
    plain=lambda root: tiles(root, 'a'),
    repeat=lambda root: repeat(tiles(root, 'a')),
    twice=lambda root: repeat(repeat(tiles(root, 'a'))),
    same=lambda root: concat(tiles(root, 'a'), tiles(root, 'a')),
    two=lambda root: concat(tiles(root, 'a'), repeat(tiles(root, 'b'))))


def names(dataset):
    return [Path(dataset.get_data_info(place)['img_path']).relative_to(
        Path(dataset.get_data_info(place)['img_path']).parents[1]).as_posix()
        for place in range(len(dataset))]


@pytest.mark.parametrize('wrap', WRAPS)
def test_another_folder_is_read_once(root, wrap):
    train = Config(dict(train_dataloader=dict(dataset=WRAPS[wrap](root))))
    before = train.to_dict()
    held_out = build_held_out(train, dict(data_root=str(root / 'c')))
    assert names(held_out) == [f'c/{number}.png' for number in range(4)]
    assert train.to_dict() == before


def test_a_list_of_the_training_set_is_not_one_of_another_folder(root):
    listed = root / 'train.txt'
    listed.write_text('1.png\n0.png\n')
    inner = {**tiles(root, 'a'), 'ann_file': str(listed)}
    train = Config(dict(train_dataloader=dict(dataset=inner)))
    other = dict(data_root=str(root / 'c'))
    assert names(build_held_out(train, other)) == [
        f'c/{number}.png' for number in range(4)]
    own = dict(other, ann_file=str(listed))
    assert names(build_held_out(train, own)) == ['c/1.png', 'c/0.png']
    # One of that name in the other folder is the other's.
    (root / 'c/some.txt').write_text('2.png\n')
    inner['ann_file'] = 'some.txt'
    train = Config(dict(train_dataloader=dict(dataset=inner)))
    assert names(build_held_out(train, other)) == ['c/2.png']
    with pytest.raises(ValueError, match='nothing is held out'):
        build_held_out(train, dict(data_root=str(root / 'a')))


def test_a_cohort_stays_that_of_the_training_set(root):
    class Cohort(list):
        def __init__(self, ann_file, data_root):
            self.ann_file = ann_file

    inner = dict(type=Cohort, ann_file=__file__, data_root=str(root / 'a'))
    train = Config(dict(train_dataloader=dict(dataset=inner)))
    assert build_held_out(
        train, dict(data_root=str(root / 'c'))).ann_file == __file__


@pytest.mark.parametrize('wrap', WRAPS)
@pytest.mark.parametrize('change', [dict(), dict(pipeline=[])])
def test_the_training_set_is_refused(root, wrap, change):
    train = Config(dict(train_dataloader=dict(dataset=WRAPS[wrap](root))))
    with pytest.raises(ValueError, match='nothing is held out'):
        build_held_out(train, change)
    # A part of it, too.
    with pytest.raises(ValueError, match='nothing is held out'):
        build_held_out(train, dict(data_root=str(root / 'a')))


@pytest.mark.parametrize('spell', [
    lambda folder: f'{folder}/', lambda folder: f'{folder}/../a',
    lambda folder: os.path.relpath(folder),
    lambda folder: str(folder.parent / 'link'),
    lambda folder: [str(folder)], lambda folder: folder])
def test_the_training_set_is_refused_in_another_spelling(root, spell,
                                                         tmp_path):
    folder = tmp_path / 'a'
    folder.symlink_to(root / 'a')
    (tmp_path / 'link').symlink_to(folder)
    inner = tiles(tmp_path, 'a')
    train = Config(dict(train_dataloader=dict(dataset=repeat(inner))))
    own = dict(type=TileFolder, data_root=spell(folder), pipeline=[dict()])
    for change in (dict(data_root=spell(folder)), repeat(own),
                   dict(data_root=spell(folder), pipeline=[dict()])):
        with pytest.raises(ValueError, match='nothing is held out'):
            build_held_out(train, change)


@pytest.mark.parametrize(('trained', 'other'), [('', 'a'), ('a', '')])
def test_a_folder_in_or_around_the_training_set(root, trained, other,
                                                tmp_path):
    inner = {**tiles(root, trained), 'indices': None}
    train = Config(dict(train_dataloader=dict(dataset=repeat(inner))))
    for change in (dict(data_root=str(root / other)), tiles(root, other)):
        with pytest.raises(ValueError, match=r'has [23] images that are tra'):
            build_held_out(train, change)
    # Unless lists keep them apart.
    (tmp_path / 'list.txt').write_text('b/0.png\n')
    whole = {**tiles(root, ''), 'ann_file': str(tmp_path / 'list.txt')}
    part = tiles(root, 'a')
    train.train_dataloader.dataset = part if trained else whole
    assert len(build_held_out(train, whole if trained else part)) in (1, 2)


@pytest.mark.parametrize('change', [
    dict(ann_file=''), dict(ann_file='other.txt'), dict(on_error='skip')])
def test_lists_that_share_a_file_are_refused(root, tmp_path, change):
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    (tmp_path / 'own.txt').write_text('a/0.png\na/1.png\n')
    (tmp_path / 'other.txt').write_text('a/1.png\nb/0.png\n')
    inner = dict(tiles(tmp_path, ''), ann_file='own.txt', on_error='raise')
    train = Config(dict(train_dataloader=dict(dataset=repeat(inner))))
    with pytest.raises(ValueError, match=r'has [12] images that are trained'):
        build_held_out(train, change)
    (tmp_path / 'other.txt').write_text('b/0.png\n')
    assert len(build_held_out(train, dict(ann_file='other.txt'))) == 1


def test_a_list_of_the_training_set_is_refused_in_another_spelling(root):
    (root / 'b/own.txt').write_text('1.png\n')
    inner = {**tiles(root, 'b'), 'ann_file': 'own.txt'}
    train = Config(dict(train_dataloader=dict(dataset=inner)))
    with pytest.raises(ValueError, match='nothing is held out'):
        build_held_out(train, dict(ann_file=str(root / 'b/own.txt')))


@pytest.mark.parametrize('change', [
    dict(indices=1), dict(ann_file='c/some.txt'), dict(on_error='raise'),
    dict(held_out_share=.5), dict(held_out_share=.5, held_out=True)])
def test_a_part_of_the_training_set_is_refused(root, change):
    """Lists and numbers of what is all trained on."""
    (root / 'c/some.txt').write_text('c/2.png\n')
    inner = {**tiles(root, ''), 'indices': None, 'held_out_share': .1}
    train = Config(dict(train_dataloader=dict(dataset=repeat(inner))))
    with pytest.raises(ValueError, match='nothing is held out'):
        build_held_out(train, change)


def write_tiles(folder, count):
    folder.mkdir(exist_ok=True)
    for number in range(count):
        cv2.imwrite(str(folder / f'{number}.png'),
                    np.full((8, 8, 3), number, np.uint8))
    return folder


@pytest.mark.parametrize('side', [False, True])
@pytest.mark.parametrize('kind', ['TileFolder', 'ShardedTiles'])
def test_a_share_of_the_training_set_is_not_trained_on(tmp_path, kind, side):
    folder = write_tiles(tmp_path / 'tiles', 200)
    if kind == 'ShardedTiles':
        pack_shards(folder, tmp_path / 'shards')
        folder = tmp_path / 'shards'
    inner = dict(type=f'mmmedmask.{kind}', data_root=str(folder), pipeline=[],
                 held_out=side, held_out_share=.9 if side else .1)
    train = Config(dict(train_dataloader=dict(dataset=repeat(inner))))
    trained, held_out, whole = (
        {dataset.get_data_info(place)['img_path']
         for place in range(len(dataset))} for dataset in (
            DATASETS.build(inner),
            build_held_out(train, own_held_out(train)),
            DATASETS.build(dict(inner, held_out_share=0, held_out=False))))
    assert trained | held_out == whole
    assert not trained & held_out
    assert 10 <= len(held_out) <= 30
    if kind == 'TileFolder':
        # Of more tiles each stays on its side, and of one list.
        write_tiles(folder, 230)
        (folder / 'list.txt').write_text('199.png\n3.png\n5.png\n')
        more = build_held_out(train, own_held_out(train))
        assert {str(folder / Path(name).name) for name in names(more)
                if int(Path(name).stem) < 200} == held_out
        assert len(DATASETS.build(dict(inner, ann_file='list.txt'))) == len(
            {str(folder / f'{number}.png') for number in (199, 3, 5)}
            & trained)


@pytest.mark.parametrize(('options', 'error'), [
    (dict(held_out_share=1.), ValueError), (dict(held_out=True), ValueError),
    (dict(held_out_share=1e-9, held_out=True), FileNotFoundError)])
@pytest.mark.parametrize('kind', ['TileFolder', 'ShardedTiles'])
def test_a_share_that_holds_out_nothing_is_an_error(tmp_path, kind, options,
                                                    error):
    folder = write_tiles(tmp_path / 'tiles', 4)
    if kind == 'ShardedTiles':
        pack_shards(folder, tmp_path / 'shards')
        folder = tmp_path / 'shards'
    with pytest.raises(error, match='held_out'):
        len(DATASETS.build(dict(type=f'mmmedmask.{kind}',
                                data_root=str(folder), **options)))


def test_what_leaves_out_nothing_has_nothing_of_its_own(root):
    part = {**tiles(root, 'a'), 'held_out_share': .5}
    for dataset in (tiles(root, 'a'), concat(part, tiles(root, 'b'))):
        assert own_held_out(dict(train_dataloader=dict(
            dataset=dataset))) is None
    assert own_held_out({}) is None


@pytest.mark.parametrize('wrap', WRAPS)
def test_a_change_keeps_all_samples_once(root, wrap):
    dataset = WRAPS[wrap](root)
    built = build_changed(dataset, dict(indices=1))
    firsts = {name: None for inner in innermost_datasets(dataset)
              for name in names(DATASETS.build(inner))[:1]}
    assert names(built) == list(firsts)
