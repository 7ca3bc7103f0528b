"""MSMAE's decoder: reconstructs masked patches, without the thrown ones."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmpretrain.models.necks import MAEPretrainDecoder
from torch import Tensor, nn

from mmmedmask.functional import patchify
from mmmedmask.functional.attention_masking import TokenPartition
from mmmedmask.models.layers.pretrained_last import load_last
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import check_integer, check_multiple, check_size


@MODELS.register_module()
class MSMAEDecoder(MAEPretrainDecoder):
    """MAE's decoder on visible and masked tokens.

    Thrown tokens do not enter. Before the first layer masked tokens differ by
    their cell alone, so their queries, keys and values are computed once per
    cell, not per image. Only masked patches are reconstructed, so the last
    layer computes no other token. Parameters have the names of mmpretrain's
    MAE decoder.

    Args:
        img_size: Side of the images in pixels, or (h, w).
        patch_size: Side of a patch in pixels, or (h, w); divides the image.
        embed_dims: Dimensions of the decoder's tokens, a multiple of 4.
        norm_cfg: Normalisation; None is LayerNorm with eps 1e-6.
    """

    def __init__(self, img_size: int | Sequence[int] = 224,
                 patch_size: int | Sequence[int] = 16, in_channels: int = 3,
                 encoder_dims: int = 768, embed_dims: int = 512,
                 num_layers: int = 8, num_heads: int = 16,
                 norm_cfg: dict | None = None,
                 init_cfg: dict | list[dict] | None = None) -> None:
        img_size = check_size('img_size', img_size)
        patch_size = check_size('patch_size', patch_size)
        check_integer('in_channels', in_channels)
        check_integer('encoder_dims', encoder_dims)
        check_integer('num_layers', num_layers)
        check_multiple('embed_dims', embed_dims, num_heads, 'num_heads')
        rows, columns = patchify.patch_grid_size(img_size, patch_size)
        super().__init__(
            num_patches=rows * columns, embed_dim=encoder_dims,
            decoder_embed_dim=embed_dims, decoder_depth=num_layers,
            decoder_num_heads=num_heads,
            norm_cfg=norm_cfg or dict(type='LN', eps=1e-6),
            predict_feature_dim=patch_size[0] * patch_size[1] * in_channels,
            init_cfg=init_cfg)
        self.grid_size = (rows, columns)

    def init_weights(self) -> None:
        """Initialise as MAE does, for grids of any shape.

        A pre-trained checkpoint wins.
        """
        # Past the parent, whose embedding is for square grids only.
        super(MAEPretrainDecoder, self).init_weights()
        positions = patchify.sincos_position_embedding(
            self.grid_size, self.decoder_pos_embed.shape[-1])
        with torch.no_grad():
            self.decoder_pos_embed.copy_(F.pad(positions, (0, 0, 1, 0)))
        nn.init.normal_(self.mask_token, std=0.02)
        load_last(self)

    def forward(self, latent: Tensor, partition: TokenPartition) -> Tensor:
        """Predict the pixels of the masked patches.

        Args:
            latent: The encoder's output, class token first, shape
                (B, 1 + V, C).
            partition: Where each token went; its visible ids are in the
                order of ``latent``.

        Returns:
            Shape (B, M, patch pixels * channels), in the order of
            ``partition.masked``; inside a patch pixels row by row with their
            channels together.
        """
        tokens = self.decoder_embed(latent)
        positions = self.decoder_pos_embed[0]
        kept = tokens + torch.cat([positions[:1].expand(len(tokens), -1, -1),
                                   positions[1:][partition.visible]], 1)
        # Before the first layer a masked token is its cell, in all images.
        cells = (self.mask_token[0] + positions[1:]).to(kept.dtype)
        blocks, asked = self.decoder_blocks, partition.masked.shape[1]
        if len(blocks) > 1 and partition.masked.numel() > len(cells):
            tokens = first_layer(blocks[0], kept, cells, partition.masked)
            blocks = blocks[1:]
        else:
            tokens = torch.cat([kept, cells[partition.masked]], dim=1)
        for block in blocks[:-1]:
            tokens = block(tokens)
        masked = last_tokens_of_layer(blocks[-1], tokens, asked)
        return self.decoder_pred(self.decoder_norm(masked))


def first_layer(layer: nn.Module, tokens: Tensor, cells: Tensor,
                masked_ids: Tensor) -> Tensor:
    """Run a transformer layer on tokens and on masked cells of a grid.

    What a masked cell contributes to the attention is the same in all images,
    and is computed once for all of them. From tokens (B, K, C), masked tokens
    by their cell (L, C) and cells that are masked (B, M): what mmpretrain's
    ``TransformerEncoderLayer`` makes of the tokens followed by the masked
    cells, (B, K + M, C).
    """
    projection = layer.attn.qkv
    # F.embedding adds up the gradients of rows faster than an index does.
    joined = torch.cat([
        projection(layer.ln1(tokens)),
        F.embedding(masked_ids, projection(layer.ln1(cells)))], 1)
    tokens = torch.cat([tokens, F.embedding(masked_ids, cells)], dim=1)
    query, key, value = joined.chunk(3, dim=-1)
    return finish_layer(layer, tokens, query, key, value)


def last_tokens_of_layer(layer: nn.Module, tokens: Tensor,
                         count: int) -> Tensor:
    """Run mmpretrain's ``TransformerEncoderLayer`` for the last tokens only.

    They attend to all tokens, as in the whole layer. Gives (B, count, C), the
    last rows of ``layer(tokens)``.
    """
    dims = layer.attn.embed_dims
    weight, bias = layer.attn.qkv.weight, layer.attn.qkv.bias
    normed = layer.ln1(tokens)
    asked = slice(tokens.shape[1] - count, None)
    query = F.linear(normed[:, asked], weight[:dims], bias[:dims])
    key, value = F.linear(normed, weight[dims:], bias[dims:]).chunk(2, dim=-1)
    return finish_layer(layer, tokens[:, asked], query, key, value)


def finish_layer(layer: nn.Module, asked: Tensor, query: Tensor,
                 key: Tensor, value: Tensor) -> Tensor:
    """Run a transformer layer from its attention on.

    Queries (B, A, C) belong to the ``asked`` tokens (B, A, C), as the result
    does; keys and values (B, N, C) to all.
    """
    attention = layer.attn
    heads = (attention.num_heads, attention.head_dims)
    query, key, value = (part.unflatten(-1, heads).transpose(1, 2)
                         for part in (query, key, value))
    mixed = F.scaled_dot_product_attention(
        query, key, value,
        dropout_p=attention.attn_drop if layer.training else 0.0)
    mixed = attention.proj(mixed.transpose(1, 2).flatten(2))
    asked = asked + attention.out_drop(
        attention.gamma1(attention.proj_drop(mixed)))
    return layer.ffn(layer.ln2(asked), identity=asked)
