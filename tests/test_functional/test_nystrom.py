"""Nyström attention against kernels in memory and loops (checks 1 to 12)."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from refusals import refuses
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmmedmask.functional import nystrom
from mmmedmask.functional.nystrom import (
    bag_views,
    class_token_row,
    landmark_attention,
    landmark_inverse,
    packed_attention,
    pseudo_inverse,
    segment_means,
)

from .naive_nystrom import (
    naive_attention_matrix,
    naive_landmarks,
    naive_nystrom,
    naive_pseudo_inverse,
)

DOUBLE = torch.float64
RAGGED = [23, 14, 5, 6, 1, 0]


def tokens(batch, heads, count, dims, dtype=DOUBLE):
    return [torch.randn(batch, heads, count, dims, dtype=dtype)
            for _ in range(3)]


def packed_tokens(lengths, heads=2, dims=4, dtype=DOUBLE):
    """Queries, keys and values of bags that lie one after the other."""
    return [torch.randn(sum(lengths), heads, dims, dtype=dtype)
            for _ in range(3)]


def attend(query, key, value, num_landmarks, **options):
    """Attention of bags of one length, (B, H, N, C), as models pack them."""
    packed = [x.transpose(1, 2).flatten(0, 1) for x in (query, key, value)]
    output = packed_attention(*packed, [query.shape[2]] * len(query),
                              num_landmarks, **options)
    return output.unflatten(0, (len(query), -1)).transpose(1, 2)


def difference(one, other):
    return float((one - other).abs().max())


@pytest.mark.parametrize(('count', 'num_landmarks'),
                         [(12, 4), (13, 4), (15, 4), (7, 6), (5, 5)])
def test_segment_means_equal_loops(count, num_landmarks):
    x = torch.randn(2, 3, count, 5, dtype=DOUBLE)
    means = segment_means(x, num_landmarks)
    assert means.shape == (2, 3, num_landmarks, 5)
    for place in product(range(2), range(3)):
        want = naive_landmarks(x[place], num_landmarks)
        assert difference(means[place], want) < 1e-14


def test_pseudo_inverse_is_one():
    """Check 2: A Z A = A for well-conditioned stochastic matrices."""
    matrix = (torch.randn(3, 2, 16, 16, dtype=DOUBLE) +
              6 * torch.eye(16, dtype=DOUBLE)).softmax(dim=-1)
    inverse = pseudo_inverse(matrix, 20)
    assert difference(matrix @ inverse @ matrix, matrix) < 1e-8
    assert difference(inverse, torch.linalg.pinv(matrix)) < 1e-8


def test_pseudo_inverse_equals_the_equation():
    """Few iterations, where the start value shows; per matrix."""
    matrix = torch.randn(2, 3, 7, 7, dtype=DOUBLE)
    matrix[1] *= 5
    got = pseudo_inverse(matrix, 2)
    for place in product(range(2), range(3)):
        want = naive_pseudo_inverse(matrix[place], 2)
        assert difference(got[place], want) < 1e-12


def test_all_tokens_as_landmarks_are_exact_attention():
    """Check 1: with the exact pseudo-inverse and 25 iterations, not with 6."""
    query, key, value = tokens(1, 4, 64, 32)
    want = F.scaled_dot_product_attention(query, key, value)
    exact = torch.linalg.pinv(nystrom.attention_weights(query, key))
    errors = [difference(
        landmark_attention(query, key, value, query, key, inverse), want)
        for inverse in (exact, landmark_inverse(query, key, 25),
                        landmark_inverse(query, key, 6))]
    assert errors[0] < 1e-11
    assert errors[1] < 1e-10
    assert errors[2] > 1e-4


@pytest.mark.parametrize('count', [16, 19])
def test_equals_the_naive_form(count):
    """Check 5."""
    query, key, value = tokens(2, 3, count, 4)
    want = naive_nystrom(query, key, value, 5)
    assert difference(attend(query, key, value, 5), want) < 1e-10
    single = attend(*(x.float() for x in (query, key, value)), 5)
    assert single.dtype == torch.float32
    assert difference(single.double(), want) < 1e-4


@pytest.mark.parametrize('lengths', [[12], [12, 7, 3]])
def test_gradients(lengths):
    inputs = [x.requires_grad_() for x in packed_tokens(lengths, 1, 2)]
    assert torch.autograd.gradcheck(
        lambda *args: packed_attention(*args, lengths, 4), inputs)


def test_equal_keys_give_the_mean_of_the_values():
    """Check 3."""
    query, key, value = tokens(2, 2, 21, 4)
    key[:] = key[:, :, :1]
    got = attend(query, key, value, 5, iterations=12)
    assert difference(got, value.mean(dim=2, keepdim=True)) < 1e-10


@pytest.mark.parametrize('count', [1, 3, 8])
def test_short_bags_get_exact_attention(count):
    """Check 4."""
    query, key, value = tokens(2, 2, count, 4)
    want = naive_nystrom(query, key, value, None)
    for num_landmarks in (8, None):
        got = attend(query, key, value, num_landmarks)
        assert difference(got, want) < 1e-13


def test_batch_mates_have_no_influence():
    """Check 6."""
    query, key, value = tokens(3, 2, 40, 8)
    # Peaked attention in one bag moves a start value shared by the batch.
    query[1] *= 30
    key[1] *= 30
    together = attend(query, key, value, 8)
    for bag in range(3):
        one = slice(bag, bag + 1)
        alone = attend(query[one], key[one], value[one], 8)
        assert difference(together[one], alone) < 1e-12


@pytest.mark.parametrize('lengths', [RAGGED, [17, 3, 0, 30, 17]])
def test_ragged_bags_equal_the_naive_form(lengths):
    """Check 8: bags above and below m and an empty one, each as alone."""
    packed = packed_tokens(lengths)
    parts = packed_attention(*packed, lengths, 5).split(lengths)
    bags = zip(*(x.split(lengths) for x in packed), strict=True)
    for part, bag in zip(parts, bags, strict=True):
        want = naive_nystrom(*(x.transpose(0, 1)[None] for x in bag), 5)
        assert part.isfinite().all()
        assert part.shape == bag[2].shape
        if len(part):
            assert difference(part.transpose(0, 1)[None], want) < 1e-10


@pytest.mark.parametrize('lengths', [[1, 0], [9, 0]])
def test_empty_bags_are_finite_with_gradients(lengths):
    """Check 9."""
    inputs = [x.requires_grad_() for x in packed_tokens(lengths)]
    got = packed_attention(*inputs, lengths, 4)
    assert got.shape == inputs[2].shape
    got.sum().backward()
    for x in inputs:
        assert x.grad.isfinite().all()


def test_order_counts_for_landmarks_but_not_for_exact_attention():
    """Check 11."""
    query, key, value = tokens(1, 2, 32, 4)
    order = torch.randperm(32)
    moved = [x[:, :, order] for x in (query, key, value)]
    for num_landmarks, alike in ((4, False), (32, True)):
        one, other = (attend(*x, num_landmarks)
                      for x in ((query, key, value), moved))
        assert (difference(one[:, :, order], other) < 1e-12) is alike


class Allocations(TorchDispatchMode):
    """Sizes of the new tensors that operations give, views left out."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        known = {leaf.untyped_storage().data_ptr()
                 for leaf in tree_leaves((args, kwargs))
                 if isinstance(leaf, torch.Tensor)}
        self.sizes += [leaf.numel() for leaf in tree_leaves(output)
                       if isinstance(leaf, torch.Tensor)
                       and leaf.untyped_storage().data_ptr() not in known]
        return output


def allocated(count):
    query, key, value = (x.requires_grad_() for x in packed_tokens(
        [count], dtype=torch.float32))
    with Allocations() as allocations:
        packed_attention(query, key, value, [count], 64).sum().backward()
        class_token_row(*(bag_views(x.detach(), [count])[0]
                          for x in (query, key)), 64)
    return allocations.sizes


def test_no_large_matrix_and_linear_memory(monkeypatch):
    """Check 12: no tensor of N x m is made, forward or backward."""
    monkeypatch.setattr(nystrom, 'KEY_CHUNK', 64)
    small, large = allocated(3000), allocated(6000)
    for count, sizes in ((3000, small), (6000, large)):
        # Tokens are N x 4 in 2 heads; one head's A3 would be N x 64.
        assert 2 * 4 * count <= max(sizes) < count * 32
    assert sum(large) < 2.3 * sum(small)


@pytest.mark.parametrize('count', [19, 16, 3])
@pytest.mark.parametrize('num_landmarks', [5, None])
def test_class_token_row_is_the_dense_row(monkeypatch, num_landmarks, count):
    """Check 23."""
    monkeypatch.setattr(nystrom, 'KEY_CHUNK', 4)
    query, key, _ = tokens(3, 2, count, 4)
    got = class_token_row(query, key, num_landmarks)
    for place in product(range(3), range(2)):
        dense = naive_attention_matrix(query[place], key[place], num_landmarks)
        assert difference(got[place], dense[0]) < 1e-11


def test_small_inverse_stays_in_float32_under_autocast():
    """Check 24."""
    query, key, value = tokens(2, 2, 50, 8, torch.float32)
    want = attend(query, key, value, 8)
    inverse = landmark_inverse(query[:, :, :8], key[:, :, :8])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = attend(query, key, value, 8)
        reduced = landmark_inverse(query[:, :, :8], key[:, :, :8])
        row = class_token_row(query, key, 8)
    assert reduced.dtype == row.dtype == torch.float32
    assert torch.equal(reduced, inverse)
    assert pseudo_inverse(inverse.bfloat16()).dtype == torch.float32
    assert difference(got.float(), want) < .02 * float(want.abs().max())


test_bad_arguments_are_refused_by_value = refuses(
    lambda call: call(torch.ones(1, 1, 4, 2)), [
    (lambda x: segment_means(x, 0), 'num_landmarks .* 0'),
    (lambda x: attend(x, x, x, -3), 'num_landmarks .* -3'),
    (lambda x: attend(x, x, x, 2, iterations=0), 'iterations .* 0'),
    (lambda x: class_token_row(x, x, 0), 'num_landmarks .* 0')])
