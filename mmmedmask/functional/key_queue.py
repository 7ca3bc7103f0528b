"""Contrast with a queue of former keys, as in MoCo."""

import torch
import torch.nn.functional as F


def queue_contrast(query: torch.Tensor, key: torch.Tensor,
                   queue: torch.Tensor, temperature: float) -> torch.Tensor:
    """InfoNCE of each query, whose negatives are the queue (MoCo, Eq. 1).

    Args:
        query: Shape (N, D), of unit length.
        key: The positive of each query, shape (N, D), of unit length.
        queue: Negatives of all queries, shape (L, D).
        temperature: Positive.

    Returns:
        The loss of each query, shape (N,).
    """
    positive = (query * key).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, query @ queue.T], dim=1) / temperature
    return logits.logsumexp(dim=1) - logits[:, 0]


def enqueue(queue: torch.Tensor, pointer: torch.Tensor, keys: torch.Tensor,
            valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Put the valid keys into a ring, in order, over the oldest ones.

    Their number is not read from the device, so nothing waits for it.

    Args:
        queue: Shape (L, D).
        pointer: Place of the oldest key, int64, shape (1,).
        keys: Shape (N, D) with N at most L.
        valid: Which keys to put in, bool, shape (N,).

    Returns:
        The new queue and pointer; the arguments stay as they are.

    Raises:
        ValueError: If there are more keys than places.
    """
    length = len(queue)
    if len(keys) > length:
        raise ValueError(f'a queue of {length} cannot take {len(keys)} keys '
                         'at once; it has to be longer, or the batch smaller')
    count = valid.sum()
    # Valid keys first, in their order; then the place that each takes.
    order = (~valid).byte().argsort(stable=True)
    place = (torch.arange(length, device=queue.device) - pointer) % length
    source = order[place.clamp(max=len(keys) - 1)]
    taken = (place < count)[:, None]
    new = torch.where(taken, keys[source].to(queue.dtype), queue)
    return new, (pointer + count) % length


def unit_keys(length: int, dims: int) -> torch.Tensor:
    """Random directions that fill a queue before there are keys.

    Args:
        length: Number of keys L.
        dims: Their length D.

    Returns:
        Shape (L, D), each row of unit length, from torch's generator.
    """
    return F.normalize(torch.randn(length, dims), dim=1)
