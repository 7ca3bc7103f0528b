"""SparK's sparse encoder for the ablation "emb. invariance".

Dense convolutions whose outputs are zeroed at masked places, and batch norms
that see visible places alone. The mask is in a context of the encoder that is
open during its forward pass; outside it is an ordinary dense ResNet.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from mmpretrain.models import ResNet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmmedmask.functional.masking import resize_mask
from mmmedmask.models.cmim import backbones
from mmmedmask.registry import MODELS


class VisibleContext:
    """Hands the patch mask of the running forward pass to sparse layers."""

    def __init__(self) -> None:
        self._mask: Tensor | None = None

    @contextmanager
    def open(self, mask: Tensor) -> Iterator[None]:
        """Make layers sparse: ``mask`` (B, 1, h, w), 1 = masked."""
        self._mask = mask
        try:
            yield
        finally:
            self._mask = None

    def visible(self, features: Tensor) -> Tensor | None:
        """Visible places of a map, bool (B, 1, H, W); None if all are."""
        if self._mask is None:
            return None
        return resize_mask(self._mask, features.shape[-2:]) == 0


class SparseNorm:
    """Batch norm over the visible places; masked places become 0."""

    visible_context: VisibleContext

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        visible = self.visible_context.visible(inputs)
        if visible is None:
            return super().forward(inputs)
        places = visible[:, 0]
        pixels = inputs.permute(0, 2, 3, 1)
        normalised = super().forward(
            pixels[places][:, :, None, None])[:, :, 0, 0]
        output = torch.zeros_like(pixels, dtype=normalised.dtype)
        output[places] = normalised
        return output.permute(0, 3, 1, 2)


class SparseBatchNorm2d(SparseNorm, nn.BatchNorm2d):
    """Over the visible places of this process."""


class SparseSyncBatchNorm(SparseNorm, nn.SyncBatchNorm):
    """Over the visible places of all ranks."""


def _zero_masked(context: VisibleContext, module: nn.Module, args: tuple,
                 output: Tensor) -> Tensor:
    visible = context.visible(output)
    return output if visible is None else output * visible


def make_sparse(network: nn.Module) -> VisibleContext:
    """Let the layers of a CNN become sparse while a context is open.

    Parameters, buffers and their names stay as they are.
    """
    context = VisibleContext()
    for name, module in network.named_modules():
        if isinstance(module, (nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)):
            raise ValueError(
                'sparse encoding needs batch norms (norm_cfg of type BN or '
                f'SyncBN), but {name} is a {type(module).__name__}')
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
            # A partial goes along when the network is copied or pickled.
            module.register_forward_hook(partial(_zero_masked, context))
    make_norms_sparse(network, context)
    return context


def make_norms_sparse(network: nn.Module, context: VisibleContext) -> None:
    """Change the class of batch norms, so that they ask the context."""
    for module in network.modules():
        if isinstance(module, _BatchNorm) and not isinstance(
                module, SparseNorm):
            synchronised = isinstance(module, nn.SyncBatchNorm)
            module.__class__ = (SparseSyncBatchNorm if synchronised
                                else SparseBatchNorm2d)
            module.visible_context = context


@MODELS.register_module()
class CMIMSparseResNet(backbones.MaskedResNetMixin, ResNet):
    """ResNet that encodes visible places alone, as SparK does.

    Every level gets its own mask token (1, D, 1, 1) after encoding, before
    the warp: which cells are masked is known on the query's grid. There is no
    ``with_cp``: layers that are recomputed in the backward pass have no mask.
    """

    num_mask_tokens = None

    def __init__(self, *args, with_cp: bool = False, **kwargs) -> None:
        if with_cp:
            raise ValueError(
                f'with_cp must be False, got {with_cp!r}: layers are '
                'recomputed when the mask is gone. Smaller batches save '
                'memory, too (optim_wrapper.accumulative_counts)')
        super().__init__(*args, **kwargs)
        self._context = make_sparse(self)

    def forward(self, x: Tensor, mask: Tensor | None = None,
                mask_tokens: Sequence[Tensor] = ()):
        """See :meth:`MaskedBackbone.forward`."""
        if mask is None:
            return super().forward(x)
        # A runner may have exchanged them since: sync_bn, SyncBN on a CPU.
        make_norms_sparse(self, self._context)
        visible = x * (1 - resize_mask(mask, x.shape[-2:]))
        with self._context.open(mask):
            stem = self.forward_stem(visible)
            embeddings = (stem, *self.forward_stages(stem))
        return tuple(
            backbones.insert_mask_token(embedding, mask, token)
            for embedding, token in zip(embeddings, mask_tokens, strict=True))
