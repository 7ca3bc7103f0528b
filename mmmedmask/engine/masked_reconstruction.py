"""What masked models are asked for and what they answer, in one form.

Their heads differ in layout, the target's normalisation and the error.
"""

from functools import singledispatch
from typing import NamedTuple

import torch
from mmpretrain.models.losses import PixelReconstructionLoss
from mmpretrain.models.selfsup import EVA, MAE, BEiT, SimMIM, SparK
from torch import Tensor, nn

from mmmedmask.functional.loss_floors import (
    MaskedTargets,
    visible_color,
    weighted_median,
)
from mmmedmask.functional.patchify import gather_patches
from mmmedmask.models.cmim import CMIM
from mmmedmask.models.gimp import GiMP
from mmmedmask.models.msmae import MSMAE


class MaskedAnswer(NamedTuple):
    """A model's answer (B, P, C) on a batch, and what it is asked for.

    Targets are as its head normalises them; the error that it counts is
    ``'squared'`` or ``'absolute'``.
    """

    prediction: Tensor
    targets: MaskedTargets
    criterion: str = 'squared'


def explain_missing(model: nn.Module) -> str | None:
    """Say why a model reconstructs nothing that a guess compares with."""
    name = type(model).__name__
    if isinstance(model, EVA):
        return f'{name} predicts the features of a teacher, not pixels'
    if isinstance(model, BEiT):
        return f'{name} predicts tokens of a tokenizer, not pixels'
    if isinstance(model, GiMP) and model.mpm_head is None:
        return f'{name} without mpm_head reconstructs no patches'
    if answer_masked.dispatch(type(model)) is answer_masked.dispatch(object):
        return f'{name} reconstructs no masked pixels or patches'
    return None


@singledispatch
def answer_masked(model: nn.Module, inputs, data_samples) -> MaskedAnswer:
    """Let a model in evaluation mode reconstruct a preprocessed batch.

    Places are pixels, for GiMP patches of a bag. A model that reconstructs
    nothing, or whose head counts another error, is a ValueError.
    """
    raise ValueError(explain_missing(model))


@answer_masked.register
def _(model: CMIM, inputs, data_samples) -> MaskedAnswer:
    prediction, weight = model.reconstruct(inputs)
    return MaskedAnswer(_rows(prediction), MaskedTargets(
        _rows(model.head.target(inputs['key'].float())), _rows(weight)[..., 0],
        visible_color(inputs['query'], inputs['mask'])))


@answer_masked.register
def _(model: MSMAE, inputs, data_samples) -> MaskedAnswer:
    partition = model.partition(inputs, data_samples)
    latent, = model.backbone(inputs, partition.visible)
    prediction = model.neck(latent, partition)
    target = model.head.target(inputs, partition.masked)
    seen = gather_patches(inputs, partition.visible, model.backbone.patch_size)
    # (B, V, C, h, w): all visible pixels in one row.
    seen = seen.transpose(1, 2).flatten(2)[:, :, None]
    return MaskedAnswer(
        _pixels_of_patches(prediction, inputs.shape[1]), _masked_patches(
            target, inputs.shape[1], torch.ones_like(target[..., 0]),
            visible_color(seen, torch.zeros_like(seen[:, :1]))))


@answer_masked.register
def _(model: MAE, inputs, data_samples) -> MaskedAnswer:
    latent, mask, restore = model.backbone(inputs)
    prediction = model.neck(latent, restore)
    side = int(mask.shape[1]**0.5)
    return MaskedAnswer(
        _pixels_of_patches(prediction, inputs.shape[1]),
        _masked_patches(
            model.head.construct_target(inputs), inputs.shape[1], mask,
            visible_color(inputs, mask.view(len(mask), 1, side, side))),
        _criterion(model.head.loss_module))


@answer_masked.register
def _(model: SimMIM, inputs, data_samples) -> MaskedAnswer:
    mask = torch.stack([sample.mask for sample in data_samples])
    prediction = model.neck(model.backbone(inputs, mask)[0])
    side = model.head.patch_size
    weight = mask.repeat_interleave(side, 1).repeat_interleave(side, 2)
    return MaskedAnswer(
        _rows(prediction),
        MaskedTargets(_rows(inputs), weight.flatten(1).float(),
                      visible_color(inputs, mask[:, None].float())),
        _criterion(model.head.loss_module))


@answer_masked.register
def _(model: SparK, inputs, data_samples) -> MaskedAnswer:
    calls = []
    watching = model.head.register_forward_pre_hook(
        lambda module, arguments: calls.append(arguments))
    try:
        model.loss(inputs, data_samples)
    finally:
        watching.remove()
    (drawn, images, active), = calls
    mask = active.logical_not().float()
    head = model.head
    return MaskedAnswer(
        _pixels_of_patches(head.patchify(drawn), images.shape[1]),
        _masked_patches(head.construct_target(images), images.shape[1],
                        mask.flatten(1), visible_color(images, mask)),
        _criterion(head.loss))


@answer_masked.register
def _(model: GiMP, inputs, data_samples) -> MaskedAnswer:
    mask, patches = model.mask_of(inputs), inputs['patches']
    _, tokens = model.aggregator(patches, inputs['valid'], mask,
                                 inputs['coords'])
    target = model.mpm_head.target(patches)
    seen = (inputs['valid'] & ~mask).float()
    return MaskedAnswer(
        model.mpm_head(tokens),
        MaskedTargets(
            target, mask.float(),
            guess=torch.stack([weighted_median(*bag) for bag in
                               zip(target, seen, strict=True)])),
        'absolute')


def _rows(images: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H * W, C)."""
    return images.flatten(2).transpose(1, 2)


def _pixels_of_patches(patches: Tensor, channels: int) -> Tensor:
    """Patches (B, M, P), the channels of a pixel together, to (B, *, C)."""
    return patches.unflatten(2, (-1, channels)).flatten(1, 2)


def _masked_patches(target: Tensor, channels: int, mask: Tensor,
                    features: Tensor) -> MaskedTargets:
    """Targets of patches (B, M, P); ``mask`` (B, M), 1 = it counts."""
    return MaskedTargets(
        _pixels_of_patches(target, channels), mask.float().repeat_interleave(
            target.shape[2] // channels, dim=1), features)


def _criterion(loss: nn.Module) -> str:
    penalty = getattr(loss, 'penalty', None)
    if isinstance(loss, PixelReconstructionLoss):
        return 'absolute' if isinstance(penalty, nn.L1Loss) else 'squared'
    raise ValueError(f'the error of {type(loss).__name__} is not known: '
                     'guesses are compared by PixelReconstructionLoss alone')
