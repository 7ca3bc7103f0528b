"""Convolution along tokens with one kernel per head, as matrix products.

A block of B outputs is a banded matrix, B x (B + k - 1), times the inputs
around it. That is twice to three times the arithmetic of a loop over the
kernel and, on a CPU, a half of its time, with the same numbers.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Outputs of one matrix, and tokens that are laid out at a time.
BLOCK = 64
CHUNK = 512


def has_matrix_products(value: Tensor) -> bool:
    """Whether these functions are made for such values.

    Example:
        >>> has_matrix_products(torch.ones(1).half())
        False
    """
    return (value.device.type == 'cpu'
            and value.dtype in (torch.float32, torch.float64)
            and not torch.is_autocast_enabled('cpu'))


def convolve_tokens(value: Tensor, weight: Tensor,
                    runs: Sequence[tuple[int, int]]) -> Tensor:
    """Convolve runs of tokens, each by itself, with zeros beyond its ends.

    The result is zero at tokens of no run, and can be differentiated once.

    Args:
        value: Shape (T, H, C), float32 or float64.
        weight: Kernels of the heads, shape (H, k), k odd.
        runs: First token of each run and the one after its last.

    Example:
        >>> value, weight = torch.ones(5, 1, 1), torch.ones(1, 3)
        >>> convolve_tokens(value, weight, [(1, 5)]).flatten()
        tensor([0., 2., 3., 3., 2.])
    """
    return _Convolution.apply(value, weight, tuple(runs))


def convolve_tokens_(value: Tensor, weight: Tensor,
                     runs: Sequence[tuple[int, int]]) -> Tensor:
    """The same without gradients, into ``value``.

    Example:
        >>> value, weight = torch.ones(5, 1, 1), torch.ones(1, 3)
        >>> convolve_tokens_(value, weight, [(1, 5)]).flatten()
        tensor([0., 2., 3., 3., 2.])
    """
    return _convolve(value, weight, runs, value)


def _convolve(value: Tensor, weight: Tensor, runs: Sequence[tuple[int, int]],
              output: Tensor) -> Tensor:
    """Convolve into ``output``, which may be ``value``."""
    size, position = weight.shape[1], 0
    # Row i of a head's matrix is its kernel, i places from the left.
    bands = F.pad(weight[:, None].expand(-1, BLOCK, -1), (0, BLOCK)).flatten(
        1)[:, :-BLOCK].unflatten(1, (BLOCK, BLOCK + size - 1))
    for start, stop, window in _windows(value, runs, size):
        output[position:start] = 0
        position = stop
        result = value.new_empty(window.shape[1], BLOCK, *value.shape[1:])
        for head, band in enumerate(bands):
            torch.bmm(band.expand(len(result), -1, -1), window[head],
                      out=result[:, :, head])
        output[start:stop] = result.flatten(0, 1)[:stop - start]
    output[position:] = 0
    return output


def _windows(value: Tensor, runs: Sequence[tuple[int, int]], size: int):
    """Yield begin, end and windows (H, blocks, BLOCK + size - 1, C) of chunks.
    """
    heads, dims = value.shape[1:]
    radius = size // 2
    for first, last in runs:
        before = value.new_zeros(radius, heads, dims)
        for start in range(first, last, CHUNK):
            stop = min(start + CHUNK, last)
            end = min(stop + radius, last)
            blocks = -(-(stop - start) // BLOCK)
            rows = value.new_zeros(blocks * BLOCK + size - 1, heads, dims)
            rows[:radius] = before
            rows[radius:radius + end - start] = value[start:end]
            before = rows[stop - start:stop - start + radius]
            yield start, stop, rows.as_strided(
                (heads, blocks, BLOCK + size - 1, dims),
                (dims, BLOCK * heads * dims, heads * dims, 1))


class _Convolution(torch.autograd.Function):

    @staticmethod
    def forward(ctx, value: Tensor, weight: Tensor,
                runs: tuple[tuple[int, int], ...]) -> Tensor:
        ctx.save_for_backward(value, weight)
        ctx.runs = runs
        return _convolve(value, weight, runs, torch.empty(
            value.shape, dtype=value.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        value, weight = ctx.saved_tensors
        grad_value = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_value = _convolve(gradient, weight.flip(1), ctx.runs,
                                   torch.empty(value.shape, dtype=value.dtype))
        if ctx.needs_input_grad[1]:
            size = weight.shape[1]
            bands = value.new_zeros(len(weight), BLOCK, BLOCK + size - 1)
            for start, stop, window in _windows(value, ctx.runs, size):
                rows = F.pad(gradient[start:stop], (0, 0, 0, 0, 0, -(
                    stop - start) % BLOCK)).unflatten(0, (-1, BLOCK))
                for head, band in enumerate(bands):
                    band += (rows[:, :, head] @ window[head].mT).sum(dim=0)
            # What stands i places from the left in row i, as above.
            grad_weight = F.pad(bands.flatten(1), (0, BLOCK)).unflatten(
                1, (BLOCK, -1))[:, :, :size].sum(dim=1)
        return grad_value, grad_weight, None
