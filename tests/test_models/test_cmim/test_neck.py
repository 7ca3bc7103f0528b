"""The decoder: feature alignment, one size for all levels, pixels.

Checks 9 and 14 of CMIM, and Equation 5 as a loop.
"""

import pytest
import torch
from torch import nn

from mmmedmask.functional.patchify import patchify, sincos_position_embedding
from mmmedmask.functional.views import Crops, crop_theta
from mmmedmask.functional.warp import resample
from mmmedmask.models.cmim import CMIMNeck, CMIMResNet, probe_levels
from mmmedmask.models.cmim.neck import PatchConv2d, unify_size

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


def symmetric_resnet(depth=18):
    """A random ResNet whose kernels look alike after turns and flips."""
    torch.manual_seed(0)
    encoder = CMIMResNet(
        depth, stem_channels=16, base_channels=16, zero_init_residual=False)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            weight = module.weight.data
            turns = [torch.rot90(weight, turn, (2, 3)) for turn in range(4)]
            module.weight.data = sum(
                turn + turn.flip(-1) for turn in turns) / 8
            # Averaging shrinks kernels; keep their size.
            module.weight.data *= weight.norm() / module.weight.data.norm()
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
            module.momentum = None
    # Statistics of these features, as after training.
    encoder.train()
    with torch.no_grad():
        encoder(smooth_images(8))
    encoder.eval()
    return encoder


def smooth_images(count, side=224):
    noise = torch.randn(count, 3, side // 10, side // 10)
    return nn.functional.interpolate(
        noise, size=(side, side), mode='bilinear', align_corners=False)


def alignment_errors(encoder, theta, feat_align):
    """Error of warped features against features of the warped image."""
    geometry = probe_levels(encoder, 3)
    neck = CMIMNeck(geometry.channels, geometry.strides, geometry.offsets,
                    embed_dims=16, num_heads=4, feat_align=feat_align)
    images = smooth_images(2)
    theta = theta.repeat(2, 1, 1)
    nothing = torch.zeros(2, 1, 7, 7)
    token = [torch.zeros(1, geometry.channels[0], 1, 1)]
    with torch.no_grad():
        warped = neck.warp(encoder(images, nothing, token), theta, True)
        views = resample(images, theta, images.shape[-2:], True)
        wanted = encoder(views, nothing, token)
    errors = []
    for got, want in zip(warped, wanted, strict=True):
        mean = want.mean(dim=(0, 2, 3), keepdim=True)
        errors.append(
            float((got - want).square().sum() / (want - mean).square().sum()))
    return errors


def test_features_are_warped_where_they_look():
    """Check 9: a mirrored picture and mirrored features, by alignment."""
    encoder = symmetric_resnet()
    mirror = torch.diag(torch.tensor([-1., 1., 1.]))[None]
    aligned = alignment_errors(encoder, mirror, 'rf')
    by_cell = alignment_errors(encoder, mirror, 'cell')
    # Measured: .01 .03 .06 .15 .31 against .04 .18 .53 .94 1.1. Of what is
    # left at the last level most is its first column, half of which is
    # mirrored out of the map.
    assert aligned[-1] < .45
    assert by_cell[-1] > .8
    for ours, literal in zip(aligned, by_cell, strict=True):
        assert ours < .5 * literal


@pytest.mark.parametrize('size', [(128, 128), (96, 160), (160, 96)])
@pytest.mark.parametrize('offset', [0., 1., .5])
def test_features_move_to_where_their_pixels_go(size, offset):
    """Check 9, exactly: level values that are a linear function of place.

    Linear interpolation reproduces it, so a feature of the key has the
    value that belongs to the pixel of the query which it looks at.
    """
    strides = (2, 4, 8)
    neck = CMIMNeck((1, ) * 3, strides, (offset, ) * 3, embed_dims=4,
                    num_heads=1, out_stride=8)
    theta = torch.tensor([[[-.5, .2, .1], [-.15, .6, -.05], [0, 0, 1]]])

    def places(stride):
        y, x = torch.meshgrid(*(torch.arange(side // stride).float()
                                for side in size), indexing='ij')
        return offset + stride * x, offset + stride * y

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
        inside = ((query_x >= offset) & (query_y >= offset)
                  & (query_x <= x.max()) & (query_y <= y.max()))
        assert inside.float().mean() > .5
        torch.testing.assert_close(
            warped[0, 0][inside], value(query_x, query_y)[inside],
            rtol=1e-4, atol=.02)


def test_translations_do_not_care_about_alignment():
    """Check 9: what moves by whole cells is the same either way."""
    theta = torch.eye(3)[None].clone()
    theta[0, 0, 2] = 2 * 64 / 128  # 64 of 128 pixels to the left
    maps = levels(1, (128, 128))
    results = [tiny_neck(feat_align=feat_align).warp(maps, theta, True)
               for feat_align in ('rf', 'cell')]
    for one, other, plain in zip(*results, maps, strict=True):
        torch.testing.assert_close(one, other)
        half = plain.shape[-1] // 2
        torch.testing.assert_close(other[..., :half], plain[..., half:])
        assert not other[..., half:].any()


@pytest.mark.parametrize('warp_impl', ['auto', 'separable', 'grid'])
def test_warp_implementations_agree(warp_impl):
    theta = torch.tensor([[[-.7, 0, .2], [0, .9, -.1], [0, 0, 1]]])
    maps = levels(1)
    got = tiny_neck(warp_impl=warp_impl).warp(maps, theta, True)
    want = tiny_neck(warp_impl='grid').warp(maps, theta, False)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)


@pytest.mark.parametrize('chosen', [(3, 4, 5), (2, 5), (1, )])
def test_a_choice_of_levels_is_the_sum_of_their_convolutions(chosen):
    """Equation 5 over these levels, position by position."""
    torch.manual_seed(0)
    neck = tiny_neck(levels=chosen).double()
    maps = levels(dtype=torch.float64)
    theta = torch.eye(3).expand(2, 3, 3)
    warped = neck.warp(maps, theta, True)
    assert [part.shape for part in warped] == [
        maps[level - 1].shape for level in chosen]
    got = neck.combine(warped)
    want = torch.zeros_like(got)
    for unify, level in zip(neck.unify, chosen, strict=True):
        side = 32 // RESNET18['strides'][level - 1]
        for row in range(got.shape[2]):
            for column in range(got.shape[3]):
                patch = maps[level - 1][:, :, row * side:(row + 1) * side,
                                        column * side:(column + 1) * side]
                want[:, :, row, column] += torch.einsum(
                    'bchw,dchw->bd', patch, unify.weight) + unify.bias
    # Warping works in single precision.
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('chosen', [(), (0, 1), (6, ), (2, 2), (3, 1)])
def test_levels_that_are_not_there_are_refused(chosen):
    with pytest.raises(ValueError, match=r'levels .*1, 2, 3, 4, 5'):
        tiny_neck(levels=chosen)


def test_rotated_views_need_the_grid():
    with pytest.raises(ValueError, match="warp_impl='separable'"):
        tiny_neck(warp_impl='separable').warp(
            levels(1), torch.eye(3)[None], False)


@pytest.mark.parametrize('size', [(64, 64), (64, 96)])
def test_levels_are_summed_at_one_size(size):
    """Equation 5, one output place at a time."""
    neck = tiny_neck()
    maps = levels(2, size)
    got = neck.combine(maps)
    rows, columns = size[0] // 32, size[1] // 32
    assert got.shape == (2, 16, rows, columns)
    for row in range(rows):
        for column in range(columns):
            want = torch.zeros(2, 16)
            for unify, level, stride in zip(
                    neck.unify, maps, RESNET18['strides'], strict=True):
                cells = 32 // stride
                block = level[:, :, row * cells:(row + 1) * cells,
                              column * cells:(column + 1) * cells]
                want += block.flatten(1) @ unify.weight.flatten(
                    1).T + unify.bias
            torch.testing.assert_close(
                got[:, :, row, column], want, rtol=1e-4, atol=1e-4)


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
    embedding = torch.randn(2, 16, 2, 3)
    pixels = neck.decode(embedding)
    assert pixels.shape == (2, 5, 64, 96)
    # The last layer's rows are patches, row by row.
    tokens = embedding.flatten(2).transpose(1, 2)
    seen = []
    hook = neck.norm.register_forward_hook(
        lambda module, args, output: seen.append((args[0], output)))
    neck.decode(embedding)
    hook.remove()
    torch.testing.assert_close(patchify(pixels, 32), neck.predict(seen[0][1]))
    assert seen[0][0].shape == tokens.shape
    # The same embedding everywhere still gives different patches: positions.
    same = neck.decode(torch.ones(1, 16, 2, 3))
    patches = patchify(same, 32)[0]
    assert len(torch.unique(patches.round(decimals=4), dim=0)) == 6


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
    """Forward and backward, also where the map is no multiple of it."""
    conv = PatchConv2d(5, 6, patch_size).double()
    plain = nn.Conv2d(5, 6, patch_size, patch_size).double()
    plain.load_state_dict(conv.state_dict())
    inputs = torch.randn(2, 5, 9, 12, dtype=torch.float64)
    results = []
    for module in (conv, plain):
        leaf = inputs.contiguous(memory_format=memory_format).requires_grad_()
        output = module(leaf)
        output.square().sum().backward()
        results.append((output, leaf.grad, module.weight.grad,
                        module.bias.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_every_parameter_is_trained():
    neck = tiny_neck()
    neck(levels()).square().sum().backward()
    for name, parameter in neck.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize(('arguments', 'value'), [
    (dict(strides=(2, 4)), '5, 2 and 5'), (dict(offsets=(0., )), '5, 5 and 1'),
    (dict(feat_align='centre'), "'centre'"),
    (dict(warp_impl='matmul'), "'matmul'"), (dict(embed_dims=18), '18'),
    (dict(embed_dims=20, num_heads=3), 'num_heads 3, got 20'),
    (dict(embed_dims=0), 'embed_dims .* 0'),
    (dict(num_heads=0), 'num_heads .* 0'), (dict(depth=0), 'depth .* 0'),
    (dict(out_stride=0), 'out_stride .* 0'),
    (dict(out_channels=0), 'out_channels .* 0'),
    (dict(out_stride=24), 'out_stride 24 and the stride 16')])
def test_bad_arguments_are_refused_by_value(arguments, value):
    with pytest.raises(ValueError, match=value):
        tiny_neck(**arguments)


def test_strides_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match='out_stride 32 and the stride 12'):
        unify_size(8, 16, 12, 32)
