"""GiMP's patch aggregator: from a bag of patch features to a slide's vector.

Jin et al., "Gene-Induced Multimodal Pre-training for Image-Omic
Classification", MICCAI 2023, section 2.2. Bags of any lengths go through
together: inside, their patches lie one after the other without padding, each
bag behind its class token, so that a bag's result is what it is alone.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmmedmask.functional import nystrom, patch_grid
from mmmedmask.functional.bags import (
    check_padded_bags,
    places_known,
    slide_lengths,
    without_padding,
)
from mmmedmask.functional.token_convolution import (
    convolve_tokens,
    convolve_tokens_,
    has_matrix_products,
)
from mmmedmask.models.layers.feature_norm import FeatureNorm
from mmmedmask.registry import MODELS
from mmmedmask.util.checks import (
    check_choice,
    check_integer,
    check_multiple,
    check_rate,
    check_shape,
)

ATTENTIONS = ('nystrom', 'exact')
CONV_STARTS = ('zeros', 'uniform')
MASK_TOKENS = ('learnable', 'zeros')
# Sides of the kernels of TransMIL's position encoding, the largest first.
POSITION_KERNELS = (7, 5, 3)
# Tokens that a layer makes queries of at a time where there are no gradients.
TOKEN_CHUNK = 2048


class ValueConvolution(nn.Module):
    """Convolution of the values along the patches, one kernel per head.

    The Nyströmformer's skip connection. It alone tells the patches of a bag
    where they stand; without it masked patches would all be reconstructed
    alike. Slides are convolved one by one, with zeros beyond their ends.

    The class token is not a neighbour of any patch: its row is zero. As
    published (``with_class_token``) it is convolved, too, as the first token
    of the first slide: it then reads the first patches of the file, by which a
    network can memorise bags instead of attending.
    """

    def __init__(self, num_heads: int, kernel_size: int,
                 with_class_token: bool = False, start: str = 'zeros') -> None:
        super().__init__()
        self.with_class_token = with_class_token
        self.weight = nn.Parameter(torch.zeros(num_heads, kernel_size))
        if start == 'uniform':
            nn.init.uniform_(self.weight, -kernel_size**-0.5,
                             kernel_size**-0.5)

    def forward(self, value: Tensor,
                slides: Sequence[Sequence[int]]) -> Tensor:
        """Convolve values (T, H, C); ``slides``: see :class:`NystromLayer`."""
        runs = self.runs(slides)
        if has_matrix_products(value):
            return convolve_tokens(value, self.weight, runs)
        outputs, position = [], 0
        for start, stop in runs:
            outputs += [torch.zeros_like(value[position:start]),
                        self.convolve(value[start:stop])]
            position = stop
        # Plus 0, so that the kernels have a gradient without any run, too:
        # distributed training waits for it.
        rest = torch.zeros_like(value[position:]) + self.weight[:0].sum()
        return torch.cat([*outputs, rest])

    def runs(self, slides: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
        """First token of each slide, and the one after its last."""
        runs, start = [], 0
        for counts in slides:
            first = 0 if self.with_class_token else 1
            stop = start + 1
            for count in counts:
                stop += count
                if stop > start + first:
                    runs.append((start + first, stop))
                start, first = stop, 0
            start = stop
        return runs

    def convolve(self, value: Tensor) -> Tensor:
        """Convolve the values (N, H, C) of one slide."""
        heads, dims = value.shape[1:]
        # One kernel per channel in a channels-last layout: several times
        # faster on a CPU than one per head, with the same numbers.
        weight = self.weight.repeat_interleave(dims, dim=0)[:, None, :, None]
        output = F.conv2d(value.flatten(1).t()[None, :, :, None], weight,
                          padding=(self.weight.shape[1] // 2, 0),
                          groups=heads * dims)
        return output[0, :, :, 0].t().unflatten(1, (heads, dims))


class NystromLayer(BaseModule):
    """A layer of Eq. 2: ``x + W (attention(LN(x)) + conv(V))``.

    Exact attention has the same parameters: weights trained with one run
    with the other. Arguments as :class:`NystromAggregator`, checked here.
    ``slides`` are the patches of each slide of each bag.
    """

    def __init__(self, embed_dims: int, num_heads: int = 8,
                 num_landmarks: int = 256, attn: str = 'nystrom',
                 conv_kernel: int = 33, class_token_in_conv: bool = False,
                 conv_start: str = 'zeros', drop_rate: float = 0.0,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        check_multiple('embed_dims', embed_dims, num_heads, 'num_heads')
        if conv_kernel and check_integer('conv_kernel', conv_kernel) % 2 == 0:
            raise ValueError('conv_kernel must be odd, or 0 for none, got '
                             f'{conv_kernel}')
        check_choice('attn', attn, ATTENTIONS)
        check_choice('conv_start', conv_start, CONV_STARTS)
        check_integer('num_landmarks', num_landmarks)
        self.num_heads = num_heads
        self.num_landmarks = num_landmarks if attn == 'nystrom' else None
        self.norm = nn.LayerNorm(embed_dims)
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims, bias=False)
        self.value_conv = ValueConvolution(
            num_heads, conv_kernel, class_token_in_conv,
            conv_start) if conv_kernel else None
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.drop = nn.Dropout(check_rate('drop_rate', drop_rate))

    def project(self, tokens: Tensor, count: int = 3) -> list[Tensor]:
        """Queries, keys and values, the first ``count``: (T, H, C)."""
        tokens = self.norm(tokens)
        # One product each, so that each result is contiguous and can be
        # freed by itself.
        return [F.linear(tokens, weight).unflatten(1, (self.num_heads, -1))
                for weight in self.qkv.weight.chunk(3)[:count]]

    def forward(self, tokens: Tensor, slides: Sequence[Sequence[int]],
                overwrite: bool = False) -> Tensor:
        """Run the layer on tokens (T, d) of bags behind class tokens.

        Where there are no gradients, the result may ``overwrite`` the tokens.
        """
        if not torch.is_grad_enabled() and has_matrix_products(tokens):
            if not overwrite:
                tokens = tokens.clone()
            for bag, counts in zip(tokens.split(bag_lengths(slides)), slides,
                                   strict=True):
                self.update_(bag, counts)
            return tokens
        query, key, value = self.project(tokens)
        output = nystrom.packed_attention(
            query, key, value, bag_lengths(slides), self.num_landmarks)
        del query, key
        if self.value_conv is not None:
            # Into the convolution's result, which nothing else needs.
            output = self.value_conv(value, slides).add_(output)
        del value
        return tokens + self.drop(self.proj(output.flatten(1)))

    def update_(self, tokens: Tensor, counts: Sequence[int]) -> None:
        """Run the layer on one bag in place, without gradients.

        Beside the tokens (N, d) of slides of ``counts`` patches it holds two
        tensors of their size, keys and values, not seven.
        """
        heads, count = (self.num_heads, -1), self.num_landmarks
        weights = self.qkv.weight.chunk(3)
        normed = self.norm(tokens)
        if count is None or len(tokens) <= count:
            landmarks = None
        else:
            # The mean of projections is the projection of the mean.
            means = nystrom.segment_means(normed[None, None], count)[0, 0]
            query, landmarks = (
                F.linear(means, weight).unflatten(1, heads).transpose(0, 1)
                for weight in weights[:2])
        key = F.linear(normed, weights[1])
        for part in normed.split(TOKEN_CHUNK):
            part.copy_(F.linear(part, weights[2]))
        key, value = (x.unflatten(1, heads).transpose(0, 1)
                      for x in (key, normed))
        if landmarks is None:
            landmarks, summary = key, value.clone()
        else:
            summary = nystrom.landmark_inverse(
                query, landmarks) @ F.scaled_dot_product_attention(
                    query[None], key[None], value[None])[0]
        del key, value
        value = normed.unflatten(1, heads)
        if self.value_conv is None:
            value.zero_()
        else:
            convolve_tokens_(value, self.value_conv.weight,
                             self.value_conv.runs([counts]))
        for chunk, part in zip(tokens.split(TOKEN_CHUNK),
                               value.split(TOKEN_CHUNK), strict=True):
            query = F.linear(self.norm(chunk), weights[0]).unflatten(1, heads)
            part += F.scaled_dot_product_attention(
                query.transpose(0, 1)[None], landmarks[None],
                summary[None])[0].transpose(0, 1)
            chunk += self.drop(self.proj(part.flatten(1)))

    def class_token_rows(self, tokens: Tensor,
                         slides: Sequence[Sequence[int]]) -> list[Tensor]:
        """What the first token of each bag attends to, (H, N_i), float32."""
        pairs = zip(*(nystrom.bag_views(part, bag_lengths(slides))
                      for part in self.project(tokens, 2)), strict=True)
        rows = [nystrom.class_token_row(query, key, self.num_landmarks)
                for query, key in pairs]
        return [row for group in rows for row in group]


def bag_lengths(slides: Sequence[Sequence[int]]) -> list[int]:
    """Tokens of each bag, its class token included."""
    return [1 + sum(counts) for counts in slides]


class GridPositions(nn.Module):
    """Position encoding by convolutions over neighbours on the slide.

    The pyramid of TransMIL (PPEG: depth-wise convolutions of 7, 5 and 3
    cells and the input itself), on the grid where the patches really lie
    instead of a square that is filled row by row. The three are one
    convolution of 7 cells, whose kernel is the sum of theirs.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(embed_dims, embed_dims, size, groups=embed_dims)
            for size in POSITION_KERNELS)

    def kernel(self) -> tuple[Tensor, Tensor]:
        """The sum of all kernels, (d, 1, k, k), and of all biases, (d, )."""
        largest = self.convs[0].kernel_size[0]
        weight = sum(
            F.pad(conv.weight, [(largest - conv.kernel_size[0]) // 2] * 4)
            for conv in self.convs)
        return weight, sum(conv.bias for conv in self.convs)

    def forward(self, tokens: Tensor, cells: Sequence[Tensor]) -> Tensor:
        """Add what lies around to patches (T, d); cells (N_i, 2) by slide."""
        gap = self.convs[0].kernel_size[0] // 2
        return tokens + patch_grid.grid_convolution(
            tokens, patch_grid.stack_cells(cells, gap), *self.kernel())


class Bags(NamedTuple):
    """Bags that lie one after the other, each behind its class token."""

    tokens: Tensor  # (T, d)
    slides: list[list[int]]  # Patches of each slide of each bag.
    is_patch: Tensor  # (T, ), bool, False at class tokens.
    valid: Tensor | None  # (B, N), bool, False = padding; None: no padding.
    # Cells of each slide's patches, (N_i, 2); None if nothing needs them.
    cells: list[Tensor] | None


@MODELS.register_module()
class NystromAggregator(BaseModule):
    """Embedding, class token and layers of Nyström attention.

    The start does not depend on the width: what a linear layer gives varies
    as much as what it gets (LeCun et al., "Efficient BackProp", 1998).

    Args:
        in_dims: Dimensions of the patch features, D.
        embed_dims: Dimensions inside and of the output, d.
        num_layers: Layers; the paper has two.
        num_heads: Heads per layer; 1 is Eq. 2 as it is written.
        num_landmarks: Landmarks, m; up to m tokens get exact attention.
        attn: ``'nystrom'``, or ``'exact'`` with the same parameters.
        conv_kernel: Tokens that the values' convolution sees, odd; 0: none.
        class_token_in_conv: Whether the class token takes part in it, as
            published: a shortcut, see :class:`ValueConvolution`.
        conv_start: Its weights at the start, ``'zeros'``, or ``'uniform'`` in
            ``+- 1 / sqrt(conv_kernel)``.
        embed_relu: Whether a ReLU follows the linear embedding.
        norm_features: Whether features are first scaled by their mean and
            variance over the training bags, see
            :class:`~mmmedmask.models.layers.feature_norm.FeatureNorm`.
        ppeg: Whether the first layer is followed by
            :class:`GridPositions`, which needs coordinates.
        mask_token: What a masked patch is replaced by behind the embedding:
            a ``'learnable'`` vector or ``'zeros'``. Models of which nothing is
            masked do not train the vector.
        final_norm: Whether the output is normalised (LayerNorm).
        drop_rate: Dropout behind each layer's output projection.
        with_cp: Recompute the layers in the backward pass instead of
            keeping what they computed: slower, with a fraction of the
            memory, for bags of 100,000 patches and more.
    """

    class_wise = False
    uses_genes = False
    #: What else a message about patches without a place says.
    places_advice = ''

    def __init__(self, in_dims: int, embed_dims: int = 512,
                 num_layers: int = 2, num_heads: int = 8,
                 num_landmarks: int = 256, attn: str = 'nystrom',
                 conv_kernel: int = 33, class_token_in_conv: bool = False,
                 conv_start: str = 'zeros', embed_relu: bool = True,
                 norm_features: bool = False, ppeg: bool = False,
                 mask_token: str = 'learnable', final_norm: bool = True,
                 drop_rate: float = 0.0, with_cp: bool = False,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg or dict(type='Kaiming', layer='Linear',
                                          mode='fan_in', nonlinearity='linear',
                                          distribution='uniform'))
        check_integer('num_layers', num_layers)
        check_choice('mask_token', mask_token, MASK_TOKENS)
        self.in_dims = check_integer('in_dims', in_dims)
        self.embed_dims = check_integer('embed_dims', embed_dims)
        self.with_cp = with_cp
        parts = {'norm': FeatureNorm(in_dims)} if norm_features else {}
        # By names, so that the layer's is the same without the first.
        parts['0'] = nn.Linear(in_dims, embed_dims)
        if embed_relu:
            parts['1'] = nn.ReLU()
        self.embed = nn.Sequential(OrderedDict(parts))
        self.cls_token = nn.Parameter(torch.empty(1, embed_dims))
        self.mask_token = nn.Parameter(torch.empty(
            1, embed_dims)) if mask_token == 'learnable' else None
        self.layers = nn.ModuleList(
            NystromLayer(embed_dims, num_heads, num_landmarks, attn,
                         conv_kernel, class_token_in_conv, conv_start,
                         drop_rate) for _ in range(num_layers))
        self.positions = GridPositions(embed_dims) if ppeg else None
        self.norm = nn.LayerNorm(embed_dims) if final_norm else nn.Identity()
        for token in (self.cls_token, self.mask_token):
            if token is not None:
                nn.init.trunc_normal_(token, std=0.02)

    def forward(self, patches: Tensor, valid: Tensor | None = None,
                mask: Tensor | None = None,
                coords: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Aggregate bags of patch features (B, N, D).

        Args:
            valid: Shape (B, N), bool, False = padding, whose content does
                not matter; None: all are patches. A bag may be empty.
            mask: Shape (B, N), bool, 1 = masked: replaced by the mask token.
            coords: Pixel positions, shape (B, N, 2), int64, several slides of
                a patient laid apart by
                :func:`~mmmedmask.functional.bags.lay_slides_apart`; needed
                with ``ppeg=True``. Without, only the seams between slides are
                taken from them. None: one slide each.

        Returns:
            The slides' vectors, shape (B, d), and the patches' tokens, shape
            (B, N, d), zero at padding. A ValueError if a shape or a type does
            not fit, or coordinates are missing.
        """
        bags = self.pack(patches, valid, mask, coords)
        tokens = self.norm(self.run_layers(bags, len(self.layers)))
        cls = tokens[~bags.is_patch]
        if bags.valid is None:
            return cls, tokens.unflatten(0, (len(patches), -1))[:, 1:]
        padded = tokens.new_zeros(*bags.valid.shape, self.embed_dims)
        padded[bags.valid] = tokens[bags.is_patch]
        return cls, padded

    def pack(self, patches: Tensor, valid: Tensor | None, mask: Tensor | None,
             coords: Tensor | None) -> Bags:
        """Embed, mask and lay bags of :meth:`forward` one after the other."""
        self.check_inputs(patches, valid, mask, coords)
        valid = without_padding(valid)

        def rows(padded: Tensor) -> Tensor:
            return padded.flatten(0, 1) if valid is None else padded[valid]

        counts = [patches.shape[1]] * len(patches) if valid is None \
            else valid.sum(dim=1).tolist()
        tokens = self.embed(rows(patches))
        if mask is not None:
            token = 0 if self.mask_token is None else self.mask_token.to(
                tokens.dtype)
            tokens = torch.where(rows(mask)[:, None], token, tokens)
        parts = []
        for bag in tokens.split(counts):
            parts += [self.cls_token.to(tokens.dtype), bag]
        slides, cells = [[count] for count in counts], None
        if coords is not None:
            coords = rows(coords)
            slides = [slide_lengths(bag) or [0]
                      for bag in coords.split(counts)]
        if self.positions is not None:
            cells = self.cells(coords, [
                count for bag in slides for count in bag], tokens.device)
        lengths = torch.tensor(bag_lengths(slides), device=tokens.device)
        tokens = torch.cat(parts)
        is_patch = torch.ones_like(tokens[:, 0], dtype=torch.bool)
        is_patch[lengths.cumsum(dim=0) - lengths] = False
        return Bags(tokens, slides, is_patch, valid, cells)

    def cells(self, coords: Tensor | None, counts: Sequence[int],
              device: torch.device) -> list[Tensor]:
        """Rows and columns (N_i, 2) of the patches of each slide, int64.

        Pixel positions (T, 2), int64, are those of all slides, which have
        ``counts`` patches. If patches lie at one place, their slides were not
        laid apart: each slide gets a grid of its own.
        """
        gap = POSITION_KERNELS[0] // 2
        return [patch_grid.grid_cells_apart(slide, gap) if len(slide)
                else slide.long() for slide in coords.split(counts)]

    def run_layers(self, bags: Bags, count: int) -> Tensor:
        """Run the first ``count`` layers: the tokens, shape (T, d)."""
        tokens = bags.tokens
        for index, layer in enumerate(self.layers[:count]):
            if self.with_cp and torch.is_grad_enabled():
                tokens = checkpoint(
                    layer, tokens, bags.slides, use_reentrant=False)
            else:
                # They are of this call alone.
                tokens = layer(tokens, bags.slides, overwrite=True)
            if index == 0 and self.positions is not None:
                moved = self.positions(tokens[bags.is_patch], bags.cells)
                tokens = tokens.masked_scatter(bags.is_patch[:, None],
                                               moved.to(tokens.dtype))
        return tokens

    def class_token_attention(
            self, patches: Tensor, valid: Tensor | None = None,
            mask: Tensor | None = None, coords: Tensor | None = None,
            layer: int = -1) -> Tensor:
        """What the class token looks at in a layer, for heat maps.

        Takes what :meth:`forward` takes, and the index of a layer. Gives (B,
        H, N), float32, zero at padding. The share of the class token itself is
        left out; see :func:`~mmmedmask.functional.nystrom.class_token_row`. A
        ValueError as of :meth:`forward`, or if there is no such layer.
        """
        count = len(self.layers)
        layer = check_integer('layer', layer, -count, count - 1) % count
        bags = self.pack(patches, valid, mask, coords)
        tokens = self.run_layers(bags, layer)
        rows = [row[:, 1:] for row in self.layers[layer].class_token_rows(
            tokens, bags.slides)]
        if bags.valid is None:
            return torch.stack(rows)
        padded = rows[0].new_zeros(
            len(rows), len(rows[0]), bags.valid.shape[1])
        for index, kept in enumerate(bags.valid):
            padded[index][:, kept] = rows[index]
        return padded

    def attention(self, patches: Tensor, valid: Tensor | None = None,
                  coords: Tensor | None = None) -> Tensor:
        """What the class token looks at in the last layer, as weights.

        The mean over the heads; values below zero, which the approximation may
        give, count as zero. Takes what :meth:`forward` takes; gives (B, N),
        float32 or float64, zero at padding, with sum 1 over each bag.
        """
        rows = self.class_token_attention(patches, valid, coords=coords)
        rows = rows.mean(dim=1).clamp(min=0)
        total = rows.sum(dim=1, keepdim=True)
        return rows / torch.where(total > 0, total, 1)

    def check_inputs(self, patches: Tensor, valid: Tensor | None,
                     mask: Tensor | None, coords: Tensor | None) -> None:
        """Raise a ValueError if inputs do not fit the model or each other."""
        check_padded_bags(patches, valid, self.in_dims, mask)
        if coords is not None:
            check_shape('coords', coords, (*patches.shape[:2], 2))
        if self.positions is not None:
            self.check_places(coords, valid)

    def check_places(self, coords: Tensor | None,
                     valid: Tensor | None) -> None:
        """Raise a ValueError if the place of a patch is not known."""
        if coords is None or not places_known(coords, valid):
            raise ValueError(
                f'{type(self).__name__} with positions on the slide needs '
                'coords of shape (B, N, 2), got '
                f'{"None" if coords is None else "patches without a place"}: '
                'these features have no coordinates, or the pipeline does '
                f'not load them{self.places_advice}')
