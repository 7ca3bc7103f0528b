"""Write weights for others: whole files of tensors and plain data."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mmmedmask.util.atomic_files import atomic_path
from mmmedmask.version import __version__


def save_weights(path: str | Path,
                 tensors: Mapping[str, Tensor],
                 meta: Mapping[str, object],
                 key: str = 'state_dict') -> dict:
    """Save tensors and where they come from, whole or not at all.

    Args:
        path: The file to (over)write; ``torch.load(weights_only=True)``
            reads it.
        tensors: Name to tensor.
        meta: Plain data.
        key: Where the tensors lie in the file.

    Returns:
        What was written.
    """
    content = {
        # Clones, as a view would drag the whole storage into the file.
        key: {
            name: value.detach().clone().contiguous()
            for name, value in tensors.items()
        },
        'meta': dict(meta)
    }
    # To a stream: into the file of a path, PyTorch writes the path's name.
    with atomic_path(path) as temporary, open(temporary, 'wb') as stream:
        torch.save(content, stream)
    return content


def describe_source(source: Path, **more: object) -> dict[str, str | int]:
    """Say in strings and numbers where tensors come from.

    Name, SHA-256 and versions, besides what else is known; None is dropped.
    """
    meta = dict(
        source=source.name,
        source_sha256=sha256_of(source),
        **more,
        mmmedmask_version=__version__,
        torch_version=torch.__version__)
    return {
        name: value if isinstance(value, int | float) else str(value)
        for name, value in meta.items() if value is not None
    }


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as a hexadecimal string."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
