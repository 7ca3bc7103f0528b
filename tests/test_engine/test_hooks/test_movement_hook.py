"""How far the encoder moves: against sums, in the log, and its warning."""

from pathlib import Path

import pytest
import tiny_runs
import torch
from mmpretrain.models.backbones import ResNet

from mmmedmask.engine.hooks import MovementHook, SeededDrawsHook
from mmmedmask.engine.hooks.movement_hook import moved_share, stage_parameters
from mmmedmask.models.gimp import NystromAggregator
from mmmedmask.visualization.curves import read_scalars


def distance(before, after):
    """As a share, by a loop over the numbers."""
    old = [float(x) for tensor in before for x in tensor.flatten()]
    new = [float(x) for tensor in after for x in tensor.flatten()]
    moved = sum((b - a)**2 for a, b in zip(old, new, strict=True))
    return (moved / sum(a**2 for a in old))**0.5


def train(work_dir, *hooks, model=tiny_runs.TinyModel, **settings):
    return tiny_runs.train_watched(work_dir, model, tiny_runs.TinyImages(8),
                                   hooks=hooks,
                                   batch_size=2, log_level='INFO', **settings)


def test_shares_of_epochs_and_steps_are_those_of_a_loop(tmp_path):
    watch, steps = tiny_runs.noting('before_train', lambda runner, **_: [
        parameter.detach().clone()
        for parameter in runner.model.backbone.parameters()])
    watch.after_train_iter = watch.before_train
    runner = train(tmp_path, watch, MovementHook(), epochs=2)[0]
    assert len(steps) == 9
    moved = read_scalars(runner.log_dir, 'movement/rest')
    last = read_scalars(runner.log_dir, 'movement_step/rest')
    for epoch in (0, 1):
        begin, end = 4 * epoch, 4 * epoch + 4
        assert moved[epoch] == (end, pytest.approx(
            distance(steps[begin], steps[end]), rel=1e-4))
        assert last[epoch] == (end, pytest.approx(
            distance(steps[end - 1], steps[end]), rel=1e-4))
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert 'Movement since training began: rest ' \
        f'{distance(steps[0], steps[-1]):.1%}' in log


def test_a_resumed_run_counts_from_where_it_goes_on(tmp_path):
    train(tmp_path, MovementHook(), epochs=1)
    watch, weights = tiny_runs.noting('before_train_epoch', lambda runner: [
        parameter.detach().clone()
        for parameter in runner.model.backbone.parameters()])
    watch.after_train = watch.before_train_epoch
    runner = train(tmp_path, watch, MovementHook(), epochs=2, resume=True)[0]
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert f'Movement since iteration 4: rest {distance(*weights):.1%}' in log


@pytest.mark.parametrize('iteration', [3, 4])
def test_a_resumed_run_ends_the_epoch_that_it_is_in(tmp_path, iteration):
    """Of its last step, and of no step if none was left."""
    settings = dict(epochs=2, default_hooks=dict(checkpoint=dict(
        type='mmmedmask.SafeCheckpointHook', by_epoch=False, interval=1)))
    whole = train(tmp_path / 'a', MovementHook(), SeededDrawsHook(),
                  **settings)[0]
    runner = train(tmp_path / 'b', MovementHook(), SeededDrawsHook(),
                   load_from=str(tmp_path / 'a' / f'iter_{iteration}.pth'),
                   resume=True, **settings)[0]
    wanted = read_scalars(whole.log_dir, 'movement_step/rest')
    assert read_scalars(runner.log_dir, 'movement_step/rest') == wanted[
        iteration - 3:]


def test_training_is_the_same_to_the_bit(tmp_path):
    tiny_runs.assert_same_training(train(tmp_path / 'plain'),
                                   train(tmp_path / 'watched', MovementHook()))


@pytest.mark.parametrize(('losses', 'share', 'warns'), [
    ([4., 4., 3., 3.], 0., True), ([4., 4., 3.99, 3.99], 0., False),
    ([4., 4., 3., 3.], 0.1, False), ([], 0., False)])
def test_warns_of_a_still_stage_while_the_loss_falls(tmp_path, losses, share,
                                                     warns):
    hook = MovementHook()
    runner = train(tmp_path, epochs=1)[0]
    said = []
    runner.logger.warning = said.append
    hook.before_train(runner)
    hook.before_train_epoch(runner)
    hook.before_train_iter(runner, len(runner.train_dataloader) - 1)
    with torch.no_grad():
        for parameter in runner.model.backbone.parameters():
            parameter.mul_(1 + share)
    for value in losses:
        hook.after_train_iter(runner, 0, outputs=dict(
            loss=torch.tensor(value)))
    hook.after_train_epoch(runner)
    assert bool(said) == warns
    if warns:
        assert 'moved less than 0.10% of their weights: rest.' in said[0]


def test_a_later_epoch_is_compared_with_the_one_before(tmp_path):
    hook = MovementHook()
    hook._losses = [torch.tensor(4.), torch.tensor(4.)]
    assert not hook._loss_falls()
    hook._losses = [torch.tensor(3.)]
    assert hook._loss_falls()
    assert not hook._loss_falls()


def test_parameters_are_sorted_by_stages():
    encoder = ResNet(18, stem_channels=8, base_channels=8)
    encoder.layer1.requires_grad_(False)
    groups = stage_parameters(encoder)
    assert list(groups) == ['layer2', 'layer3', 'layer4', 'rest']
    trained = sum(parameter.numel() for parameter in encoder.parameters()
                  if parameter.requires_grad)
    assert trained == sum(parameter.numel() for group in groups.values()
                          for parameter in group)
    groups = stage_parameters(NystromAggregator(
        in_dims=6, embed_dims=8, num_heads=2))
    assert list(groups) == ['layers.0', 'layers.1', 'rest']
    assert moved_share([torch.zeros(2)], [torch.zeros(2)]) == 0


def test_a_model_without_an_encoder_is_named(tmp_path):
    class Bare(tiny_runs.TinyModel):
        def __init__(self):
            super().__init__()
            self.body, self.backbone = self.backbone, None

        def extract_feat(self, inputs):
            return self.body(inputs)

    with pytest.raises(ValueError, match='Bare has neither a backbone'):
        train(tmp_path, MovementHook(), model=Bare)
