"""The decoder's shortcuts compute what whole layers compute, with less."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmmedmask.models.msmae.decoder import first_layer, last_tokens_of_layer

from .tiny_msmae import tiny_pretraining

BATCH, KEPT, MASKED, CELLS, DIMS = 5, 4, 7, 12, 16


@pytest.fixture
def layer():
    """A layer in float64 whose norms and biases do something."""
    layer = tiny_pretraining().neck.decoder_blocks[0].double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(.1 * torch.randn_like(parameter))
    return layer


def draw_inputs():
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(*shape, generator=generator,
                           dtype=torch.float64).requires_grad_()

    ids = torch.stack([torch.randperm(CELLS, generator=generator)[:MASKED]
                       for _ in range(BATCH)])
    return draw(BATCH, KEPT, DIMS), draw(CELLS, DIMS), ids


def whole_layer(layer, tokens, cells, ids):
    """Each masked token of each image is one of its own."""
    masked = torch.stack([
        torch.stack([cells[int(cell)] for cell in row]) for row in ids])
    return layer(torch.cat([tokens, masked], 1))


def gradients(output, layer, *inputs):
    weights = torch.sin(
        torch.arange(output.numel(), dtype=output.dtype)).view_as(output)
    return torch.autograd.grad((output * weights).sum(),
                               [*inputs, *layer.parameters()])


@pytest.mark.parametrize('first', [True, False])
def test_layers_equal_whole_ones(layer, first):
    """The first one gives all tokens, the last the masked ones alone."""
    tokens, cells, ids = draw_inputs()
    wanted = whole_layer(layer, tokens, cells, ids)
    if first:
        found = first_layer(layer, tokens, cells, ids)
    else:
        found = last_tokens_of_layer(
            layer, torch.cat([tokens, cells[ids]], 1), MASKED)
        wanted = wanted[:, KEPT:]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    for one, other in zip(
            gradients(found, layer, tokens, cells),
            gradients(wanted, layer, tokens, cells), strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_cells_are_projected_once(layer):
    """Saved are 2 * 3 C^2 operations per masked token beyond the cells."""
    tokens, cells, ids = draw_inputs()
    counts = []
    for compute in (first_layer, whole_layer):
        with sdpa_kernel(SDPBackend.MATH), \
                FlopCounterMode(display=False) as counter:
            compute(layer, tokens, cells, ids)
        counts.append(counter.get_total_flops())
    assert counts[1] - counts[0] == (
        (BATCH * MASKED - CELLS) * 2 * DIMS * 3 * DIMS)


@pytest.mark.parametrize('num_layers', [1, 2, 3])
@pytest.mark.parametrize('images', [1, 4])
def test_decoders_of_any_depth_and_batch(num_layers, images):
    """Few masked tokens, or a single layer, take no shortcut at the start."""
    model = tiny_pretraining(neck=dict(num_layers=num_layers)).double()
    neck = model.neck
    generator = torch.Generator().manual_seed(0)
    order = torch.stack([
        torch.randperm(24, generator=generator) for _ in range(images)])
    partition = type('Partition', (), dict(
        masked=order[:, :10], visible=order[:, 18:]))
    latent = torch.randn(
        images, 7, 32, generator=generator, dtype=torch.float64)
    found = neck(latent, partition)
    positions = neck.decoder_pos_embed[0]
    wanted = []
    for row in range(images):
        tokens = neck.decoder_embed(latent[row])
        tokens = tokens + torch.cat(
            [positions[:1], positions[1:][partition.visible[row]]])
        masked = neck.mask_token[0] + positions[1:][partition.masked[row]]
        tokens = torch.cat([tokens, masked])[None]
        for block in neck.decoder_blocks:
            tokens = block(tokens)
        wanted.append(neck.decoder_pred(neck.decoder_norm(tokens[0, 7:])))
    torch.testing.assert_close(found, torch.stack(wanted), rtol=0, atol=1e-12)
