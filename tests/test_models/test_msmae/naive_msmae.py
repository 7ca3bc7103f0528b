"""MSMAE's training step in float64, image by image and head by head.

Written from the description of the method alone: equations 1 to 7 of the
paper and MAE's decoder. Only the weights come from the model under test.
"""

import torch


def to_double(module):
    return {name: value.detach().double()
            for name, value in module.state_dict().items()}


def layer_norm(x, state, name):
    mean = x.mean(dim=-1, keepdim=True)
    variance = ((x - mean)**2).mean(dim=-1, keepdim=True)
    return ((x - mean) / (variance + 1e-6).sqrt() * state[f'{name}.weight'] +
            state[f'{name}.bias'])


def linear(x, state, name):
    return x @ state[f'{name}.weight'].T + state[f'{name}.bias']


def attention_of_heads(x, state, name, num_heads):
    """Yield each head's attention matrix and values."""
    dims = x.shape[1]
    size = dims // num_heads
    qkv = linear(x, state, f'{name}.attn.qkv')
    for head in range(num_heads):
        query, key, value = (
            qkv[:, part * dims + head * size:part * dims + (head + 1) * size]
            for part in range(3))
        logits = query @ key.T / size**0.5
        weights = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
        yield weights, value


def layer(x, state, name, num_heads):
    """One pre-norm transformer layer on tokens (N, C)."""
    normed = layer_norm(x, state, f'{name}.ln1')
    heads = [weights @ value for weights, value in attention_of_heads(
        normed, state, name, num_heads)]
    x = x + linear(torch.cat(heads, dim=1), state, f'{name}.attn.proj')
    hidden = linear(layer_norm(x, state, f'{name}.ln2'), state,
                    f'{name}.ffn.layers.0.0')
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    return x + linear(hidden, state, f'{name}.ffn.layers.1')


def patches_of(image, size):
    """Yield the patches of an image (C, H, W), row by row."""
    for top in range(0, image.shape[1], size):
        for left in range(0, image.shape[2], size):
            yield image[:, top:top + size, left:left + size]


def embed(image, state, size):
    """Class token and all patch tokens with positions, (1 + L, C)."""
    weight = state['backbone.patch_embed.projection.weight'].flatten(1)
    bias = state['backbone.patch_embed.projection.bias']
    tokens = [state['backbone.cls_token'][0, 0]]
    tokens += [weight @ patch.flatten() + bias
               for patch in patches_of(image, size)]
    return torch.stack(tokens) + state['backbone.pos_embed'][0]


def encode(tokens, state, num_heads):
    depth = 0
    while f'backbone.layers.{depth}.ln1.weight' in state:
        tokens = layer(tokens, state, f'backbone.layers.{depth}', num_heads)
        depth += 1
    return layer_norm(tokens, state, 'backbone.ln1')


def training_step(model, images, labels, flags, num_heads, decoder_heads):
    """Reconstruction loss and cross-entropy, given where tokens go.

    Args:
        model: A tiny MSMAE.
        images: (B, C, H, W).
        labels: One class per image.
        flags: (B, L), 1 = masked, -1 = thrown, 0 = visible.
        num_heads: Heads of the encoder.
        decoder_heads: Heads of the decoder.

    Returns:
        The two losses and, per image, the predictions for all tokens.
    """
    state = to_double(model)
    size = model.backbone.patch_size[0]
    errors, entropies = [], []
    for image, label, flag in zip(images.double(), labels, flags.tolist(),
                                  strict=True):
        tokens = embed(image, state, size)
        visible = [n for n, one in enumerate(flag) if one == 0]
        latent = encode(tokens[[0] + [n + 1 for n in visible]], state,
                        num_heads)
        logits = linear(latent[0], state, 'head.fc')
        entropies.append(logits.exp().sum().log() - logits[label])
        latent = linear(latent, state, 'neck.decoder_embed')
        positions = state['neck.decoder_pos_embed'][0]
        # Raster order, thrown tokens left out, positions added.
        decoded, places = [latent[0] + positions[0]], []
        for n, one in enumerate(flag):
            if one == -1:
                continue
            token = (latent[1 + visible.index(n)]
                     if one == 0 else state['neck.mask_token'][0, 0])
            decoded.append(token + positions[n + 1])
            places.append(n)
        decoded = torch.stack(decoded)
        depth = 0
        while f'neck.decoder_blocks.{depth}.ln1.weight' in state:
            decoded = layer(decoded, state, f'neck.decoder_blocks.{depth}',
                            decoder_heads)
            depth += 1
        decoded = linear(layer_norm(decoded, state, 'neck.ln1'), state,
                         'neck.decoder_pred')
        targets = list(patches_of(image, size))
        for token, n in zip(decoded[1:], places, strict=True):
            if flag[n] == 1:
                target = targets[n].permute(1, 2, 0).flatten()
                errors.append(((token - target)**2).mean())
    return torch.stack(errors).mean(), torch.stack(entropies).mean()


def class_token_map(model, image, num_heads):
    """Attention of the class token per head in the last layer, (h, L)."""
    state = to_double(model)
    tokens = embed(image.double(), state, model.backbone.patch_size[0])
    depth = 0
    while f'backbone.layers.{depth + 1}.ln1.weight' in state:
        tokens = layer(tokens, state, f'backbone.layers.{depth}', num_heads)
        depth += 1
    name = f'backbone.layers.{depth}'
    normed = layer_norm(tokens, state, f'{name}.ln1')
    return torch.stack([weights[0, 1:] for weights, _ in attention_of_heads(
        normed, state, name, num_heads)])
