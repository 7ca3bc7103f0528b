"""The bag classifiers for one bag, as their equations are written.

Each function takes a float64 model and the patches of one bag, (N, D), and
gives the vector and the weights of the patches, one row per class.
"""

import math

import torch
from test_gimp.naive_aggregator import (
    naive_layer,
    naive_norm,
    naive_positions,
)
from test_gimp.naive_group_msa import naive_attention, naive_linear


def linear(layer, vector):
    """One vector through a linear layer."""
    return naive_linear(
        torch.as_tensor(vector, dtype=layer.weight.dtype), layer)


def embedded(model, patches):
    """Tokens of the patches, one by one."""
    if len(model.embed) == 1:
        return list(patches)
    return [linear(model.embed[0], patch).clamp(min=0) for patch in patches]


def softmax(values):
    """Weights of a list of scores."""
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def mean(model, patches):
    tokens = embedded(model, patches)
    share = 1 / len(tokens)
    return sum(tokens) * share, [[share] * len(tokens)]


def largest(model, patches):
    tokens = embedded(model, patches)
    places = [max(range(len(tokens)), key=lambda n: float(tokens[n][dim]))
              for dim in range(len(tokens[0]))]
    vector = torch.stack([tokens[place][dim]
                          for dim, place in enumerate(places)])
    weights = [0.0] * len(tokens)
    for dim in range(len(vector)):
        ties = [n for n in range(len(tokens)) if tokens[n][dim] == vector[dim]]
        for tie in ties:
            weights[tie] += 1 / len(ties) / len(vector)
    return vector, [weights]


def scores(network, token):
    """Ilse et al., equations 8 and 9, all scores of a patch."""
    hidden = [math.tanh(value) for value in linear(network.hidden, token)]
    if network.gate is not None:
        hidden = [one / (1 + math.exp(-gate)) for one, gate in zip(
            hidden, linear(network.gate, token), strict=True)]
    return linear(network.score, hidden)


def attention(model, patches):
    """ABMIL and CLAM."""
    tokens = embedded(model, patches)
    by_patch = [scores(model.scores, token) for token in tokens]
    rows = [softmax(row) for row in zip(*by_patch, strict=True)]
    vectors = [sum(weight * token for weight, token in zip(
        row, tokens, strict=True)) for row in rows]
    return (torch.stack(vectors) if model.class_wise else vectors[0]), rows


def dsmil(model, patches):
    tokens = embedded(model, patches)
    instance = [linear(model.instance_fc, token) for token in tokens]
    queries = [linear(model.query, token) for token in tokens]
    vectors, rows = [], []
    for label in range(model.num_classes):
        critical = max(range(len(tokens)),
                       key=lambda n, c=label: float(instance[n][c]))
        row = softmax([float((query * queries[critical]).sum()) /
                       math.sqrt(len(query)) for query in queries])
        vectors.append(sum(
            weight * linear(model.value, token)
            for weight, token in zip(row, tokens, strict=True)))
        rows.append(row)
    return torch.stack(vectors), rows


def transmil(model, patches, cells):
    tokens = torch.stack([
        linear(model.embed[0], patch).clamp(min=0) for patch in patches])
    tokens = torch.cat([model.cls_token, tokens])
    for index, layer in enumerate(model.layers):
        tokens, matrix = naive_layer(layer, tokens)
        if index == 0:
            tokens = torch.cat([tokens[:1], naive_positions(
                model.positions, tokens[1:], cells)])
    row = matrix[:, 0, 1:].mean(dim=0).clamp(min=0)
    return naive_norm(tokens, model.norm)[0], [(row / row.sum()).tolist()]


def heads_of(layer, tokens):
    """Multi-head attention of a transformer layer."""
    attention = layer.self_attn
    query, key, value = (tokens @ attention.in_proj_weight.t() +
                         attention.in_proj_bias).chunk(3, dim=1)
    mixed = naive_attention(query, key, value, attention.num_heads)
    return mixed @ attention.out_proj.weight.t() + attention.out_proj.bias


def pooled_transformer(model, tokens):
    for layer in model.layers:
        tokens = naive_norm(tokens + heads_of(layer, tokens), layer.norm1)
        hidden = torch.stack([
            linear(layer.linear2, linear(layer.linear1, token).clamp(min=0))
            for token in tokens])
        tokens = naive_norm(tokens + hidden, layer.norm2)
    row = softmax([scores(model.scores, token)[0] for token in tokens])
    pooled = sum(weight * token
                 for weight, token in zip(row, tokens, strict=True))
    return linear(model.out[0], pooled).clamp(min=0)


def elu(values):
    return torch.stack([value if value > 0 else value.exp() - 1
                        for value in values])


def mcat(model, patches, genes, gene_sets):
    """``genes`` (G, ), or None for a patient without."""
    tokens = embedded(model, patches)
    sets = []
    for network, places in zip(model.gene_tokens.networks, gene_sets,
                               strict=True):
        if genes is None:
            sets.append(model.missing_genes)
            continue
        part = torch.stack([genes[place] for place in places])
        sets.append(elu(linear(network[3], elu(linear(network[0], part)))))
    seen, rows = [], []
    for one in sets:
        query = linear(model.query, one)
        if not tokens:
            seen.append(torch.zeros_like(query))
            rows.append([])
            continue
        row = softmax([
            float((query * linear(model.key, token)).sum()) /
            math.sqrt(len(query)) for token in tokens])
        seen.append(sum(
            weight * linear(model.value, token)
            for weight, token in zip(row, tokens, strict=True)))
        rows.append(row)
    joined = torch.cat([
        pooled_transformer(model.slide_transformer, torch.stack(seen)),
        pooled_transformer(model.gene_transformer, torch.stack(sets))])
    hidden = linear(model.join[0], joined).clamp(min=0)
    return linear(model.join[2], hidden).clamp(min=0), rows


def instance_losses(model, patches, label):
    """CLAM: the loss of each classifier that a bag teaches."""
    tokens = embedded(model, patches)
    by_patch = [scores(model.scores, token) for token in tokens]
    size = min(model.num_instances, len(tokens) // 2)
    losses = []
    for one in range(model.num_classes):
        if one != label and not model.exclusive_classes:
            continue
        branch = one if model.class_wise else 0
        order = sorted(range(len(tokens)),
                       key=lambda n, b=branch: -float(by_patch[n][b]))
        chosen = [(place, int(one == label)) for place in order[:size]]
        if one == label:
            chosen += [(place, 0) for place in order[-size:]]
        total = 0.0
        for place, target in chosen:
            pair = linear(model.instance_fc, tokens[place])[
                2 * one:2 * one + 2]
            gap = float(pair[1 - target] - pair[target])
            if model.instance_loss == 'svm':
                gap += 1
            total += math.log(1 + math.exp(gap))
        losses.append(total / len(chosen))
    return losses
