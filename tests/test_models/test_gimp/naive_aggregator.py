"""The aggregator for one bag, as its equations are written, in float64."""

import torch
import torch.nn.functional as F
from test_functional.naive_nystrom import naive_attention_matrix


def naive_value_conv(value, kernel, slides, with_class_token):
    """Each token's neighbours on its slide, weighed by one head's kernel.

    Of values (1 + N, C) the first is the class token's, which is none of
    the patches, or the first of the first slide.
    """
    output, radius = torch.zeros_like(value), len(kernel) // 2
    slide = [number for number, count in enumerate(slides)
             for _ in range(count)]
    slide = [0 if with_class_token else -1, *slide]
    for i in range(0 if with_class_token else 1, len(value)):
        for offset in range(-radius, radius + 1):
            j = i + offset
            if 0 <= j < len(value) and slide[j] == slide[i]:
                output[i] += kernel[offset + radius] * value[j]
    return output


def naive_layer(layer, tokens, slides=None):
    """One layer, head by head; ``slides`` are patches of each slide."""
    normed = layer.norm(tokens)
    dims = tokens.shape[1] // layer.num_heads
    heads, matrices = [], []
    for head in range(layer.num_heads):
        rows = slice(head * dims, (head + 1) * dims)
        query, key, value = (
            normed @ weight[rows].t() for weight in layer.qkv.weight.chunk(3))
        matrix = naive_attention_matrix(query, key, layer.num_landmarks)
        output = matrix @ value
        if layer.value_conv is not None:
            output = output + naive_value_conv(
                value, layer.value_conv.weight[head],
                slides or [len(tokens) - 1], layer.value_conv.with_class_token)
        heads.append(output)
        matrices.append(matrix)
    return (tokens + layer.proj(torch.cat(heads, 1)), torch.stack(matrices))


def naive_positions(positions, tokens, cells):
    """The whole grid, three convolutions and the input, means in cells."""
    rows, columns = (cells.amax(dim=0) + 1).tolist()
    grid = tokens.new_zeros(rows, columns, tokens.shape[1])
    for row, column in {tuple(cell) for cell in cells.tolist()}:
        here = (cells == torch.tensor([row, column])).all(dim=1)
        grid[row, column] = tokens[here].mean(dim=0)
    grid = grid.permute(2, 0, 1)[None]
    result = sum(
        F.conv2d(grid, conv.weight, conv.bias, padding='same',
                 groups=len(conv.weight)) for conv in positions.convs)[0]
    return tokens + torch.stack(
        [result[:, row, column] for row, column in cells.tolist()])


@torch.no_grad()
def naive_aggregator(model, patches, mask=None, cells=None, slides=None):
    """A float64 model's equations on one bag (N, D), ``slides`` patches each.

    The slide's vector (d, ), tokens (N, d), and of each layer the dense
    matrices (H, 1 + N, 1 + N).
    """
    tokens = model.embed[0](patches)
    if len(model.embed) > 1:
        tokens = tokens.clamp(min=0)
    if mask is not None:
        for i in mask.nonzero()[:, 0]:
            tokens[i] = 0 if model.mask_token is None else model.mask_token[0]
    tokens = torch.cat([model.cls_token, tokens])
    matrices = []
    for index, layer in enumerate(model.layers):
        tokens, matrix = naive_layer(layer, tokens, slides)
        matrices.append(matrix)
        if index == 0 and model.positions is not None:
            tokens = torch.cat([tokens[:1], naive_positions(
                model.positions, tokens[1:], cells)])
    tokens = model.norm(tokens)
    return tokens[0], tokens[1:], matrices
