"""The bag classifiers for one bag, as their equations are written.

Each function takes a float64 model and the patches of one bag, (N, D), and
gives the vector and the weights of the patches, one row per class.
"""

import math

import torch
import torch.nn.functional as F
from test_gimp.naive_aggregator import naive_layer, naive_positions
from test_gimp.naive_group_msa import naive_attention


def embedded(model, patches):
    if len(model.embed) == 1:
        return patches
    return model.embed[0](patches).clamp(min=0)


def mean(model, patches):
    tokens = embedded(model, patches)
    return tokens.mean(dim=0), torch.full((1, len(tokens)), 1 / len(tokens))


def largest(model, patches):
    tokens = embedded(model, patches)
    vector = tokens.amax(dim=0)
    ties = (tokens == vector).double()
    return vector, (ties / ties.sum(dim=0)).mean(dim=1)[None]


def scores(network, tokens):
    """Ilse et al., equations 8 and 9, all scores of the patches, (N, K)."""
    hidden = network.hidden(tokens).tanh()
    if network.gate is not None:
        hidden = hidden / (1 + (-network.gate(tokens)).exp())
    return network.score(hidden)


def look(query, keys):
    """Attention of each query to the keys, one row each."""
    return (query @ keys.T / math.sqrt(query.shape[1])).softmax(dim=1)


def attention(model, patches):
    tokens = embedded(model, patches)
    rows = scores(model.scores, tokens).T.softmax(dim=1)
    vectors = rows @ tokens
    return (vectors if model.class_wise else vectors[0]), rows


def dsmil(model, patches):
    tokens = embedded(model, patches)
    critical = model.instance_fc(tokens).argmax(dim=0)
    queries = model.query(tokens)
    rows = look(queries[critical], queries)
    return rows @ model.value(tokens), rows


def transmil(model, patches, cells):
    tokens = torch.cat([model.cls_token, embedded(model, patches)])
    for index, layer in enumerate(model.layers):
        tokens, matrix = naive_layer(layer, tokens)
        if index == 0:
            tokens = torch.cat([tokens[:1], naive_positions(
                model.positions, tokens[1:], cells)])
    row = matrix[:, 0, 1:].mean(dim=0).clamp(min=0)
    return model.norm(tokens)[0], (row / row.sum())[None]


def pooled_transformer(model, tokens):
    for layer in model.layers:
        heads = layer.self_attn
        mixed = naive_attention(*F.linear(
            tokens, heads.in_proj_weight, heads.in_proj_bias).chunk(3, dim=1),
            heads.num_heads)
        tokens = layer.norm1(tokens + heads.out_proj(mixed))
        hidden = layer.linear2(layer.linear1(tokens).clamp(min=0))
        tokens = layer.norm2(tokens + hidden)
    row = scores(model.scores, tokens)[:, 0].softmax(dim=0)
    return model.out[0](row @ tokens).clamp(min=0)


def mcat(model, patches, genes, gene_sets):
    """``genes`` (G, ), or None for a patient without."""
    tokens = embedded(model, patches)
    sets = torch.stack([
        model.missing_genes if genes is None else
        F.elu(network[3](F.elu(network[0](genes[places]))))
        for network, places in zip(model.gene_tokens.networks, gene_sets,
                                   strict=True)])
    rows = look(model.query(sets), model.key(tokens))
    seen = rows @ model.value(tokens)
    joined = torch.cat([pooled_transformer(model.slide_transformer, seen),
                        pooled_transformer(model.gene_transformer, sets)])
    hidden = model.join[0](joined).clamp(min=0)
    return model.join[2](hidden).clamp(min=0), rows


def instance_losses(model, patches, label):
    """CLAM: the loss of each classifier that a bag teaches."""
    tokens = embedded(model, patches)
    by_patch = scores(model.scores, tokens)
    size = min(model.num_instances, len(tokens) // 2)
    losses = []
    for one in range(model.num_classes):
        if one != label and not model.exclusive_classes:
            continue
        order = by_patch[:, one if model.class_wise else 0].argsort(
            descending=True)
        chosen, targets = order[:size], [int(one == label)] * size
        if one == label:
            chosen, targets = torch.cat([chosen, order[-size:]]), [
                *targets, *[0] * size]
        pairs = model.instance_fc(tokens[chosen])[:, 2 * one:2 * one + 2]
        total = 0.0
        for pair, target in zip(pairs, targets, strict=True):
            gap = float(pair[1 - target] - pair[target])
            if model.instance_loss == 'svm':
                gap += 1
            total += math.log(1 + math.exp(gap))
        losses.append(total / len(chosen))
    return losses
