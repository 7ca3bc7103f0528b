"""Two processes take the step of one with both batches."""

import pytest
import torch
from processes import run_ranks
from torch import nn

from mmmedmask.models.concl.batch_shuffle import (
    shuffle_batch,
    unshuffle_batch,
)
from mmmedmask.models.concl.key_queue import KeyQueue

from .tiny_concl import drawn, step, tiny_model

SIZE = 2


def steps(model, shares):
    """Two steps; gradients of the second, losses of both, the state."""
    losses = []
    for iteration in range(2):
        indices = [8 * iteration + index for index in shares]
        inputs, samples = drawn(getattr(model, 'module', model), indices)
        losses.append({name: value.item() for name, value in
                       step(model, inputs, samples).items()})
    model = getattr(model, 'module', model)
    return dict(
        losses=losses, state=model.state_dict(),
        gradients={name: parameter.grad for name, parameter in
                   model.named_parameters() if parameter.requires_grad})


def work(rank, folder):
    shares = range(4 * rank, 4 * rank + 4)
    model = tiny_model(concept_weight=.7, momentum=.3)
    found = steps(nn.parallel.DistributedDataParallel(model), shares)
    batch = torch.arange(12.).view(6, 2) + 100 * rank
    # As with diff_rank_seed: there is one order still.
    shuffled, order = shuffle_batch(batch, seed=3 + rank)
    found.update(batch=batch, shuffled=shuffled, order=order,
                 restored=unshuffle_batch(shuffled, order))
    queue = KeyQueue(6, 2)
    try:
        queue.enqueue(torch.ones(4, 2))
    except ValueError as error:
        found['error'] = str(error)
    torch.save(found, f'{folder}/{rank}.pth')


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')
    run_ranks(lambda rank: work(rank, folder), folder, SIZE)
    return [torch.load(folder / f'{rank}.pth', weights_only=True)
            for rank in range(SIZE)]


def test_step_is_that_of_one_process(ranks):
    model = tiny_model(concept_weight=.7, momentum=.3)
    want = steps(model, range(8))
    # The ranks have different numbers of pairs, which must not weigh.
    pairs = [[losses['concept_pairs'] for losses in rank['losses']]
             for rank in ranks]
    assert pairs[0] != pairs[1]
    for rank in ranks:
        for name, gradient in want['gradients'].items():
            assert gradient.any()
            torch.testing.assert_close(rank['gradients'][name], gradient,
                                       atol=1e-10, rtol=1e-8, msg=name)
        for name, value in want['state'].items():
            torch.testing.assert_close(rank['state'][name], value,
                                       atol=1e-10, rtol=1e-8, msg=name)
    for iteration, losses in enumerate(want['losses']):
        for name, value in losses.items():
            mean = sum(rank['losses'][iteration][name] for rank in ranks) / 2
            assert mean == pytest.approx(value, abs=1e-10), name


def test_queues_are_the_same_on_all_ranks(ranks):
    one, other = (rank['state'] for rank in ranks)
    for name in ('instance_queue', 'concept_queue'):
        assert torch.equal(one[f'{name}.keys'], other[f'{name}.keys'])
        assert torch.equal(one[f'{name}.pointer'], other[f'{name}.pointer'])
    assert one['instance_queue.pointer'].tolist() == [16]
    assert one['concept_queue.pointer'].tolist() != [0]


def test_batches_are_shuffled_over_the_ranks_and_come_back(ranks):
    whole = torch.cat([rank['batch'] for rank in ranks])
    shuffled = torch.cat([rank['shuffled'] for rank in ranks])
    assert torch.equal(ranks[0]['order'], ranks[1]['order'])
    assert torch.equal(shuffled, whole[ranks[0]['order']])
    for rank in ranks:
        assert torch.equal(rank['restored'], rank['batch'])
        # Each has samples of both.
        from_second = rank['shuffled'][:, 0] >= 100
        assert from_second.any()
        assert not from_second.all()


def test_the_keys_of_all_ranks_have_to_fit(ranks):
    for rank in ranks:
        assert 'queue of 6 cannot take 8 keys' in rank['error']


def test_one_process_shuffles_nothing():
    batch = torch.rand(4, 2)
    shuffled, order = shuffle_batch(batch, seed=0)
    assert shuffled is batch
    assert order is None
    assert unshuffle_batch(batch, order) is batch
