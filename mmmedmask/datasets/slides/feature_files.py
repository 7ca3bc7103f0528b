"""Files of slide features: found by the name of a slide, opened by content.

Layouts: CLAM ``features`` and ``coords``, whose attributes, if any, are those
of its patches (``patch_size`` at ``patch_level``, ``downsample``); TRIDENT the
same with ``encoder`` and ``patch_size_level0``; STAMP ``feats`` and ``coords``
in micrometres with file attributes; tensors of CLAM and slideflow; arrays of
torchmil; and any of them as (1, N, D).
"""

from __future__ import annotations

import errno
import json
import math
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import print_log

from mmmedmask.util.extras import late_module
from mmmedmask.util.file_walk import walk_files
from mmmedmask.util.nearest import bare_name, composed

h5py = late_module('h5py', 'slides')

# Names of the features in h5 files and dicts, and of the encoder.
_FEATURE_KEYS = ('features', 'feats')
_ENCODER_KEYS = ('encoder', 'extractor', 'model_name')
SETTINGS_KEY = 'mmmedmask_settings'
"""Attribute of our own h5 files: all that decides about them, as JSON."""

_NPY_MAGIC = b'\x93NUMPY'
_ZIP_MAGIC = b'PK\x03\x04'
_PICKLE_MAGIC = b'\x80'
# Times that features can be larger than what a file holds of them, and the
# bytes from which on that counts.
_BOMB_RATIO = 100
_BOMB_BYTES = 2**26
# What h5py and torch raise for damaged files.
_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, EOFError,
           zipfile.BadZipFile)
_ADVICE = 'extract its features again'


class SlideFeatureError(ValueError):
    """A file of slide features that cannot be used; the message names it."""


class FeatureFile(ABC):
    """An open file of features of shape (N, D), in the layout of a tool.

    Coordinates are ``in_micrometres`` or in pixels, and ``patch_size``, the
    side of a patch, in the same unit. ``tile_um`` and ``tile_px`` are the
    side in micrometres and in pixels at the resolution it was cut,
    ``tile_mpp``. ``weights`` identify the encoder's, in our own files.
    """

    path: Path
    shape: tuple[int, int]
    layout: str
    encoder: str | None = None
    weights: str | None = None
    has_coords: bool = False
    in_micrometres: bool = False
    patch_size: int | None = None
    tile_um: float | None = None
    tile_px: float | None = None
    tile_mpp: float | None = None

    @abstractmethod
    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Read rows as float32 of shape (stop - start, D)."""

    @abstractmethod
    def coords(self) -> torch.Tensor:
        """Read the coordinates as stored, shape (N, 2)."""

    @abstractmethod
    def close(self) -> None:
        """Close the file, or let go of what is mapped."""

    def _set_shape(self, shape: tuple[int, ...], is_float: bool,
                   kind: object) -> None:
        """Accept (N, D) and (1, N, D) of floating point numbers.

        Tools that have no patch of a slide write (0, ) and (0, 0), too.
        """
        shape = tuple(shape)
        if len(shape) == 3 and shape[0] == 1:
            shape = shape[1:]
        if shape == (0, ):
            shape = (0, 0)
        if len(shape) == 1:
            raise SlideFeatureError(
                f'{self.path} holds one vector of shape {shape}, '
                'not one feature per patch: it looks like an embedding of '
                'the whole slide')
        if len(shape) != 2 or (shape[0] and not shape[1]):
            raise SlideFeatureError(
                f'{self.path} holds features of shape {shape}, '
                'expected (N, D) or (1, N, D)')
        if not is_float:
            raise SlideFeatureError(f'{self.path} holds features of type '
                                    f'{kind}, expected floating point numbers')
        self.shape = (int(shape[0]), int(shape[1]))

    def _set_side(self, side: float | None) -> None:
        """Accept a patch that is a pixel wide at least, or not known."""
        if side is not None and not 1 <= side < np.inf:
            raise SlideFeatureError(f'{self.path} says that a patch is '
                                    f'{side:g} wide, expected 1 or more')
        self.patch_size = None if side is None else round(side)

    def _check_coords(self, shape: tuple[int, ...]) -> None:
        if (self.shape[0] or 0 not in shape) and tuple(shape) not in (
                (self.shape[0], 2), (1, self.shape[0], 2)):
            raise SlideFeatureError(
                f'{self.path} has coordinates of shape {tuple(shape)} for '
                f'{self.shape[0]} patches, expected ({self.shape[0]}, 2)')
        self.has_coords = True


class H5File(FeatureFile):
    """Features in an HDF5 file of CLAM, TRIDENT, STAMP or alike."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _naming_damage(path):
            # Folders are often mounted where nothing can be locked.
            self._file = h5py.File(path, 'r', locking='best-effort')
            try:
                self._read_layout()
            except BaseException:
                self._file.close()
                raise

    def _read_layout(self) -> None:
        for key in (*_FEATURE_KEYS, 'coords'):
            self._check_within(key)
        keys = [key for key in _FEATURE_KEYS
                if isinstance(self._file.get(key), h5py.Dataset)]
        if len(keys) != 1:
            content = {key: item.shape if isinstance(item, h5py.Dataset)
                       else 'group' for key, item in self._file.items()}
            raise SlideFeatureError(
                f'{self.path} must have one data set named '
                f'{" or ".join(_FEATURE_KEYS)}, it has {content}')
        self._features = self._file[keys[0]]
        self._coords = self._file.get('coords')
        attributes = dict(self._file.attrs)
        attributes.update(self._features.attrs)
        grid = {} if self._coords is None else self._coords.attrs
        if _text(attributes.get('feat_type', 'tile')) != 'tile':
            raise SlideFeatureError(
                f'{self.path} holds features of the type '
                f'{_text(attributes["feat_type"])!r}, expected one per tile')
        self._set_shape(self._features.shape, self._features.dtype.kind == 'f',
                        self._features.dtype)
        if self._coords is not None:
            self._check_coords(self._coords.shape)
        self.encoder = _encoder(attributes)
        self.weights = json.loads(
            _text(attributes.get(SETTINGS_KEY, '{}'))).get('weights')
        self.in_micrometres = _text(attributes.get('unit')) == 'um'
        self.tile_um = as_number(attributes.get('tile_size_um'))
        self.tile_px = as_number(attributes.get('tile_size_px'))
        magnification = as_number(grid.get('target_magnification'))
        self.tile_mpp = as_number(grid.get('mpp')) or (
            magnification and 10 / magnification)
        if self.tile_um and self.tile_px:
            self.tile_mpp = self.tile_um / self.tile_px
        side = as_number(
            grid.get('patch_size_level0', attributes.get('patch_size_level0')))
        self._set_side(_clam_side(grid) if side is None else side)
        if keys[0] == 'feats':
            self.layout = 'stamp'
        elif 'encoder' in self._features.attrs or side is not None:
            self.layout = 'trident'
        else:
            self.layout = 'clam' if self.has_coords else 'h5'

    def _check_within(self, key: str) -> None:
        """Refuse data from other files, and more than the file can hold."""
        link = self._file.get(key, getlink=True)
        if link is None:
            return
        if not isinstance(link, h5py.HardLink):
            raise SlideFeatureError(
                f'{self.path}: {key} is a link to {link.path!r}'
                f'{" of another file" if hasattr(link, "filename") else ""}, '
                'which is not followed: copy the data into the file')
        data = self._file[key]
        if not isinstance(data, h5py.Dataset):
            return
        if data.external or data.is_virtual:
            raise SlideFeatureError(
                f'{self.path}: the data of {key} are in other files, which '
                'are not read: copy them into the file')
        if key == 'coords' and data.dtype.kind not in 'iuf':
            raise SlideFeatureError(f'{self.path}: {key} is of type '
                                    f'{data.dtype}, expected numbers')
        stored = data.id.get_storage_size()
        chunk = math.prod(data.chunks or (0, )) * data.dtype.itemsize
        if max(data.nbytes, chunk) > max(_BOMB_RATIO * stored, _BOMB_BYTES):
            raise SlideFeatureError(
                f'{self.path}: {key} of shape {data.shape}, in chunks of '
                f'{data.chunks}, would take {max(data.nbytes, chunk):,} '
                f'bytes, and the file holds {stored:,} of them: features '
                'cannot be compressed that much, the file is broken or '
                'meant to fill the memory')

    def rows(self, start: int, stop: int) -> torch.Tensor:
        rows = np.empty((stop - start, self.shape[1]), np.float32)
        if rows.size:
            wanted = np.s_[start:stop]
            if self._features.ndim == 3:
                wanted = np.s_[0, start:stop]
            with _naming_damage(self.path):
                self._features.read_direct(rows, wanted)
        return torch.from_numpy(rows)

    def coords(self) -> torch.Tensor:
        with _naming_damage(self.path):
            stored = self._coords[()]
        kind = np.float64 if stored.dtype.kind == 'f' else np.int64
        return torch.from_numpy(stored.astype(kind).reshape(-1, 2))

    def close(self) -> None:
        self._file.close()


class TorchFile(FeatureFile):
    """A tensor in a torch file, or a dict with one; mapped, not loaded."""

    layout = 'pt'

    def __init__(self, path: Path) -> None:
        self.path = path
        content = self._load()
        tensor = content
        if isinstance(content, Mapping):
            keys = [key for key in _FEATURE_KEYS
                    if isinstance(content.get(key), torch.Tensor)]
            if len(keys) != 1:
                raise SlideFeatureError(
                    f'{path} must hold a tensor, or a dict with one named '
                    f'{" or ".join(_FEATURE_KEYS)}, it has the keys '
                    f'{list(content)[:10]}')
            tensor = content[keys[0]]
            self.encoder = _encoder(content)
        if not isinstance(tensor, torch.Tensor):
            raise SlideFeatureError(f'{path} must hold a tensor, it holds a '
                                    f'{type(content).__name__}')
        if tensor.layout != torch.strided or tensor.is_meta:
            raise SlideFeatureError(
                f'{path} must hold a dense tensor, it holds one of '
                f'{"no values" if tensor.is_meta else tensor.layout}')
        self._set_shape(tensor.shape, tensor.is_floating_point(), tensor.dtype)
        if tensor.numel() > tensor.untyped_storage().nbytes() \
                // tensor.element_size():
            raise SlideFeatureError(
                f'{path} tells of {tensor.numel():,} numbers and holds '
                'fewer: they repeat themselves')
        self._features = tensor.detach().reshape(self.shape)
        self._coords = None
        if isinstance(content, Mapping) and content.get('coords') is not None:
            self._coords = torch.as_tensor(content['coords'])
            self._check_coords(self._coords.shape)
            self._set_side(as_number(content.get('patch_size_level0')))

    def _load(self) -> object:
        options = dict(map_location='cpu', weights_only=True)
        try:
            if zipfile.is_zipfile(self.path):
                return torch.load(self.path, mmap=True, **options)
            # Files of torch before 1.6 cannot be mapped.
            print_log(f'{self.path} has the format of torch < 1.6, which has '
                      'to be read as a whole; a cache_dir makes later reads '
                      'fast', logger='current', level=30)
            return torch.load(self.path, **options)
        except Exception as error:
            # torch.load fails in many ways, among them pickle's own error
            # for everything but tensors.
            if 'weights_only' in str(error).lower():
                raise SlideFeatureError(
                    f'{self.path} holds Python objects other than tensors, '
                    'which could run code when loaded: save the features '
                    'with torch.save(tensor, path)') from error
            raise _damaged(self.path, error) from error

    def rows(self, start: int, stop: int) -> torch.Tensor:
        return self._features[start:stop].to(torch.float32, copy=True)

    def coords(self) -> torch.Tensor:
        return self._coords.reshape(-1, 2).clone()

    def close(self) -> None:
        self._features = self._coords = None


class NumpyFile(FeatureFile):
    """An array in an ``.npy`` file, mapped; coordinates are in one beside."""

    layout = 'npy'

    def __init__(self, path: Path, coordinates: Path | None = None) -> None:
        self.path = path
        self._coordinates = coordinates
        self._advice = _ADVICE if coordinates is None \
            else f'delete {path}, it is made again'
        with _naming_damage(path, self._advice):
            array = np.load(path, mmap_mode='r', allow_pickle=False)
        self._set_shape(array.shape, array.dtype.kind == 'f', array.dtype)
        self._features = array.reshape(self.shape)

    def rows(self, start: int, stop: int) -> torch.Tensor:
        return torch.from_numpy(
            np.array(self._features[start:stop], dtype=np.float32))

    def coords(self) -> torch.Tensor:
        with _naming_damage(self._coordinates, self._advice):
            return torch.from_numpy(np.load(self._coordinates))

    def close(self) -> None:
        self._features = None


def open_feature_file(path: Path) -> FeatureFile:
    """Open a file of features after a look at its first bytes."""
    if not path.is_file():
        raise FileNotFoundError(f'The feature file {path} does not exist')
    try:
        with path.open('rb') as file:
            begin = file.read(8)
    except OSError as error:
        raise SlideFeatureError(f'Cannot open {path}: {error}') from error
    if not begin:
        raise SlideFeatureError(f'{path} is empty (0 bytes)')
    if begin.startswith(_NPY_MAGIC):
        return NumpyFile(path)
    if begin.startswith(_ZIP_MAGIC) and zipfile.is_zipfile(path):
        with _naming_damage(path), zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if all(name.endswith('.npy') for name in names):
            raise SlideFeatureError(
                f'{path} is an npz file, which is not read, with {names[:5]}: '
                'save the array of features alone, with np.save')
    if begin.startswith((_ZIP_MAGIC, _PICKLE_MAGIC)):
        return TorchFile(path)
    if h5py.is_hdf5(path) or begin.startswith(b'\x89HDF'):
        return H5File(path)
    raise SlideFeatureError(
        f'{path} is not an HDF5, torch or npy file: it begins with {begin!r}')


@contextmanager
def _naming_damage(path: Path, advice: str = _ADVICE) -> Iterator[None]:
    """Turn what readers raise for damaged files into an error of ours."""
    try:
        yield
    except SlideFeatureError:
        raise
    except _DAMAGE as error:
        raise _damaged(path, error, advice) from error


def _damaged(path: Path, error: Exception,
             advice: str = _ADVICE) -> SlideFeatureError:
    if 'unable to lock file' in str(error):
        return SlideFeatureError(
            f'{path} is open for writing in another process: wait for its end')
    # Too many open files, say, is not the file's fault. An invalid argument
    # is: torch seeks a place before a truncated file.
    if getattr(error, 'errno', None) not in (None, errno.EINVAL):
        return SlideFeatureError(f'Cannot read {path}: {error}')
    if 'Python objects' in str(error):
        return SlideFeatureError(
            f'{path} holds Python objects: save an array of floats')
    return SlideFeatureError(
        f'{path} is truncated or damaged, {advice} ({error})')


def _encoder(attributes: Mapping) -> str | None:
    for key in _ENCODER_KEYS:
        if isinstance(attributes.get(key), str | bytes | np.ndarray):
            return _text(attributes[key])
    return None


def _text(value: object) -> str | None:
    """Attribute as text: h5 files hold str, bytes or arrays of one."""
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size == 1 else value.tolist()
    if isinstance(value, bytes):
        return value.decode(errors='replace')
    return None if value is None else str(value)


def as_number(value: object) -> float | None:
    """Read an attribute as a number, None where it is none."""
    try:
        return None if value is None else float(np.asarray(value).item())
    except (TypeError, ValueError):
        return None


def _clam_side(grid: Mapping) -> float | None:
    """Side of a patch on the finest level, as CLAM's coordinates tell it."""
    side, level = (as_number(grid.get(key))
                   for key in ('patch_size', 'patch_level'))
    unknown = np.nan if level else 1.0
    factor = np.atleast_1d(grid.get('downsample', unknown))
    if side is None or level is None or not np.isfinite(factor[0]):
        return None
    return side * float(factor[0])


SLIDE_SUFFIXES = ('.svs', '.tif', '.tiff', '.ome', '.ndpi', '.mrxs', '.scn',
                  '.svslide', '.vms', '.vmu', '.bif', '.czi', '.dcm', '.vsi',
                  '.isyntax', '.qptiff', '.sdpc', '.kfb', '.tmap')
"""Endings of slide files, in lower case."""

PICTURE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp')
"""Endings of pictures that can stand for a slide, in lower case."""

FEATURE_SUFFIXES = ('.h5', '.hdf5', '.pt', '.pth', '.npy')
"""Endings of files with features, in lower case."""

# CLAM writes every slide into both.
_CLAM_FOLDERS = ('h5_files', 'pt_files')


def slide_name(name: str) -> str:
    """Take known endings off the name of a slide or of its features.

    Names of TCGA slides contain dots: known endings go alone, as often as they
    occur: ``'a.b.svs.h5'`` gives ``'a.b'``. Nothing left is an error.
    """
    short = composed(name.strip())
    endings = SLIDE_SUFFIXES + PICTURE_SUFFIXES + FEATURE_SUFFIXES
    while short.lower().endswith(endings):
        short = short[:short.rindex('.')]
    if not short:
        raise ValueError(f'{name!r} is not the name of a slide')
    return short


def slide_place(path: Path) -> tuple[Path, str]:
    """Name a slide of features by its folder and its name in there.

    CLAM's ``h5_files`` and ``pt_files`` are parts of one folder.

    Example:
        >>> slide_place(Path('a/h5_files/s.h5')) == slide_place(
        ...     Path('a/pt_files/s.pt')) == slide_place(Path('a/s.svs'))
        True
    """
    folder = path.parent
    if folder.name in _CLAM_FOLDERS:
        folder = folder.parent
    return folder, slide_name(path.name)


def drop_twins(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Leave out files in CLAM's ``pt_files`` whose slide has one with places.

    That is in ``h5_files``. Gives what is kept, and what is left out.
    """
    paths = list(paths)
    first, second = _CLAM_FOLDERS
    placed = {slide_place(path) for path in paths
              if path.parent.name == first}
    kept, twins = [], []
    for path in paths:
        twin = path.parent.name == second and slide_place(path) in placed
        (twins if twin else kept).append(path)
    return kept, twins


def _feature_files(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths
                  if path.suffix.lower() in FEATURE_SUFFIXES
                  and not path.name.startswith('.'))


class FeatureFolder:
    """The files of features in a folder, by the name of their slide.

    Looks into the folder itself and into CLAM's ``h5_files`` and ``pt_files``,
    of which the first have the coordinates too, and are taken if both are.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f'The feature folder {self.folder} does '
                                    'not exist or is not a folder')
        self._files: dict[str, list[Path]] = {}
        # Path.glob leaves out a folder that cannot be read.
        files, _ = drop_twins(
            path for place in (self.folder, *(self.folder / name
                                              for name in _CLAM_FOLDERS))
            for path in _feature_files(
                place.iterdir() if place.is_dir() else ()))
        for path in files:
            self._files.setdefault(slide_name(path.name), []).append(path)
        if not self._files:
            below = sorted({path.parent.relative_to(self.folder).as_posix()
                            for path in _feature_files(
                                walk_files(self.folder))})
            hint = f'; its folders {below[:5]} have some' if below else ''
            raise FileNotFoundError(f'{self.folder} has no file that ends '
                                    f'with {FEATURE_SUFFIXES}{hint}')

    def find(self, slide_id: str) -> Path | None:
        """Find the features of a slide, named with or without its ending."""
        files = self._files.get(slide_name(slide_id), [])
        if len(files) > 1:
            raise ValueError('Several files may hold the features of slide '
                             f'{slide_id}: {[str(path) for path in files]}; '
                             'name one in the column features_path')
        return files[0] if files else None

    def similar(self, slide_id: str) -> str | None:
        """Find a name with other signs, or more or fewer parts.

        Tables leave out the last part of TCGA's ids.
        """
        name = slide_name(slide_id)
        return next((other for other in self._files
                     if other.startswith(f'{name}.')
                     or name.startswith(f'{other}.')
                     or bare_name(name) == bare_name(other)), None)
