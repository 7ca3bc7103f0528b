"""The contrast with a queue, and the queue."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmmedmask.functional.key_queue import enqueue, queue_contrast, unit_keys

from . import naive_concepts as naive


def units(*shape, seed=0):
    keys = torch.randn(*shape, dtype=torch.float64,
                       generator=torch.Generator().manual_seed(seed))
    return F.normalize(keys, dim=-1)


@pytest.mark.parametrize('temperature', [.07, .2, 1.])
def test_contrast_is_that_of_loops(temperature):
    query, key, queue = units(4, 3), units(4, 3, seed=1), units(7, 3, seed=2)
    losses = queue_contrast(query, key, queue, temperature)
    for index in range(4):
        want = naive.contrast(query[index].numpy(), key[index].numpy(),
                              queue.numpy(), temperature)
        assert float(losses[index]) == pytest.approx(want, abs=1e-12)


def test_keys_enter_in_order_around_the_ring():
    generator = torch.Generator().manual_seed(0)
    queue, pointer = units(7, 2), torch.zeros(1, dtype=torch.long)
    want, want_pointer = queue.numpy(), 0
    wraps = 0
    for step in range(12):
        keys = units(5, 2, seed=step + 1)
        valid = torch.rand(5, generator=generator) < (0, .6, 1)[step % 3]
        before = queue.clone()
        new, new_pointer = enqueue(queue, pointer, keys, valid)
        assert torch.equal(queue, before)
        wraps += int(new_pointer) < int(pointer)
        queue, pointer = new, new_pointer
        want, want_pointer = naive.enqueue(want, want_pointer, keys.numpy(),
                                           valid.tolist())
        assert pointer.tolist() == [want_pointer]
        np.testing.assert_array_equal(queue, want)
    assert wraps >= 2


def test_a_full_turn_replaces_everything():
    keys = units(6, 2, seed=1)
    queue, pointer = enqueue(units(6, 2), torch.tensor([4]), keys,
                             torch.ones(6, dtype=torch.bool))
    assert torch.equal(queue.roll(-4, 0), keys)
    assert pointer.tolist() == [4]


def test_too_many_keys_are_refused():
    with pytest.raises(ValueError, match='queue of 6 cannot take 7'):
        enqueue(units(6, 2), torch.tensor([0]), units(7, 2),
                torch.ones(7, dtype=torch.bool))


def test_first_keys_are_directions():
    keys = unit_keys(50, 4)
    torch.testing.assert_close(keys.norm(dim=1), torch.ones(50))
    assert keys.mean(dim=0).abs().max() < .5
