"""Random numbers that a seed, a step and a sample index determine.

A draw never depends on the state of a worker, on the rank or on the place of
a sample in its batch: the same seed gives the same run for any number of
workers, and a resumed run goes on as if it had not been interrupted.

``torch.compile`` leaves the draws out of its graphs: it cannot trace hashes
and generators.
"""

import hashlib
import struct
from collections.abc import Sequence

import torch
from torch import Tensor


@torch.compiler.disable
def sample_generator(seed: int, step: int, sample_idx: int) -> torch.Generator:
    """Make the CPU generator that belongs to one sample at one step.

    Neighbouring arguments give unrelated streams, because the seed is a hash
    of the three numbers.

    Args:
        step: Iteration or epoch, counted from 0.
        sample_idx: Index of the sample in its data set.

    Example:
        >>> first, again = (torch.rand(1, generator=sample_generator(0, 5, 7))
        ...                 for _ in range(2))
        >>> bool(first == again)
        True
    """
    key = struct.pack('<3q', seed, step, sample_idx)
    # The CPU generator looks at 32 bits of its seed.
    return torch.Generator().manual_seed(_hash(key) & 0xFFFFFFFF)


def _hash(key: bytes) -> int:
    digest = hashlib.blake2b(key, digest_size=8).digest()
    return int.from_bytes(digest, 'little')


@torch.compiler.disable
def stream_seed(seed: int, stream: str) -> int:
    """Make the seed, in [0, 2^63), of an independent stream out of a run's.

    Two parts of a program that draw for the same samples at the same steps
    would get the same numbers; each of them names a stream of its own.

    Example:
        >>> stream_seed(0, 'masks') == stream_seed(0, 'crops')
        False
    """
    # Names of files may hold bytes that are no text.
    return _hash(struct.pack('<q', seed)
                 + stream.encode(errors='surrogateescape')) >> 1


@torch.compiler.disable
def per_sample_uniform(seed: int, step: int, sample_indices: Sequence[int],
                       count: int) -> Tensor:
    """Draw numbers in [0, 1), float64 (B, count), CPU, for a batch's samples.

    Args:
        step: Iteration or epoch, counted from 0.
        sample_indices: Index of each sample in its data set, length B.

    Example:
        >>> one = per_sample_uniform(0, 5, [7, 8], count=3)
        >>> bool((one[1] == per_sample_uniform(0, 5, [8], count=3)).all())
        True
    """
    return torch.stack([
        torch.rand(count, generator=sample_generator(seed, step, int(index)),
                   dtype=torch.float64) for index in sample_indices])
