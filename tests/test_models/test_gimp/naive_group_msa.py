"""GroupMSA for one patient, token by token and head by head."""

import math

import torch

from .naive_aggregator import naive_norm


def naive_linear(vector, layer):
    """Each output as a sum over inputs."""
    outputs = [(row * vector).sum() for row in layer.weight]
    return torch.stack(outputs) + layer.bias


def naive_block(block, tokens):
    """Every token attends to every token; (N, d)."""
    normed = naive_norm(tokens, block.norm1)
    count, dims = tokens.shape
    size = dims // block.num_heads
    query = [naive_linear(token, block.query) for token in normed]
    both = [naive_linear(token, block.key_value) for token in normed]
    outputs = []
    for i in range(count):
        mixed = torch.zeros_like(tokens[0])
        for head in range(block.num_heads):
            part = slice(head * size, (head + 1) * size)
            scores = torch.stack([
                query[i][part] @ both[j][:dims][part] / math.sqrt(size)
                for j in range(count)])
            weights = scores.exp() / scores.exp().sum()
            mixed[part] = sum(weights[j] * both[j][dims:][part]
                              for j in range(count))
        outputs.append(tokens[i] + naive_linear(mixed, block.proj))
    rows = []
    for token in outputs:
        hidden = naive_linear(naive_norm(token[None], block.norm2)[0],
                              block.mlp[0])
        hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
        rows.append(token + naive_linear(hidden, block.mlp[3]))
    return torch.stack(rows)


@torch.no_grad()
def naive_group_msa(model, genes):
    """``CLS_ge`` of one patient, genes (G, )."""
    size = math.ceil(len(genes) / model.num_fragments)
    tokens = []
    for fragment in range(model.num_fragments):
        token = torch.zeros(model.embed_dims, dtype=genes.dtype)
        for place in range(size):
            gene = fragment * size + place
            if gene >= len(genes):
                continue
            if isinstance(model.embed, torch.nn.Linear):
                weight = model.embed.weight[:, place]
            else:
                weight = model.embed.weight[fragment, place]
            token = token + weight * genes[gene]
        if isinstance(model.embed, torch.nn.Linear):
            token = token + model.embed.bias
        if model.position is not None:
            token = token + model.position[fragment]
        tokens.append(token)
    per_group = model.num_fragments // model.num_groups
    groups = []
    for group in range(model.num_groups):
        inside = torch.stack([model.group_tokens[group],
                              *tokens[group * per_group:
                                      (group + 1) * per_group]])
        for block in model.intra:
            inside = naive_block(block, inside)
        groups.append(inside[0])
    among = torch.stack([model.cls_token[0], *groups])
    for block in model.inter:
        among = naive_block(block, among)
    return naive_norm(among[:1], model.norm)[0]
