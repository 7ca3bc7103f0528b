"""GroupMSA for one patient, fragment by fragment and head by head."""

import math

import torch
import torch.nn.functional as F


def naive_attention(query, key, value, num_heads):
    """Every query attends to every key, head by head: (N, d)."""
    return torch.cat([
        (one @ other.T / math.sqrt(one.shape[1])).softmax(dim=1) @ carried
        for one, other, carried in zip(*(
            part.chunk(num_heads, dim=1) for part in (query, key, value)),
            strict=True)], dim=1)


def naive_block(block, tokens):
    """Every token attends to every token; (N, d)."""
    normed = block.norm1(tokens)
    tokens = tokens + block.proj(naive_attention(
        block.query(normed), *block.key_value(normed).chunk(2, dim=1),
        block.num_heads))
    hidden = F.gelu(block.mlp[0](block.norm2(tokens)))
    return tokens + block.mlp[3](hidden)


def naive_groups(num_genes, num_fragments, num_groups, gene_sets=None):
    """Genes of each fragment of each group, as lists of lists of places."""
    size = math.ceil(num_genes / num_fragments)
    if gene_sets is None:
        per_group = num_fragments // num_groups
        fragments = [[*range(num_genes)][start:start + size] for start in
                     range(0, num_fragments * size, size)]
        return [fragments[start:start + per_group]
                for start in range(0, num_fragments, per_group)]
    groups = [sorted(set(genes)) for genes in gene_sets]
    left = [gene for gene in range(num_genes)
            if not any(gene in genes for genes in groups)]
    for group in range(num_groups):
        # The first ones have one more where it does not come out even.
        count = math.ceil(len(left) / (num_groups - group))
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
    return model.norm(among[0])


@torch.no_grad()
def naive_inside(model, genes, groups, hidden=(), mask_token=None):
    """Each group's token and fragments; ``hidden`` are replaced."""
    outputs, number = [], 0
    for group, fragments in enumerate(groups):
        inside = [model.group_tokens[group]]
        for fragment in fragments:
            if isinstance(model.embed, torch.nn.Linear):
                weight, token = model.embed.weight.T, model.embed.bias
            else:
                weight = model.embed.weight[number]
                token = torch.zeros_like(weight[0])
            for place, gene in enumerate(fragment):
                token = token + weight[place] * genes[gene]
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
