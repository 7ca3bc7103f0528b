"""Read checkpoints safely and compare their tensors with a module's.

Pure functions: they touch no runner and no model in place. A checkpoint is
either a runner's file (``{'state_dict': ..., 'meta': ...}``), a published or
exported one, or a bare dictionary of tensors.
"""

import difflib
import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from torch import Tensor

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
        ValueError: If the file holds other objects, is no dictionary or the
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
            found = re.search(r'GLOBAL (\S+)', str(error))
            objects = f' (it uses {found[1]})' if found else ''
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
            near = difflib.get_close_matches(rest, addresses, n=3)
            raise ValueError(
                f'torchvision has no weights {rest!r}, near are {near}')
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
    found = checkpoint
    for key in STATE_DICT_KEYS:
        if isinstance(checkpoint.get(key), Mapping):
            found = checkpoint[key]
            break
    others = [k for k, v in found.items() if not isinstance(v, Tensor)]
    if not found or others:
        raise ValueError(
            f'the checkpoint has no dictionary of tensors: none of '
            f'{STATE_DICT_KEYS} is one, and its own keys are '
            f'{_listing(map(str, checkpoint))}')
    tensors = {strip_wrappers(name): value for name, value in found.items()}
    if len(tensors) != len(found):
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


def suggest_prefix(expected: Iterable[str],
                   given: Iterable[str]) -> tuple[str, int]:
    """Find the prefix under which most of the expected names are.

    Args:
        expected: Names that a module wants.
        given: Names in a checkpoint, prefixes included.

    Returns:
        The prefix (``''`` is possible) and the number of names it explains.
    """
    expected = set(expected)
    counts: dict[str, int] = {}
    for name in given:
        segments = name.split('.')
        for start in range(len(segments)):
            if '.'.join(segments[start:]) in expected:
                prefix = ''.join(f'{s}.' for s in segments[:start])
                counts[prefix] = counts.get(prefix, 0) + 1
    if not counts:
        return '', 0
    return max(counts.items(), key=lambda item: (item[1], -len(item[0])))


@dataclass(frozen=True)
class MatchReport:
    """What became of a module's tensors.

    Attributes:
        matched: Names whose shape, and value where compared, agree.
        missing: Names that the checkpoint does not have.
        shapes: ``(name, shape wanted, shape given)`` where they differ.
        differing: Names with the right shape but other values.
        not_finite: Names whose tensor in the checkpoint is NaN or infinite.
        tolerated: Missing names that were allowed to be missing.
        unused: Names in the checkpoint that nothing asked for.
        nearest: For a missing name, names in the checkpoint like it.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    differing: tuple[str, ...]
    not_finite: tuple[str, ...]
    tolerated: tuple[str, ...]
    unused: tuple[str, ...]
    nearest: Mapping[str, tuple[str, ...]]

    @property
    def expected(self) -> int:
        """Number of tensors that should match."""
        return (len(self.matched) + len(self.missing) + len(self.shapes) +
                len(self.differing) + len(self.not_finite))

    @property
    def ratio(self) -> float:
        """Share of the expected tensors that match, in [0, 1]."""
        return len(self.matched) / self.expected if self.expected else 0.0

    def describe(self) -> str:
        """Say in a few lines what does not match."""
        lines = []
        if self.missing:
            lines.append(f'  {len(self.missing)} are not in the checkpoint:')
            for name in self.missing[:LISTED_NAMES]:
                near = ', '.join(self.nearest.get(name, ())) or 'none'
                lines.append(f'    {name} (similar names there: {near})')
            lines += _rest(self.missing)
        if self.shapes:
            lines.append(f'  {len(self.shapes)} have another shape:')
            lines += [
                f'    {name}: {given} in the checkpoint, {wanted} in the '
                'model' for name, wanted, given in self.shapes[:LISTED_NAMES]
            ] + _rest(self.shapes)
        for names, what in ((self.differing, 'have other values'),
                            (self.not_finite, 'are not finite')):
            if names:
                lines.append(f'  {len(names)} {what}: {_listing(names)}')
        if self.unused:
            lines.append(f'  {len(self.unused)} in the checkpoint are used by '
                         f'nothing: {_listing(self.unused)}')
        return '\n'.join(lines)


def _rest(items: Sequence) -> list[str]:
    more = len(items) - LISTED_NAMES
    return [f'    ... and {more} more'] if more > 0 else []


def _listing(names: Iterable[str]) -> str:
    names = list(names)
    text = ', '.join(names[:LISTED_NAMES])
    more = len(names) - LISTED_NAMES
    return f'{text} and {more} more' if more > 0 else text


def matches_any(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether a name fits one of some shell patterns (``layer4.*``)."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def match_state_dicts(expected: Mapping[str, Tensor],
                      given: Mapping[str, Tensor],
                      *,
                      compare_values: bool = True,
                      allowed_missing: Sequence[str] = (),
                      allowed_unused: Sequence[str] = ()) -> MatchReport:
    """Compare the tensors of a module with those of a checkpoint.

    Args:
        expected: The module's tensors by name, on any device.
        given: The checkpoint's tensors, named as the module's.
        compare_values: Compare values too, not names and shapes alone. A
            value is compared in the module's dtype, exactly.
        allowed_missing: Patterns of names that the checkpoint may lack. If
            it has them they must match like all others.
        allowed_unused: Patterns of names that may be in the checkpoint
            without being asked for.

    Returns:
        The report.
    """
    groups: dict[str, list] = {
        key: []
        for key in ('matched', 'missing', 'shapes', 'differing', 'not_finite',
                    'tolerated')
    }
    for name, wanted in expected.items():
        if name not in given:
            tolerated = matches_any(name, allowed_missing)
            groups['tolerated' if tolerated else 'missing'].append(name)
            continue
        value = given[name]
        if value.shape != wanted.shape:
            groups['shapes'].append(
                (name, tuple(wanted.shape), tuple(value.shape)))
        elif value.is_floating_point() and not torch.isfinite(value).all():
            groups['not_finite'].append(name)
        elif compare_values and not torch.equal(wanted.detach().cpu(),
                                                value.cpu().to(wanted.dtype)):
            groups['differing'].append(name)
        else:
            groups['matched'].append(name)
    nearest = {
        name: tuple(difflib.get_close_matches(name, given, n=2, cutoff=.7))
        for name in groups['missing'][:LISTED_NAMES]
    }
    unused = tuple(name for name in given if name not in expected
                   and not matches_any(name, allowed_unused))
    return MatchReport(
        unused=unused,
        nearest=nearest,
        **{key: tuple(names)
           for key, names in groups.items()})
