"""ConCL at the size of a test: 64-pixel views, few channels, double."""

import torch
from mmpretrain.registry import MODELS
from test_cmim.tiny import batch

import mmmedmask.models  # noqa: F401

DIMS = 6
# A GroupNorm leaves the samples of a batch apart, as the references do.
BACKBONE = dict(type='ResNet', depth=18, stem_channels=8, base_channels=8,
                out_indices=(2, 3), zero_init_residual=False,
                norm_cfg=dict(type='GN', num_groups=4))


def tiny_config(backbone=None, data_preprocessor=None, head=None, **arguments):
    """Config of a tiny ConCL that is warm; the arguments replace settings."""
    return dict(
        type='mmmedmask.ConCL',
        data_preprocessor=dict(view_size=64, seed=0) |
        (data_preprocessor or {}),
        backbone=BACKBONE | (backbone or {}),
        neck=dict(type='MoCoV2Neck', in_channels=64, hid_channels=16,
                  out_channels=DIMS, with_avg_pool=False),
        head=dict(type='mmmedmask.ConCLHead') | (head or {}),
        **dict(queue_len=32, feat_dims=DIMS, num_concepts=3,
               warm_up_epochs=0) | arguments)


def tiny_model(seed=0, dtype=torch.float64, **arguments):
    """Build and initialise a tiny ConCL; one seed, one set of weights."""
    torch.manual_seed(seed)
    model = MODELS.build(tiny_config(**arguments))
    model.init_weights()
    return model.to(dtype).train()


def drawn(model, indices=(0, 1, 2, 3), **tile):
    data = model.data_preprocessor(batch(indices, **tile), training=True)
    dtype = model.instance_queue.keys.dtype
    inputs = {
        name: value if name.startswith('theta') else value.to(dtype)
        for name, value in data['inputs'].items()}
    return inputs, data['data_samples']


def step(model, inputs, samples):
    """Take a step of plain gradient descent; return the losses."""
    model.zero_grad()
    losses = model(inputs, samples, mode='loss')
    losses['loss'].backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= .1 * parameter.grad
    return losses


def box_theta(*boxes):
    """Matrices of boxes (top, left, bottom, right) in shares of a side."""
    theta = torch.eye(3).repeat(len(boxes), 1, 1)
    for index, (top, left, bottom, right) in enumerate(boxes):
        theta[index, 0, 0] = right - left
        theta[index, 0, 2] = right + left - 1
        theta[index, 1, 1] = bottom - top
        theta[index, 1, 2] = bottom + top - 1
    return theta
