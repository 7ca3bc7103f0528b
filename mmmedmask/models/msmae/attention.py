"""MSMAE's attention maps, and the masking that follows them.

Equations 4 to 7 of MSMAE (arXiv 2305.05871): what the class token looks at
becomes a map of the whole image, which weighs the tokens of its crops.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmmedmask.functional.attention_masking import (
    TokenPartition,
    map_to_patches,
    partition_tokens,
)
from mmmedmask.functional.masking import blank_patches
from mmmedmask.models.layers.data_samples import draw_for_samples
from mmmedmask.util.checks import check_choice, check_seed

MASKINGS = ('attention', 'inverse_attention', 'random')
WEIGHT_NORMS = ('per_head', 'mean_heads')
# Left-right and top-bottom.
FLIPS = {None: (False, False), 'horizontal': (True, False),
         'vertical': (False, True), 'diagonal': (True, True)}


class AttentionMasking:
    """What MSMAE and its classifier share, for models with a ``backbone``.

    ``ratios_without_maps`` are the shares to mask and to throw away where
    samples have no maps; None refuses such samples.
    """

    ratios_without_maps: tuple[float, float] | None = None

    def set_masking(self, mask_ratio: float, throw_ratio: float, masking: str,
                    weight_norm: str, seed: int | None) -> None:
        """Check and keep how tokens are masked, as the models describe it.

        With the ``masking`` ``'attention'`` tokens are drawn in proportion to
        the map, first those to be masked, then those to be thrown away; with
        ``'inverse_attention'`` in the same way, but first those that stay
        visible; with ``'random'`` all maps count as constant.
        """
        self.mask_ratio = mask_ratio
        self.throw_ratio = throw_ratio
        self.masking = check_choice('masking', masking, MASKINGS)
        self.weight_norm = check_choice('weight_norm', weight_norm,
                                        WEIGHT_NORMS)
        self.seed = check_seed(seed)

    def attention_maps(self, inputs: Tensor) -> Tensor:
        """What the class token looks at in whole images, Eq. 4 and 5.

        From normalised images (B, C, H, W) to (B, rows, columns), float32 in
        [0, 1].
        """
        return normalize_attention(
            class_token_attention(self.backbone, inputs), self.weight_norm)

    def partition(self, inputs: Tensor,
                  data_samples: Sequence[DataSample]) -> TokenPartition:
        """Decide which tokens are masked, thrown away and visible, Eq. 6, 7.

        Samples of the images (B, C, H, W) have ``sample_idx``, and the maps
        that the masking follows. A ValueError if maps or the samples' crops
        are missing.
        """
        weights = patch_weights(
            data_samples, self.backbone.grid_size(inputs), inputs.device)
        ratios = self.mask_ratio, self.throw_ratio
        if weights is None:
            if self.ratios_without_maps is None:
                raise ValueError(
                    'samples have no attention_map: the run needs the hook '
                    'mmmedmask.AttentionMaskHook with begin=0, or '
                    "masking='random'")
            ratios = self.ratios_without_maps
        return self.draw(inputs, data_samples, weights, ratios, self.masking)

    def draw(self, inputs: Tensor, data_samples: Sequence[DataSample],
             weights: Tensor | None, ratios: tuple[float, float],
             masking: str) -> TokenPartition:
        """Draw a partition from weights (B, L); None: by chance alone."""
        rows, columns = self.backbone.grid_size(inputs)
        # The bare seed, not one of a stream of its own: all runs of
        # docs/results drew so.
        uniform = draw_for_samples(data_samples, rows * columns, self.seed)
        noise = -torch.log1p(-uniform).to(
            device=inputs.device, dtype=torch.float32)
        if weights is None or masking == 'random':
            weights = torch.ones_like(noise)
        return partition_tokens(weights, noise, *ratios,
                                visible_first=masking == 'inverse_attention')

    def blank_shares(self, inputs: Tensor,
                     partition: TokenPartition) -> dict[str, Tensor]:
        """Shares of flat patches.

        ``blank_share`` is that among the visible ones, ``blank_share_all``
        among all.
        """
        blank = blank_patches(
            inputs.detach(), self.backbone.patch_size).float()
        return dict(blank_share=blank.gather(1, partition.visible).mean(),
                    blank_share_all=blank.mean())


def check_unmixed(data_preprocessor: nn.Module) -> None:
    """Raise a ValueError for Mixup and CutMix: a mixed image has no map."""
    augments = getattr(data_preprocessor, 'batch_augments', None)
    if augments is not None:
        names = [type(augment).__name__ for augment in augments.augments]
        raise ValueError(
            f'{names} mix images, and a mixed image has no attention map; '
            'remove them from train_cfg or the data preprocessor, or set '
            'mask_ratio and throw_ratio to 0')


def class_token_attention(vit: nn.Module, images: Tensor) -> Tensor:
    """Attention of the class token to the patches in the last layer, Eq. 4.

    Of :class:`~mmmedmask.models.msmae.MSMAEViT`, for normalised images (B, C,
    H, W): (B, num_heads, rows, columns), float32. Only what the row of the
    class token needs is computed of the last layer: its query and all keys.
    Its attention to itself is left out, so a map's sum is below 1.
    """
    tokens = vit.embed(images)
    for layer in vit.layers[:-1]:
        tokens = layer(tokens)
    last = vit.layers[-1]
    row = attention_of_class_token(last.attn, last.ln1(tokens))
    return row[..., 1:].unflatten(-1, vit.grid_size(images))


def attention_of_class_token(attention: nn.Module, tokens: Tensor) -> Tensor:
    """First row of the attention matrix of every head.

    From the input (B, N, C) of mmpretrain's ``MultiheadAttention``, the
    class token first, to (B, num_heads, N), float32, with sum 1.
    """
    dims = attention.embed_dims
    weight, bias = attention.qkv.weight, attention.qkv.bias
    heads = (attention.num_heads, attention.head_dims)
    query = F.linear(tokens[:, :1], weight[:dims], bias[:dims])
    key = F.linear(tokens, weight[dims:2 * dims], bias[dims:2 * dims])
    with torch.autocast(tokens.device.type, enabled=False):
        query = query.float().unflatten(-1, heads).transpose(1, 2)
        key = key.float().unflatten(-1, heads).transpose(1, 2)
        logits = query @ key.transpose(-1, -2) * attention.head_dims**-0.5
        return logits.softmax(dim=-1)[:, :, 0]


def normalize_attention(attention: Tensor,
                        weight_norm: str = 'per_head') -> Tensor:
    """Bring attention (B, num_heads, rows, columns) to [0, 1], Eq. 5.

    ``weight_norm`` is ``'per_head'``, which brings each head to [0, 1], then
    averages: each head counts the same; or ``'mean_heads'``, which averages
    first, as Eq. 5 is written: peaked heads count more, and one patch of every
    image gets exactly 0. Gives (B, rows, columns), float32 in [0, 1]; constant
    attention becomes 1 everywhere. NaN stays NaN.
    """
    check_choice('weight_norm', weight_norm, WEIGHT_NORMS)
    attention = attention.float()
    if weight_norm == 'mean_heads':
        attention = attention.mean(dim=1, keepdim=True)
    low = attention.amin(dim=(-2, -1), keepdim=True)
    span = attention.amax(dim=(-2, -1), keepdim=True) - low
    # Attention that is not finite stays so: it must not look like a map.
    scaled = torch.where(span == 0, 1.0, (attention - low) / span)
    return scaled.mean(dim=1)


def patch_weights(data_samples: Sequence[DataSample],
                  grid_size: tuple[int, int],
                  device: torch.device) -> Tensor | None:
    """Read the attached maps at the tokens of the samples' crops.

    All or none of the samples have ``attention_map``, shape (gh, gw); see
    :func:`crop_of` for what else they have. Gives (B, rows * columns),
    float32, or None if no sample has a map.
    """
    maps = [sample.get('attention_map') for sample in data_samples]
    missing = [sample.get('img_path') for sample, attention_map in zip(
        data_samples, maps, strict=True) if attention_map is None]
    if len(missing) == len(maps):
        return None
    if missing:
        raise ValueError(f'{len(missing)} of {len(maps)} samples have no '
                         f'attention_map, the first is {missing[0]}')
    boxes, flips = zip(*map(crop_of, data_samples), strict=True)
    # Stacked where they are, so that one tensor moves, not one per sample;
    # autocast knows no stack of float16 on a CPU.
    with torch.autocast(maps[0].device.type, enabled=False):
        stacked = torch.stack(maps).to(device=device, dtype=torch.float32)
    return map_to_patches(
        stacked, torch.tensor(boxes, dtype=torch.float32, device=device),
        torch.tensor(flips, device=device), grid_size)


def crop_of(sample: DataSample) -> tuple[tuple[float, float, float, float],
                                         tuple[bool, bool]]:
    """Which part of its image a sample shows, by its metainfo.

    The box (x0, y0, x1, y1) in fractions of the image, ``crop_box``, and
    whether it is mirrored left-right and top-bottom, by ``flip`` and
    ``flip_direction``.
    """
    box = sample.get('crop_box')
    if box is None:
        raise ValueError(
            f'{sample.get("img_path")} has an attention_map but no crop_box: '
            'use mmmedmask.RandomResizedCrop or mmmedmask.ResizeImage, and '
            "name 'crop_box', 'flip' and 'flip_direction' in PackTile's "
            'meta_keys')
    flip = bool(sample.get('flip'))
    direction = sample.get('flip_direction') if flip else None
    # What is mirrored has one.
    check_choice(f'flip_direction of {sample.get("img_path")}', direction,
                 tuple(FLIPS)[flip:])
    return tuple(box), FLIPS[direction]
