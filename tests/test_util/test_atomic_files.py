"""Files are whole or not there, whatever happens while they are written."""

import json
import os
import stat
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands import load

from mmmedmask.apis.inferencers import Inferencer
from mmmedmask.datasets.image_io import write_image
from mmmedmask.engine.checkpoint import writing
from mmmedmask.util import atomic_files
from mmmedmask.util.atomic_files import (
    atomic_path,
    write_bytes,
    write_csv,
    write_json,
    write_text,
)


def test_an_error_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    file = tmp_path / 'table.csv'
    file.write_text('old')

    def write_half():
        with atomic_path(file) as temporary:
            temporary.write_text('half')
            raise RuntimeError('full disk')

    with pytest.raises(RuntimeError, match='full disk'):
        write_half()
    assert file.read_text() == 'old'
    assert os.listdir(tmp_path) == ['table.csv']


def test_a_full_disk_is_told_with_the_file(tmp_path, limited_files):
    """By every writer, and what was there stays."""
    large = np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8)
    tensors = {'a': torch.zeros(50_000)}
    picture_tool = load('visualizations/picture_tool.py')
    drawer = SimpleNamespace(draw=lambda *_: large, large=())
    writers = {
        'a.txt': lambda file: write_text(file, 'x' * 20_000),
        'a.bin': lambda file: write_bytes(file, bytes(20_000), durable=False),
        'a.png': lambda file: write_image(file, large),
        'b.png': lambda file: picture_tool.save_picture(large, file),
        'c.png': lambda file: Inferencer._write(
            drawer, large, {}, file.with_suffix('')),
        'a.pth': lambda file: writing.save_weights(file, tensors, {}),
        'a.safetensors': lambda file: writing.save_weights(file, tensors, {}),
        'b.pth': lambda file: writing.WholeFiles().put(bytes(20_000), file)}

    def work():
        for name, write in writers.items():
            file = tmp_path / name
            file.write_text('old')
            with pytest.raises(OSError, match=f'{file} could not be written'):
                write(file)
            assert file.read_text() == 'old'

    assert limited_files(10_000, work) == 0
    assert sorted(os.listdir(tmp_path)) == sorted(writers)


def test_the_text_reaches_the_disk_before_the_old_file_goes(
        tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(atomic_files.os, 'fsync',
                        lambda fd: (steps.append('fsync'), fsync(fd)))
    monkeypatch.setattr(atomic_files.os, 'replace',
                        lambda a, b: (steps.append('replace'), replace(a, b)))
    write_text(tmp_path / 'a.txt', 'new')
    # The file, then the folder that names it.
    assert steps == ['fsync', 'replace', 'fsync']
    assert (tmp_path / 'a.txt').read_text() == 'new'


def test_names_permissions_folders_and_formats(tmp_path):
    with atomic_path(tmp_path / 'a.npz') as one, \
            atomic_path(tmp_path / 'a.npz') as other:
        assert one.suffix == other.suffix == '.npz'
        assert one.parent == tmp_path
        assert one != other
    write_text(tmp_path / 'a.txt', 'x')
    (tmp_path / 'b.txt').write_text('x')
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode)
             for name in ('a.txt', 'b.txt')}
    assert len(modes) == 1
    write_json(tmp_path / 'new' / 'a.json', {'a': [1]})
    assert json.loads((tmp_path / 'new' / 'a.json').read_text()) == {'a': [1]}
    write_csv(tmp_path / 'a.csv', ('x', 'y'), [(1, 'b, c')])
    assert (tmp_path / 'a.csv').read_bytes() == b'x,y\n1,"b, c"\n'
    with pytest.raises(ValueError, match='Out of range float'):
        write_json(tmp_path / 'b.json', float('nan'))
    assert not (tmp_path / 'b.json').exists()
