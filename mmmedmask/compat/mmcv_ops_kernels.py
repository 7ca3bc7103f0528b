"""The mmcv ops our downstream models need, from torchvision's own kernels.

Each function takes the arguments that mmcv's Python wrapper passes to its
compiled extension (results are written into the given output tensors) and
runs wherever torchvision does, CPU and CUDA. Half and bfloat16 are computed
in float32 and rounded once at the end, as torchvision does under autocast.

They fill the gap of mmcv#3325. Delete together with
:mod:`mmmedmask.compat.mmcv_ops`.
"""

import torch
from torch import Tensor
from torch.nn import functional

# torchvision registers its kernels as torch.ops.torchvision when imported.
import torchvision  # noqa: F401  # isort: skip

MAX_POOLING = 0  # mmcv's code for pool_mode='max'; 1 is 'avg'


def _computing_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype to compute in: at least float32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float,
        offset: int) -> Tensor:
    """Greedy non-maximum suppression, as ``mmcv.ops.nms`` calls it.

    Boxes ``(N, 4)`` are ``x1, y1, x2, y2`` in pixels. One is dropped if its
    IoU with a kept box of a higher score is strictly above the threshold. Of
    equal scores the first one wins. ``offset`` is added to widths and heights:
    1 if a box includes the pixel at ``x2, y2``, else 0. Gives indices of the
    kept boxes, ``(K,)`` int64, by falling score.
    """
    dtype = _computing_dtype(boxes, scores)
    boxes = boxes.to(dtype)
    if offset != 0:
        # Moving x2 and y2 adds the offset to both sides of every box and of
        # every overlap, which is all that mmcv's offset does.
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # torchvision compares an IoU in `dtype` with a double: unless rounded the
    # same way, an IoU of 3 / 10 would be above a threshold of 0.3.
    threshold = torch.tensor(iou_threshold, dtype=dtype).item()
    return torch.ops.torchvision.nms(boxes, scores.to(dtype), threshold)


def _refuse_max_pooling(pool_mode: int) -> None:
    if pool_mode == MAX_POOLING:
        raise ValueError(
            "roi_align with pool_mode='max' has no torchvision kernel; use "
            "pool_mode='avg', or compile mmcv with its ops")


def roi_align_forward(input: Tensor, rois: Tensor, output: Tensor,
                      argmax_y: Tensor, argmax_x: Tensor,
                      aligned_height: int, aligned_width: int,
                      spatial_scale: float, sampling_ratio: int,
                      pool_mode: int, aligned: bool) -> None:
    """Average-pooled RoIAlign, as ``mmcv.ops.roi_align`` calls it.

    Args:
        input: Features, ``(B, C, H, W)``.
        rois: ``(K, 5)`` as ``batch index, x1, y1, x2, y2``.
        output: Filled, ``(K, C, aligned_height, aligned_width)``.
        argmax_y: Unused as ``argmax_x``: only max pooling keeps positions.
        spatial_scale: Features' size over the image's size.
        sampling_ratio: Samples per bin and axis; 0 for as many as there are
            feature cells in a bin.
        pool_mode: 1, the average; the maximum is a ValueError.
        aligned: Whether the centre of a cell is at ``+0.5``.
    """
    _refuse_max_pooling(pool_mode)
    dtype = _computing_dtype(input)
    output.copy_(torch.ops.torchvision.roi_align(
        input.to(dtype), rois.to(dtype), spatial_scale, aligned_height,
        aligned_width, sampling_ratio, aligned))


def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor,
                       argmax_x: Tensor, grad_input: Tensor,
                       aligned_height: int, aligned_width: int,
                       spatial_scale: float, sampling_ratio: int,
                       pool_mode: int, aligned: bool) -> None:
    """Gradient of :func:`roi_align_forward` for the features.

    It fills ``grad_input``. On CUDA it is summed in no fixed order, as by
    mmcv's kernel; unlike that one it says so:
    ``torch.use_deterministic_algorithms(True)`` makes it raise an error.
    """
    _refuse_max_pooling(pool_mode)
    dtype = _computing_dtype(grad_output)
    grad_input.copy_(torch.ops.torchvision._roi_align_backward(
        grad_output.to(dtype), rois.to(dtype), spatial_scale, aligned_height,
        aligned_width, *grad_input.shape, sampling_ratio, aligned))


def _weighted(values: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Multiply ``(N, C)`` by the weight, if any, of each sample's class."""
    if weight.numel() == 0:
        return values
    if target.numel() > 0 and int(target.max()) >= weight.numel():
        raise ValueError(
            f'sigmoid_focal_loss got {weight.numel()} class weights and the '
            f'target {int(target.max())}: background has no weight; pass '
            'weight=None, or targets below the number of classes')
    return values * weight[target].unsqueeze(1)


def _is_target(logits: Tensor, target: Tensor) -> Tensor:
    """Where a class is its sample's target, ``(N, C)`` bool."""
    classes = torch.arange(logits.shape[1], device=logits.device)
    return target.unsqueeze(1) == classes


def sigmoid_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor,
                               output: Tensor, gamma: float,
                               alpha: float) -> None:
    """Focal loss per element, as ``mmcv.ops.sigmoid_focal_loss`` calls it.

    With ``p = sigmoid(input)`` it is ``-alpha (1-p)^gamma log p`` for the
    target class and ``-(1-alpha) p^gamma log(1-p)`` for all others (Lin et
    al., Focal Loss for Dense Object Detection, equation 5). Logarithms are
    taken of the sigmoid as a whole, so no logit is too large.

    Args:
        input: Logits, ``(N, C)``.
        target: Classes, ``(N,)`` int64; ``C`` is background.
        weight: Per class, ``(C,)``, or empty.
        output: Filled, ``(N, C)``.
        gamma: Focusing exponent, at least 0.
        alpha: Weight of the target class, in ``[0, 1]``.

    Raises:
        ValueError: If there are class weights and a background target.
    """
    logits = input.to(_computing_dtype(input))
    probability = logits.sigmoid()
    loss = torch.where(
        _is_target(logits, target),
        -alpha * (1 - probability)**gamma * functional.logsigmoid(logits),
        -(1 - alpha) * probability**gamma * functional.logsigmoid(-logits))
    output.copy_(_weighted(loss, target, weight))


def sigmoid_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor,
                                grad_input: Tensor, gamma: float,
                                alpha: float) -> None:
    """Derivative of :func:`sigmoid_focal_loss_forward` for the logits.

    It fills ``grad_input`` with d loss / d logit, element by element; mmcv
    multiplies by the incoming gradient itself.
    """
    logits = input.to(_computing_dtype(input))
    probability = logits.sigmoid()
    others = 1 - probability
    gradient = torch.where(
        _is_target(logits, target),
        alpha * others**gamma *
        (gamma * probability * functional.logsigmoid(logits) - others),
        (1 - alpha) * probability**gamma *
        (probability - gamma * others * functional.logsigmoid(-logits)))
    grad_input.copy_(_weighted(gradient, target, weight))
