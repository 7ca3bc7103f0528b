"""GroupMSA for one patient, token by token and head by head."""

import math

import torch

from .naive_aggregator import naive_norm


def naive_linear(vector, layer):
    """Each output as a sum over inputs."""
    outputs = torch.stack([(row * vector).sum() for row in layer.weight])
    return outputs if layer.bias is None else outputs + layer.bias


def naive_gelu(values):
    return values * (1 + torch.erf(values / math.sqrt(2))) / 2


def naive_attention(query, key, value, num_heads):
    """Every query attends to every key, head by head: (N, d)."""
    heads = []
    for parts in zip(*(one.chunk(num_heads, dim=1)
                       for one in (query, key, value)), strict=True):
        rows = []
        for one in parts[0]:
            scores = torch.stack([
                one @ other / math.sqrt(len(one)) for other in parts[1]])
            weights = scores.exp() / scores.exp().sum()
            rows.append(sum(weight * other for weight, other in zip(
                weights, parts[2], strict=True)))
        heads.append(torch.stack(rows))
    return torch.cat(heads, dim=1)


def naive_block(block, tokens):
    """Every token attends to every token; (N, d)."""
    normed = naive_norm(tokens, block.norm1)
    query, both = (torch.stack([naive_linear(token, layer)
                                for token in normed])
                   for layer in (block.query, block.key_value))
    mixed = naive_attention(query, *both.chunk(2, dim=1), block.num_heads)
    rows = []
    for token, found in zip(tokens, mixed, strict=True):
        token = token + naive_linear(found, block.proj)
        hidden = naive_linear(naive_norm(token[None], block.norm2)[0],
                              block.mlp[0])
        rows.append(token + naive_linear(naive_gelu(hidden), block.mlp[3]))
    return torch.stack(rows)


def naive_groups(num_genes, num_fragments, num_groups, gene_sets=None):
    """Genes of each fragment of each group, as lists of lists of places."""
    size = math.ceil(num_genes / num_fragments)
    if gene_sets is None:
        per_group = num_fragments // num_groups
        return [[[gene for gene in range(fragment * size,
                                         (fragment + 1) * size)
                  if gene < num_genes]
                 for fragment in range(group * per_group,
                                       (group + 1) * per_group)]
                for group in range(num_groups)]
    groups = [sorted(set(genes)) for genes in gene_sets]
    left = [gene for gene in range(num_genes)
            if not any(gene in genes for genes in groups)]
    for group in range(num_groups):
        # The first ones have one more where it does not come out even.
        count = len(left) // (num_groups - group)
        count += len(left) % (num_groups - group) > 0
        groups.append(left[:count])
        left = left[count:]
    return [[genes[start:start + size] for start in range(0, len(genes), size)]
            for genes in groups if genes]


@torch.no_grad()
def naive_group_msa(model, genes, groups):
    """``CLS_ge`` of one patient, genes (G, ), see :func:`naive_groups`."""
    tokens = [inside[0] for inside in naive_inside(model, genes, groups)]
    among = torch.stack([model.cls_token[0], *tokens])
    for block in model.inter:
        among = naive_block(block, among)
    return naive_norm(among[:1], model.norm)[0]


@torch.no_grad()
def naive_inside(model, genes, groups, hidden=(), mask_token=None):
    """Each group's token and fragments; ``hidden`` are replaced."""
    outputs, number = [], 0
    for group, fragments in enumerate(groups):
        inside = [model.group_tokens[group]]
        for fragment in fragments:
            token = torch.zeros(model.embed_dims, dtype=genes.dtype)
            for place, gene in enumerate(fragment):
                if isinstance(model.embed, torch.nn.Linear):
                    weight = model.embed.weight[:, place]
                else:
                    weight = model.embed.weight[number, place]
                token = token + weight * genes[gene]
            if isinstance(model.embed, torch.nn.Linear):
                token = token + model.embed.bias
            if number in hidden:
                token = mask_token
            if model.position is not None:
                token = token + model.position[number]
            inside.append(token)
            number += 1
        inside = torch.stack(inside)
        for block in model.intra:
            inside = naive_block(block, inside)
        outputs.append(inside)
    return outputs
