"""Batches that a model cannot train on are refused before training."""

from contextlib import nullcontext

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from tiny_runs import TinyImages, tiny_runner
from torch import nn

from mmmedmask import apis
from mmmedmask.engine.batch_sizes import batch_sizes
from mmmedmask.inspection.building import Parts
from mmmedmask.inspection.config_check import _check_batches


class Pooled(BaseModel):
    """A BatchNorm behind a global pooling, or before it."""

    def __init__(self, behind=True, queue_len=None):
        super().__init__()
        self.norm = (nn.BatchNorm1d if behind else nn.BatchNorm2d)(3)
        self.behind, self.queue_len = behind, queue_len

    def forward(self, inputs, mode='tensor'):
        inputs = torch.stack(list(inputs))
        if self.behind:
            inputs = inputs.mean((2, 3))
        return dict(loss=self.norm(inputs).square().mean())


@pytest.mark.parametrize('drop_last', [True, False])
@pytest.mark.parametrize('samples', range(1, 9))
def test_sizes_are_those_of_a_loader(samples, drop_last):
    loader = torch.utils.data.DataLoader(
        range(samples), batch_size=4, drop_last=drop_last)
    assert batch_sizes(samples, 4, drop_last) == [
        len(batch) for batch in loader]


@pytest.mark.parametrize(('model', 'samples', 'batch', 'drop_last', 'part'), [
    (dict(), 4, 1, True, 'a batch has 1 sample'),
    (dict(), 5, 2, False, 'the last batch of an epoch has 1 sample'),
    (dict(), 5, 2, True, None),
    (dict(), 5, 8, True, 'of 5 samples each of 1 .* fill no batch of 8'),
    (dict(behind=False), 5, 2, False, None),
    (dict(queue_len=8), 6, 3, True, 'a batch has 3 samples in each of 1 proc'),
    (dict(queue_len=8), 7, 4, False,
     'last batch of an epoch has 3 samples .* 3 keys do not divide the queue '
     r'of 8 \(model.queue_len\)'),
    (dict(queue_len=8), 7, 4, True, None)])
def test_unfit_batches_are_refused(tmp_path, model, samples, batch, drop_last,
                                   part):
    loader = dict(batch_size=batch, drop_last=drop_last)
    runner = tiny_runner(tmp_path, Pooled(**model), by_epoch=True,
                         max_iters=1, train_dataloader=dict(
                             dataset=TinyImages(samples), num_workers=0,
                             sampler=dict(type='DefaultSampler', shuffle=True),
                             **loader))
    before = runner.model.norm.running_mean.clone()
    with nullcontext() if part is None else pytest.raises(
            ValueError, match=part):
        apis.check_iterations(runner)
    assert torch.equal(before, runner.model.norm.running_mean)
    # What is not refused trains.
    if part is None:
        runner.train()
    findings = list(_check_batches(
        Config(dict(train_dataloader=loader)),
        Parts(Pooled(**model), datasets=dict(
            train_dataloader=TinyImages(samples))), 1, samples))
    assert [finding.status for finding in findings] == ['red'] * bool(part)


def test_an_endless_sampler_has_no_last_batch(tmp_path):
    runner = tiny_runner(tmp_path, Pooled(), length=5)
    apis.check_iterations(runner)
