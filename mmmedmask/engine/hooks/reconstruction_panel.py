"""Pictures of what a masked model reconstructs, drawn while it trains.

They go through MMEngine's visualizer, so to local files, TensorBoard, W&B or
wherever the config sends scalars, and they change nothing: losses are equal
to the bit with and without the hook.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch import nn

from mmmedmask.engine.preserved_state import (
    at_iteration,
    evaluating,
    preserve_random_state,
    unwrap,
)
from mmmedmask.registry import HOOKS
from mmmedmask.visualization.grid import draw_grid
from mmmedmask.visualization.pictures import PictureUnits
from mmmedmask.visualization.reconstruction import (
    draw_reconstruction_panel,
    reconstruct,
    view_columns,
)

VIEWS_NAME = 'first_batch_views'
PANEL_NAME = 'reconstruction'


@HOOKS.register_module()
class ReconstructionPanelHook(Hook):
    """Draw reconstructions of the same samples at every interval.

    Samples, views and masks are those of iteration 0 in all panels, so the
    panels compare with each other, and with those of a resumed run. Before
    the first iteration the views of the first batch are drawn, too: a wrong
    normalisation, a wrong data range or crops that are too small show there
    before any time is spent.

    The model needs ``reconstruct(inputs)`` and ``head.to_pixels``, its data
    preprocessor ``mean``, ``std`` and ``data_range``, as those of
    :class:`mmmedmask.models.cmim.CMIM` have. Only the main process draws.

    Args:
        interval: Epochs or iterations between two panels. There is always
            one before training and one at the end.
        by_epoch: Whether ``interval`` counts epochs.
        num_samples: Rows of a panel, taken evenly from the training set.
        channels: Channels to show, see
            :class:`mmmedmask.visualization.PictureUnits`; needed if images
            have neither one nor three.
        window: Stored values shown black and white; None takes the data
            preprocessor's whole range.
        draw_first_batch: Whether to draw the first batch's views.
        num_views: Rows of that picture.
        min_side: Small views are enlarged to about so many pixels.

    Raises:
        ValueError: If an argument is outside its range, or, in training, if
            the images need ``channels`` or the model cannot reconstruct.
    """

    # After the hooks that change weights or the logged iteration.
    priority = 'LOW'

    def __init__(self,
                 interval: int = 10,
                 by_epoch: bool = True,
                 num_samples: int = 6,
                 channels: Sequence[int] | None = None,
                 window: Sequence[float] | None = None,
                 draw_first_batch: bool = True,
                 num_views: int = 8,
                 min_side: int = 150) -> None:
        for name, value in (('interval', interval),
                            ('num_samples', num_samples),
                            ('num_views', num_views), ('min_side', min_side)):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        self.interval = interval
        self.by_epoch = by_epoch
        self.num_samples = num_samples
        self.channels = channels
        self.window = window
        self.draw_first_batch = draw_first_batch
        self.num_views = num_views
        self.min_side = min_side
        self._inputs: Mapping | None = None
        self._units: PictureUnits | None = None
        self._last_drawn: int | None = None

    def before_train(self, runner) -> None:
        """Choose samples, draw their views, and draw the first panel."""
        if not is_main_process():
            return
        model = unwrap(runner.model)
        if not hasattr(model, 'reconstruct'):
            raise ValueError(
                f'ReconstructionPanelHook: {type(model).__name__} has no '
                'method reconstruct(inputs); remove the hook from the config')
        self._units = PictureUnits.from_preprocessor(
            model.data_preprocessor, self.channels, self.window)
        dataset = runner.train_dataloader.dataset
        number = min(self.num_samples, len(dataset))
        indices = np.linspace(0, len(dataset) - 1, number).round().astype(int)
        with preserve_random_state(), at_iteration(runner, 0):
            batch = pseudo_collate([dataset[int(index)] for index in indices])
            self._inputs = _to_cpu(_preprocess(model, batch))
        self._draw_panel(runner, runner.iter)

    def before_train_iter(self, runner, batch_idx: int,
                          data_batch=None) -> None:
        """Draw the views of the very first batch."""
        if (runner.iter > 0 or not self.draw_first_batch
                or not is_main_process()):
            return
        model = unwrap(runner.model)
        with preserve_random_state():
            inputs = _preprocess(model, data_batch)
        shown = {
            name: value[:self.num_views]
            for name, value in inputs.items()
            if isinstance(value, torch.Tensor)
        }
        picture = draw_grid(
            view_columns(shown, self._units),
            heading='Views of the first batch',
            min_side=self.min_side)
        runner.visualizer.add_image(VIEWS_NAME, picture, 0)

    def after_train_iter(self,
                         runner,
                         batch_idx: int,
                         data_batch=None,
                         outputs=None) -> None:
        """Draw a panel when ``interval`` iterations are over."""
        if not self.by_epoch and self.every_n_train_iters(
                runner, self.interval):
            self._draw_panel(runner, runner.iter + 1)

    def after_train_epoch(self, runner) -> None:
        """Draw a panel when ``interval`` epochs are over."""
        if self.by_epoch and self.every_n_epochs(runner, self.interval):
            self._draw_panel(runner, runner.iter)

    def after_train(self, runner) -> None:
        """Draw the last panel, if it has not just been drawn."""
        self._draw_panel(runner, runner.iter)

    def _draw_panel(self, runner, iterations: int) -> None:
        """Draw one panel; ``iterations`` are those already done."""
        if not is_main_process() or self._last_drawn == iterations:
            return
        model = unwrap(runner.model)
        inputs = model.data_preprocessor.cast_data(self._inputs)
        with preserve_random_state(), evaluating(model):
            pixels, weight = reconstruct(model, inputs)
        picture = draw_reconstruction_panel(
            inputs,
            pixels,
            weight,
            self._units,
            heading=f'After {iterations} iterations',
            min_side=self.min_side)
        runner.visualizer.add_image(PANEL_NAME, picture, iterations)
        self._last_drawn = iterations


def _preprocess(model: nn.Module, batch: Mapping) -> Mapping:
    """A batch as one training step gets it; the model does not change."""
    with torch.no_grad():
        return model.data_preprocessor(batch, True)['inputs']


def _to_cpu(inputs: Mapping) -> dict:
    return {
        name: value.cpu() if isinstance(value, torch.Tensor) else value
        for name, value in inputs.items()
    }
