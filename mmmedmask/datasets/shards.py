"""Tiles in WebDataset tars, and an index that makes them a map.

Members of a plain tar are one sample as long as their names agree up to the
first dot of the file's name: ``a/1.jpg`` and ``a/1.cls``, the number of a
class. The index says for every sample where its picture is, in 20 bytes.
"""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from mmmedmask.datasets import image_io
from mmmedmask.datasets.fsspec_backend import FsspecBackend
from mmmedmask.datasets.radiology import SCAN_EXTENSIONS
from mmmedmask.util.atomic_files import atomic_path, write_json
from mmmedmask.util.checks import check_integer, check_positive
from mmmedmask.util.file_walk import match_paths

INDEX_FILE = 'index.json'
ENTRIES_FILE = 'index.bin'
INDEX_FORMAT = 1
ENTRY = np.dtype([('offset', '<u8'), ('size', '<u4'), ('shard', '<u4'),
                  ('label', '<i4')])
"""Where a picture begins in its shard and its length, both in bytes; the
number of the shard; the class, or -1."""
TAR_BLOCK = 512
_PICTURES = image_io.IMAGE_EXTENSIONS + SCAN_EXTENSIONS


class ShardIndex(Sequence):
    """The samples of a shard set, memory-mapped: processes share one copy.

    Args:
        folder: Holds ``index.json`` and ``index.bin``.
        root: Where the shards are; None: in the folder.
        rows: Numbers of the samples to take; None: all.
    """

    def __init__(self, folder: Path, root: str | None = None,
                 rows: range | None = None) -> None:
        path = folder / INDEX_FILE
        if not path.is_file():
            raise FileNotFoundError(
                f'{path} does not exist; `tools/dataset_converters/convert.py '
                'index_shards` writes it')
        content = json.loads(path.read_text(encoding='utf-8'))
        if content.get('format') != INDEX_FORMAT:
            raise ValueError(f'{path} has the format {content.get("format")}, '
                             f'expected {INDEX_FORMAT}: write it anew')
        self.shards = [shard['name'] for shard in content['shards']]
        self.sizes = [shard['bytes'] for shard in content['shards']]
        self.classes = tuple(content['classes'])
        expected = content['samples'] * ENTRY.itemsize
        size = (folder / ENTRIES_FILE).stat().st_size
        if size != expected or not expected:
            raise ValueError(f'{folder / ENTRIES_FILE} has {size} bytes, '
                             f'expected {expected} for {content["samples"]} '
                             'samples: write the index anew')
        self._place = folder, root
        self.root = str(folder if root is None else root)
        self.entries = np.memmap(folder / ENTRIES_FILE, ENTRY, mode='r')
        self.rows = range(len(self.entries)) if rows is None else rows

    def __reduce__(self) -> tuple:
        # A copy, or another process, maps the file again.
        return type(self), (*self._place, self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | slice) -> 'dict | ShardIndex':
        if isinstance(key, slice):
            return type(self)(*self._place, self.rows[key])
        entry = self.entries[self.rows[key]]
        shard, offset = int(entry['shard']), int(entry['offset'])
        sample = dict(
            img_path=f'{self.root}/{self.shards[shard]}#byte={offset}',
            shard=shard, offset=offset, size=int(entry['size']))
        if entry['label'] >= 0:
            sample['gt_label'] = int(entry['label'])
        return sample


def index_shards(folder: Path, classes: Sequence[str] = (),
                 progress: Callable[[str], object] = lambda line: None
                 ) -> ShardIndex:
    """Read the headers of all tars of a folder and write their index.

    ``folder`` holds ``*.tar``, taken in the order of their names, with labels
    if there are ``classes``; ``progress`` is called with a line for each. A
    ValueError names a shard and a member that cannot be indexed.
    """
    paths = match_paths(folder, '*.tar')
    if not paths:
        raise FileNotFoundError(f'{folder} holds no .tar')
    shards = []
    with atomic_path(folder / ENTRIES_FILE) as target, \
            target.open('wb') as out:
        for number, path in enumerate(paths):
            try:
                rows = [(offset, size, number, label) for offset, size, label
                        in _samples_of(path, len(classes))]
            except tarfile.TarError as error:
                raise ValueError(f'{path} is not a plain tar: {error}') \
                    from error
            out.write(np.array(rows, ENTRY).tobytes())
            shards.append(dict(name=path.name, bytes=path.stat().st_size,
                               samples=len(rows)))
            progress(f'{path.name}: {len(rows)} samples')
    # Last, so that there is no index that is not complete.
    write_json(folder / INDEX_FILE, dict(
        format=INDEX_FORMAT, samples=sum(s['samples'] for s in shards),
        classes=list(classes), shards=shards))
    return ShardIndex(folder)


def _samples_of(path: Path, num_classes: int
                ) -> Iterator[tuple[int, int, int]]:
    """Give offset, size and label of each sample of a tar."""
    last = num_classes - 1 if num_classes else 2**31 - 1
    with tarfile.open(path, 'r:') as tar:
        for key, members in groupby(_files_of(tar), key=_sample_name):
            picture, label = None, None
            for member in members:
                kind = member.name[len(key):].lower()
                if kind == '.cls':
                    if label is not None:
                        raise ValueError(f'{path}: the sample {key} has a '
                                         f'second label {member.name}')
                    text = tar.extractfile(member).read().decode(
                        errors='backslashreplace').strip()
                    if not text.isdecimal() or int(text) > last:
                        raise ValueError(f'{path}, {member.name}: the label '
                                         f'{text!r} is not one of 0 to {last}')
                    label = int(text)
                elif kind in _PICTURES:
                    if picture is not None:
                        raise ValueError(f'{path}: the sample {key} has a '
                                         f'second picture {member.name}')
                    picture = member.offset_data, member.size
            if picture is None:
                raise ValueError(f'{path}: the sample {key} has no picture '
                                 f'({", ".join(_PICTURES)})')
            yield *picture, -1 if label is None else label


def _files_of(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        # tarfile remembers all members: of large shards, too many.
        tar.members = []
        # Some tools put it in front of some names.
        member.name = member.name.removeprefix('./')
        if member.islnk() or member.issym():
            raise ValueError(f'{tar.name}: {member.name} is a link to '
                             f'{member.linkname}, expected a file: pack the '
                             'file itself')
        if member.isfile():
            yield member
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(2 * TAR_BLOCK) != bytes(2 * TAR_BLOCK):
        raise tarfile.ReadError('it has no end mark (two blocks of zeros) '
                                f'behind byte {tar.offset}, and was cut off '
                                'or is damaged')
    while rest := tar.fileobj.read(2**20):
        if rest.strip(b'\0'):
            raise tarfile.ReadError('something follows its end mark at byte '
                                    f'{tar.offset}, as in tars that were put '
                                    'together with cat: pack them anew')


def _sample_name(member: tarfile.TarInfo) -> str:
    folder, slash, name = member.name.rpartition('/')
    return folder + slash + name.partition('.')[0]


def pack_shards(root: Path, out: Path, shard_bytes: float = 1e9,
                seed: int = 0, labelled: bool = False,
                progress: Callable[[str], object] = lambda line: None
                ) -> ShardIndex:
    """Pack the pictures of a folder into shards, and write their index.

    The same arguments give the same bytes.

    Args:
        root: The folder, read as ``TileFolder`` does.
        out: Where the shards go; must hold no shards.
        shard_bytes: From which size on a shard is closed.
        seed: Of the order of the pictures.
        labelled: Whether the sub-folders are classes.

    Raises:
        ValueError: If two pictures have the same name up to its ending, a
            picture is one of several of a file, or lies in no class.
    """
    from mmmedmask.datasets.tiles import TileFolder
    check_positive('shard_bytes', shard_bytes)
    check_integer('seed', seed, 0)
    if out.exists() and match_paths(out, '*.tar'):
        raise ValueError(f'{out} holds shards already')
    tiles = TileFolder(str(root))
    members: dict[str, Path] = {}
    for index in range(len(tiles)):
        path = Path(tiles.get_data_info(index)['img_path'])
        if not path.is_file():
            raise ValueError(f'{path} is one of several pictures of a file: '
                             'save each as a file of its own')
        name = path.relative_to(root)
        kind = next(
            end for end in _PICTURES if path.name.lower().endswith(end))
        stem = name.name[:-len(kind)].replace('.', '_')
        other = members.setdefault(str(name.parent / stem), path)
        if other != path:
            raise ValueError(f'{other} and {path} would be one sample: '
                             'rename one of them')
    keys = list(members)
    np.random.default_rng(seed).shuffle(keys)
    classes = ()
    if labelled:
        alone = [str(members[key]) for key in keys if '/' not in key]
        if alone:
            raise ValueError(f'{alone[0]} lies in no class, expected a '
                             f'sub-folder of {root}')
        classes = tuple(sorted({key.partition('/')[0] for key in keys}))
    out.mkdir(parents=True, exist_ok=True)
    number, left = 0, keys[::-1]
    while left:
        with atomic_path(out / f'tiles-{number:06d}.tar') as target, \
                tarfile.open(target, 'w') as tar:
            while left and tar.offset < shard_bytes:
                key = left.pop()
                path = members[key]
                _add(tar, key + path.name[len(Path(key).name):].lower(),
                     path.read_bytes())
                if labelled:
                    label = classes.index(key.partition('/')[0])
                    _add(tar, f'{key}.cls', str(label).encode())
        number += 1
    return index_shards(out, classes, progress)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def check_shards(index: ShardIndex) -> Iterator[str]:
    """Read every picture of a shard set; give a line for each that is bad."""
    read = LocalShards(index).read
    for place in range(len(index)):
        sample = index[place]
        try:
            image_io.decode_image(io.BytesIO(read_picture(sample, read)),
                         sample['img_path'])
        except image_io.ImageFileError as error:
            yield str(error)


def read_picture(sample: dict,
                 read: Callable[[int, int, int], bytes]) -> bytes:
    """Read a picture's bytes, and see that the index is of its shard."""
    offset, size = sample['offset'], sample['size']
    try:
        content = read(sample['shard'], offset - TAR_BLOCK, offset + size)
        member_size = tarfile.TarInfo.frombuf(
            content[:TAR_BLOCK], 'utf-8', 'replace').size
        if member_size != size:
            raise ValueError(f'the member has {member_size} bytes and the '
                             f'index says {size}: it is not of this shard')
    except tarfile.HeaderError as error:
        raise image_io.ImageFileError(
            f'Cannot read {sample["img_path"]}: there is no member of a tar, '
            f'the index is not of this shard ({error})') from error
    except (OSError, ValueError) as error:
        raise image_io.ImageFileError(
            f'Cannot read {sample["img_path"]}: {error}') from error
    return content[TAR_BLOCK:]


class LocalShards:
    """Shards on a disk; each stays open, a few dozen at most."""

    most_open = 64

    def __init__(self, index: ShardIndex) -> None:
        self.index = index
        self._files: dict[int, io.FileIO] = {}

    def __reduce__(self) -> tuple:
        return type(self), (self.index, )

    def read(self, shard: int, start: int, stop: int) -> bytes:
        """Read the bytes from ``start`` to before ``stop`` of a shard."""
        file = self._files.pop(shard, None)
        if file is None:
            path = Path(self.index.root, self.index.shards[shard])
            file = path.open('rb', buffering=0)
            size = os.fstat(file.fileno()).st_size
            if size != self.index.sizes[shard]:
                file.close()
                raise ValueError(
                    f'the shard has {size} bytes, the index says '
                    f'{self.index.sizes[shard]}: write the index anew')
            if len(self._files) >= self.most_open:
                # The first is the one that was not used for longest.
                self._files.pop(next(iter(self._files))).close()
        self._files[shard] = file
        # Knows its place itself: children of a fork share the file's.
        return os.pread(file.fileno(), stop - start, start)


class RemoteShards:
    """Shards in an object store or on a web server, by a backend."""

    def __init__(self, index: ShardIndex, backend: FsspecBackend) -> None:
        self.index = index
        self.backend = backend

    def read(self, shard: int, start: int, stop: int) -> bytes:
        """As :meth:`LocalShards.read`."""
        return self.backend.get_range(
            f'{self.index.root}/{self.index.shards[shard]}', start, stop)
