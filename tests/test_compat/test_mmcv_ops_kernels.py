"""The stand-in ops against naive references: loops over scalars, float64.

Where nothing else is said the ops are called through ``mmcv.ops``, as mmdet
does, forward and backward.
"""

import math

import pytest
import torch

import mmmedmask  # noqa: F401  # before mmcv.ops
from mmmedmask.compat import has_compiled_ops, mmcv_ops_kernels

from mmcv import ops  # isort: skip
from mmcv.ops.nms import batched_nms  # isort: skip

on_each_device = pytest.mark.parametrize(
    'device', ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
stand_in_only = pytest.mark.skipif(
    has_compiled_ops(), reason='mmcv has compiled ops')


def make_leaf(tensor, device, dtype=None):
    """A copy that collects its gradient."""
    return tensor.detach().to(device, dtype, copy=True).requires_grad_()


def focal_loss(logits, target, gamma=2.0, alpha=0.25, weight=None,
               reduction='none'):
    """The op, with its gradient collected in ``logits``."""
    return ops.sigmoid_focal_loss(logits, target.to(logits.device), gamma,
                                  alpha, weight, reduction)


def roi_align(features, rois, size=(2, 2), aligned=True):
    """The op at half the image's size, with as many samples as it takes."""
    return ops.roi_align(features, rois.to(features), size, 0.5, 0, 'avg',
                         aligned)


# ------------------------------------------------------------------ naive
def naive_iou(first, second, offset):
    """IoU of two boxes (x1, y1, x2, y2)."""

    def area(x1, y1, x2, y2):
        return (x2 - x1 + offset) * (y2 - y1 + offset)

    width = min(first[2], second[2]) - max(first[0], second[0]) + offset
    height = min(first[3], second[3]) - max(first[1], second[1]) + offset
    overlap = max(width, 0) * max(height, 0)
    return overlap / (area(*first) + area(*second) - overlap)


def naive_nms(boxes, scores, threshold, offset):
    """Greedy suppression; of equal scores the first one wins."""
    boxes, scores = boxes.tolist(), scores.tolist()
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    kept = []
    for i in order:
        if all(naive_iou(boxes[i], boxes[j], offset) <= threshold
               for j in kept):
            kept.append(i)
    return kept


def naive_bilinear_weights(position, size):
    """{cell: weight} of a linear interpolation at a position on one axis."""
    if position < -1 or position > size:
        return {}
    position = min(max(position, 0.), size - 1.)
    low = math.floor(position)
    if low == size - 1:
        return {low: 1.}
    return {low: 1 - (position - low), low + 1: position - low}


def naive_axis(start, end, bins, size, sampling_ratio, aligned):
    """For one axis of one RoI: for each bin, the weights of its samples."""
    shift = 0.5 if aligned else 0.
    start, end = start - shift, end - shift
    length = end - start if aligned else max(end - start, 1.)
    samples = sampling_ratio if sampling_ratio > 0 else math.ceil(
        length / bins)
    step = length / bins
    return [[
        naive_bilinear_weights(start + step * (b + (s + .5) / samples), size)
        for s in range(samples)] for b in range(bins)]


def naive_roi_align_weights(shape, rois, size, scale, sampling_ratio, aligned):
    """The weight of every cell in every bin, (K, h, w, B, H, W) float64.

    RoIAlign is linear in the features, so this is its Jacobian.
    """
    batch, _, height, width = shape
    weights = torch.zeros(
        len(rois), *size, batch, height, width, dtype=torch.float64)
    for k, (b, x1, y1, x2, y2) in enumerate(rois.tolist()):
        rows = naive_axis(y1 * scale, y2 * scale, size[0], height,
                          sampling_ratio, aligned)
        columns = naive_axis(x1 * scale, x2 * scale, size[1], width,
                             sampling_ratio, aligned)
        for i, row_samples in enumerate(rows):
            for j, column_samples in enumerate(columns):
                count = max(len(row_samples) * len(column_samples), 1)
                for row in row_samples:
                    for column in column_samples:
                        for y, y_weight in row.items():
                            for x, x_weight in column.items():
                                weights[k, i, j, int(b), y, x] += (
                                    y_weight * x_weight / count)
    return weights


def naive_focal_loss(logits, target, gamma, alpha, weight=None):
    """Loss and derivative of each element, by the equation."""
    logits = logits.detach().double().requires_grad_()
    hit = torch.nn.functional.one_hot(
        target, 1 + logits.shape[1])[:, :-1].double()
    p = ((2 * hit - 1) * logits).sigmoid()
    loss = -(alpha * hit + (1 - alpha) * (1 - hit)) * (1 - p)**gamma * p.log()
    if weight is not None:
        loss = loss * weight[target][:, None]
    return loss.detach(), torch.autograd.grad(loss.sum(), logits)[0]


# -------------------------------------------------------------------- nms
def draw_boxes(number, side, least):
    """Boxes of whole numbers, so that many IoUs hit a threshold exactly."""
    generator = torch.Generator().manual_seed(3)
    corners = torch.randint(0, side, (number, 2), generator=generator)
    sizes = torch.randint(least, 9, (number, 2), generator=generator)
    return (torch.cat([corners, corners + sizes], 1).float(),
            torch.randperm(number, generator=generator) / number,
            torch.randint(0, 3, (number, ), generator=generator))


@on_each_device
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.3, 0.5, 0.7])
def test_nms_equals_the_naive_one(device, offset, threshold):
    boxes, scores, _ = draw_boxes(120, 12, 1)
    dets, kept = ops.nms(boxes.to(device), scores.to(device), threshold,
                         offset=offset)
    expected = naive_nms(boxes, scores, threshold, offset)
    assert kept.tolist() == expected
    assert 1 < len(expected) < 120
    assert dets.device.type == device
    torch.testing.assert_close(
        dets.cpu(), torch.cat([boxes, scores[:, None]], 1)[expected])


@on_each_device
def test_nms_offset_counts_the_last_pixel(device):
    # IoU is 1 / 3 without the offset and 4 / 8 with it.
    boxes = torch.tensor([[0., 0, 2, 1], [1, 0, 3, 1]], device=device)
    scores = torch.tensor([0.9, 0.8], device=device)
    assert ops.nms(boxes, scores, 0.4, offset=0)[1].tolist() == [0, 1]
    assert ops.nms(boxes, scores, 0.4, offset=1)[1].tolist() == [0]
    # At the threshold itself a box is kept.
    assert ops.nms(boxes, scores, 0.5, offset=1)[1].tolist() == [0, 1]


@on_each_device
def test_nms_of_equal_scores_keeps_the_first(device):
    boxes = torch.tensor([[0., 0, 9, 9]] * 3, device=device)
    scores = torch.tensor([0.5, 0.5, 0.6], device=device)
    kernel = mmcv_ops_kernels.nms
    assert kernel(boxes, scores, 0.5, 0).tolist() == [2]
    assert kernel(boxes[:2], scores[:2], 0.5, 0).tolist() == [0]


@on_each_device
@pytest.mark.parametrize('offset', [0, 1])
def test_nms_without_boxes(device, offset):
    boxes = torch.zeros(0, 4, device=device)
    dets, kept = ops.nms(boxes, boxes[:, 0], 0.5, offset=offset)
    assert dets.shape == (0, 5)
    assert kept.shape == (0, )
    assert kept.dtype == torch.int64


@stand_in_only
@on_each_device
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_nms_of_narrow_floats(device, dtype):
    boxes = torch.tensor([[0., 0, 8, 8], [0, 0, 8, 6], [20, 20, 30, 30]],
                         dtype=dtype, device=device)
    scores = torch.tensor([0.5, 0.75, 0.25], dtype=dtype, device=device)
    assert ops.nms(boxes, scores, 0.5)[1].tolist() == [1, 2]


@on_each_device
def test_nms_filters_scores_and_limits_the_number(device):
    boxes = torch.tensor([[0., 0, 4, 4], [9, 9, 14, 14], [20, 20, 30, 30]],
                         device=device)
    scores = torch.tensor([0.1, 0.6, 0.8], device=device)
    assert ops.nms(
        boxes, scores, 0.5, score_threshold=0.2)[1].tolist() == [2, 1]
    assert ops.nms(boxes, scores, 0.5, max_num=1)[1].tolist() == [2]


@on_each_device
@pytest.mark.parametrize('split_threshold', [10000, 10])
def test_batched_nms_suppresses_within_a_class_only(device, split_threshold):
    boxes, scores, classes = draw_boxes(60, 10, 2)
    expected = []
    for label in range(3):
        members = (classes == label).nonzero()[:, 0]
        kept = naive_nms(boxes[members], scores[members], 0.5, 0)
        expected += members[kept].tolist()
    expected.sort(key=lambda i: -scores[i])
    config = dict(type='nms', iou_threshold=0.5, split_thr=split_threshold)
    dets, kept = batched_nms(
        boxes.to(device), scores.to(device), classes.to(device), config)
    assert kept.tolist() == expected
    torch.testing.assert_close(dets[:, 4].cpu(), scores[expected])


# -------------------------------------------------------------- roi_align
ROIS = torch.tensor([
    [0., 1., 2., 9., 8.],
    [1., 0., 0., 23., 15.],  # all of the second image
    [1., -6., -5., 5., 4.],  # partly outside at the top and left
    [0., 18., 10., 30., 40.],  # partly outside at the bottom and right
    [0., 60., 60., 70., 70.],  # outside
    [1., 7.3, 3.1, 7.5, 3.2],  # smaller than a cell
    [0., 5., 5., 5., 5.],  # empty
])


@on_each_device
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize(('size', 'scale'), [((3, 2), 0.5), ((2, 2), 1.0)])
def test_roi_align_equals_the_naive_one(device, aligned, sampling_ratio, size,
                                        scale):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(
        2, 3, 8, 12, generator=generator, dtype=torch.float64)
    weights = naive_roi_align_weights(features.shape, ROIS, size, scale,
                                      sampling_ratio, aligned)
    expected = torch.einsum('khwbyx,bcyx->kchw', weights, features)
    incoming = torch.randn(
        expected.shape, generator=generator, dtype=torch.float64)
    expected_gradient = torch.einsum('khwbyx,kchw->bcyx', weights, incoming)
    for dtype, tolerance in [(torch.float64, 1e-6), (torch.float32, 1e-4)]:
        leaf = make_leaf(features, device, dtype)
        output = ops.roi_align(leaf, ROIS.to(device, dtype), size, scale,
                               sampling_ratio, 'avg', aligned)
        output.backward(incoming.to(device, dtype))
        assert output.dtype == leaf.grad.dtype == dtype
        torch.testing.assert_close(
            output.detach().cpu().double(), expected, rtol=0, atol=tolerance)
        torch.testing.assert_close(leaf.grad.cpu().double(), expected_gradient,
                                   rtol=0, atol=tolerance)
    assert expected_gradient.abs().max() > 0.1


@stand_in_only
@on_each_device
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_roi_align_of_narrow_floats_is_rounded_once(device, dtype):
    features = torch.randn(2, 3, 8, 12, device=device).to(dtype)
    rois = ROIS.to(dtype)

    def run(x):
        x = x.clone().requires_grad_()
        output = roi_align(x, rois)
        output.backward(torch.ones_like(output))
        return output.detach(), x.grad

    output, gradient = run(features)
    wide_output, wide_gradient = run(features.float())
    assert output.dtype == gradient.dtype == dtype
    assert torch.equal(output, wide_output.to(dtype))
    torch.testing.assert_close(gradient, wide_gradient.to(dtype))


@on_each_device
def test_roi_align_takes_channels_last_and_strided_gradients(device):
    features = torch.randn(2, 4, 8, 12, device=device)

    def run(x):
        x = x.clone(memory_format=torch.preserve_format).requires_grad_()
        output = roi_align(x, ROIS, (2, 3))
        # Permuting makes the incoming gradient non-contiguous.
        (output.permute(0, 3, 2, 1)[..., 1:]**2).sum().backward()
        return output.detach(), x.grad

    expected = run(features)
    actual = run(features.to(memory_format=torch.channels_last))
    torch.testing.assert_close(actual[0], expected[0])
    torch.testing.assert_close(actual[1], expected[1])


@on_each_device
def test_roi_align_without_rois(device):
    features = torch.randn(2, 3, 8, 12, device=device, requires_grad=True)
    output = roi_align(features, torch.zeros(0, 5))
    output.sum().backward()
    assert output.shape == (0, 3, 2, 2)
    assert torch.equal(features.grad, torch.zeros_like(features))


@stand_in_only
def test_roi_align_refuses_max_pooling():
    layer = ops.RoIAlign((2, 2), 0.5, 0, pool_mode='max')
    with pytest.raises(ValueError, match="pool_mode='max' has no"):
        layer(torch.zeros(2, 3, 8, 12), ROIS)
    empty = torch.zeros(0)
    with pytest.raises(ValueError, match="pool_mode='max' has no"):
        mmcv_ops_kernels.roi_align_backward(
            torch.zeros(7, 3, 2, 2), ROIS, empty, empty,
            torch.zeros(2, 3, 8, 12), 2, 2, 0.5, 0, 0, True)


# ------------------------------------------------------------- focal loss
@on_each_device
@pytest.mark.parametrize(('gamma', 'alpha'), [(2.0, 0.25), (0.0, 0.5),
                                              (1.5, 0.9)])
@pytest.mark.parametrize('weighted', [False, True])
def test_sigmoid_focal_loss_equals_the_naive_one(device, gamma, alpha,
                                                 weighted):
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(9, 4, generator=generator, dtype=torch.float64)
    target = torch.tensor([0, 1, 2, 3, 0, 0, 3, 2, 1])
    weight = None
    if weighted:
        weight = torch.tensor([1., 0., 2., .5], dtype=torch.float64)
    else:
        target[5:7] = 4  # background
    loss, gradient = naive_focal_loss(logits, target, gamma, alpha, weight)
    for dtype, tolerance in [(torch.float64, 1e-8), (torch.float32, 1e-5)]:
        leaf = make_leaf(logits, device, dtype)
        actual = focal_loss(
            leaf, target, gamma, alpha,
            None if weight is None else weight.to(device, dtype))
        incoming = torch.linspace(-1, 2, actual.numel(), dtype=dtype)
        incoming = incoming.view(actual.shape)
        actual.backward(incoming.to(device))
        assert actual.dtype == dtype
        torch.testing.assert_close(actual.detach().cpu().double(), loss,
                                   rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(
            leaf.grad.cpu().double(), gradient * incoming.double(),
            rtol=tolerance, atol=max(tolerance, 1e-8))


@on_each_device
@pytest.mark.parametrize(('reduction', 'divisor'), [('sum', 1), ('mean', 9)])
def test_sigmoid_focal_loss_reductions(device, reduction, divisor):
    # mmcv's mean divides by the samples, not by the elements.
    logits = torch.randn(9, 4, dtype=torch.float64)
    target = torch.arange(9) % 5
    loss, gradient = naive_focal_loss(logits, target, 2.0, 0.25)
    leaf = make_leaf(logits, device)
    actual = focal_loss(leaf, target, reduction=reduction)
    actual.backward()
    torch.testing.assert_close(
        actual.detach().cpu(), loss.sum() / divisor, rtol=1e-8, atol=0)
    torch.testing.assert_close(
        leaf.grad.cpu(), gradient / divisor, rtol=1e-6, atol=1e-9)


@stand_in_only
@on_each_device
def test_sigmoid_focal_loss_of_huge_logits(device):
    logits = torch.tensor([[-300., 300.], [300., -300.]], device=device,
                          requires_grad=True)
    loss = focal_loss(logits, torch.tensor([0, 0]))
    loss.sum().backward()
    expected = torch.tensor([[0.25 * 300, 0.75 * 300], [0., 0.]])
    torch.testing.assert_close(loss.detach().cpu(), expected)
    torch.testing.assert_close(logits.grad.cpu(),
                               torch.tensor([[-0.25, 0.75], [0., 0.]]))


@stand_in_only
@on_each_device
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_sigmoid_focal_loss_of_narrow_floats(device, dtype):
    logits = torch.randn(9, 4).to(dtype)
    target = torch.arange(9) % 5
    loss, gradient = naive_focal_loss(logits, target, 2.0, 0.25)
    leaf = make_leaf(logits, device)
    actual = focal_loss(leaf, target)
    actual.backward(torch.ones_like(actual))
    assert actual.dtype == leaf.grad.dtype == dtype
    torch.testing.assert_close(actual.detach().cpu(), loss.to(dtype))
    torch.testing.assert_close(leaf.grad.cpu(), gradient.to(dtype))


@stand_in_only
def test_sigmoid_focal_loss_refuses_a_weight_for_background():
    with pytest.raises(ValueError, match='2 class weights and the target 2'):
        focal_loss(torch.zeros(2, 2), torch.tensor([0, 2]),
                   weight=torch.ones(2))


def test_sigmoid_focal_loss_without_samples():
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = focal_loss(logits, torch.zeros(0, dtype=torch.long),
                      weight=torch.ones(3), reduction='sum')
    loss.backward()
    assert loss == 0
    assert logits.grad.shape == (0, 3)
