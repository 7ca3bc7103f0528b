"""Pictures of where a model looks and what is masked, while it trains.

They go through MMEngine's visualizer, so to local files, TensorBoard, W&B or
wherever the config sends scalars, and they change nothing: losses are equal
to the bit with and without the hook.
"""

from collections.abc import Sequence

from mmengine.dataset import Compose
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmmedmask.engine.attention.mask_hook import AttentionMaskHook
from mmmedmask.engine.attention.panel import (
    AttentionPanel,
    check_model,
    choose_positions,
    draw_panel,
    follows_attention,
    load_panel,
)
from mmmedmask.engine.attention.whole_images import list_sources
from mmmedmask.engine.preserved_state import (
    at_iteration,
    evaluating,
    preserve_random_state,
    unwrap,
)
from mmmedmask.registry import HOOKS
from mmmedmask.visualization.pictures import PictureUnits

PANEL_NAME = 'attention'


@HOOKS.register_module()
class AttentionPanelHook(Hook):
    """Draw attention and masking of the same images at every interval.

    A row per image: the whole image, with its lesion outlined if the data
    set knows it; what the class token looks at now; a masking drawn from
    that map with the model's ``mask_ratio`` and ``throw_ratio``; and, if the
    model has a decoder, what it reconstructs. Training may mask by older
    maps, or at random before the first ones; the panel says what masking by
    the present weights would be. In runs without
    ``mmmedmask.AttentionMaskHook``, and with models that mask at random, the
    masking is random here, too.

    The noise of the masking is the same in all panels, so they compare with
    each other, and with those of a resumed run. The model needs
    ``attention_maps`` and ``partition``, as
    :class:`mmmedmask.models.msmae.MSMAE` and ``MSMAEClassifier`` have them.
    Only the main process draws.

    Args:
        interval: Epochs between two panels. There is always one before
            training and one at the end.
        num_samples: Rows of a panel, taken evenly from the training set.
        indices: Samples to show instead, by their position in the training
            set.
        pipeline: Transforms that load, resize and pack a whole image; None
            takes those of AttentionMaskHook.
        channels: Channels to show, see
            :class:`mmmedmask.visualization.PictureUnits`; needed if images
            have neither one nor three.
        window: Stored values shown black and white; needed if images have
            not 8 bits.
        min_side: Small images are enlarged to about so many pixels.

    Raises:
        ValueError: If an argument is out of range, or, in training, if there
            is no pipeline, no such sample, or a model without attention.
    """

    # After the hooks that change weights, or maps.
    priority = 'LOW'

    def __init__(self,
                 interval: int = 10,
                 num_samples: int = 6,
                 indices: Sequence[int] | None = None,
                 pipeline: Sequence | None = None,
                 channels: Sequence[int] | None = None,
                 window: Sequence[float] | None = None,
                 min_side: int = 150) -> None:
        for name, value in (('interval', interval),
                            ('num_samples', num_samples),
                            ('min_side', min_side)):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        self.interval = interval
        self.num_samples = num_samples
        self.indices = indices
        self.pipeline = None if pipeline is None else Compose(pipeline)
        self.channels = channels
        self.window = window
        self.min_side = min_side
        self._panel: AttentionPanel | None = None
        self._units: PictureUnits | None = None
        self._last_drawn: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Choose and load the images, and draw the first panel."""
        if not is_main_process():
            return
        model = unwrap(runner.model)
        check_model(model)
        self._units = PictureUnits.from_preprocessor(
            model.data_preprocessor, self.channels, self.window)
        masks = [hook for hook in runner.hooks
                 if isinstance(hook, AttentionMaskHook)]
        if self.pipeline is None:
            if not masks:
                raise ValueError(
                    'AttentionPanelHook needs a pipeline for whole images, '
                    'since there is no AttentionMaskHook to take it from')
            self.pipeline = masks[0].pipeline
        dataset = runner.train_dataloader.dataset
        positions = choose_positions(
            len(dataset), self.num_samples, self.indices)
        sources = list_sources(dataset)
        with preserve_random_state():
            self._panel = load_panel(
                [sources[position] for position in positions], positions,
                self.pipeline, follows_attention(model, bool(masks)))
        self._draw(runner, runner.iter)

    def after_train_epoch(self, runner: Runner) -> None:
        """Draw a panel when ``interval`` epochs are over."""
        if self.every_n_epochs(runner, self.interval):
            self._draw(runner, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Draw the last panel, if it has not just been drawn."""
        self._draw(runner, runner.iter)

    def _draw(self, runner: Runner, iterations: int) -> None:
        """Draw one panel; ``iterations`` are those already done."""
        if not is_main_process() or self._last_drawn == iterations:
            return
        model = unwrap(runner.model)
        with preserve_random_state(), evaluating(model), \
                at_iteration(runner, 0):
            picture = draw_panel(
                model,
                self._panel,
                self._units,
                heading=f'After {iterations} iterations',
                min_side=self.min_side)
        runner.visualizer.add_image(PANEL_NAME, picture, iterations)
        self._last_drawn = iterations
