"""CMIM at the size of a test: 64-pixel views of drawn tiles, few channels."""

import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

import mmmedmask.models  # noqa: F401

CHANNELS = dict(stem_channels=8, base_channels=8)


def tiny_config(backbone=None, neck=None, head=None, data_preprocessor=None,
                **arguments):
    """Config of a tiny CMIM; the arguments replace single settings."""
    return dict(
        type='mmmedmask.CMIM',
        data_preprocessor=dict(view_size=64, patch_size=16, seed=0) |
        (data_preprocessor or {}),
        backbone=dict(type='mmmedmask.CMIMResNet', depth=18,
                      zero_init_residual=False, **CHANNELS) | (backbone or {}),
        neck=dict(type='mmmedmask.CMIMNeck', embed_dims=16, num_heads=4,
                  out_stride=16) | (neck or {}),
        head=dict(type='mmmedmask.CMIMHead', patch_size=16) | (head or {}),
        **arguments)


def tiny_model(seed=0, **arguments):
    """Build and initialise a tiny CMIM; one seed, one set of weights."""
    torch.manual_seed(seed)
    model = MODELS.build(tiny_config(**arguments))
    model.init_weights()
    return model


def enlarged(mask, side):
    """A patch mask (B, 1, h, w), ``side`` cells for each patch."""
    return mask.repeat_interleave(side, 2).repeat_interleave(side, 3)


def trained_norms(network):
    """Batch norms as after some training, so that a wrong one would show."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-.2, .2)
            module.running_var.uniform_(.5, 2)
            module.weight.data.uniform_(.5, 1.5)
            module.bias.data.uniform_(-.2, .2)
    return network


def draw_tile(index, size=(64, 64), channels=3, largest=255,
              dtype=torch.uint8):
    """Smooth bumps of every channel, another tile for each index."""
    generator = torch.Generator().manual_seed(index)
    coarse = torch.rand(1, channels, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(
        coarse, size=size, mode='bicubic', align_corners=True)[0]
    noise = .05 * torch.rand(channels, *size, generator=generator)
    return ((smooth + noise).clamp(0, 1) * largest).round().to(dtype)


def batch(indices, **tile):
    """What a loader with ``pseudo_collate`` hands to the preprocessor."""
    return dict(
        inputs=[draw_tile(index, **tile) for index in indices],
        data_samples=[
            DataSample(metainfo=dict(sample_idx=index)) for index in indices])


def drawn_inputs(model, indices=(0, 1, 2, 3), **tile):
    return model.data_preprocessor(
        batch(indices, **tile), training=True)['inputs']
