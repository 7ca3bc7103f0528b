"""Probe the encoder while it trains: is there anything to read off it yet?

A loss falls for many reasons. What a nearest neighbour or a linear model can
tell from the frozen features, beside the same network at random weights and
beside the colour alone, says whether pre-training helps.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import MODELS
from PIL import Image
from torch import nn

from mmmedmask.datasets.probe_sets import COLORS
from mmmedmask.engine.preserved_state import preserve_random_state, unwrap
from mmmedmask.engine.probing import (
    DenseProbe,
    ImageProbe,
    build_probes,
    score_encoder,
)
from mmmedmask.evaluation.probes import ProbeScore
from mmmedmask.registry import HOOKS
from mmmedmask.util.atomic_files import atomic_path, write_csv
from mmmedmask.util.checks import check_choice, check_integer
from mmmedmask.util.table_files import read_table
from mmmedmask.visualization.curves import draw_curves

TABLE = 'probe.csv'
PICTURE = 'probe.png'
COLUMNS = ('epoch', 'probe', 'value', 'low', 'high', 'random', 'color',
           'chance')


@HOOKS.register_module()
class ProbeHook(Hook):
    """Score the frozen encoder on labelled images every few epochs.

    Before training and then at every interval: cosine nearest neighbours and
    logistic regression of whole images (balanced accuracy), and a logistic
    regression of pixels (area under the ROC curve). Beside each score stand
    its floors: the encoder at random weights, the colour, and chance. They
    go to the log, the visualizer, ``WORK_DIR/probe.csv`` and
    ``WORK_DIR/probe.png``. Training is not changed by it.

    ``CheckpointHook(save_best='probe/rgb/knn', rule='greater')`` keeps the
    best epoch.

    Args:
        data: Labelled images, see
            :func:`~mmmedmask.datasets.probe_sets.read_probe_sets`.
        dense: Images with masks, the same.
        interval: Epochs between two probes; there is one before training
            and one at the end.
        size: Side in pixels that whole images are resized to; None keeps
            them.
        colors: Which versions of the whole images to probe, of ``'rgb'``,
            ``'gray'`` and ``'jitter'``; the last two hide the colour.
        few: Numbers of images with masks to fit on; None takes all.
        max_images: Images with masks per split at most.
        split_folder: Folder of the csv files, for the layout of our
            converters.
        seed: Seed of all draws of the probes.

    Raises:
        ValueError: If there is neither ``data`` nor ``dense``, or an
            argument is out of range; before training if the model has no
            backbone.
    """

    # After the weights have changed, before checkpoints are written.
    priority = 'LOW'

    def __init__(self,
                 data: str | None = None,
                 dense: str | None = None,
                 interval: int = 5,
                 size: int | None = None,
                 colors: Sequence[str] = ('rgb', ),
                 few: Sequence[int | None] = (1, 5, 20, None),
                 max_images: int | None = None,
                 split_folder: str = 'splits/paper',
                 seed: int = 0) -> None:
        if data is None and dense is None:
            raise ValueError('ProbeHook needs data or dense, got neither')
        for color in colors:
            check_choice('colors', color, COLORS)
        self.interval = check_integer('interval', interval)
        self.data = data
        self.dense = dense
        self.size = size
        self.colors = tuple(colors)
        self.few = tuple(few)
        self.max_images = max_images
        self.split_folder = split_folder
        self.seed = seed
        self._probes: dict[str, ImageProbe | DenseProbe] = {}
        self._floors: dict[str, tuple[float, float]] = {}
        self._rows: list[dict] = []
        # The last scores, and those that no checkpoint has been offered yet.
        self._last: dict[str, float] = {}
        self._metrics: dict[str, float] = {}

    def before_train(self, runner) -> None:
        """Read the images, score the floors and the encoder as it starts."""
        model = unwrap(runner.model)
        if not hasattr(model, 'backbone'):
            raise ValueError(f'ProbeHook: {type(model).__name__} has no '
                             'backbone to probe; remove the hook')
        self._probes = build_probes(
            self.data, self.dense, self.colors, self.size, self.few,
            self.max_images, self.split_folder, self.seed)
        with preserve_random_state():
            random = self._scores(model, random_backbone(runner, self.seed))
            colors = {f'{prefix}/{score.name}': score.value
                      for prefix, probe in self._probes.items()
                      for score in probe.color_floor()}
        self._floors = {name: (score.value, colors[name])
                        for name, score in random.items()}
        self._rows = read_rows(Path(runner.work_dir, TABLE), runner.epoch)
        if not self._rows:
            self._probe(runner, 0)

    def after_train_epoch(self, runner) -> None:
        """Score the encoder when ``interval`` epochs are over."""
        if self.every_n_epochs(runner, self.interval) \
                or self.is_last_train_epoch(runner):
            self._probe(runner, runner.epoch + 1)

    def after_val_epoch(self,
                        runner,
                        metrics: dict[str, float] | None = None) -> None:
        """Add the last scores to those of a validation."""
        if metrics is not None:
            metrics.update(self._last)
            self._metrics = {}

    def before_train_epoch(self, runner) -> None:
        """Hand scores to the checkpoints, which count finished epochs."""
        self._offer_best(runner)

    def after_train(self, runner) -> None:
        """Hand the last scores to the checkpoints."""
        self._offer_best(runner)

    def _scores(self, model: nn.Module,
                encoder: nn.Module) -> dict[str, ProbeScore]:
        preprocessor = model.data_preprocessor
        return score_encoder(
            encoder, preprocessor.mean.flatten().tolist(),
            preprocessor.std.flatten().tolist(), self._probes)

    def _probe(self, runner, epoch: int) -> None:
        model = unwrap(runner.model)
        with preserve_random_state():
            scores = self._scores(model, model.backbone)
        self._last = {f'probe/{name}': score.value
                      for name, score in scores.items()}
        self._metrics = dict(self._last)
        if not is_main_process():
            return
        for name, score in scores.items():
            random, color = self._floors[name]
            self._rows.append(dict(
                epoch=epoch, probe=name, value=score.value, low=score.low,
                high=score.high, random=random, color=color,
                chance=score.floor))
            runner.logger.info(
                f'Probe after epoch {epoch}: {name} {100 * score.value:.1f} '
                f'[{100 * score.low:.1f}, {100 * score.high:.1f}], random '
                f'weights {100 * random:.1f}, colour {100 * color:.1f}, '
                f'chance {100 * score.floor:.1f}')
        if epoch > 0:
            runner.visualizer.add_scalars(self._last, step=runner.iter)
        write_csv(Path(runner.work_dir, TABLE), COLUMNS,
                  ([row[name] for name in COLUMNS] for row in self._rows))
        picture = draw_probes(self._rows)
        with atomic_path(Path(runner.work_dir, PICTURE)) as temporary:
            Image.fromarray(picture).save(temporary)

    def _offer_best(self, runner) -> None:
        metrics, self._metrics = self._metrics, {}
        if not metrics or runner.epoch == 0:
            return
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook) and hook.save_best and all(
                    name in metrics for name in hook.key_indicators):
                hook.after_val_epoch(runner, metrics)


def random_backbone(runner, seed: int) -> nn.Module:
    """Build the run's backbone at random weights.

    Args:
        runner: The runner, whose config has a ``model.backbone``.
        seed: Seed of the weights.

    Returns:
        The backbone on the device of the model.
    """
    backbone = copy.deepcopy(dict(runner.cfg.model.backbone))
    if (backbone.get('init_cfg') or {}).get('type') == 'Pretrained':
        del backbone['init_cfg']
    torch.manual_seed(seed)
    module = MODELS.build(backbone)
    module.init_weights()
    return module.to(next(runner.model.parameters()).device)


def read_rows(file: Path, epoch: int) -> list[dict]:
    """Read the scores of an interrupted run, up to where it goes on.

    Args:
        file: ``probe.csv``.
        epoch: Finished epochs; 0 begins anew.

    Returns:
        The rows of ``COLUMNS`` up to that epoch; none without a file.
    """
    if epoch == 0 or not file.is_file():
        return []
    rows = [{name: cell if name == 'probe' else float(cell)
             for name, cell in row.items()}
            for _, row in read_table(file, empty=True).rows()]
    for row in rows:
        row['epoch'] = int(row['epoch'])
    return [row for row in rows if row['epoch'] <= epoch]


def draw_probes(rows: Sequence[Mapping]):
    """Draw the scores over the epochs, random weights as a dashed line.

    Args:
        rows: Rows of ``COLUMNS``, at least one.

    Returns:
        uint8 RGB picture of shape (H, W, 3).
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        curves.setdefault(row['probe'], []).append(
            (row['epoch'], 100 * row['value']))
    random = {row['probe']: 100 * row['random'] for row in rows}
    return draw_curves(curves, x_label='epoch', size=(3.2, 2.6),
                       references=random, reference_name='random weights',
                       mark_points=True)

