"""Write checkpoints: whole files, for a run itself and for others."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.fileio import LocalBackend, register_backend
from safetensors.torch import save
from torch import Tensor

from mmmedmask.util.atomic_files import atomic_path, write_bytes
from mmmedmask.version import __version__

#: ``backend_args`` with which MMEngine's writers use :class:`WholeFiles`.
WHOLE_FILES = dict(backend='mmmedmask_whole_files')


@register_backend(WHOLE_FILES['backend'], force=True)
class WholeFiles(LocalBackend):
    """Local files that appear under their name when they are complete."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; see :func:`atomic_path`."""
        with atomic_path(filepath) as temporary:
            super().put(obj, temporary)


def save_weights(path: str | Path, tensors: Mapping[str, Tensor],
                 meta: Mapping[str, object], key: str = 'state_dict') -> dict:
    """Save tensors, under a key, and plain data of them; return both.

    The file is whole or not there, for ``torch.load(weights_only=True)``.
    """
    content = {key: _own(tensors), 'meta': dict(meta)}
    # Into the file of a path PyTorch writes its name; on a full disk both
    # libraries raise errors that name neither.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getbuffer())
    return content


def save_safetensors(path: str | Path, tensors: Mapping[str, Tensor],
                     meta: Mapping[str, object]) -> dict:
    """Save the same as :func:`save_weights`; ``meta`` is text in a header."""
    tensors = _own(tensors)
    write_bytes(path, save(tensors, {
        'format': 'pt', **{key: str(entry) for key, entry in meta.items()}}))
    return {'state_dict': tensors, 'meta': dict(meta)}


def _own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Clones: a view would drag the whole storage into the file."""
    return {name: value.detach().clone().contiguous()
            for name, value in tensors.items()}


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
