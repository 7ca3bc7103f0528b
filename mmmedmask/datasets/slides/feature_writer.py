"""Write features as CLAM does, attributes as TRIDENT, and find them again."""

import contextlib
import glob
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmmedmask.datasets.slides.feature_files import (
    SETTINGS_KEY,
    SlideFeatureError,
)
from mmmedmask.util.atomic_files import reserve_space
from mmmedmask.util.checks import check_shape
from mmmedmask.util.extras import late_module
from mmmedmask.util.file_locks import process_runs

h5py = late_module('h5py', 'slides')

CHUNK_ROWS = 32
_LONGEST = 60
_HDF5_START = b'\x89HDF\r\n\x1a\n'
_FOREIGN = ('{} was not written by mmmedmask: choose another folder, or move '
            'it away')
# What the settings of files did not tell at first.
_FIRST_SETTINGS = {'precision': 'float32'}
# What older files do not tell, and do not differ in.
_LATER_SETTINGS = ('slide', )


class FeatureWriter:
    """A file of features that appears under its name when it is complete.

    Until then it is a hidden file beside it, which a killed run leaves
    behind and the next one on the same machine takes away.

    Args:
        path: The file; its folder is made.
        coords: Upper left corners (x, y) of the tiles, shape (N, 2).
        dims: Size of a feature D.
        settings: All that decides about the features, as plain values.
        grid: Attributes of the coordinates, such as ``patch_size_level0``.

    Raises:
        OSError: If the disk has no room for the features.
    """

    def __init__(self, path: Path, coords: np.ndarray, dims: int, encoder: str,
                 settings: Mapping, grid: Mapping[str, object]) -> None:
        check_shape('coords', coords, ('N', 2))
        if len(coords) and np.abs(coords).max() > np.iinfo(np.int32).max:
            raise ValueError(f'a coordinate of {np.abs(coords).max()} is too '
                             'large for int32')
        self.path = path
        self._written = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        self._partial = path.with_name(
            f'.{path.name}.{socket.gethostname()}.{os.getpid()}.part')
        self._file = None
        try:
            self._create(coords, dims, encoder, settings, grid)
        except BaseException:
            self.discard()
            raise

    def _create(self, coords: np.ndarray, dims: int, encoder: str,
                settings: Mapping, grid: Mapping[str, object]) -> None:
        h5py.File(self._partial, 'w').close()
        # HDF5 crashes on a disk that gets full: take the room before.
        reserve_space(self._partial, len(coords) * (4 * dims + 8))
        self._file = h5py.File(self._partial, 'r+')
        self._features = self._file.create_dataset(
            'features', (len(coords), dims), np.float32,
            chunks=(CHUNK_ROWS, dims), maxshape=(None, dims))
        self._features.attrs.update(encoder=encoder, name=self.path.stem)
        stored = self._file.create_dataset(
            'coords', data=coords.astype(np.int32), chunks=(CHUNK_ROWS, 2),
            maxshape=(None, 2))
        stored.attrs.update(grid)
        self._file.attrs[SETTINGS_KEY] = json.dumps(settings, sort_keys=True)

    def write(self, start: int, features: np.ndarray) -> None:
        """Write finite features (n, D) of the tiles from ``start`` on."""
        if start != self._written:
            raise ValueError(f'{self.path}: rows from {start} on, expected '
                             f'them from {self._written} on')
        if not np.isfinite(features).all():
            raise SlideFeatureError(
                f'{self.path}: the encoder gave NaN or infinite features '
                f'for tiles from {start} on; lower precision can do that')
        self._features[start:start + len(features)] = features
        self._written += len(features)

    def finish(self) -> Path:
        """Complete the file and give it its name."""
        if self._written != len(self._features):
            raise ValueError(f'{self.path}: {self._written} of '
                             f'{len(self._features)} rows are written')
        self._file.close()
        with self._partial.open('rb+') as file:
            os.fsync(file.fileno())
        os.replace(self._partial, self.path)
        return self.path

    def discard(self) -> None:
        """Give up, and leave nothing behind."""
        with contextlib.suppress(OSError, RuntimeError):
            if self._file is not None:
                self._file.close()
        self._partial.unlink(missing_ok=True)


def differing_settings(path: Path, wanted: Mapping,
                       unnoted: Mapping | None = None) -> str | None:
    """Say which settings of a file differ from those that are wanted.

    ``unnoted`` is what a file that does not note them was made with. Returns
    None for a file that is not there or truncated, and has to be made; one of
    another tool is a SlideFeatureError.
    """
    if not path.is_file():
        return None
    try:
        with h5py.File(path, 'r') as file:
            text = file.attrs.get(SETTINGS_KEY)
            if text is not None:
                # A last row that cannot be read is a truncated file too.
                features = file['features']
                features[max(0, len(features) - 1):].sum()
    except (OSError, KeyError, RuntimeError):
        if not _begins_as_hdf5(path):
            raise SlideFeatureError(_FOREIGN.format(path)) from None
        return None
    if text is None:
        raise SlideFeatureError(_FOREIGN.format(path))
    known = {name: wanted[name] for name in _LATER_SETTINGS if name in wanted}
    stored = {**_FIRST_SETTINGS, **known, **(unnoted or {}),
              **json.loads(text)}
    # What JSON makes of them, such as lists of tuples.
    stored, wanted = json.loads(json.dumps(
        [stored, {**_FIRST_SETTINGS, **wanted}]))
    return ', '.join(
        f'{name} {_short(stored, name)} there, {_short(wanted, name)} now'
        for name in sorted({*stored, *wanted})
        if stored.get(name) != wanted.get(name))


def _begins_as_hdf5(path: Path) -> bool:
    """Whether a file is HDF5 as far as it goes; an empty one is."""
    try:
        with path.open('rb') as file:
            return _HDF5_START.startswith(file.read(len(_HDF5_START)))
    except OSError as error:
        raise SlideFeatureError(f'{path} cannot be read: {error}') from None


def _short(settings: Mapping, name: str) -> str:
    text = repr(settings[name]) if name in settings else 'not noted'
    return text if len(text) <= _LONGEST else f'{text[:_LONGEST]}...'


def _remove_leftovers(path: Path) -> None:
    """Remove hidden parts of a file whose process is gone."""
    for part in path.parent.glob(f'.{glob.escape(path.name)}.*.part'):
        host, _, process = part.name[len(path.name) + 2:-len('.part')
                                     ].rpartition('.')
        if host == socket.gethostname() and process.isdigit() \
                and int(process) != os.getpid() \
                and not process_runs(int(process)):
            part.unlink(missing_ok=True)
