"""Pooling of padded bags: what is padding never enters, a bag may be empty."""

import torch


def masked_softmax(scores: torch.Tensor,
                   valid: torch.Tensor | None) -> torch.Tensor:
    """Softmax over the valid patches of each bag.

    Args:
        scores: Shape (B, K, N).
        valid: Shape (B, N), bool, False = padding; None: all are valid.

    Returns:
        Weights, shape (B, K, N), float32 or float64, zero at padding, with
        sum 1 over each bag that has a patch.
    """
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if valid is None:
        return scores.softmax(dim=-1)
    valid = valid[:, None]
    # Not -inf: an empty bag would be NaN, in its gradient too.
    scores = scores.masked_fill(~valid, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1).masked_fill(~valid, 0)


def weighted_sum(weights: torch.Tensor,
                 tokens: torch.Tensor) -> torch.Tensor:
    """Sum the patches of each bag with weights.

    Args:
        weights: Shape (B, K, N).
        tokens: Shape (B, N, d), finite at padding.

    Returns:
        Shape (B, K, d), in the type of ``tokens``.
    """
    return weights.to(tokens.dtype) @ tokens


def masked_mean(tokens: torch.Tensor,
                valid: torch.Tensor | None) -> torch.Tensor:
    """Mean of the valid patches of each bag.

    Args:
        tokens: Shape (B, N, d), zero at padding.
        valid: Shape (B, N), bool, False = padding; None: all are valid.

    Returns:
        Shape (B, d), float32 or float64; zero for an empty bag.
    """
    total = tokens.sum(
        dim=1, dtype=torch.promote_types(tokens.dtype, torch.float32))
    if valid is None:
        return total / max(tokens.shape[1], 1)
    return total / valid.sum(dim=1, keepdim=True).clamp(min=1)


def masked_max(tokens: torch.Tensor,
               valid: torch.Tensor | None) -> torch.Tensor:
    """Largest value of the valid patches of each bag, for each dimension.

    Args:
        tokens: Shape (B, N, d).
        valid: Shape (B, N), bool, False = padding; None: all are valid.

    Returns:
        Shape (B, d); zero for an empty bag.
    """
    if not tokens.shape[1]:
        return tokens.sum(dim=1)
    if valid is None:
        return tokens.amax(dim=1)
    lowest = torch.finfo(tokens.dtype).min
    largest = tokens.masked_fill(~valid[..., None], lowest).amax(dim=1)
    return torch.where(valid.any(dim=1, keepdim=True), largest, 0)
