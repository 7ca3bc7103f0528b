"""Read the features of slides and of bags of slides, a slice at a time.

Only the rows that are asked for are read, from the files as the usual tools
wrote them or from copies in fp16.
"""

import hashlib
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mmmedmask.datasets.slides.feature_files import (
    FeatureFile,
    SlideFeatureError,
    open_feature_file,
)

# Rows between two wanted ones that are cheaper to read than to skip.
_GAP = 32
_BAD_ROWS_SHOWN = 5


class SlideFeatures:
    """The features of one slide on disk.

    The file is opened when rows are first wanted, again after unpickling
    and again in a forked process: handles are never shared.

    Attributes:
        path: The file.
        num_patches: Number of patches N, may be 0.
        dims: Size of a feature D.
        layout: ``'clam'``, ``'trident'``, ``'stamp'``, ``'h5'``, ``'pt'`` or
            ``'npy'``.
        encoder: Name of the encoder if the file tells it, else None.
        has_coords: Whether the file has coordinates.
        coord_unit: ``'level0'`` for pixels of the slide's finest level,
            ``'tile'`` for pixels at the resolution of the tiles (STAMP
            without ``mpp``), None without coordinates. Files that do not say
            are taken to mean ``'level0'``, as CLAM does.
        patch_size: Side of a patch in the unit of the coordinates, if the
            file tells it, else None.

    Args:
        path: The file.
        dims: The feature size that is expected; None takes any.
        mpp: Micrometres per pixel of the slide's finest level. Only STAMP
            files need it, which hold micrometres: without it their
            coordinates are pixels of the tiles.
        cache_dir: Folder for a copy in fp16 that is read fast, made when
            rows are first wanted; None makes none. See
            :class:`~mmmedmask.datasets.slides.slide_features.FeatureCache`.

    Raises:
        FileNotFoundError: If there is no such file.
        SlideFeatureError: If it is no file of features, is truncated, or
            holds features of another size than ``dims``.
        ValueError: If ``dims`` or ``mpp`` is not positive.
    """

    def __init__(self,
                 path: str | Path,
                 dims: int | None = None,
                 mpp: float | None = None,
                 cache_dir: str | Path | None = None) -> None:
        for name, value in (('dims', dims), ('mpp', mpp)):
            if value is not None and not value > 0:
                raise ValueError(f'{name} must be positive, got {value}')
        self.path = Path(path)
        self.mpp = mpp
        self._cache = None if cache_dir is None else FeatureCache(cache_dir)
        self._file: FeatureFile | None = None
        self._owner = -1
        self._coords: torch.Tensor | None = None
        file = self._open()
        self.num_patches, self.dims = file.shape
        self.layout = file.layout
        self.encoder = file.encoder
        self.has_coords = file.has_coords
        self._scale, self.coord_unit, self.patch_size = _coordinates(
            file, mpp)
        if dims is not None and self.dims != dims:
            self.close()
            encoder = (f'encoder {self.encoder!r}' if self.encoder else
                       'an encoder that the file does not name')
            raise SlideFeatureError(
                f'{self.path} holds features of size {self.dims} ({encoder}), '
                f'expected {dims}')

    def _open(self) -> FeatureFile:
        """Give this process's own handle."""
        if self._file is None or self._owner != os.getpid():
            # A handle that came over a fork is the parent's to close.
            self._file = open_feature_file(self.path)
            self._owner = os.getpid()
        return self._file

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        if self._file is not None and self._owner == os.getpid():
            self._file.close()
        self._file = None

    def __enter__(self) -> 'SlideFeatures':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_file': None, '_owner': -1, '_coords': None}

    def __len__(self) -> int:
        return self.num_patches

    def read(self, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Read a slice, and no other row.

        Args:
            start: First row, in [0, N].
            stop: Row after the last, in [start, N]; None means N.

        Returns:
            float32 of shape (stop - start, D), a copy.

        Raises:
            ValueError: If the slice is out of range.
            SlideFeatureError: If a feature is NaN or infinite, or the file
                is damaged.
        """
        stop = self.num_patches if stop is None else stop
        if not 0 <= start <= stop <= self.num_patches:
            raise ValueError(
                f'Rows {start} to {stop} are out of range for '
                f'{self.num_patches} patches of {self.path}')
        if self._cache is None:
            rows = self._open().rows(start, stop)
        else:
            rows = self._cache.rows(self._open(), start, stop)
        check_finite(rows, self.path, start)
        return rows

    def take(self, rows: Sequence[int] | torch.Tensor) -> torch.Tensor:
        """Read chosen rows, in any order and more than once.

        Rows that lie close together in the file are read in one go.

        Args:
            rows: Row numbers, length R.

        Returns:
            float32 of shape (R, D).

        Raises:
            ValueError: If a row is out of range.
            SlideFeatureError: As :meth:`read`.
        """
        rows = torch.as_tensor(rows, dtype=torch.int64)
        if not len(rows):
            return torch.empty(0, self.dims)
        wanted, place = rows.unique(return_inverse=True)
        if wanted[0] < 0 or wanted[-1] >= self.num_patches:
            raise ValueError(
                f'Rows {int(wanted[0])} to {int(wanted[-1])} are out of '
                f'range for {self.num_patches} patches of {self.path}')
        ends = (wanted.diff() > _GAP).nonzero().flatten() + 1
        parts = [
            self.read(int(part[0]), int(part[-1]) + 1)[part - part[0]]
            for part in wanted.tensor_split(ends)
        ]
        found = parts[0] if len(parts) == 1 else torch.cat(parts)
        if len(place) == len(wanted) and bool((place.diff() == 1).all()):
            return found
        return found[place]

    @property
    def coords(self) -> torch.Tensor | None:
        """Upper left corners (x, y), int64 of shape (N, 2), or None.

        The unit is ``coord_unit``.
        """
        if not self.has_coords:
            return None
        if self._coords is None:
            if self._cache is None:
                stored = self._open().coords()
            else:
                stored = self._cache.coords(self._open())
            if self._scale != 1:
                stored = stored * self._scale
            if stored.is_floating_point():
                if not bool(torch.isfinite(stored).all()):
                    raise SlideFeatureError(
                        f'{self.path} has coordinates that are NaN or '
                        'infinite')
                stored = stored.round()
            self._coords = stored.to(torch.int64)
        return self._coords


def open_features(path: str | Path,
                  dims: int | None = None,
                  mpp: float | None = None,
                  cache_dir: str | Path | None = None) -> SlideFeatures:
    """Open a file of slide features, see :class:`SlideFeatures`.

    Args:
        path: The file, in whatever layout.
        dims: The feature size that is expected; None takes any.
        mpp: Micrometres per pixel of the slide, for STAMP's coordinates.
        cache_dir: Folder for copies in fp16.

    Returns:
        The features, not yet read.
    """
    return SlideFeatures(path, dims, mpp, cache_dir)


def check_finite(rows: torch.Tensor, path: str | Path, first: int) -> None:
    """Refuse features that are NaN or infinite.

    Args:
        rows: Features of shape (R, D).
        path: Their file, for the message.
        first: Row of the file that ``rows`` begins with.

    Raises:
        SlideFeatureError: If there is one; names the file and the first
            rows.
    """
    # A sum is NaN or infinite if a term is, and costs no second array.
    if not rows.numel() or bool(torch.isfinite(rows.sum(dtype=torch.float64))):
        return
    bad = (~torch.isfinite(rows)).any(dim=1).nonzero().flatten() + first
    shown = ', '.join(map(str, bad[:_BAD_ROWS_SHOWN].tolist()))
    more = ', ...' if len(bad) > _BAD_ROWS_SHOWN else ''
    raise SlideFeatureError(
        f'{path} has NaN or infinite features in {len(bad)} of '
        f'{len(rows)} rows read, the first are rows {shown}{more}')


def _coordinates(
        file: FeatureFile,
        mpp: float | None) -> tuple[float, str | None, int | None]:
    """Say how stored coordinates become pixels, of what, and the patch size.

    Returns:
        Factor, unit, side of a patch.
    """
    if not file.has_coords:
        return 1, None, None
    if not file.in_micrometres:
        return 1, 'level0', file.patch_size
    if mpp is not None:
        side = None if file.tile_um is None else round(file.tile_um / mpp)
        return 1 / mpp, 'level0', side
    if not file.tile_um or not file.tile_px:
        raise SlideFeatureError(
            f'{file.path} has coordinates in micrometres and does not tell '
            'the size of a tile in pixels: give the slide\'s mpp')
    return file.tile_px / file.tile_um, 'tile', round(file.tile_px)


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


class SlideBag:
    """Slides one behind the other, read a slice at a time.

    Rows are counted through all slides. Coordinates stay those of each
    slide, so that patches of different slides can have the same.

    Attributes:
        slides: The slides.
        lengths: Number of patches of each.
        num_patches: Number of all patches N.
        dims: Size of a feature D.

    Args:
        slides: The slides, at least one.

    Raises:
        ValueError: If there is no slide, or features differ in size.
    """

    def __init__(self, slides: Sequence[SlideFeatures]) -> None:
        if not slides:
            raise ValueError('a bag needs at least one slide, got none')
        for slide in slides:
            if slide.dims != slides[0].dims:
                raise ValueError(
                    f'{slides[0].path} holds features of size '
                    f'{slides[0].dims} (encoder {slides[0].encoder}), '
                    f'{slide.path} of size {slide.dims} (encoder '
                    f'{slide.encoder}): one bag takes one encoder')
        self.slides = tuple(slides)
        self.lengths = [len(slide) for slide in slides]
        self.num_patches = sum(self.lengths)
        self.dims = slides[0].dims

    def __len__(self) -> int:
        return self.num_patches

    @property
    def has_coords(self) -> bool:
        """Whether all slides have coordinates."""
        return all(slide.has_coords for slide in self.slides)

    def coords(self) -> list[torch.Tensor]:
        """Coordinates of each slide, int64 of shape (N_i, 2).

        Raises:
            ValueError: If a slide has none.
        """
        for slide in self.slides:
            if not slide.has_coords:
                raise ValueError(
                    f'{slide.path} ({slide.layout}) has no coordinates')
        return [slide.coords for slide in self.slides]

    def take(self, rows: torch.Tensor) -> torch.Tensor:
        """Read chosen rows, in any order and more than once.

        Args:
            rows: int64 of shape (R, ), counted through all slides.

        Returns:
            float32 of shape (R, D).

        Raises:
            ValueError: If a row is out of range.
        """
        if len(self.slides) == 1:
            return self.slides[0].take(rows)
        if len(rows) and not 0 <= int(rows.min()) <= int(
                rows.max()) < self.num_patches:
            raise ValueError(
                f'Rows {int(rows.min())} to {int(rows.max())} are out of '
                f'range for {self.num_patches} patches')
        taken = torch.empty(len(rows), self.dims)
        start = 0
        for slide in self.slides:
            inside = ((rows >= start)
                      & (rows < start + len(slide))).nonzero().flatten()
            if len(inside):
                taken[inside] = slide.take(rows[inside] - start)
            start += len(slide)
        return taken
