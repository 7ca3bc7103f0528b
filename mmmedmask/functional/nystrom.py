"""Nyström attention: softmax attention in linear time and memory.

Xiong et al., "Nyströmformer", AAAI 2021, as equation 2 of GiMP (MICCAI 2023)
uses it. With m landmarks Q~ and K~, the means of m runs of tokens,

    softmax(s Q K^T) V  ~  A1 A2^+ (A3 V),
    A1 = softmax(s Q K~^T),  A2 = softmax(s Q~ K~^T),  A3 = softmax(s Q~ K^T).

``A3 V`` and ``A1 (...)`` are calls of a fused attention kernel, so that no
matrix with a side of N and another of N or m is ever held; what is held is
A2, m x m. Bags lie one after the other without padding, and nothing is shared
in a batch: a bag's result depends on that bag's tokens alone. Bags of at most
m tokens, and all if m is None, get exact attention. A ValueError names too few
landmarks or iterations, which are those of :func:`pseudo_inverse`.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmedmask.util.checks import check_integer

# Keys that the class token's row goes through at a time.
KEY_CHUNK = 4096


def segment_means(x: Tensor, num_landmarks: int) -> Tensor:
    """Means (B, H, m', C) over consecutive runs of tokens (B, H, N, C).

    These landmarks are of m' = min(m, N) runs whose lengths differ by at
    most one, the longer ones first; nothing is padded.

    Example:
        >>> segment_means(torch.arange(5.).view(1, 1, 5, 1), 2).flatten()
        tensor([1.0000, 3.5000])
    """
    check_integer('num_landmarks', num_landmarks)
    count = x.shape[2]
    if count <= num_landmarks:
        return x
    length, num_longer = divmod(count, num_landmarks)
    cut = num_longer * (length + 1)
    shorter = x[:, :, cut:].unflatten(2, (-1, length)).mean(dim=3)
    if not num_longer:
        return shorter
    longer = x[:, :, :cut].unflatten(2, (num_longer, -1)).mean(dim=3)
    return torch.cat([longer, shorter], dim=2)


def pseudo_inverse(matrix: Tensor, iterations: int = 6) -> Tensor:
    """Moore-Penrose inverse of matrices (..., m, m) by an iteration.

    Equation 7 of the Nyströmformer, of third order, in float32 or, given
    that, float64; never in the reduced precision of autocast. Each matrix has
    its own start value: with one for the whole batch, as is common, what
    comes out for a bag depends on its batch mates. More iterations are not
    safer: where the matrix is close to singular, rounding errors grow with
    them.

    Example:
        >>> pseudo_inverse(torch.eye(2))
        tensor([[1., 0.],
                [0., 1.]])
    """
    check_integer('iterations', iterations)
    with torch.autocast(matrix.device.type, enabled=False):
        matrix = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
        size = matrix.abs()
        bound = (size.sum(dim=-2).amax(dim=-1) * size.sum(dim=-1).amax(dim=-1))
        inverse = matrix.transpose(-1, -2) / bound[..., None, None]
        eye = torch.eye(
            matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        for _ in range(iterations):
            product = matrix @ inverse
            inner = 15 * eye - product @ (7 * eye - product)
            inverse = 0.25 * inverse @ (13 * eye - product @ inner)
    return inverse


def landmark_inverse(query_landmarks: Tensor, key_landmarks: Tensor,
                     iterations: int = 6) -> Tensor:
    """Pseudo-inverse (B, H, m, m) of the attention of landmarks, A2^+.

    These are Q~ and K~, (B, H, m, C); see :func:`pseudo_inverse`.

    Example:
        >>> landmarks = torch.rand(1, 2, 4, 8)
        >>> landmark_inverse(landmarks, landmarks).shape
        torch.Size([1, 2, 4, 4])
    """
    with torch.autocast(query_landmarks.device.type, enabled=False):
        dtype = torch.promote_types(query_landmarks.dtype, torch.float32)
        kernel = attention_weights(
            query_landmarks.to(dtype), key_landmarks.to(dtype))
        return pseudo_inverse(kernel, iterations)


def attention_weights(query: Tensor, key: Tensor) -> Tensor:
    """``softmax(Q K^T / sqrt(C))`` of (..., N, C) and (..., M, C), in memory.

    Example:
        >>> attention_weights(torch.rand(1, 3), torch.zeros(2, 3))
        tensor([[0.5000, 0.5000]])
    """
    logits = query @ key.transpose(-1, -2) * query.shape[-1]**-0.5
    return logits.softmax(dim=-1)


def landmark_attention(query: Tensor, key: Tensor, value: Tensor,
                       query_landmarks: Tensor, key_landmarks: Tensor,
                       inverse: Tensor) -> Tensor:
    """``A1 (A2^+ (A3 V))`` from the right: two calls of a fused kernel.

    Queries, keys, values and the result, of the values' type, are (B, H, N,
    C), landmarks Q~ and K~ (B, H, m, C), ``inverse`` is A2^+, (B, H, m, m).

    Example:
        >>> tokens, landmark = torch.rand(1, 1, 6, 2), torch.rand(1, 1, 1, 2)
        >>> landmark_attention(tokens, tokens, tokens, landmark, landmark,
        ...                    torch.ones(1, 1, 1, 1)).shape
        torch.Size([1, 1, 6, 2])
    """
    summary = F.scaled_dot_product_attention(query_landmarks, key, value)
    with torch.autocast(query.device.type, enabled=False):
        summary = inverse @ summary.to(inverse.dtype)
    return F.scaled_dot_product_attention(query, key_landmarks,
                                          summary.to(value.dtype))


def packed_attention(query: Tensor, key: Tensor, value: Tensor,
                     lengths: Sequence[int], num_landmarks: int | None,
                     iterations: int = 6) -> Tensor:
    """Attention (T, H, C) inside each bag, Eq. 2 of GiMP with heads, scaled.

    Tokens (T, H, C) are of all bags, one after the other, T the sum of
    ``lengths``. Bags of one length go through the two large products
    together, others one after the other; the small inverses of all of them
    are computed at once.

    Example:
        >>> query, key = torch.rand(5, 1, 2), torch.zeros(5, 1, 2)
        >>> value = torch.arange(5.)[:, None, None].expand(-1, -1, 2)
        >>> packed_attention(query, key, value, [2, 3], None)[:, 0, 0]
        tensor([0.5000, 0.5000, 3.0000, 3.0000, 3.0000])
    """
    exact_up_to = math.inf if num_landmarks is None else check_integer(
        'num_landmarks', num_landmarks)
    groups = list(zip(*(bag_views(tokens, lengths)
                        for tokens in (query, key, value)), strict=True))
    landmarks = [
        [segment_means(tokens, num_landmarks) for tokens in group[:2]]
        if group[0].shape[2] > exact_up_to else None for group in groups]
    pairs = [pair for pair in landmarks if pair]
    if pairs:
        inverses = iter(landmark_inverse(
            *map(torch.cat, zip(*pairs, strict=True)), iterations
        ).split([len(query) for query, _ in pairs]))
    outputs = [landmark_attention(*group, *pair, next(inverses)) if pair
               else F.scaled_dot_product_attention(*group)
               for group, pair in zip(groups, landmarks, strict=True)]
    outputs = [output.transpose(1, 2).flatten(0, 1) for output in outputs]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def bag_views(tokens: Tensor, lengths: Sequence[int]) -> list[Tensor]:
    """Views of bags that lie one after the other, (T, H, C), T their sum.

    Gives tensors (B_i, H, N_i, C): one of all bags if they are of one length,
    else one for each bag that is not empty.

    Example:
        >>> [len(bag[0, 0]) for bag in bag_views(torch.rand(5, 1, 2), [2, 3])]
        [2, 3]
    """
    if len(set(lengths)) == 1:
        return [tokens.unflatten(0, (len(lengths), -1)).transpose(1, 2)]
    return [bag.transpose(0, 1)[None]
            for bag in tokens.split(list(lengths)) if len(bag)]


def class_token_row(query: Tensor, key: Tensor, num_landmarks: int | None,
                    iterations: int = 6) -> Tensor:
    """How much the first token attends to each token, (B, H, N).

    For heat maps: one row of ``A1 A2^+ A3``, in O(m^2 + m N) time and without
    holding A3; float32 or float64, also under autocast. Its numbers sum to
    about 1 and, unlike those of exact attention, may be negative. Queries and
    keys (B, H, N, C) are of bags of one length.

    Example:
        >>> class_token_row(torch.rand(1, 1, 4, 2), torch.ones(1, 1, 4, 2), 8)
        tensor([[[0.2500, 0.2500, 0.2500, 0.2500]]])
    """
    dtype = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        first = query[:, :, :1].to(dtype)
        if num_landmarks is None or query.shape[2] <= check_integer(
                'num_landmarks', num_landmarks):
            return attention_weights(first, key.to(dtype))[:, :, 0]
        landmarks, key_landmarks = (
            segment_means(tokens, num_landmarks).to(dtype)
            for tokens in (query, key))
        weights = attention_weights(first, key_landmarks) @ landmark_inverse(
            landmarks, key_landmarks, iterations)
        landmarks = landmarks * query.shape[-1]**-0.5

        def logits():
            for part in key.split(KEY_CHUNK, dim=2):
                yield landmarks @ part.to(dtype).transpose(-1, -2)

        norm = None
        for part in logits():
            part = part.logsumexp(dim=-1, keepdim=True)
            norm = part if norm is None else torch.logaddexp(norm, part)
        return torch.cat([weights @ (part - norm).exp() for part in logits()],
                         dim=-1)[:, :, 0]
