"""Several processes train CMIM as one with all the data (check 11)."""

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from processes import run_ranks

from .tiny import batch, tiny_model


def train_steps(path, rank, size, sync_weight):
    """Three steps as one of ``size`` ranks; save the weights."""
    model = MMDistributedDataParallel(tiny_model(
        backbone=dict(norm_cfg=dict(type='GN', num_groups=4)),
        data_preprocessor=dict(color=dict(), views=dict(scale=(.2, .5))),
        head=dict(sync_weight=sync_weight)))
    wrapper = OptimWrapper(optimizer=torch.optim.SGD(
        model.parameters(), lr=.05, momentum=.9))
    for step in range(3):
        MessageHub.get_current_instance().update_info('iter', step)
        samples = range(6 * step, 6 * step + 6)
        model.train_step(batch(samples[rank::size]), wrapper)
    torch.save(model.module.state_dict(), path)


@pytest.mark.slow
def test_two_processes_train_as_one_with_both_batches(tmp_path):
    """Check 11: the same weights after three steps, up to rounding."""
    for size, sync_weight in ((1, True), (2, True), (2, False)):
        folder = tmp_path / f'{size}_{sync_weight}'
        folder.mkdir()
        run_ranks(
            lambda rank, folder=folder, size=size, sync=sync_weight:
            train_steps(folder / f'{rank}.pth', rank, size, sync),
            folder, size)
    alone, first, second, unsynced = (
        torch.load(tmp_path / f'{name}.pth', weights_only=True)
        for name in ('1_True/0', '2_True/0', '2_True/1', '2_False/0'))

    def distance(one, other):
        return max(float((one[key] - other[key]).abs().max()) for key in one)

    assert distance(first, second) == 0
    assert distance(first, alone) < 2e-6
    # Without sync_weight the processes' shares of target pixels, which
    # differ, weigh the samples.
    assert distance(unsynced, alone) > 1e-4
