"""Read checkpoints safely, and find their tensors."""

import hashlib
import json
import re
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmmedmask.util.file_locks import lock_file
from mmmedmask.util.nearest import nearest_names

STATE_DICT_KEYS = ('state_dict', 'model', 'model_state_dict')
HISTORY_METHODS = ('current', 'max', 'mean', 'min')
LISTED_NAMES = 8
_ZIP = b'PK\x03\x04'
# Files of PyTorch before 1.6 are pickles of protocol 2 and later.
_PICKLE = b'\x80'
#: First bytes of files that are not checkpoints, and what to say of them.
_OTHERS = {
    b'version https://git-lfs': 'a pointer of Git LFS, not the weights: get '
                                "them with 'git lfs pull'",
    b'\x1f\x8b': 'compressed with gzip: unpack it first',
    b'BZh': 'compressed with bzip2: unpack it first',
    b'\xfd7zXZ': 'compressed with xz: unpack it first',
    b'\x28\xb5\x2f\xfd': 'compressed with zstd: unpack it first',
    b'Rar!': 'a RAR archive: unpack it first',
    b"7z\xbc\xaf": 'a 7z archive: unpack it first',
    b'\x89HDF': 'HDF5, as Keras and slide features have it'}
NOT_PLAIN_HINT = (
    'The file holds Python objects beyond tensors and plain data; unpickling '
    'them can run code, so they are not loaded. If you trust where it comes '
    'from, keep the tensors alone: torch.save({"state_dict": '
    'torch.load(source, weights_only=False)["state_dict"]}, target), and use '
    'the new file.')


def _history_buffer_method(owner: type, name: str) -> object:
    """Stand in for ``getattr`` in the pickle of a runner's log history.

    MMEngine's buffers refer to their methods so; a free one reaches any code.
    """
    if owner is not HistoryBuffer or name not in HISTORY_METHODS:
        raise UnpicklingError(f'getattr({owner!r}, {name!r}) is not allowed')
    return getattr(owner, name)


def _log_history_globals() -> list:
    """List what the log history in a runner's checkpoint is pickled with."""
    multiarray = np._core.multiarray if hasattr(
        np, '_core') else np.core.multiarray
    kinds = ('bool', 'int32', 'int64', 'uint32', 'float32', 'float64')
    return [
        HistoryBuffer, np.ndarray, np.dtype,
        *(type(np.dtype(kind)) for kind in kinds),
        # The folder is _core since NumPy 2; files know the name of their time.
        *((getattr(multiarray, name), f'numpy.{folder}.multiarray.{name}')
          for folder in ('core', '_core')
          for name in ('_reconstruct', 'scalar')),
        *((_history_buffer_method, f'{module}.getattr')
          for module in ('builtins', '__builtin__'))]


def read_checkpoint(path: str | Path,
                    map_location: str | torch.device = 'cpu') -> dict:
    """Load a checkpoint without unpickling arbitrary objects.

    Tensors, plain Python data and the log history that MMEngine's runner
    writes are accepted (``torch.load(weights_only=True)``), and safetensors.
    :func:`mmmedmask.compat.read_weights_safely` replaces MMEngine's
    readers by it, so that all weights of a config come through here.
    ``meta['config']``, which MMEngine would run as code when it resumes, is
    taken out; its own files have none.

    Args:
        path: The file, or a ``torchvision://`` or ``https://`` address.
        map_location: Device of the tensors.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file holds other objects, is not PyTorch's or not
            whole, is not a dictionary, or the address has a scheme which is
            not supported. The message says what the file is.
    """
    name = str(path)
    file = _download(name) if '://' in name else Path(name).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f'there is no checkpoint {name!r} (working '
                                f'folder {str(Path.cwd())!r})')
    if problem := what_else(file):
        raise ValueError(f'{name!r} is not a checkpoint: {problem}')
    if is_safetensors(file):
        return _read_safetensors(file, map_location)
    try:
        with torch.serialization.safe_globals(_log_history_globals()):
            checkpoint = torch.load(
                file, map_location=map_location, weights_only=True)
    # torch.load fails in many ways; each is a file that cannot be used.
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        used = re.search(r'GLOBAL (\S+)', str(error))
        if used or 'not allowed' in str(error):
            objects = f' (it uses {used[1]})' if used else ''
            raise ValueError(
                f'{name!r} cannot be loaded with weights_only=True'
                f'{objects}. {NOT_PLAIN_HINT}') from error
        raise ValueError(f'{name!r} is not a checkpoint that can be read, or '
                         f'is damaged: {_first_line(error)}') from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f'{name!r} holds a {type(checkpoint).__name__}, a '
                         'checkpoint is a dictionary')
    if isinstance(checkpoint.get('meta'), dict):
        checkpoint['meta'].pop('config', None)
    return checkpoint


def what_else(file: Path) -> str | None:
    """Say what a file is, and what to do; None if it may be a checkpoint."""
    with file.open('rb') as stream:
        head = stream.read(512)
    text = head.removeprefix(b'\xef\xbb\xbf').lstrip().lower()
    if not head:
        return ('the file is empty (0 bytes): was the disk full? Copy or '
                'download it again')
    if head.startswith(_ZIP):
        if zipfile.is_zipfile(file):
            return _wrong_in_archive(file)
        return (f'the file is cut off ({file.stat().st_size} bytes, the end '
                'of the archive is missing): copy or download it again')
    if text.startswith((b'<!doctype', b'<html', b'<?xml', b'<head')):
        return ('the file is a web page, perhaps a warning or a login in the '
                'place of a download: open it in a browser')
    for magic, kind in _OTHERS.items():
        if head.startswith(magic):
            return f'the file is {kind}'
    if head.startswith(_PICKLE) or head[257:262] == b'ustar' \
            or is_safetensors(file):
        return None
    return f'the file begins with {head[:12]!r}, which PyTorch does not write'


def _wrong_in_archive(file: Path) -> str | None:
    """Say what is wrong with a zip; PyTorch does not look at checksums."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if any(name.endswith('/constants.pkl') for name in names):
            return ('the file is a program of TorchScript: save its '
                    'state_dict() instead')
        if not any(name.endswith('/data.pkl') for name in names):
            return (f'the file is an archive of {listing(names)}, which '
                    'PyTorch does not write: unpack it first')
        try:
            part = archive.testzip()
        except (zipfile.BadZipFile, zlib.error) as error:
            return f'the file is damaged ({error}): copy or download it again'
    return None if part is None else (
        f'the file is damaged, the checksum of {part!r} is wrong: copy or '
        'download it again')


def is_safetensors(file: Path) -> bool:
    """Whether a file begins as safetensors do: a length, then JSON."""
    with file.open('rb') as stream:
        head = stream.read(9)
    return head[8:] == b'{' and int.from_bytes(
        head[:8], 'little') < file.stat().st_size


def _read_safetensors(file: Path, map_location: str | torch.device) -> dict:
    try:
        with safe_open(file, 'pt') as content:
            meta = {name: _plain_data(text) for name, text
                    in (content.metadata() or {}).items()}
            tensors = {name: content.get_tensor(name).to(map_location)
                       for name in content.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f'{str(file)!r} is not a checkpoint that can be read, or is '
            f'damaged: {_first_line(error)}') from error
    return {'state_dict': tensors, 'meta': meta}


def _plain_data(text: str) -> object:
    """Mappings and lists that a header holds as JSON; all else is text."""
    if not text.startswith(('{', '[')):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _first_line(error: Exception) -> str:
    # What is wrong stands behind PyTorch's advice to trust the file.
    match = re.search(r'WeightsUnpickler error:\s*(.+)', str(error))
    return (match[1] if match else next(
        iter(str(error).splitlines()), type(error).__name__))[:200]


def _download(address: str) -> Path:
    """Download weights, once; one process of a machine does it for all.

    Most of the hub's repositories call theirs alike. A name that has no hash
    gets one, of its address.
    """
    scheme, rest = address.split('://', 1)
    if scheme == 'torchvision':
        from mmengine.runner.checkpoint import get_torchvision_models
        addresses = get_torchvision_models()
        if rest not in addresses:
            raise ValueError(f'torchvision has no weights {rest!r}, near are '
                             f'{nearest_names(rest, addresses, count=3)}')
        address = addresses[rest]
    elif scheme not in ('http', 'https'):
        raise ValueError(
            f'checkpoint {address!r}: the scheme {scheme!r} cannot be read '
            "safely, valid are a file, 'torchvision://', 'https://' and "
            "'http://'; download the file and name it")
    name = Path(urlparse(address).path).name
    digest = re.search(r'[-_]([a-f0-9]{8,})\.', name)
    file = Path(torch.hub.get_dir(), 'checkpoints', name)
    if not digest:
        mark = hashlib.sha256(address.encode()).hexdigest()[:8]
        file = file.with_stem(f'{file.stem}-{mark}')
    file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file(file.with_name(f'{file.name}.lock'),
                   waiting=lambda holder: None):
        if not file.is_file():
            # torchvision's hashes are those of the content.
            torch.hub.download_url_to_file(
                address, str(file),
                digest[1] if digest and scheme == 'torchvision' else None,
                progress=False)
    return file


def strip_wrappers(name: str) -> str:
    """Drop what DDP (``module.``) and ``torch.compile`` put into a name."""
    return '.'.join(part for part in name.removeprefix('module.').split('.')
                    if part != '_orig_mod')


def get_state_dict(checkpoint: Mapping) -> dict[str, Tensor]:
    """Find the tensors of a checkpoint.

    ``state_dict``, ``model`` or ``model_state_dict`` holds them, or they lie
    in it bare. The traces of DDP and ``torch.compile`` in their names go. No
    tensors, or two names that become one, are a ValueError.
    """
    given = next((checkpoint[key] for key in STATE_DICT_KEYS
                  if isinstance(checkpoint.get(key), Mapping)), checkpoint)
    others = [f'{name} ({type(value).__name__})'
              for name, value in given.items()
              if not (isinstance(value, Tensor) and isinstance(name, str))]
    if others and given is not checkpoint:
        raise ValueError(
            f'the tensors of the checkpoint are not alone: {listing(others)}')
    if not given or others:
        raise ValueError('the checkpoint has no dictionary of tensors: none '
                         f'of {STATE_DICT_KEYS} is one, and its own keys are '
                         f'{listing(map(str, checkpoint))}')
    tensors = keep_versions({strip_wrappers(name): value for name, value
                             in given.items()}, given, strip_wrappers)
    if len(tensors) != len(given):
        raise ValueError(
            'the checkpoint holds the same weights wrapped and unwrapped '
            "('module.' or '_orig_mod.'), which are meant is not known")
    return tensors


def get_dataset_meta(checkpoint: Mapping) -> dict:
    """Return what a checkpoint says of its training set, {} if nothing.

    Keys are in lower case: older checkpoints of OpenMMLab have ``CLASSES``,
    before 1.0 in ``meta`` itself.

    Example:
        >>> get_dataset_meta(dict(meta=dict(CLASSES=('a', 'b'))))
        {'classes': ('a', 'b')}
    """
    meta = checkpoint.get('meta') or {}
    known = meta.get('dataset_meta') or {
        key: meta[key] for key in ('CLASSES', 'PALETTE') if key in meta}
    return {key.lower(): value for key, value in known.items()}


def normalize_prefix(prefix: str | None) -> str:
    """Return a prefix with its final dot, or the empty string."""
    return f'{prefix.removesuffix(".")}.' if prefix else ''


def select_prefix(state_dict: Mapping[str, Tensor],
                  prefix: str | None) -> dict[str, Tensor]:
    """Keep the tensors under a prefix and drop it from their names."""
    prefix = normalize_prefix(prefix)
    return keep_versions(
        {name[len(prefix):]: value for name, value in state_dict.items()
         if name.startswith(prefix)}, state_dict,
        lambda name: name[len(prefix):] if name.startswith(prefix) else None)


def keep_versions(tensors: Mapping[str, Tensor], source: Mapping,
                  rename: Callable[[str], str | None] = str
                  ) -> OrderedDict[str, Tensor]:
    """Give tensors the versions of the modules that those of a source have.

    PyTorch keeps them in ``_metadata`` of a state dict, by the names of the
    modules, and modules that have changed load by them. ``rename`` is told
    such a name with a final dot; one that becomes None is left out.
    """
    tensors = OrderedDict(tensors)
    versions = getattr(source, '_metadata', None)
    if versions is not None:
        names = {name: rename(normalize_prefix(name)) for name in versions}
        tensors._metadata = OrderedDict(
            (names[name].removesuffix('.'), value)
            for name, value in versions.items() if names[name] is not None)
    return tensors


def refuse_not_finite(tensors: Mapping[str, Tensor], place: str) -> None:
    """Refuse tensors with NaN or infinite values; ``place`` says whose."""
    broken = [name for name, tensor in tensors.items()
              if not tensor.isfinite().all()]
    if broken:
        raise ValueError(
            f'{len(broken)} tensors {place} are not finite: {listing(broken)}.'
            ' The run had diverged: take an earlier checkpoint')


def listing(names: Iterable[str]) -> str:
    """Name the first few of some names, and say how many more there are."""
    names = list(names)
    text = ', '.join(names[:LISTED_NAMES])
    more = len(names) - LISTED_NAMES
    return f'{text} and {more} more' if more > 0 else text
