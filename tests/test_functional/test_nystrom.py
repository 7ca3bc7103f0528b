"""Nyström attention against kernels in memory and loops (checks 1 to 12)."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmmedmask.functional import nystrom
from mmmedmask.functional.nystrom import (
    class_token_row,
    landmark_attention,
    landmark_counts,
    landmark_inverse,
    nystrom_attention,
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


def tokens(batch, heads, count, dims, dtype=DOUBLE):
    return [torch.randn(batch, heads, count, dims, dtype=dtype)
            for _ in range(3)]


def tails(counts, length):
    """Validity of bags whose padding is at the end."""
    return torch.arange(length) < torch.tensor(counts)[:, None]


def difference(one, other):
    return float((one - other).abs().max())


# ------------------------------------------------------------------ landmarks


@pytest.mark.parametrize('first_alone', [False, True])
@pytest.mark.parametrize(('count', 'num_landmarks'),
                         [(12, 4), (13, 4), (15, 4), (7, 6), (5, 5)])
def test_segment_means_equal_loops(count, num_landmarks, first_alone):
    x = torch.randn(2, 3, count, 5, dtype=DOUBLE)
    means = segment_means(x, None, num_landmarks, first_alone)
    assert means.shape == (2, 3, num_landmarks, 5)
    for bag in range(2):
        for head in range(3):
            want = naive_landmarks(x[bag, head], num_landmarks, first_alone)
            assert difference(means[bag, head], want) < 1e-14


def test_segment_means_use_valid_tokens_alone():
    """Wherever the padding is, and also with fewer tokens than landmarks."""
    x = torch.randn(4, 2, 11, 3, dtype=DOUBLE)
    valid = torch.rand(4, 11) < .7
    valid[1] = tails([2], 11)
    valid[2] = False
    valid[3, [0, 5, 10]] = False
    x[~valid[:, None].expand(-1, 2, -1)] = math.nan
    means = segment_means(x, valid, 4)
    counts = landmark_counts(valid.sum(1), 4)
    assert counts[1:3].tolist() == [2, 0]
    for bag, count in enumerate(counts.tolist()):
        if count:
            want = naive_landmarks(x[bag, 0, valid[bag]], count)
            assert difference(means[bag, 0, :count], want) < 1e-14
        assert not means[bag, :, count:].any()


# --------------------------------------------------- check 2: pseudo-inverses


def test_pseudo_inverse_of_the_identity_is_itself():
    eye = torch.eye(9, dtype=DOUBLE)
    assert difference(pseudo_inverse(eye, 20), eye) < 1e-14


def test_pseudo_inverse_is_one():
    """A Z A = A for well-conditioned stochastic matrices."""
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
    for bag in range(2):
        for head in range(3):
            want = naive_pseudo_inverse(matrix[bag, head], 2)
            assert difference(got[bag, head], want) < 1e-12


# ------------------------------------------- check 1: m = N is exact attention


def test_all_tokens_as_landmarks_are_exact_attention():
    """With the exact pseudo-inverse and with 25 iterations, not with 6."""
    query, key, value = tokens(1, 4, 64, 32)
    want = F.scaled_dot_product_attention(query, key, value)
    exact = torch.linalg.pinv(
        nystrom.attention_weights(query, key))
    errors = [difference(
        landmark_attention(query, key, value, query, key, inverse), want)
        for inverse in (exact, landmark_inverse(query, key, 25),
                        landmark_inverse(query, key, 6))]
    assert errors[0] < 1e-11
    assert errors[1] < 1e-10
    assert errors[2] > 1e-4


# ----------------------------------------------------- check 5: the naive form


@pytest.mark.parametrize('first_alone', [False, True])
@pytest.mark.parametrize('count', [16, 19])
def test_equals_the_naive_form(count, first_alone):
    query, key, value = tokens(2, 3, count, 4)
    want = naive_nystrom(
        query, key, value, 5, first_alone=first_alone)
    got = nystrom_attention(
        query, key, value, 5, first_alone=first_alone)
    assert difference(got, want) < 1e-10
    single = nystrom_attention(*(x.float() for x in (query, key, value)), 5,
                               first_alone=first_alone)
    assert single.dtype == torch.float32
    assert difference(single.double(), want) < 1e-4


@pytest.mark.parametrize('valid', [None, tails([12, 7, 3], 12)])
def test_gradients(valid):
    batch = 1 if valid is None else 3
    inputs = [x.requires_grad_() for x in tokens(batch, 1, 12, 2)]
    assert torch.autograd.gradcheck(
        lambda *args: nystrom_attention(*args, 4, valid), inputs)


# ----------------------------------- checks 3 and 4: cases with a known answer


def test_equal_keys_give_the_mean_of_the_values():
    query, key, value = tokens(2, 2, 21, 4)
    key[:] = key[:, :, :1]
    got = nystrom_attention(query, key, value, 5, iterations=12)
    assert difference(got, value.mean(dim=2, keepdim=True)) < 1e-10


@pytest.mark.parametrize('count', [1, 3, 8])
def test_short_bags_get_exact_attention(count):
    query, key, value = tokens(2, 2, count, 4)
    got = nystrom_attention(query, key, value, 8)
    want = naive_nystrom(query, key, value, None)
    assert difference(got, want) < 1e-13


# ------------------------------- checks 6 to 9: neighbours and padding, ragged


def test_batch_mates_have_no_influence():
    query, key, value = tokens(3, 2, 40, 8)
    # Peaked attention in one bag moves a start value shared by the batch.
    query[1] *= 30
    key[1] *= 30
    together = nystrom_attention(query, key, value, 8)
    for bag in range(3):
        one = slice(bag, bag + 1)
        alone = nystrom_attention(query[one], key[one], value[one], 8)
        assert difference(together[one], alone) < 1e-12


@pytest.mark.parametrize('first_alone', [False, True])
def test_ragged_bags_equal_the_naive_form(first_alone):
    """Bags above and below m, one empty; padding holds NaN."""
    query, key, value = tokens(6, 2, 23, 4)
    valid = tails([23, 14, 5, 6, 1, 0], 23)
    for x in (query, key, value):
        x[~valid[:, None].expand(-1, 2, -1)] = math.nan
    got = nystrom_attention(query, key, value, 5, valid,
                            first_alone=first_alone)
    want = naive_nystrom(query, key, value, 5, valid,
                         first_alone=first_alone)
    assert got.isfinite().all()
    assert difference(got, want) < 1e-10
    assert not got[~valid[:, None].expand(-1, 2, -1)].any()


def test_padding_anywhere_changes_nothing():
    query, key, value = tokens(1, 2, 26, 4)
    want = nystrom_attention(query, key, value, 5)
    kept = torch.zeros(1, 40, dtype=torch.bool)
    kept[0, torch.randperm(40)[:26].sort().values] = True
    padded = []
    for x in (query, key, value):
        wide = torch.full((1, 2, 40, 4), math.inf, dtype=DOUBLE)
        wide[:, :, kept[0]] = x
        padded.append(wide)
    got = nystrom_attention(*padded, 5, kept)
    assert torch.equal(got[:, :, kept[0]], want)


def test_only_padding_is_finite_with_gradients():
    inputs = [x.requires_grad_() for x in tokens(2, 2, 9, 4)]
    got = nystrom_attention(*inputs, 4, torch.zeros(2, 9, dtype=torch.bool))
    assert not got.any()
    got = nystrom_attention(*inputs, 4, tails([9, 0], 9))
    got.sum().backward()
    for x in inputs:
        assert x.grad.isfinite().all()
        assert not x.grad[1].any()


def test_packed_is_padded():
    lengths = [17, 3, 0, 30, 17]
    valid = tails(lengths, 30)
    padded = tokens(5, 2, 30, 4)
    packed = [x.transpose(1, 2)[valid] for x in padded]
    got = packed_attention(*packed, lengths, 6)
    want = nystrom_attention(*padded, 6, valid).transpose(1, 2)[valid]
    assert torch.equal(got, want)
    naive = naive_nystrom(*padded, 6, valid).transpose(1, 2)[valid]
    assert difference(got, naive) < 1e-10


# ------------------------------------------------------------ check 11: order


def test_order_counts_for_landmarks_but_not_for_exact_attention():
    query, key, value = tokens(1, 2, 32, 4)
    order = torch.randperm(32)
    moved = [x[:, :, order] for x in (query, key, value)]
    for num_landmarks, alike in ((4, False), (32, True)):
        one, other = (nystrom_attention(*x, num_landmarks)
                      for x in ((query, key, value), moved))
        assert (difference(one[:, :, order], other) < 1e-12) is alike


# ---------------------------------------------------------- check 12: memory


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
        self.sizes += [
            leaf.numel() for leaf in tree_leaves(output)
            if isinstance(leaf, torch.Tensor)
            and leaf.untyped_storage().data_ptr() not in known]
        return output


def allocated(count, valid=None):
    query, key, value = (x.requires_grad_() for x in tokens(
        1, 2, count, 4, torch.float32))
    with Allocations() as allocations:
        nystrom_attention(query, key, value, 64, valid).sum().backward()
        class_token_row(query.detach(), key.detach(), 64)
    return allocations.sizes


def test_no_large_matrix_and_linear_memory(monkeypatch):
    """No tensor of N x m is made, forward or backward."""
    monkeypatch.setattr(nystrom, 'KEY_CHUNK', 64)
    small, large = allocated(3000), allocated(6000)
    for count, sizes in ((3000, small), (6000, large)):
        # Tokens are N x 4 in 2 heads; one head's A3 would be N x 64.
        assert 2 * 4 * count <= max(sizes) < count * 32
    assert sum(large) < 2.3 * sum(small)


# ------------------------------------------------- check 23: the class's row


@pytest.mark.parametrize('first_alone', [False, True])
@pytest.mark.parametrize('num_landmarks', [5, None])
def test_class_token_row_is_the_dense_row(monkeypatch, num_landmarks,
                                          first_alone):
    monkeypatch.setattr(nystrom, 'KEY_CHUNK', 4)
    query, key, _ = tokens(3, 2, 19, 4)
    valid = torch.ones(3, 19, dtype=torch.bool)
    valid[1, [0, 4, 18]] = False
    valid[2, 3:] = False
    got = class_token_row(query, key, num_landmarks, valid,
                          first_alone=first_alone)
    for bag in range(3):
        for head in range(2):
            dense = naive_attention_matrix(
                query[bag, head, valid[bag]], key[bag, head, valid[bag]],
                num_landmarks, first_alone=first_alone)
            assert difference(got[bag, head, valid[bag]], dense[0]) < 1e-11
        assert not got[bag, :, ~valid[bag]].any()
    whole = class_token_row(query[:1], key[:1], num_landmarks,
                            first_alone=first_alone)
    assert torch.equal(whole, got[:1])


def test_class_token_row_says_what_the_output_is():
    query, key, value = tokens(1, 2, 19, 4)
    row = class_token_row(query, key, 5)
    output = nystrom_attention(query, key, value, 5)
    assert difference((row[:, :, None] @ value)[:, :, 0],
                      output[:, :, 0]) < 1e-12


# ------------------------------------------------ check 24: reduced precision


def test_small_inverse_stays_in_float32_under_autocast():
    query, key, value = tokens(2, 2, 50, 8, torch.float32)
    want = nystrom_attention(query, key, value, 8)
    inverse = landmark_inverse(query[:, :, :8], key[:, :, :8])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = nystrom_attention(query, key, value, 8)
        reduced = landmark_inverse(query[:, :, :8], key[:, :, :8])
        row = class_token_row(query, key, 8)
    assert reduced.dtype == row.dtype == torch.float32
    assert torch.equal(reduced, inverse)
    assert pseudo_inverse(inverse.bfloat16()).dtype == torch.float32
    assert difference(got.float(), want) < .02 * float(want.abs().max())


@pytest.mark.parametrize(('call', 'value'), [
    (lambda x: segment_means(x, None, 0), 'num_landmarks .* 0'),
    (lambda x: segment_means(x, None, 1, first_alone=True),
     'at least 2, got 1'),
    (lambda x: nystrom_attention(x, x, x, -3), 'num_landmarks .* -3'),
    (lambda x: nystrom_attention(x, x, x, 2, iterations=0),
     'iterations .* 0'),
    (lambda x: class_token_row(x, x, 0), 'num_landmarks .* 0'),
    (lambda x: landmark_counts(torch.ones(1), 0), 'num_landmarks .* 0'),
])
def test_bad_arguments_are_refused_by_value(call, value):
    with pytest.raises(ValueError, match=value):
        call(torch.ones(1, 1, 4, 2))
