"""The queue of former keys, of one process."""

from operator import call

import numpy as np
import torch
import torch.nn.functional as F
from refusals import refuses
from test_functional.naive_concepts import enqueue as naive_enqueue

from mmmedmask.models.concl import KeyQueue


def units(*shape, seed=0):
    keys = torch.randn(*shape, dtype=torch.float64,
                       generator=torch.Generator().manual_seed(seed))
    return F.normalize(keys, dim=-1)


def test_keys_enter_in_order_around_the_ring():
    generator = torch.Generator().manual_seed(0)
    queue = KeyQueue(7, 2).double()
    want, want_pointer = queue.keys.numpy().copy(), 0
    wraps = 0
    for step in range(12):
        keys = units(5, 2, seed=step + 1)
        valid = torch.rand(5, generator=generator) < (0, .6, 1)[step % 3]
        held, before = queue.keys, queue.keys.clone()
        pointer = int(queue.pointer)
        queue.enqueue(keys, valid)
        # The backward pass may still need the former keys.
        assert torch.equal(held, before)
        wraps += int(queue.pointer) < pointer
        want, want_pointer = naive_enqueue(want, want_pointer, keys.numpy(),
                                           valid.tolist())
        assert queue.pointer.tolist() == [want_pointer]
        np.testing.assert_array_equal(queue.keys, want)
    assert wraps >= 2


def test_a_full_turn_replaces_everything():
    keys = units(6, 2, seed=1)
    queue = KeyQueue(6, 2).double()
    queue.pointer += 4
    queue.enqueue(keys)
    assert torch.equal(queue.keys.roll(-4, 0), keys)
    assert queue.pointer.tolist() == [4]


def test_first_keys_are_directions():
    keys = KeyQueue(50, 4).keys
    torch.testing.assert_close(keys.norm(dim=1), torch.ones(50))
    assert keys.mean(dim=0).abs().max() < .5


test_what_does_not_fit = refuses(call, [
    (lambda: KeyQueue(0, 2), 'must be at least 1, got 0'),
    (lambda: KeyQueue(6, 0), 'must be at least 1, got 0'),
    (lambda: KeyQueue(6, 2).enqueue(units(7, 2)), 'of 6 cannot take 7')])
