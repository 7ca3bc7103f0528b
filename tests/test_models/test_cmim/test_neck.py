"""The decoder: feature alignment, one size for all levels, pixels.

Checks 9 and 14 of CMIM, and Equation 5 as a loop.
"""

import itertools

import pytest
import torch
from refusals import refuses
from torch import nn

from mmmedmask.functional.patchify import patchify, sincos_position_embedding
from mmmedmask.functional.views import Crops, crop_theta
from mmmedmask.models.cmim import CMIMNeck
from mmmedmask.models.cmim.neck import PatchConv2d

RESNET18 = dict(in_channels=(8, 8, 16, 32, 64), strides=(2, 4, 8, 16, 32),
                offsets=(0., ) * 5)


def tiny_neck(**changes):
    arguments = dict(RESNET18, embed_dims=16, num_heads=4, out_stride=32)
    return CMIMNeck(**{**arguments, **changes})


def levels(batch_size=2, size=(64, 96), dtype=torch.float32):
    return [torch.randn(batch_size, channels, size[0] // stride,
                        size[1] // stride).to(dtype)
            for channels, stride in zip(
                RESNET18['in_channels'], RESNET18['strides'], strict=True)]


@pytest.mark.parametrize('size', [(128, 128), (96, 160), (160, 96)])
@pytest.mark.parametrize('offset', [0., 1., .5, None])
def test_features_move_to_where_their_pixels_go(size, offset):
    """Check 9, exactly: level values that are a linear function of place.

    Linear interpolation reproduces it, so a feature of the key has the
    value that belongs to the pixel of the query which it looks at. None:
    as if features sat at the centres of their cells.
    """
    strides = (2, 4, 8)
    neck = CMIMNeck((1, ) * 3, strides, (offset or 0., ) * 3, embed_dims=4,
                    num_heads=1, out_stride=8,
                    feat_align='cell' if offset is None else 'rf')
    theta = torch.tensor([[[-.5, .2, .1], [-.15, .6, -.05], [0, 0, 1]]])

    def places(stride):
        first = (stride - 1) / 2 if offset is None else offset
        y, x = torch.meshgrid(*(first + stride * torch.arange(
            side // stride).float() for side in size), indexing='ij')
        return x, y

    def value(x, y):
        return 3 * x - 2 * y + 5

    maps = [value(*places(stride))[None, None] for stride in strides]
    for warped, stride in zip(
            neck.warp(maps, theta, False), strides, strict=True):
        x, y = places(stride)
        unit_x = (2 * x + 1) / size[1] - 1
        unit_y = (2 * y + 1) / size[0] - 1
        (a, b, c), (d, e, f) = theta[0, :2].tolist()
        query_x = ((a * unit_x + b * unit_y + c + 1) * size[1] - 1) / 2
        query_y = ((d * unit_x + e * unit_y + f + 1) * size[0] - 1) / 2
        # Not beside the outermost features, where the border is repeated.
        inside = ((query_x >= x.min()) & (query_y >= y.min())
                  & (query_x <= x.max()) & (query_y <= y.max()))
        assert inside.float().mean() > .5
        torch.testing.assert_close(
            warped[0, 0][inside], value(query_x, query_y)[inside],
            rtol=1e-4, atol=.02)


@pytest.mark.parametrize('warp_impl', ['auto', 'separable', 'grid'])
def test_warp_implementations_agree(warp_impl):
    theta = torch.tensor([[[-.7, 0, .2], [0, .9, -.1], [0, 0, 1]]])
    maps = levels(1)
    got = tiny_neck(warp_impl=warp_impl).warp(maps, theta, True)
    want = tiny_neck(warp_impl='grid').warp(maps, theta, False)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)


@pytest.mark.parametrize('size', [(64, 64), (64, 96)])
@pytest.mark.parametrize('chosen', [None, (3, 4, 5), (2, 5), (1, )])
def test_levels_are_summed_at_one_size(chosen, size):
    """Equation 5 over all or some levels, position by position."""
    torch.manual_seed(0)
    neck = tiny_neck(levels=chosen).double()
    maps = levels(size=size, dtype=torch.float64)
    chosen = chosen or (1, 2, 3, 4, 5)
    warped = neck.warp(maps, torch.eye(3).expand(2, 3, 3), True)
    assert [part.shape for part in warped] == [
        maps[level - 1].shape for level in chosen]
    got = neck.combine(warped)
    assert got.shape == (2, 16, size[0] // 32, size[1] // 32)
    want = torch.zeros_like(got)
    for unify, level in zip(neck.unify, chosen, strict=True):
        side = 32 // RESNET18['strides'][level - 1]
        for row, column in itertools.product(*map(range, got.shape[2:])):
            patch = maps[level - 1][:, :, row * side:(row + 1) * side,
                                    column * side:(column + 1) * side]
            want[:, :, row, column] += torch.einsum(
                'bchw,dchw->bd', patch, unify.weight) + unify.bias
    # Warping works in single precision.
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_rotated_views_need_the_grid():
    with pytest.raises(ValueError, match="warp_impl='separable'"):
        tiny_neck(warp_impl='separable').warp(
            levels(1), torch.eye(3)[None], False)


def test_coarse_levels_are_brought_up():
    neck = tiny_neck(out_stride=16)
    maps = levels(2)
    assert neck.combine(maps).shape == (2, 16, 4, 6)
    assert neck(maps).shape == (2, 3, 64, 96)
    transposed = neck.unify[-1]
    assert isinstance(transposed, nn.ConvTranspose2d)
    # Each coarse feature makes its own block of fine ones.
    coarse = torch.zeros(1, 64, 2, 3)
    coarse[0, 5, 1, 2] = 1
    fine = transposed(coarse) - transposed.bias.view(1, -1, 1, 1)
    assert fine[:, :, 2:, 4:].any()
    assert fine.abs().sum() == fine[:, :, 2:, 4:].abs().sum()


def test_tokens_become_patches_of_the_image():
    """Equation 6 on a view that is not square; check 14: places count."""
    neck = tiny_neck(out_channels=5)
    seen = []
    hook = neck.norm.register_forward_hook(
        lambda module, args, output: seen.append(output))
    pixels = neck.decode(torch.ones(2, 16, 2, 3))
    hook.remove()
    assert pixels.shape == (2, 5, 64, 96)
    # The last layer's rows are patches, row by row.
    patches = patchify(pixels, 32)
    torch.testing.assert_close(patches, neck.predict(seen[0]))
    # The same embedding everywhere still gives different ones: positions.
    assert len(torch.unique(patches[0].round(decimals=4), dim=0)) == 6


def test_positions_are_made_once_per_grid_and_type():
    neck = tiny_neck()
    tokens = torch.zeros(1, 6, 16)
    for grid_size in ((2, 3), (3, 2)):
        for like in (tokens, tokens.bfloat16()):
            found = neck.positions(grid_size, like)
            expected = sincos_position_embedding(grid_size, 16)
            assert torch.equal(found, expected.to(like.dtype))
            assert neck.positions(grid_size, like) is found
    assert not any('positions' in name for name in neck.state_dict())


@pytest.mark.gpu
@pytest.mark.parametrize('separable', [True, False])
def test_a_step_never_waits_for_the_gpu(separable):
    """A wait between encoder and backward pass would leave the GPU idle."""
    neck = tiny_neck().cuda()
    embeddings = [level.cuda().requires_grad_() for level in levels()]
    boxes = Crops(*torch.tensor([[1, 2, 40, 50, 1], [8, 0, 30, 60, 0]]).T)
    theta = crop_theta(boxes, (64, 96)).float().cuda()
    neck(neck.warp(embeddings, theta, separable))  # Makes the positions.
    torch.cuda.set_sync_debug_mode('error')
    try:
        neck(neck.warp(embeddings, theta, separable)).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode('default')


@pytest.mark.parametrize('memory_format',
                         [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('patch_size', [1, 2, 4])
def test_patch_convolution_is_the_convolution(patch_size, memory_format):
    """Forward and backward, also where the map is not a multiple of it."""
    conv = PatchConv2d(5, 6, patch_size).double()
    plain = nn.Conv2d(5, 6, patch_size, patch_size).double()
    plain.load_state_dict(conv.state_dict())
    inputs = torch.randn(2, 5, 9, 12, dtype=torch.float64).contiguous(
        memory_format=memory_format).requires_grad_()
    results = []
    for module in (conv, plain):
        output = module(inputs)
        results.append((output, *torch.autograd.grad(
            output.square().sum(), (inputs, module.weight, module.bias))))
    torch.testing.assert_close(*results)


test_bad_arguments_are_refused_by_value = refuses(tiny_neck, [
    (dict(strides=(2, 4)), '5, 2 and 5'), (dict(offsets=(0., )), '5, 5 and 1'),
    (dict(feat_align='centre'), "'centre'"),
    (dict(warp_impl='matmul'), "'matmul'"), (dict(embed_dims=18), '18'),
    (dict(embed_dims=20, num_heads=3), 'num_heads 3, got 20'),
    (dict(embed_dims=0), 'embed_dims .* 0'),
    (dict(num_heads=0), 'num_heads .* 0'), (dict(depth=0), 'depth .* 0'),
    (dict(out_stride=0), 'out_stride .* 0'),
    (dict(out_channels=0), 'out_channels .* 0'),
    (dict(out_stride=24), 'out_stride 24 and the stride 16'),
    *[(dict(levels=chosen), r'levels .*1, 2, 3, 4, 5')
      for chosen in ((), (0, 1), (6, ), (2, 2), (3, 1))]])
