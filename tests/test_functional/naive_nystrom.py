"""Nyström attention as it is written: kernels in memory, float64."""

import math

import torch


def naive_softmax_kernel(query, key):
    """softmax(q k^T / sqrt(C)) of one head, (n, C) and (m, C)."""
    return (query @ key.t() / math.sqrt(query.shape[1])).softmax(dim=1)


def naive_landmarks(tokens, num_landmarks):
    """Means over runs of (n, C), of which the first ones are longer."""
    return torch.stack([
        run.mean(dim=0) for run in tokens.tensor_split(num_landmarks)])


def naive_pseudo_inverse(matrix, iterations):
    """Equation 7 of the Nyströmformer for one matrix."""
    inverse = matrix.t() / (matrix.abs().sum(dim=1).max()
                            * matrix.abs().sum(dim=0).max())
    eye = torch.eye(len(matrix), dtype=matrix.dtype)
    for _ in range(iterations):
        inverse = 0.25 * inverse @ (
            13 * eye - matrix @ inverse @
            (15 * eye - matrix @ inverse @ (7 * eye - matrix @ inverse)))
    return inverse


def naive_attention_matrix(query, key, num_landmarks, iterations=6):
    """The dense N x N matrix of one head of one bag, (N, C) each."""
    query, key = query.double(), key.double()
    if num_landmarks is None or len(query) <= num_landmarks:
        return naive_softmax_kernel(query, key)
    query_landmarks = naive_landmarks(query, num_landmarks)
    key_landmarks = naive_landmarks(key, num_landmarks)
    middle = naive_pseudo_inverse(
        naive_softmax_kernel(query_landmarks, key_landmarks), iterations)
    return (naive_softmax_kernel(query, key_landmarks) @ middle
            @ naive_softmax_kernel(query_landmarks, key))


def naive_nystrom(query, key, value, num_landmarks, iterations=6):
    """All bags and heads, (B, H, N, C)."""
    output = torch.zeros_like(value, dtype=torch.float64)
    if not query.shape[2]:
        return output
    for bag in range(len(query)):
        for head in range(query.shape[1]):
            matrix = naive_attention_matrix(
                query[bag, head], key[bag, head], num_landmarks, iterations)
            output[bag, head] = matrix @ value[bag, head].double()
    return output
