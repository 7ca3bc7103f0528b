"""The base of hooks that draw pictures of a model while it trains."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.runner import Runner
from torch import nn

from mmmedmask.engine.hooks.watching_hook import WatchingHook
from mmmedmask.engine.preserved_state import (
    at_iteration,
    evaluating,
    preserve_random_state,
    saved_model,
    unwrap,
)
from mmmedmask.util.checks import check_ascending, check_indices, check_integer
from mmmedmask.visualization.pictures import PictureUnits

LOSS_INFO = 'loss_over_floor'
"""Key of the message hub under which a hook says how large the loss is."""


class PanelHook(WatchingHook):
    """Draw the same samples before, during and after training.

    Pictures go through MMEngine's visualizer, so wherever the config sends
    scalars. Only the main process draws, and losses do not change by a bit.

    Subclasses set ``panel_name`` and write :meth:`load_samples` and
    :meth:`draw`. Where ``mmmedmask.LossFloorsHook`` measures, the line above
    the picture says how large the loss is beside its floor.

    Args:
        interval: Epochs between two panels, or iterations if not ``by_epoch``.
            There is always one before training and one at the end.
        num_samples: Rows of a panel, taken evenly from the training set.
        channels: Channels to show, see
            :class:`mmmedmask.visualization.PictureUnits`; needed if images
            have neither one nor three.
        window: Stored values shown black and white.
        min_side: Small images are enlarged to about so many pixels.
    """

    panel_name: str
    units: PictureUnits

    def __init__(self, interval: int = 10, num_samples: int = 6,
                 channels: Sequence[int] | None = None,
                 window: Sequence[float] | None = None,
                 min_side: int = 150, by_epoch: bool = True) -> None:
        super().__init__(interval, by_epoch)
        self.num_samples = check_integer('num_samples', num_samples)
        self.channels = channels
        if channels is not None:
            check_indices('channels', channels)
        self.window = window
        if window is not None:
            check_ascending('window', window)
        self.min_side = check_integer('min_side', min_side)

    def check_model(self, model: nn.Module) -> None:
        """Raise a ValueError if a model cannot be drawn."""

    def load_samples(self, runner: Runner, model: nn.Module) -> None:
        """Choose and load the samples."""
        raise NotImplementedError

    def draw(self, model: nn.Module, heading: str) -> np.ndarray:
        """Draw a panel with a line above it; uint8 RGB, (H, W, 3)."""
        raise NotImplementedError

    def prepare(self, runner: Runner) -> None:
        model = unwrap(runner.model)
        self.check_model(model)
        self.units = PictureUnits.from_preprocessor(
            model.data_preprocessor, self.channels, self.window, runner.cfg)
        with preserve_random_state(), at_iteration(runner, 0):
            self.load_samples(runner, model)

    def look(self, runner: Runner, epoch: int, iteration: int) -> None:
        model = saved_model(runner)
        heading = f'After {iteration} iterations'
        if loss := runner.message_hub.runtime_info.get(LOSS_INFO):
            heading += f': {loss}'
        with preserve_random_state(), evaluating(model), \
                at_iteration(runner, 0):
            picture = self.draw(model, heading)
        runner.visualizer.add_image(self.panel_name, picture, iteration)


def choose_positions(length: int, number: int,
                     indices: Sequence[int] | None = None) -> list[int]:
    """Choose ``number`` samples of a data set evenly, or take ``indices``."""
    if indices is None:
        check_integer('num_samples', number)
        places = torch.linspace(
            0, length - 1, min(number, length), dtype=torch.float64)
        return places.round().int().tolist()
    wrong = [index for index in indices if not 0 <= index < length]
    if wrong or not indices:
        raise ValueError('indices must name at least one of 0 to '
                         f'{length - 1}, got {list(indices)}')
    return list(indices)
