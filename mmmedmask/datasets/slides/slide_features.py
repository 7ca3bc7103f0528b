"""Read features of slides and bags by slices, from files or fp16 copies."""

import functools
import hashlib
import io
import itertools
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import print_log

from mmmedmask.datasets.slides.feature_files import (
    FeatureFile,
    NumpyFile,
    SlideFeatureError,
    open_feature_file,
)
from mmmedmask.functional.bags import SLIDE_PITCH
from mmmedmask.util import atomic_files
from mmmedmask.util.checks import check_positive
from mmmedmask.util.nearest import shown

# Rows between two wanted ones that are cheaper to read than to skip.
_GAP = 32
_ROWS_AT_A_TIME = 4096
_FP16_MAX = float(np.finfo(np.float16).max)
# Below it fp16 has fewer digits, and none in the end.
_FP16_TINY = float(np.finfo(np.float16).tiny)
_DEAD_SECONDS = 3600
_WORD = r'[^\W\d_]+\d*|\d+'
# Words of names that do not tell encoders of one size of features apart.
_ANY_ENCODER = {'timm', 'hf', 'hub', 'huggingface', 'torchvision', 'encoder',
                'model', 'features', 'block3', 'trunc'}


class SlideFeatures:
    """The features (N, D) of one slide on disk; N may be 0.

    Files without a patch may not tell D: it is ``dims`` then, or 0.

    Handles are never shared: it is opened again in another process.

    Attributes:
        layout: ``'clam'``, ``'trident'``, ``'stamp'``, ``'h5'``, ``'pt'`` or
            ``'npy'``.
        encoder: Name of the encoder if the file tells it, else None.
        weights: What identifies the encoder's weights, in files of ours.
        tile_mpp: Micrometres per pixel of the tiles, if the file tells it.
        coord_unit: ``'level0'`` for pixels of the slide's finest level,
            ``'tile'`` for pixels at the resolution of the tiles (STAMP
            without ``mpp``), None without coordinates. Files that do not say
            are taken to mean ``'level0'``, as CLAM does.
        patch_size: Side of a patch in the unit of the coordinates, if the
            file tells it, else None.

    Args:
        dims: The D that is expected; None takes any.
        mpp: Micrometres per pixel of the slide's finest level, which only
            STAMP's files need.
        cache_dir: Folder of a :class:`FeatureCache`; None makes none.

    Raises:
        FileNotFoundError: If there is no such file.
        SlideFeatureError: If it is not as expected, or truncated.
    """

    def __init__(self, path: str | Path, dims: int | None = None,
                 mpp: float | None = None,
                 cache_dir: str | Path | None = None) -> None:
        for name, value in (('dims', dims), ('mpp', mpp)):
            if value is not None:
                check_positive(name, value)
        self.path = Path(path)
        self._cache = None if cache_dir is None else FeatureCache(cache_dir)
        self._file: FeatureFile | None = None
        self._owner = -1
        self._coords: torch.Tensor | None = None
        file = self._open()
        self.num_patches, size = file.shape
        self.dims = size or dims or 0
        self.layout = file.layout
        self.encoder, self.weights = file.encoder, file.weights
        self.tile_mpp = file.tile_mpp
        self.has_coords = file.has_coords
        self._scale, self.coord_unit, self.patch_size = _coordinates(file, mpp)
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
        """Read rows ``start`` to before ``stop``, float32 (R, D), finite."""
        stop = self.num_patches if stop is None else stop
        if not 0 <= start <= stop <= self.num_patches:
            raise self._out_of_range(start, stop)
        rows = self._source().rows(start, stop).reshape(
            stop - start, self.dims)
        _check_finite(rows, self.path, start)
        return rows

    def _source(self) -> FeatureFile:
        file = self._open()
        return file if self._cache is None else self._cache.copy_of(file)

    def take(self, rows: Sequence[int] | torch.Tensor) -> torch.Tensor:
        """Read rows (R, D) in any order, also repeated; close ones at once."""
        rows = torch.as_tensor(rows, dtype=torch.int64)
        if not len(rows):
            return torch.empty(0, self.dims)
        wanted, place = rows.unique(return_inverse=True)
        if wanted[0] < 0 or wanted[-1] >= self.num_patches:
            raise self._out_of_range(int(wanted[0]), int(wanted[-1]))
        ends = (wanted.diff() > _GAP).nonzero().flatten() + 1
        parts = [self.read(int(part[0]), int(part[-1]) + 1)[part - part[0]]
                 for part in wanted.tensor_split(ends)]
        features = parts[0] if len(parts) == 1 else torch.cat(parts)
        if len(place) == len(wanted) and bool((place.diff() == 1).all()):
            return features
        return features[place]

    def _out_of_range(self, first: int, last: int) -> ValueError:
        return ValueError(f'Rows {first} to {last} are out of range for '
                          f'{self.num_patches} patches of {self.path}')

    @property
    def coords(self) -> torch.Tensor | None:
        """Upper left corners (x, y) in ``coord_unit``, int64 (N, 2).

        Raises:
            SlideFeatureError: If one is outside of [0, 2^32).
        """
        if self._coords is None and self.has_coords:
            stored = self._source().coords()
            if self._scale != 1:
                stored = stored * self._scale
            # Of wide types, for which 2^32 is a number.
            stored = stored.double().round() if stored.is_floating_point(
                ) else stored.long()
            # NaN is not in it either.
            if not bool(((stored >= 0) & (stored < SLIDE_PITCH)).all()):
                low, high = stored.min().item(), stored.max().item()
                raise SlideFeatureError(
                    f'{self.path} has coordinates from {low:.15g} to '
                    f'{high:.15g}, which must be pixels in [0, 2^32)')
            self._coords = stored.to(torch.int64)
        return self._coords


def check_same_encoder(slides: Sequence[SlideFeatures]) -> None:
    """Refuse features of different sizes, encoders or weights.

    What the file of a slide does not tell fits all others. Where two files
    tell the weights, as ours do, the encoders must be called the same; else
    one name has to have all words of the other, but for a version and whose
    it is: ``uni_v1`` and ``MahmoodLab/UNI``. Words beside these, as in
    ``resnet50_ssl`` and ``resnet50``, are a warning.
    """
    kinds: dict[tuple, SlideFeatures] = {}
    for slide in slides:
        kinds.setdefault((slide.dims, slide.encoder, slide.weights), slide)
    for first, other in itertools.combinations(kinds.values(), 2):
        if not _fit(first, other):
            raise ValueError(
                f'{first.path} holds features of {_origin(first)}, '
                f'{other.path} of {_origin(other)}: a model takes one encoder')


def _fit(first: SlideFeatures, other: SlideFeatures) -> bool:
    both_named = None not in (first.weights, other.weights)
    sizes = {first.dims, other.dims} - {0}
    if len(sizes) > 1 or (both_named and first.weights != other.weights):
        return False
    names = first.encoder, other.encoder
    if None in names:
        return True
    if both_named:
        # Where a folder lies says nothing about what is in it.
        return len({re.sub('(?<=:local-dir:).*', '', name)
                    for name in names}) == 1
    return _same_words(*names)


@functools.cache
def _same_words(*names: str) -> bool:
    parts = [set(re.findall(_WORD, name.lower())) for name in names]
    versions = [{word for word in words if re.fullmatch(r'v\d+', word)}
                for words in parts]
    if all(versions) and versions[0] != versions[1]:
        return False
    first, other = (words - version - _ANY_ENCODER or words
                    for words, version in zip(parts, versions, strict=True))
    if not first <= other and not other <= first:
        return False
    owners = ' '.join(re.findall('[^:/]+/', ':'.join(names).lower()))
    if (first ^ other).difference(re.findall(_WORD, owners)):
        # Once, as the answer is remembered.
        print_log(f'the encoders {names[0]} and {names[1]} are taken for one, '
                  'as one name has all words of the other: if they are two, '
                  'their features must not be mixed', 'current', 30)
    return True


def _origin(slide: SlideFeatures) -> str:
    weights = f', weights {slide.weights!r}' if slide.weights else ''
    return f'size {slide.dims} (encoder {slide.encoder!r}{weights})'


class SlideBag:
    """All slides of a patient one behind the other, read a slice at a time.

    Rows are counted through all slides. Coordinates stay those of each
    slide, so that patches of different slides can have the same.
    """

    def __init__(self, slides: Sequence[SlideFeatures]) -> None:
        if not slides:
            raise ValueError('a bag needs at least one slide, got none')
        check_same_encoder(slides)
        self.slides = tuple(slides)
        self.num_patches = sum(map(len, slides))
        self.dims = max(slide.dims for slide in slides)
        self.has_coords = all(slide.has_coords for slide in slides)

    def __len__(self) -> int:
        return self.num_patches

    def coords(self) -> list[torch.Tensor]:
        """Coordinates of each slide, int64 of shape (N_i, 2)."""
        for slide in self.slides:
            if not slide.has_coords:
                raise ValueError(
                    f'{slide.path} ({slide.layout}) has no coordinates')
        return [slide.coords for slide in self.slides]

    def take(self, rows: torch.Tensor) -> torch.Tensor:
        """Read rows of all slides; see :meth:`SlideFeatures.take`."""
        if len(self.slides) == 1:
            return self.slides[0].take(rows)
        if len(rows) and not 0 <= int(rows.min()) <= int(
                rows.max()) < self.num_patches:
            raise ValueError(
                f'Rows {int(rows.min())} to {int(rows.max())} are out of '
                f'range for {self.num_patches} patches')
        features = torch.empty(len(rows), self.dims)
        start = 0
        for slide in self.slides:
            inside = ((rows >= start)
                      & (rows < start + len(slide))).nonzero().flatten()
            if len(inside):
                features[inside] = slide.take(rows[inside] - start)
            start += len(slide)
        return features


#: Caches that this process found full.
_FULL_FOLDERS: set[Path] = set()


class FeatureCache:
    """A folder of ``.npy`` copies in fp16, one per file of features.

    A copy is made when rows of its file are first wanted, by whichever worker
    comes first, and appears whole or not at all. It is named by the file's
    path, size and time of change; a changed file's old one is deleted.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def place(self, path: Path) -> Path:
        """Say where the copy of a file is, whether made or not."""
        state = path.stat()
        return self.folder / (f'{_prefix(path)}-{state.st_size:x}-'
                              f'{state.st_mtime_ns:x}.npy')

    def copy_of(self, file: FeatureFile) -> FeatureFile:
        """Give a file's copy, made if need be; on a full disk the file."""
        place = self.place(file.path)
        coordinates = place.with_suffix('.coords.npy')
        if place.is_file():
            return NumpyFile(place, coordinates)
        # Each slide has a cache of its own.
        if self.folder in _FULL_FOLDERS:
            return file
        try:
            self._make(place, coordinates, file)
        except OSError as error:
            if error.errno not in atomic_files.NO_ROOM:
                raise
            _FULL_FOLDERS.add(self.folder)
            print_log(f'{self.folder} has no room for a copy of {file.path} '
                      f'({error.strerror}): features are read from their own '
                      'files from here on', 'current', 30)
            return file
        return NumpyFile(place, coordinates)

    def _make(self, place: Path, coordinates: Path, file: FeatureFile) -> None:
        for part in self.folder.glob(atomic_files.PART_PATTERN):
            # Of a process that was killed: one that writes is faster.
            with suppress(FileNotFoundError):
                if time.time() - part.stat().st_mtime > _DEAD_SECONDS:
                    part.unlink()
        # Coordinates are there before the features, and not without them.
        with atomic_files.atomic_path(place) as temporary:
            _write_fp16(temporary, file)
            if file.has_coords:
                buffer = io.BytesIO()
                np.save(buffer, file.coords().numpy())
                atomic_files.write_bytes(coordinates, buffer.getbuffer())
        for old in self.folder.glob(f'{_prefix(file.path)}-*.npy'):
            if old not in (place, coordinates):
                old.unlink(missing_ok=True)


def _write_fp16(place: Path, file: FeatureFile) -> None:
    # A mapped file would end the process when the disk gets full.
    with place.open('wb') as stream:
        np.lib.format.write_array_header_1_0(stream, dict(
            descr='<f2', fortran_order=False, shape=file.shape))
        for start in range(0, file.shape[0], _ROWS_AT_A_TIME):
            rows = file.rows(start, min(start + _ROWS_AT_A_TIME,
                                        file.shape[0]))
            # NaN and infinite features stay, to be refused when read.
            finite = rows[torch.isfinite(rows)]
            largest = float(finite.abs().max()) if len(finite) else 0
            if largest > _FP16_MAX:
                raise SlideFeatureError(
                    f'{file.path} has a feature of {largest:g}, fp16 ends at '
                    f'{_FP16_MAX:g}: it cannot be cached, leave out cache_dir')
            # Single ones are small in any file, whole patches are not.
            largest = rows.abs().amax(1)
            small = largest[(largest > 0) & (largest < _FP16_TINY)]
            if len(small):
                raise SlideFeatureError(
                    f'{file.path} has a patch with no feature above '
                    f'{float(small[0]):g}, fp16 is exact from '
                    f'{_FP16_TINY:g} on: it cannot be cached, leave out '
                    'cache_dir')
            stream.write(rows.numpy().astype('<f2').tobytes())


def _prefix(path: Path) -> str:
    return hashlib.blake2b(
        str(path.resolve()).encode(), digest_size=12).hexdigest()


def _check_finite(rows: torch.Tensor, path: Path, first: int) -> None:
    """Refuse features (R, D), from row ``first`` on, that are not finite."""
    # A sum is NaN or infinite if a term is, and costs no second array.
    if not rows.numel() or bool(torch.isfinite(rows.sum(dtype=torch.float64))):
        return
    bad = (~torch.isfinite(rows)).any(dim=1).nonzero().flatten() + first
    raise SlideFeatureError(
        f'{path} has NaN or infinite features in {len(bad)} of '
        f'{len(rows)} rows read, the first are rows {shown(bad.tolist())}')


def _coordinates(file: FeatureFile,
                 mpp: float | None) -> tuple[float, str | None, int | None]:
    """Return factor to pixels, their unit, and side of a patch."""
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
