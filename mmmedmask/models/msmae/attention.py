"""What the class token looks at: the map that drives the masking.

Equations 4 and 5 of MSMAE (arXiv 2305.05871), for any vision transformer of
mmpretrain.
"""

import torch
import torch.nn.functional as F
from torch import nn

WEIGHT_NORMS = ('per_head', 'mean_heads')


def class_token_attention(vit: nn.Module,
                          images: torch.Tensor) -> torch.Tensor:
    """Attention of the class token to the patches in the last layer.

    Only what the row of the class token needs is computed of the last layer:
    its query and all keys.

    Args:
        vit: A :class:`~mmmedmask.models.msmae.MSMAEViT`.
        images: Normalised images (B, C, H, W).

    Returns:
        Shape (B, num_heads, rows, columns), float32. The class token's
        attention to itself is left out, so a map's sum is below 1.
    """
    tokens = vit.embed(images)
    for layer in vit.layers[:-1]:
        tokens = layer(tokens)
    last = vit.layers[-1]
    row = class_token_row(last.attn, last.ln1(tokens))
    return row[..., 1:].unflatten(-1, vit.grid_size(images))


def class_token_row(attention: nn.Module,
                    tokens: torch.Tensor) -> torch.Tensor:
    """First row of the attention matrix of every head.

    Args:
        attention: mmpretrain's ``MultiheadAttention``.
        tokens: Its input, shape (B, N, C), the class token first.

    Returns:
        Shape (B, num_heads, N), float32, sums to 1.
    """
    dims = attention.embed_dims
    weight, bias = attention.qkv.weight, attention.qkv.bias
    query_bias, key_bias = (None, None) if bias is None else (
        bias[:dims], bias[dims:2 * dims])
    heads = (attention.num_heads, attention.head_dims)
    query = F.linear(tokens[:, :1], weight[:dims], query_bias)
    key = F.linear(tokens, weight[dims:2 * dims], key_bias)
    with torch.autocast(tokens.device.type, enabled=False):
        query = query.float().unflatten(-1, heads).transpose(1, 2)
        key = key.float().unflatten(-1, heads).transpose(1, 2)
        logits = query @ key.transpose(-1, -2) * attention.head_dims**-0.5
        return logits.softmax(dim=-1)[:, :, 0]


def normalize_attention(attention: torch.Tensor,
                        weight_norm: str = 'per_head') -> torch.Tensor:
    """Bring attention to [0, 1] and average over the heads.

    Args:
        attention: Shape (B, num_heads, rows, columns).
        weight_norm: ``'per_head'`` brings each head to [0, 1], then
            averages: each head counts the same. ``'mean_heads'`` averages
            first, as Eq. 5 is written: peaked heads count more, and one
            patch of every image gets exactly 0.

    Returns:
        Shape (B, rows, columns), float32 in [0, 1]; constant attention
        becomes 1 everywhere. NaN stays NaN.

    Raises:
        ValueError: If ``weight_norm`` is unknown.
    """
    check_weight_norm(weight_norm)
    attention = attention.float()
    if weight_norm == 'mean_heads':
        attention = attention.mean(dim=1, keepdim=True)
    low = attention.amin(dim=(-2, -1), keepdim=True)
    span = attention.amax(dim=(-2, -1), keepdim=True) - low
    # Attention that is not finite stays so: it must not look like a map.
    scaled = torch.where(span == 0, 1.0, (attention - low) / span)
    return scaled.mean(dim=1)


def check_weight_norm(weight_norm: str) -> None:
    """Raise a ValueError if a normalisation is unknown."""
    if weight_norm not in WEIGHT_NORMS:
        raise ValueError(f'weight_norm must be one of {WEIGHT_NORMS}, got '
                         f'{weight_norm!r}')
