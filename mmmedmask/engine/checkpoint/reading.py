"""Read checkpoints safely, and find their tensors.

A checkpoint is a runner's file (``{'state_dict': ..., 'meta': ...}``), a
published or exported one, or a bare dictionary of tensors.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from torch import Tensor

from mmmedmask.util.nearest import nearest_names

STATE_DICT_KEYS = ('state_dict', 'model', 'model_state_dict')
HISTORY_METHODS = ('current', 'max', 'mean', 'min')
LISTED_NAMES = 8

NOT_PLAIN_HINT = (
    'The file holds Python objects beyond tensors and plain data; unpickling '
    'them can run code, so they are not loaded. If you trust where it comes '
    'from, keep the tensors alone: torch.save({"state_dict": '
    'torch.load(source, weights_only=False)["state_dict"]}, target), and use '
    'the new file.')


def _history_buffer_method(owner: type, name: str) -> object:
    """Stand in for ``getattr`` in the pickle of a runner's log history.

    MMEngine's buffers refer to their own methods that way. Nothing else may:
    a free ``getattr`` is enough to reach any code.
    """
    if owner is not HistoryBuffer or name not in HISTORY_METHODS:
        raise UnpicklingError(f'getattr({owner!r}, {name!r}) is not allowed')
    return getattr(owner, name)


def _log_history_globals() -> list:
    """List what the log history in a runner's checkpoint is pickled with."""
    multiarray = np._core.multiarray if hasattr(
        np, '_core') else np.core.multiarray
    allowed = [HistoryBuffer, np.ndarray, np.dtype]
    allowed += [
        type(np.dtype(kind))
        for kind in ('bool', 'int32', 'int64', 'uint32', 'float32', 'float64')
    ]
    # The folder is _core since NumPy 2; files know the name of their time.
    allowed += [
        (getattr(multiarray, name), f'numpy.{folder}.multiarray.{name}')
        for folder in ('core', '_core') for name in ('_reconstruct', 'scalar')
    ]
    allowed += [(_history_buffer_method, f'{module}.getattr')
                for module in ('builtins', '__builtin__')]
    return allowed


def read_checkpoint(path: str | Path) -> dict:
    """Load a checkpoint without unpickling arbitrary objects.

    Tensors, plain Python data and the log history that MMEngine's runner
    writes are accepted (``torch.load(weights_only=True)``), nothing else.

    Args:
        path: The file, or a ``torchvision://`` or ``https://`` address.

    Returns:
        The loaded dictionary, tensors on the CPU.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file holds other objects, is not a dictionary or the
            address has a scheme which is not supported.
    """
    name = str(path)
    if '://' in name:
        checkpoint = _read_address(name)
    else:
        file = Path(name).expanduser()
        if not file.is_file():
            raise FileNotFoundError(
                f'there is no checkpoint {name!r} (working folder '
                f'{str(Path.cwd())!r})')
        try:
            with torch.serialization.safe_globals(
                    _log_history_globals()):
                checkpoint = torch.load(
                    file, map_location='cpu', weights_only=True)
        except UnpicklingError as error:
            used = re.search(r'GLOBAL (\S+)', str(error))
            objects = f' (it uses {used[1]})' if used else ''
            raise ValueError(
                f'{name!r} cannot be loaded with weights_only=True'
                f'{objects}. {NOT_PLAIN_HINT}') from error
    if not isinstance(checkpoint, dict):
        raise ValueError(
            f'{name!r} holds a {type(checkpoint).__name__}, a checkpoint is a '
            'dictionary')
    return checkpoint


def _read_address(address: str) -> dict:
    scheme, rest = address.split('://', 1)
    if scheme == 'torchvision':
        from mmengine.runner.checkpoint import get_torchvision_models
        addresses = get_torchvision_models()
        if rest not in addresses:
            raise ValueError(
                f'torchvision has no weights {rest!r}, near are '
                f'{nearest_names(rest, addresses, count=3)}')
        address = addresses[rest]
    elif scheme not in ('http', 'https'):
        raise ValueError(
            f'checkpoint {address!r}: the scheme {scheme!r} cannot be read '
            "safely, valid are a file, 'torchvision://', 'https://' and "
            "'http://'; download the file and name it")
    return torch.hub.load_state_dict_from_url(
        address,
        map_location='cpu',
        # torchvision's files carry their hash in the name.
        check_hash=scheme == 'torchvision',
        weights_only=True)


def strip_wrappers(name: str) -> str:
    """Drop what DDP (``module.``) and ``torch.compile`` put into a name."""
    segments = name.split('.')
    if segments and segments[0] == 'module':
        segments = segments[1:]
    return '.'.join(s for s in segments if s != '_orig_mod')


def get_state_dict(checkpoint: Mapping) -> dict[str, Tensor]:
    """Find the tensors of a checkpoint.

    Args:
        checkpoint: A runner's checkpoint, an exported one
            (``state_dict``, ``model`` or ``model_state_dict`` holds the
            tensors), or a bare dictionary of tensors.

    Returns:
        Name to tensor, without the traces of DDP and ``torch.compile``.

    Raises:
        ValueError: If there are no tensors, or two names become one.
    """
    given = checkpoint
    for key in STATE_DICT_KEYS:
        if isinstance(checkpoint.get(key), Mapping):
            given = checkpoint[key]
            break
    if not given or not all(isinstance(v, Tensor) for v in given.values()):
        raise ValueError(
            f'the checkpoint has no dictionary of tensors: none of '
            f'{STATE_DICT_KEYS} is one, and its own keys are '
            f'{listing(map(str, checkpoint))}')
    tensors = {strip_wrappers(name): value for name, value in given.items()}
    if len(tensors) != len(given):
        raise ValueError(
            'the checkpoint holds the same weights wrapped and unwrapped '
            "('module.' or '_orig_mod.'), which are meant is not known")
    return tensors


def normalize_prefix(prefix: str | None) -> str:
    """Return a prefix with its final dot, or the empty string."""
    if not prefix:
        return ''
    return prefix if prefix.endswith('.') else f'{prefix}.'


def select_prefix(state_dict: Mapping[str, Tensor],
                  prefix: str | None) -> dict[str, Tensor]:
    """Keep the tensors under a prefix and drop it from their names."""
    prefix = normalize_prefix(prefix)
    return {
        name[len(prefix):]: value
        for name, value in state_dict.items() if name.startswith(prefix)
    }


def listing(names: Iterable[str]) -> str:
    """Name the first few of some names, and say how many more there are."""
    names = list(names)
    text = ', '.join(names[:LISTED_NAMES])
    more = len(names) - LISTED_NAMES
    return f'{text} and {more} more' if more > 0 else text
