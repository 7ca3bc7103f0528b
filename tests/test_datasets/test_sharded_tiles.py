"""Shards: packed, indexed, read from a disk, memory and a web server."""

import copy
import io
import itertools
import json
import pickle
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import mmengine
import numpy as np
import pytest
import torch
from commands import call
from mmengine.hooks import Hook
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmmedmask.datasets import ShardedTiles, TileFolder, fsspec_backend
from mmmedmask.datasets.image_io import ImageFileError, encode_image
from mmmedmask.datasets.shards import (
    ENTRIES_FILE,
    INDEX_FILE,
    ShardIndex,
    check_shards,
    index_shards,
    pack_shards,
)
from mmmedmask.engine.hooks import SafeCheckpointHook, SeededDrawsHook
from mmmedmask.util.atomic_files import write_bytes

PIPELINE = [dict(type='mmmedmask.LoadTile'), dict(type='mmmedmask.PackTile')]
COUNT = 23
RUNS = itertools.count()


@pytest.fixture(name='folder', scope='module')
def fixture_folder(tmp_path_factory):
    """Tiles of two classes whose gray is their number."""
    folder = tmp_path_factory.mktemp('tiles')
    for number in range(COUNT):
        write_bytes(folder / f'{"ab"[number % 2]}/deep/x.{number}.png',
                    png(number))
    return folder


@pytest.fixture(name='shards', scope='module')
def fixture_shards(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp('shards')
    pack_shards(folder, out, shard_bytes=12e3, labelled=True)
    return out


def grays(dataset):
    return [int(sample['inputs'][0, 0, 0]) for sample in dataset]


def in_workers(dataset):
    loader = DataLoader(dataset, 4, num_workers=2, collate_fn=list)
    return grays([sample for batch in loader for sample in batch])


def write_tar(path, members):
    with tarfile.open(path, 'w') as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def png(gray=0):
    return encode_image('.png', np.full((8, 8, 3), gray, np.uint8))


def test_shards_have_the_tiles_of_the_folder(folder, shards):
    single = TileFolder(str(folder), pipeline=PIPELINE)
    dataset = ShardedTiles(str(shards), pipeline=PIPELINE)
    assert len(list(shards.glob('*.tar'))) > 1
    assert dataset.metainfo['classes'] == ('a', 'b')
    order = grays(dataset)
    assert sorted(order) == sorted(grays(single)) != order
    for index, sample in enumerate(dataset):
        assert sample['data_samples'].sample_idx == index
        assert int(sample['data_samples'].gt_label) == order[index] % 2
    # In workers, and in another process that gets a copy, as well.
    assert in_workers(dataset) == order
    assert grays(pickle.loads(pickle.dumps(dataset))) == order


def test_packing_is_repeatable_and_plain_webdataset(folder, shards, tmp_path):
    call('dataset_converters/convert.py', 'pack_tiles', folder,
         tmp_path / 'out', '--megabytes', .012, '--classes', '--check')
    for path in shards.iterdir():
        assert path.read_bytes() == (tmp_path / 'out' / path.name).read_bytes()
    with tarfile.open(shards / 'tiles-000000.tar') as tar:
        names = tar.getnames()
    assert names[0].endswith('.png')
    assert names[1] == names[0].removesuffix('png') + 'cls'
    # Tars that others wrote, with members that are of no use here.
    write_tar(tmp_path / 'b.tar', {
        'x/1.jpg.txt': b'', 'x/1.PNG': png(7), 'x/1.json': b'{}',
        'x/2.seg.cls': b'?', 'x/2.png': png(8), './x/3.png': png(9),
        'x/3.cls': b'4'})
    output = call('dataset_converters/convert.py', 'index_shards', tmp_path,
                  '--check')
    assert '3 pictures read, 0 are bad' in output
    tiles = ShardedTiles(str(tmp_path), pipeline=PIPELINE)
    assert grays(tiles) == [7, 8, 9]
    assert tiles.get_data_info(2)['gt_label'] == 4


@pytest.mark.parametrize(('members', 'words'), [
    ({'1.txt': b'', '2.png': png()}, 'sample 1 has no picture'),
    ({'1.png': png(), '1.jpg': b''}, r'1 has a second picture 1\.jpg'),
    ({'1.png': png(), '1.cls': b'2'}, "'2' is not one of 0 to 1"),
    ({'1.png': png(), '1.cls': b'cat'}, "'cat' is not one of"),
    ({'1.png': png(), '1.cls': b'\xff'}, r"1\.cls: the label '\\\\xff'"),
    ({'1.cls': b'0', '1.png': png(), './1.CLS': b'1'}, r'second label 1\.CLS'),
    (b'nothing', 'not a plain tar')])
def test_shards_that_make_no_index(tmp_path, members, words):
    path = tmp_path / 'a.tar'
    if isinstance(members, bytes):
        path.write_bytes(members)
    else:
        write_tar(path, members)
    with pytest.raises(ValueError, match=words) as error:
        index_shards(tmp_path, ('a', 'b'))
    assert str(path) in str(error.value)
    assert not (tmp_path / INDEX_FILE).exists()


@pytest.mark.parametrize('length', [1, 2, 3])
def test_shards_that_were_cut_off(tmp_path, length):
    """Between members, in a header, and behind one of two zero blocks."""
    path = tmp_path / 'a.tar'
    write_tar(path, {f'{n}.png': png(n) for n in range(2)})
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        second = tar.getmembers()[1].offset
        end = tar.offset
    path.write_bytes(whole[:(second, second + 99, end + 512)[length - 1]])
    with pytest.raises(ValueError, match='not a plain tar'):
        index_shards(tmp_path)


def test_shards_that_were_put_together(tmp_path):
    for number in range(2):
        write_tar(tmp_path / f'{number}.tar', {f'{number}.png': png(number)})
    content = [path.read_bytes() for path in sorted(tmp_path.glob('*.tar'))]
    (tmp_path / '0.tar').write_bytes(b''.join(content))
    with pytest.raises(ValueError, match='put together with cat'):
        index_shards(tmp_path)
    # More zeros than a tar needs are not data.
    (tmp_path / '0.tar').write_bytes(content[0] + bytes(2**20))
    assert len(index_shards(tmp_path)) == 2


@pytest.mark.parametrize('kind', [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_shards_with_links(tmp_path, kind):
    write_tar(tmp_path / 'a.tar', {'0.png': png()})
    with tarfile.open(tmp_path / 'a.tar', 'a') as tar:
        member = tarfile.TarInfo('1.png')
        member.type, member.linkname = kind, '0.png'
        tar.addfile(member)
    with pytest.raises(ValueError, match=r'a\.tar: 1\.png is a link to 0'):
        index_shards(tmp_path)


def test_folders_that_cannot_be_packed(tmp_path, shards, folder):
    with pytest.raises(ValueError, match='holds shards already'):
        pack_shards(folder, shards)
    for name in ('a.b.png', 'a_b.jpg'):
        (tmp_path / name).write_bytes(png())
    with pytest.raises(ValueError, match=r'a\.b\.png and .*a_b\.jpg'):
        pack_shards(tmp_path, tmp_path / 'out')
    (tmp_path / 'a_b.jpg').unlink()
    with pytest.raises(ValueError, match='lies in no class'):
        pack_shards(tmp_path, tmp_path / 'out', labelled=True)
    with pytest.raises(ValueError, match='shard_bytes .* 0'):
        pack_shards(tmp_path, tmp_path / 'out', shard_bytes=0)
    with pytest.raises(ValueError, match='seed .* None'):
        pack_shards(tmp_path, tmp_path / 'out', seed=None)


def test_what_an_index_does_not_fit_is_named(tmp_path):
    write_tar(tmp_path / 'a.tar', {f'{n}.png': png(n) for n in range(3)})
    index_shards(tmp_path)
    dataset = ShardedTiles(str(tmp_path), pipeline=PIPELINE, on_error='skip')
    whole = (tmp_path / 'a.tar').read_bytes()
    place = dataset.get_data_info(1)['offset']
    (tmp_path / 'a.tar').write_bytes(
        whole[:place] + bytes(30) + whole[place + 30:])
    assert [int(dataset[n]['inputs'].max()) for n in range(3)] == [0, 2, 2]
    assert dataset.skipped_paths() == [f'{tmp_path}/a.tar#byte={place}']
    assert len(list(check_shards(ShardIndex(tmp_path)))) == 1
    # Another order of the members, and another length.
    write_tar(tmp_path / 'a.tar', {'0.png': png() + bytes(9), '1.png': png(),
                                   '2.png': png()[:-9]})
    dataset = ShardedTiles(str(tmp_path), pipeline=PIPELINE)
    with pytest.raises(ImageFileError, match='not of this shard'):
        dataset[0]
    write_tar(tmp_path / 'a.tar', {f'{n}.png': png(n) for n in range(40)})
    with pytest.raises(ImageFileError, match='bytes, the index says'):
        ShardedTiles(str(tmp_path), pipeline=PIPELINE)[0]
    (tmp_path / ENTRIES_FILE).write_bytes(bytes(19))
    with pytest.raises(ValueError, match='has 19 bytes, expected 60'):
        ShardedTiles(str(tmp_path))
    content = json.loads((tmp_path / INDEX_FILE).read_text())
    (tmp_path / INDEX_FILE).write_text(json.dumps({**content, 'format': 0}))
    with pytest.raises(ValueError, match='format 0, expected 1'):
        ShardedTiles(str(tmp_path))
    with pytest.raises(FileNotFoundError, match='index_shards'):
        ShardedTiles(str(tmp_path / 'lost'))


def test_a_copy_of_the_index_is_small(shards):
    index = ShardIndex(shards)
    assert len(pickle.dumps(index)) < 500
    part = copy.deepcopy(index)[2:20:3][1:]
    assert list(part) == [index[row] for row in (5, 8, 11, 14, 17)]
    dataset = ShardedTiles(str(shards), indices=5, pipeline=PIPELINE)
    assert grays(dataset) == grays(
        ShardedTiles(str(shards), pipeline=PIPELINE))[:5]


class RangeHandler(SimpleHTTPRequestHandler):
    """A web server that knows ranges, or does not."""

    ranges = True
    busy = 0

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.busy:
            RangeHandler.busy -= 1
            self.send_error(503)
            return
        header = self.headers.get('Range')
        if header is None or not self.ranges:
            super().do_GET()
            return
        with open(self.translate_path(self.path), 'rb') as file:
            content = file.read()
        start, stop = map(int, header.removeprefix('bytes=').split('-'))
        self.send_response(206)
        part = content[start:stop + 1]
        self.send_header('Content-Length', str(len(part)))
        self.send_header('Content-Range',
                         f'bytes {start}-{stop}/{len(content)}')
        self.end_headers()
        self.wfile.write(part)


@pytest.fixture(name='server')
def fixture_server(shards):
    server = ThreadingHTTPServer(
        ('127.0.0.1', 0), partial(RangeHandler, directory=str(shards)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


def test_shards_in_memory_and_on_a_web_server(shards, server, tmp_path,
                                              monkeypatch):
    expected = grays(ShardedTiles(str(shards), pipeline=PIPELINE))
    for path in shards.iterdir():
        with fsspec.open(f'memory://bucket/{path.name}', 'wb') as file:
            file.write(path.read_bytes())
    for number, address in enumerate(('memory://bucket', f'{server}/')):
        dataset = ShardedTiles(
            address, index_dir=str(tmp_path / f'{number}'), pipeline=PIPELINE)
        assert grays(dataset) == in_workers(dataset) == expected
    # Once fetched, the index is taken from where it is.
    with pytest.raises(ValueError, match='need index_dir'):
        ShardedTiles('memory://bucket')
    with pytest.raises(ValueError, match='backend_args are for'):
        ShardedTiles(str(shards), backend_args=dict(key='k'))
    lost = ShardedTiles('memory://empty', index_dir=str(tmp_path / '0'),
                        pipeline=PIPELINE)
    with pytest.raises(ImageFileError, match=r'memory://empty/tiles-0'):
        lost[0]
    monkeypatch.setattr(RangeHandler, 'ranges', False)
    with pytest.raises(ImageFileError, match='knows no ranges'):
        dataset[0]


def test_a_busy_server_is_asked_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fsspec_backend, '_PAUSES', (0, 0))
    dataset = ShardedTiles(server, index_dir=str(tmp_path), pipeline=PIPELINE)
    expected = int(dataset[0]['inputs'].max())
    monkeypatch.setattr(RangeHandler, 'busy', 2)
    assert int(dataset[0]['inputs'].max()) == expected
    RangeHandler.busy = 3
    with pytest.raises(ImageFileError, match='tiles-000000.tar cannot be read'
                       ': ClientResponseError: 503'):
        dataset[0]


def test_mmengine_reads_through_the_backend(server):
    with fsspec.open('memory://texts/a.txt', 'w') as file:
        file.write('some words')
    assert mmengine.fileio.get_text('memory://texts/a.txt') == 'some words'
    content = json.loads(mmengine.fileio.get(
        f'{server}/{INDEX_FILE}', backend_args=dict(backend='fsspec')))
    assert content['samples'] == COUNT


class Watcher(BaseModel):
    """Remembers which tiles it saw, and draws in each step."""

    def __init__(self):
        super().__init__(BaseDataPreprocessor())
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def forward(self, inputs, data_samples, mode='tensor'):
        self.seen.append([int(tile[0, 0, 0]) for tile in inputs])
        noise = torch.rand(1)
        return dict(loss=(self.weight * noise).sum())


class Stop(Hook):
    """End a run."""

    def __init__(self, after):
        self.after = after

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.after:
            raise KeyboardInterrupt


def train(shards, folder, stop=None, resume=False, workers=0, epochs=True):
    """Train for two epochs of six batches, saved each second iteration."""
    model = Watcher()
    runner = Runner(
        model, str(folder), train_dataloader=dict(
            dataset=dict(type='mmmedmask.ShardedTiles', data_root=str(shards),
                         pipeline=PIPELINE),
            sampler=dict(type='mmmedmask.BlockShuffleSampler', block_size=3,
                         mixed_blocks=2),
            batch_size=4, num_workers=workers,
            collate_fn=dict(type='pseudo_collate')),
        train_cfg=dict(by_epoch=True, max_epochs=2) if epochs else dict(
            by_epoch=False, max_iters=12),
        optim_wrapper=OptimWrapper(
            torch.optim.SGD(model.parameters(), lr=.1, momentum=.9)),
        default_hooks=dict(
            logger=None, draws=SeededDrawsHook(),
            checkpoint=SafeCheckpointHook(interval=2, by_epoch=False)),
        custom_hooks=[] if stop is None else [Stop(stop)],
        randomness=dict(seed=5), resume=resume, log_level='ERROR',
        experiment_name=f'shards {next(RUNS)}')
    if stop is None:
        runner.train()
    else:
        with pytest.raises(KeyboardInterrupt):
            runner.train()
    return model


@pytest.mark.parametrize(('stop', 'workers', 'epochs'), [
    (4, 0, True), (8, 2, True), (8, 0, False)])
def test_a_run_goes_on_in_the_middle_of_an_epoch(shards, tmp_path, stop,
                                                 workers, epochs):
    whole = train(shards, tmp_path / 'whole', epochs=epochs)
    first = train(shards, tmp_path / 'parts', stop, epochs=epochs)
    rest = train(shards, tmp_path / 'parts', resume=True, workers=workers,
                 epochs=epochs)
    assert first.seen + rest.seen == whole.seen
    assert len(whole.seen) == 12
    for epoch in (whole.seen[:6], whole.seen[6:]):
        assert sorted(sum(epoch, [])) == list(range(COUNT))
    assert torch.equal(rest.weight, whole.weight)
