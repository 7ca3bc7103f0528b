"""Copies of slide features in fp16 that are read fast.

HDF5 files with a chunk per patch, as TRIDENT writes them, are slow to read,
and float32 takes twice the space that features need.
"""

import hashlib
import os
import uuid
from pathlib import Path

import numpy as np
import torch

from mmmedmask.datasets.slides.feature_files import (
    FeatureFile,
    SlideFeatureError,
)

_ROWS_AT_A_TIME = 4096
_FP16_MAX = float(np.finfo(np.float16).max)


class FeatureCache:
    """A folder of ``.npy`` copies, one per file of features.

    A copy is made when rows of its file are first wanted, by whichever
    worker comes first, and appears whole or not at all. It is named by the
    file's path, size and time of change, so that a changed file gets a new
    copy; the old one is deleted then.

    Args:
        folder: Where the copies go.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def place(self, path: Path) -> Path:
        """Say where the copy of a file is, whether made or not.

        Args:
            path: The file of features.

        Returns:
            Path of the ``.npy``.
        """
        state = path.stat()
        return self.folder / (f'{_prefix(path)}-{state.st_size:x}-'
                              f'{state.st_mtime_ns:x}.npy')

    def rows(self, file: FeatureFile, start: int, stop: int) -> torch.Tensor:
        """Read rows from the copy, after making it if there is none.

        Args:
            file: The file of features.
            start: First row.
            stop: Row after the last.

        Returns:
            float32 of shape (stop - start, D), rounded to fp16.
        """
        copy = np.load(self._make(file), mmap_mode='r')
        return torch.from_numpy(copy[start:stop].astype(np.float32))

    def coords(self, file: FeatureFile) -> torch.Tensor:
        """Read the coordinates as the file has them, from the copy."""
        return torch.from_numpy(np.load(_coords_of(self._make(file))))

    def _make(self, file: FeatureFile) -> Path:
        place = self.place(file.path)
        if place.is_file():
            return place
        self.folder.mkdir(parents=True, exist_ok=True)
        if file.has_coords:
            _write_whole(_coords_of(place), file.coords().numpy())
        partial = _partial(place)
        try:
            self._write_features(partial, file)
            os.replace(partial, place)
        finally:
            partial.unlink(missing_ok=True)
        for old in self.folder.glob(f'{_prefix(file.path)}-*.npy'):
            if old not in (place, _coords_of(place)):
                old.unlink(missing_ok=True)
        return place

    @staticmethod
    def _write_features(partial: Path, file: FeatureFile) -> None:
        count = file.shape[0]
        if not count:
            with partial.open('wb') as stream:
                np.save(stream, np.empty(file.shape, np.float16))
            return
        copy = np.lib.format.open_memmap(
            partial, mode='w+', dtype=np.float16, shape=file.shape)
        for start in range(0, count, _ROWS_AT_A_TIME):
            rows = file.rows(start, min(start + _ROWS_AT_A_TIME, count))
            # NaN and infinite features stay, to be refused when read.
            finite = rows[torch.isfinite(rows)]
            largest = float(finite.abs().max()) if len(finite) else 0
            if largest > _FP16_MAX:
                raise SlideFeatureError(
                    f'{file.path} has a feature of {largest:g}, fp16 ends at '
                    f'{_FP16_MAX:g}: it cannot be cached, leave out '
                    'cache_dir')
            copy[start:start + len(rows)] = rows.numpy()
        copy.flush()


def _prefix(path: Path) -> str:
    return hashlib.blake2b(
        str(path.resolve()).encode(), digest_size=12).hexdigest()


def _coords_of(place: Path) -> Path:
    return place.with_name(f'{place.stem}.coords.npy')


def _write_whole(place: Path, array: np.ndarray) -> None:
    partial = _partial(place)
    with partial.open('wb') as stream:
        np.save(stream, array)
    os.replace(partial, place)


def _partial(place: Path) -> Path:
    """Name of a file to write to, which no other worker writes to."""
    return place.with_name(f'.{place.name}.{uuid.uuid4().hex}.part')
