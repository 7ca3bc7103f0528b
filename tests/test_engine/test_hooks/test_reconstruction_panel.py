"""The panel hook: what it draws and when, and that it changes nothing."""

import random

import cv2
import numpy as np
import pytest
import tiny_runs
import torch
import torch.nn.functional as F
from torch import nn

from mmmedmask.datasets import TileFolder
from mmmedmask.datasets.transforms import LoadTile, PackTile
from mmmedmask.engine.hooks import ReconstructionPanelHook
from mmmedmask.engine.hooks import watching_hook as hook_module
from mmmedmask.engine.preserved_state import evaluating, preserve_random_state
from mmmedmask.visualization import PictureUnits, draw_grid, view_columns

NUM_TILES = 8


class NoisyCMIM(tiny_runs.TinyCMIM):
    """A tiny CMIM whose training depends on everything that could change.

    Dropout draws from torch's generator, BatchNorm has running statistics,
    and one BatchNorm is in evaluation mode on purpose.
    """

    def __init__(self):
        super().__init__()
        self.seen = []

    def train(self, mode=True):
        super().train(mode)
        if hasattr(self, 'backbone'):
            self.backbone.layer1.eval()
        return self

    def encode(self, images, mask):
        levels = super().encode(images, mask)
        return tuple(F.dropout(level, 0.2, self.training) for level in levels)

    def loss(self, inputs, data_samples=None):
        self.seen.append(inputs)
        assert not self.backbone.layer1.training
        assert self.backbone.layer2.training
        return super().loss(inputs, data_samples)


def add_noise(results):
    """A transform that draws from Python's and NumPy's generators."""
    noise = np.random.randint(0, 20) + random.randint(0, 20)
    results['img'] = results['img'] // 2 + np.uint8(noise)
    return results


@pytest.fixture(scope='module')
def tiles(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tiles')
    generator = np.random.default_rng(0)
    for number in range(NUM_TILES):
        coarse = generator.integers(0, 256, (5, 5, 3), np.uint8)
        tile = cv2.resize(coarse, (80, 80))
        cv2.imwrite(str(folder / f'{number}.png'), tile)
    return folder


def train(tiles, work_dir, *hooks, model=NoisyCMIM, **settings):
    """Train 2 iterations per epoch; return runner, losses and weights."""
    data = TileFolder(str(tiles), pipeline=[LoadTile(), add_noise, PackTile()])
    return tiny_runs.train_watched(
        work_dir, model, data, hooks=hooks, batch_size=4, **settings)


@pytest.fixture(scope='module')
def plain_run(tiles, tmp_path_factory):
    return train(tiles, tmp_path_factory.mktemp('plain'))


@pytest.mark.parametrize('arguments', [
    dict(interval=1, by_epoch=False, num_samples=3),
    dict(interval=1, by_epoch=True)])
def test_training_is_the_same_to_the_bit(tiles, tmp_path, plain_run,
                                         arguments):
    tiny_runs.assert_same_training(
        train(tiles, tmp_path, ReconstructionPanelHook(**arguments)),
        plain_run)
    assert len(tiny_runs.pictures_in(tmp_path)) > 3


@pytest.mark.parametrize(('interval', 'by_epoch', 'steps'), [
    (1, True, [0, 2, 4, 6]), (2, True, [0, 4, 6]), (4, False, [0, 4, 6]),
    (100, True, [0, 6])])
def test_when_it_draws(tiles, tmp_path, interval, by_epoch, steps):
    hook = ReconstructionPanelHook(
        interval, by_epoch=by_epoch, num_samples=1)
    train(tiles, tmp_path, hook, epochs=3)
    assert sorted(tiny_runs.pictures_in(tmp_path)) == sorted(
        ['first_batch_views_0', *(f'reconstruction_{s}' for s in steps)])


def test_first_batch_is_what_the_model_gets(tiles, tmp_path):
    model = NoisyCMIM()
    train(tiles, tmp_path, ReconstructionPanelHook(), model=model, epochs=1)
    shown = tiny_runs.pictures_in(tmp_path)['first_batch_views_0']
    seen = {name: model.seen[0][name] for name in ('query', 'key', 'mask')}
    units = PictureUnits.from_preprocessor(model.data_preprocessor)
    expected = draw_grid(
        view_columns(seen, units), heading='Views of the first batch')
    np.testing.assert_array_equal(shown, expected)


def inputs_of(panel):
    """The columns that show inputs alone: half of the panel's body."""
    return panel[80:, :panel.shape[1] // 2]


def test_samples_are_the_same_after_a_resume(tiles, tmp_path):
    train(tiles, tmp_path / 'one', ReconstructionPanelHook(1), epochs=1)
    before = tiny_runs.pictures_in(tmp_path / 'one')
    train(tiles, tmp_path / 'two', ReconstructionPanelHook(1), resume=True,
          load_from=str(tmp_path / 'one' / 'epoch_1.pth'))
    after = tiny_runs.pictures_in(tmp_path / 'two')
    # The first batch was long ago, and the resumed run starts at 2.
    assert sorted(after) == ['reconstruction_2', 'reconstruction_4']
    first, last = before['reconstruction_0'], after['reconstruction_4']
    np.testing.assert_array_equal(inputs_of(first), inputs_of(last))
    # What the model draws has changed.
    assert (first[80:] != last[80:]).any()


def test_other_processes_draw_nothing(tiles, tmp_path, monkeypatch):
    monkeypatch.setattr(hook_module, 'is_main_process', lambda: False)
    train(tiles, tmp_path, ReconstructionPanelHook(1), epochs=1)
    assert tiny_runs.pictures_in(tmp_path) == {}


def test_compiled_modules_are_not_compiled_once_more():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))

    def compiled(*args, **kwargs):
        raise RuntimeError('ran compiled')

    network[0]._compiled_call_impl = compiled
    network[1].eval()
    with evaluating(network):
        network(torch.zeros(3, 2))
        assert not network.training
    assert network[0]._compiled_call_impl is compiled
    assert [module.training for module in network.modules()
            ] == [True, True, False]


def test_modes_come_back_after_an_error():
    network = nn.Sequential(nn.Dropout())
    with pytest.raises(KeyError), evaluating(network):
        raise KeyError
    assert network[0].training


def test_random_states_come_back():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    with preserve_random_state():
        first = draw()
        draw()
    assert draw() == first


def test_wrong_channels_stop_before_training(tiles, tmp_path):
    model = NoisyCMIM()
    with pytest.raises(ValueError, match=r'0 to 2.*\(7,\)'):
        train(tiles, tmp_path, ReconstructionPanelHook(channels=[7]),
              model=model)
    assert model.seen == []


def test_models_that_cannot_reconstruct(tmp_path):
    runner = tiny_runs.tiny_runner(
        tmp_path, tiny_runs.TinyModel(), [ReconstructionPanelHook()])
    with pytest.raises(ValueError, match='TinyModel has no method'):
        runner.train()
