"""Fingerprints of the data that runs read: names, sizes, tables, weights."""

import functools
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmmedmask.experiments.run import Run
from mmmedmask.experiments.schema import DATA_PREFIX

#: Files whose whole content counts: tables and lists.
TABLE_SUFFIXES = ('.csv', '.tsv', '.txt', '.json', '.gmt', '.xlsx',
                  '.parquet')
# Tables as well if a config names them; in a folder they may be images.
_PACKED_SUFFIXES = ('.gz', '.zip', '.npz')
# Weights of one architecture have one size, as have features of one width
# and number: bytes at both ends of them count.
_END_BYTES = {'.pth': 2**20, '.pt': 2**20, '.ckpt': 2**20,
              '.safetensors': 2**20, '.h5': 2**16, '.hdf5': 2**16,
              '.npy': 2**16}


class DataFingerprints:
    """Digests of the files that runs read, looked up once."""

    def __init__(self, data_root: str | Path) -> None:
        self.data_root = Path(data_root)
        self._known: dict[Path, str | None] = {}

    def of_run(self, run: Run) -> dict[str, str | None]:
        """Fingerprints of what a run reads, by name; None for nothing."""
        return {name: self._of_path(self.locate(path))
                if isinstance(path, str) else self._of_list(path)
                for name, path in run.data.items()}

    def locate(self, path: str) -> Path:
        """Where a path of a config is."""
        if path.startswith(DATA_PREFIX):
            return self.data_root / path.removeprefix(DATA_PREFIX)
        return Path(path)

    def missing(self, run: Run) -> list[str]:
        """Paths of its config that a run reads and that are not there."""
        return [path for path in run.data.values() if isinstance(path, str)
                and not self.locate(path).exists()]

    def _of_list(self, paths: Sequence[str]) -> str:
        lines = [f'{path} {self._of_path(self.locate(path))}'
                 for path in paths]
        return hashlib.sha256('\n'.join(lines).encode()).hexdigest()[:16]

    def _of_path(self, path: Path) -> str | None:
        if path not in self._known:
            self._known[path] = digest_files(path)
        return self._known[path]


def data_fingerprints(data_root: str | Path,
                      scale: str) -> DataFingerprints | None:
    """Fingerprints of the data as they are now; None where they are drawn."""
    return None if scale == 'smoke' else DataFingerprints(data_root)


def digest_files(path: Path, features: bool = False) -> str | None:
    """Digest of the names and sizes of files, and of what tables say.

    Of weights and features both ends count. Hidden files and ``__pycache__``
    do not, links are followed; with ``features`` files of slide features alone
    count in a folder. None if there is nothing.
    """
    if path.is_file():
        lines = [_describe_file(path, _PACKED_SUFFIXES)]
    elif path.is_dir():
        endings: tuple[str, ...] = ('', )
        if features:
            # It imports all data sets.
            from mmmedmask.datasets.slides import feature_files
            endings = feature_files.FEATURE_SUFFIXES
        lines = sorted(
            f'{file.relative_to(path).as_posix()} {_describe_file(file)}'
            for file in _list_files(path, frozenset())
            if file.name.lower().endswith(endings))
    else:
        return None
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()[:16]


def _list_files(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:
        # A link to a folder that holds it.
        return
    for entry in os.scandir(folder):
        if entry.name.startswith('.') or entry.name == '__pycache__':
            continue
        if entry.is_dir():
            yield from _list_files(Path(entry.path), above | {real})
        elif entry.is_file():
            yield Path(entry.path)


def _describe_file(path: Path, more: tuple[str, ...] = ()) -> str:
    stat = path.stat()
    name = path.name.lower()
    # A packed table, such as a.csv.gz, is one in a folder too.
    whole = name.endswith(more) or name.removesuffix('.gz').removesuffix(
        '.zip').endswith(TABLE_SUFFIXES)
    ends = None if whole else _END_BYTES.get(Path(name).suffix, 0)
    if ends != 0:
        content = _content(path.resolve(), stat.st_size, stat.st_mtime_ns,
                           ends)
        return f'{stat.st_size} {content}'
    return str(stat.st_size)


# Many runs read the same tables.
@functools.lru_cache(maxsize=2**16)
def _content(path: Path, size: int, changed: int, ends: int | None) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as stream:
        if ends is None:
            while block := stream.read(2**20):
                digest.update(block)
        else:
            digest.update(stream.read(ends))
            stream.seek(max(0, size - ends))
            digest.update(stream.read())
    return digest.hexdigest()
