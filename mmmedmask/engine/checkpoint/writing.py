"""Write checkpoints: whole files, for a run itself and for others."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.fileio import LocalBackend, register_backend
from safetensors.torch import save
from torch import Tensor

from mmmedmask.engine.checkpoint.reading import keep_versions
from mmmedmask.util.atomic_files import atomic_path, write_bytes
from mmmedmask.util.checks import check_choice
from mmmedmask.version import __version__

#: ``backend_args`` with which MMEngine's writers use :class:`WholeFiles`.
WHOLE_FILES = dict(backend='mmmedmask_whole_files')

SAFETENSORS = '.safetensors'
WEIGHT_ENDINGS = ('.pth', '.pt', '.ckpt', '.bin', SAFETENSORS)
"""Of files with weights. All but the last are PyTorch's."""


@register_backend(WHOLE_FILES['backend'], force=True)
class WholeFiles(LocalBackend):
    """Local files that appear under their name when they are complete."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; see :func:`atomic_path`."""
        with atomic_path(filepath) as temporary:
            super().put(obj, temporary)


def with_ending(target: str | Path,
                endings: Sequence[str] = WEIGHT_ENDINGS) -> Path:
    """Add the first of some endings to a file that has none.

    An ending begins with a letter. Others than these are a ValueError.

    Example:
        >>> with_ending('ratio-0.7').name, with_ending('ratio-0.7.pt').name
        ('ratio-0.7.pth', 'ratio-0.7.pt')
    """
    target = Path(target)
    if not target.suffix[1:2].isalpha():
        target = target.with_name(f'{target.name}{endings[0]}')
    check_choice('the ending of the target', target.suffix, endings)
    return target


def save_weights(path: str | Path, tensors: Mapping[str, Tensor],
                 meta: Mapping[str, object], key: str = 'state_dict') -> dict:
    """Save tensors and plain data of them; return both.

    The file is whole or not there. The ending ``.safetensors`` makes one,
    with ``meta`` as text in its header, mappings and lists as JSON, which
    :func:`~mmmedmask.engine.checkpoint.reading.read_checkpoint` reads; any
    other a file for
    ``torch.load(weights_only=True)``, with the tensors under a key.
    """
    # Clones: a view would drag the whole storage into the file.
    tensors = keep_versions({name: value.detach().clone().contiguous()
                             for name, value in tensors.items()}, tensors)
    if Path(path).suffix == SAFETENSORS:
        write_bytes(path, save(tensors, {
            'format': 'pt',
            **{name: json.dumps(entry) if isinstance(
                entry, dict | list | tuple) else str(entry)
               for name, entry in meta.items()}}))
        return {'state_dict': tensors, 'meta': dict(meta)}
    content = {key: tensors, 'meta': dict(meta)}
    # Into the file of a path PyTorch writes its name; on a full disk both
    # libraries raise errors that name neither.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getbuffer())
    return content


def describe_source(source: Path, **more: object) -> dict[str, str | int]:
    """Say in strings and numbers where tensors come from.

    Name, SHA-256 and versions, besides what else is known; None is dropped.
    """
    meta = dict(source=source.name, source_sha256=sha256_of(source), **more,
                mmmedmask_version=__version__, torch_version=torch.__version__)
    return {name: value if isinstance(value, int | float) else str(value)
            for name, value in meta.items() if value is not None}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as a hexadecimal string."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
