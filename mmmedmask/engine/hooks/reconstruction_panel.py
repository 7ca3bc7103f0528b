"""Pictures of what a masked model reconstructs, drawn while it trains."""

from collections.abc import Mapping

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner
from torch import nn

from mmmedmask.engine.hooks.panel_hook import PanelHook, choose_positions
from mmmedmask.engine.preserved_state import preserve_random_state, unwrap
from mmmedmask.registry import HOOKS
from mmmedmask.visualization.grid import draw_grid
from mmmedmask.visualization.reconstruction import (
    reconstruct,
    reconstruction_columns,
    view_columns,
)

VIEWS_NAME = 'first_batch_views'
NUM_VIEWS = 8


@HOOKS.register_module()
class ReconstructionPanelHook(PanelHook):
    """Draw reconstructions of the same samples at every interval.

    Samples, views and masks are those of iteration 0 in all panels, also of
    a resumed run. Before the first iteration the views of the first batch
    are drawn, too: a wrong normalisation, a wrong data range or crops that
    are too small show there before any time is spent.

    The model needs ``reconstruct(inputs)`` and ``head.to_pixels``, its data
    preprocessor ``mean``, ``std`` and ``data_range``, as those of
    :class:`mmmedmask.models.cmim.CMIM` have.

    Args are those of :class:`PanelHook`; without a ``window`` the data
    preprocessor's whole range is shown.

    Raises:
        ValueError: If an argument is outside its range, or, in training, if
            the images need ``channels`` or the model cannot reconstruct.
    """

    panel_name = 'reconstruction'
    _inputs: Mapping | None = None

    def check_model(self, model: nn.Module) -> None:
        """Refuse models without a reconstruction."""
        if not hasattr(model, 'reconstruct'):
            raise ValueError(
                f'ReconstructionPanelHook: {type(model).__name__} has no '
                'method reconstruct(inputs); remove the hook from the config')

    def load_samples(self, runner: Runner, model: nn.Module) -> None:
        """Draw the views of the samples."""
        dataset = runner.train_dataloader.dataset
        positions = choose_positions(len(dataset), self.num_samples)
        batch = pseudo_collate([dataset[position] for position in positions])
        self._inputs = {
            name: value.cpu() if isinstance(value, torch.Tensor) else value
            for name, value in _preprocess(model, batch).items()}

    def before_train_iter(self, runner: Runner, batch_idx: int,
                          data_batch: dict | None = None) -> None:
        """Draw the views of the very first batch."""
        if runner.iter > 0 or self._inputs is None:
            return
        with preserve_random_state():
            inputs = _preprocess(unwrap(runner.model), data_batch)
        shown = {name: value[:NUM_VIEWS] for name, value in inputs.items()
                 if isinstance(value, torch.Tensor)}
        picture = draw_grid(view_columns(shown, self.units),
                            heading='Views of the first batch',
                            min_side=self.min_side)
        runner.visualizer.add_image(VIEWS_NAME, picture, 0)

    def draw(self, model: nn.Module, heading: str) -> np.ndarray:
        """Draw what the model makes of the views."""
        inputs = model.data_preprocessor.cast_data(self._inputs)
        pixels, weight = reconstruct(model, inputs)
        columns = reconstruction_columns(inputs, pixels, weight, self.units)
        return draw_grid(columns, heading, self.min_side)


def _preprocess(model: nn.Module, batch: Mapping) -> Mapping:
    """A batch as one training step gets it; the model does not change."""
    with torch.no_grad():
        return model.data_preprocessor(batch, True)['inputs']
