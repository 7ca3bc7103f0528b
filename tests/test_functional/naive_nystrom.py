"""Nyström attention as it is written: kernels in memory, loops, float64."""

import math

import torch


def naive_softmax_kernel(query, key):
    """softmax(q k^T / sqrt(C)) of one head, (n, C) and (m, C), by loops."""
    kernel = torch.zeros(len(query), len(key), dtype=torch.float64)
    for i, one in enumerate(query.tolist()):
        logits = [sum(a * b for a, b in zip(one, other, strict=True)) /
                  math.sqrt(len(one)) for other in key.tolist()]
        top = max(logits)
        powers = [math.exp(logit - top) for logit in logits]
        for j, power in enumerate(powers):
            kernel[i, j] = power / sum(powers)
    return kernel


def naive_runs(count, num_landmarks):
    """Ranges of token numbers that share a landmark."""
    runs, start = [], 0
    for index in range(num_landmarks):
        left, places = count - start, num_landmarks - index
        stop = start + math.ceil(left / places)
        runs.append(range(start, stop))
        start = stop
    return runs


def naive_landmarks(tokens, num_landmarks):
    """Means over runs of (n, C)."""
    return torch.stack([sum(tokens[i] for i in run) / len(run)
                        for run in naive_runs(len(tokens), num_landmarks)])


def naive_pseudo_inverse(matrix, iterations):
    """Equation 7 of the Nyströmformer for one matrix."""
    rows = [sum(abs(x) for x in row) for row in matrix.tolist()]
    columns = [sum(abs(x) for x in row) for row in matrix.t().tolist()]
    inverse = matrix.t() / (max(rows) * max(columns))
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
