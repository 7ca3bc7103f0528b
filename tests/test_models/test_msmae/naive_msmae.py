"""MSMAE's training step in float64, image by image and head by head.

Written from the description of the method alone: equations 1 to 7 of the
paper and MAE's decoder. Only the weights come from the model under test.
"""

import copy

import torch
import torch.nn.functional as F


def attention_of_heads(layer, x):
    """Yield each head's attention matrix and values."""
    qkv = layer.attn.qkv(layer.ln1(x)).chunk(3, dim=1)
    for query, key, value in zip(*(
            part.chunk(layer.attn.num_heads, dim=1) for part in qkv),
            strict=True):
        yield (query @ key.T / query.shape[1]**0.5).softmax(dim=1), value


def transformer_layer(layer, x):
    """One pre-norm transformer layer on tokens (N, C)."""
    x = x + layer.attn.proj(torch.cat(
        [weights @ value for weights, value in attention_of_heads(layer, x)],
        dim=1))
    return x + layer.ffn.layers[1](F.gelu(
        layer.ffn.layers[0][0](layer.ln2(x))))


def patches_of(image, size):
    """The patches of an image (C, H, W), row by row."""
    return [image[:, top:top + size, left:left + size]
            for top in range(0, image.shape[1], size)
            for left in range(0, image.shape[2], size)]


def embed(backbone, image):
    """Class token and all patch tokens with positions, (1 + L, C)."""
    convolution = backbone.patch_embed.projection
    weight = convolution.weight.flatten(1)
    tokens = [weight @ patch.flatten() + convolution.bias
              for patch in patches_of(image, backbone.patch_size[0])]
    return torch.stack([backbone.cls_token[0, 0], *tokens]) + \
        backbone.pos_embed[0]


def training_step(model, images, labels, flags):
    """Reconstruction loss and cross-entropy, given where tokens go.

    ``images`` are (B, C, H, W), with one label each; ``flags`` (B, L) are 1
    where a token is masked, -1 where it is thrown, 0 where it is visible.
    """
    model = copy.deepcopy(model).double()
    backbone, neck = model.backbone, model.neck
    errors, entropies = [], []
    for image, label, flag in zip(images.double(), labels, flags.tolist(),
                                  strict=True):
        tokens = embed(backbone, image)
        visible = [n for n, one in enumerate(flag) if one == 0]
        latent = tokens[[0] + [n + 1 for n in visible]]
        for layer in backbone.layers:
            latent = transformer_layer(layer, latent)
        latent = backbone.ln1(latent)
        logits = model.head.fc(latent[0])
        entropies.append(logits.exp().sum().log() - logits[label])
        latent = neck.decoder_embed(latent)
        positions = neck.decoder_pos_embed[0]
        # Raster order, thrown tokens left out, positions added.
        decoded, places = [latent[0] + positions[0]], []
        for n, one in enumerate(flag):
            if one != -1:
                token = (latent[1 + visible.index(n)]
                         if one == 0 else neck.mask_token[0, 0])
                decoded.append(token + positions[n + 1])
                places.append(n)
        decoded = torch.stack(decoded)
        for layer in neck.decoder_blocks:
            decoded = transformer_layer(layer, decoded)
        decoded = neck.decoder_pred(neck.decoder_norm(decoded))
        targets = patches_of(image, backbone.patch_size[0])
        errors += [((token - targets[n].permute(1, 2, 0).flatten())**2).mean()
                   for token, n in zip(decoded[1:], places, strict=True)
                   if flag[n] == 1]
    return torch.stack(errors).mean(), torch.stack(entropies).mean()


def class_token_map(model, image):
    """Attention of the class token per head in the last layer, (h, L)."""
    backbone = copy.deepcopy(model.backbone).double()
    tokens = embed(backbone, image.double())
    *layers, last = backbone.layers
    for layer in layers:
        tokens = transformer_layer(layer, tokens)
    return torch.stack([
        weights[0, 1:] for weights, _ in attention_of_heads(last, tokens)])
