"""Probe the encoder while it trains: is there anything to read off it yet?"""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from PIL import Image
from torch import nn

from mmmedmask.datasets import LabelledImages
from mmmedmask.datasets.probe_sets import ProbeSet
from mmmedmask.engine.frozen_features import encoder_of, untrained_encoder
from mmmedmask.engine.held_out import build_changed, build_held_out
from mmmedmask.engine.hooks.checkpoint_hook import (
    SafeCheckpointHook,
    pop_info,
)
from mmmedmask.engine.hooks.watching_hook import WatchingHook
from mmmedmask.engine.preserved_state import (
    preserve_random_state,
    saved_model,
    unwrap,
)
from mmmedmask.engine.probing import (
    BagProbe,
    ImageProbe,
    Probe,
    build_probes,
    check_probe_options,
    score_encoder,
    warn_of_trained,
)
from mmmedmask.engine.rank_errors import on_all_ranks
from mmmedmask.engine.run_table import RunTable
from mmmedmask.engine.wrapped_datasets import datasets_of
from mmmedmask.evaluation.probes import ProbeScore
from mmmedmask.registry import HOOKS
from mmmedmask.util.atomic_files import atomic_path
from mmmedmask.util.input_units import input_units
from mmmedmask.visualization.curves import draw_curves

NAME = 'probe'
COLUMNS = ('epoch', 'probe', 'value', 'low', 'high', 'random', 'plain',
           'chance')
#: Whole bags, and genes where the data set has them.
BAG_PIPELINE = [dict(type='mmmedmask.LoadSlideFeatures'),
                dict(type='mmmedmask.LoadExpression'),
                dict(type='mmmedmask.PackSlideOmicInputs')]


@HOOKS.register_module()
class ProbeHook(WatchingHook):
    """Score the frozen encoder on labelled data every few epochs.

    Cosine nearest neighbours and logistic regression of whole images or bags
    (balanced accuracy), and a logistic regression of pixels (area under the
    ROC curve). Beside each score stand its floors: the encoder at random
    weights, what the same probe scores without an encoder (the colour of
    images, mean and deviation of the patches of bags), and chance. They go to
    the log, the visualizer, ``WORK_DIR/probe.csv`` (see
    :class:`~mmmedmask.engine.run_table.RunTable`) and ``probe.png``. All ranks
    share the work; training is not changed by it. With an ``EMAHook`` the
    average of the weights is scored, as checkpoints hold it.

    ``SafeCheckpointHook(save_best='probe/rgb/knn', rule='greater')`` keeps
    the best of the epochs that were probed. Others have no score, whether
    they are validated or not, and random weights are never the best. In a
    run that goes on with other images, patients or options the best is looked
    for anew, and early stopping waits anew.

    Args:
        data: Labelled images, see
            :func:`~mmmedmask.datasets.probe_sets.read_probe_sets`. If neither
            this nor ``dense`` nor ``bags`` is given: the folder that the
            training set, a ``mmmedmask.LabelledImages``, is read from, with
            its splits.
        dense: Images with masks, the same.
        bags: Split of the training set's cohort to test on, such as
            ``'val'``: whole bags of the training split are fitted on. For
            models with an ``aggregator``, and without arguments of images.
        interval: Epochs between two probes; there is one before training
            and one at the end.
        size: Side in pixels that whole images are resized to, as
            ``dense_size`` for those with masks; None keeps them.
        colors: Which versions of the whole images to probe, of ``'rgb'``,
            ``'gray'``, ``'jitter'`` and ``'standardized'``; see
            :func:`~mmmedmask.datasets.probe_sets.load_image`.
        few: Numbers of images with masks to fit on; None takes all.
        max_images: Images per split at most, see
            :func:`~mmmedmask.engine.probing.build_probes`.
        split_folder: Folder of the csv files, for the layout of our
            converters. None takes the training set's split of a folder that
            it is read from, else one that leaks nothing; see
            :func:`~mmmedmask.datasets.probe_sets.read_probe_sets`.
        optional: Whether a folder that is not there is left out with a
            warning, and training goes on without probes if none is there.

    Raises:
        ValueError: If an argument is out of range; before training if the
            model has no encoder, there is nothing to probe on, or the best
            checkpoint is to be chosen by a probe that rests.
        FileNotFoundError: Before training, if a folder is not there.
    """

    on_all_ranks = True

    def __init__(self, data: str | None = None, dense: str | None = None,
                 bags: str | None = None, interval: int = 5,
                 size: int | None = None, colors: Sequence[str] = ('rgb', ),
                 few: Sequence[int | None] = (1, 5, 20, None),
                 max_images: int | None = None,
                 split_folder: str | None = None,
                 dense_size: int | None = None, seed: int = 0,
                 optional: bool = False) -> None:
        super().__init__(interval)
        self.optional = optional
        check_probe_options(colors, size, few, max_images, dense_size, seed)
        self.data = data
        self.dense = dense
        self.bags = bags
        self.seed = seed
        self._options = dict(colors=tuple(colors), size=size, few=tuple(few),
                             seed=seed, max_images=max_images,
                             split_folder=split_folder, dense_size=dense_size)
        defaults = inspect.signature(ProbeHook).parameters
        unused = {
            name: value for name, value in dict(
                data=data, dense=dense, optional=optional,
                **self._options).items()
            if name != 'seed' and value != defaults[name].default}
        if bags is not None and unused:
            raise ValueError(f'bags={bags!r} probes no images: leave out '
                             f'{unused}')
        self._probes: dict[str, Probe] = {}
        self._floors: dict[str, tuple[float, float]] = {}
        self._table: RunTable | None = None
        # Scores that no checkpoint has been offered yet, and their iteration.
        self._scores: dict[str, float] = {}
        self._iteration = 0

    def prepare(self, runner) -> str | None:
        model = unwrap(runner.model)
        encoder_of(model)
        self._units = input_units(model.data_preprocessor, runner.cfg)
        self._probes = on_all_ranks(self._build_probes, runner, model)
        if not self._probes:
            if any(str(name).startswith('probe/')
                   for hook in _checkpoint_hooks(runner)
                   for name in hook.key_indicators):
                raise ValueError('save_best names a probe, but there is '
                                 'nothing to probe on, see the warnings')
            return 'there is nothing to probe on'
        with preserve_random_state():
            random = self._score(model, untrained_encoder(
                runner.cfg.model, self.seed).to(
                    next(model.parameters()).device))
            plain = {f'{prefix}/{score.name}': score.value
                     for prefix, probe in self._probes.items()
                     for score in probe.plain_floor()}
        self._floors = {name: (score.value, plain[name])
                        for name, score in random.items()}
        for hook in _checkpoint_hooks(runner):
            for key in hook.key_indicators:
                score = random.get(key.removeprefix('probe/'))
                if score is not None and np.isnan(score.value):
                    raise ValueError(
                        f'save_best is {key!r}, which is NaN: all samples '
                        'of its test set are of one class')
        self._table = RunTable(
            runner, NAME,
            dict.fromkeys(COLUMNS, float) | dict(epoch=int, probe=str),
            (f'{prefix} {part} {sample}'
             for prefix, probe in self._probes.items()
             for part in ('train', 'test')
             for sample in _sample_names(getattr(probe, part))),
            self._options)
        keys = {f'probe/{name}' for name in random}
        outdated = keys if self._table.measured_anew else set()
        for hook in runner.hooks:
            if isinstance(hook, SafeCheckpointHook):
                hook.occasional_keys |= keys
                hook.outdated_keys |= outdated
            elif isinstance(hook, CheckpointHook) and hook.save_best:
                # MMEngine's compares with what is in the state.
                several = len(hook.key_indicators) > 1
                for key in outdated.intersection(hook.key_indicators):
                    for what in ('best_score', 'best_ckpt'):
                        pop_info(runner.message_hub,
                                 f'{what}_{key}' if several else what)
        return None

    def _build_probes(self, runner, model: nn.Module) -> dict[str, Probe]:
        data = self.data
        train = runner.train_dataloader.dataset
        # num_batch_per_epoch wraps it; probes read the whole folder.
        train = getattr(train, '_dataset', train)
        if self.bags is not None:
            bags = dict(modalities=['slides'], pipeline=BAG_PIPELINE)
            return dict(bags=BagProbe(
                build_changed(runner.cfg.train_dataloader.dataset, bags),
                build_held_out(runner.cfg, dict(bags, split=self.bags)),
                model.data_preprocessor, self.seed))
        if data is None and self.dense is None:
            if not isinstance(train, LabelledImages):
                raise ValueError('ProbeHook needs data, dense or bags: the '
                                 f'training set, a {type(train).__name__}, '
                                 'has no labels of its own to probe on')
            data = str(train.root)
        sources = []
        for source in (data, self.dense):
            if self.optional and source is not None \
                    and not Path(source).exists():
                runner.logger.warning(
                    f'ProbeHook: there is no folder or table {source}, '
                    'nothing is '
                    'probed on it; default_hooks.probe of the config names '
                    'another')
                source = None
            sources.append(source)
        probes = build_probes(*sources, **self._options, trained={
            dataset.root: dataset.split_folder
            for dataset in datasets_of(train)
            if isinstance(dataset, LabelledImages)})
        warn_of_trained(train, probes)
        return probes

    def look(self, runner, epoch: int, iteration: int) -> None:
        """Score the encoder, unless a run before this one has."""
        values = {row['probe']: row['value'] for row in self._table.rows
                  if row['epoch'] == epoch}
        known = bool(values)
        if not known:
            model = unwrap(runner.model)
            with preserve_random_state():
                scores = self._score(model, encoder_of(saved_model(runner)))
            values = {name: score.value for name, score in scores.items()}
        # Random weights are not a candidate for the best.
        self._scores = {f'probe/{name}': value
                        for name, value in values.items()} if epoch else {}
        self._iteration = iteration
        if not known:
            on_all_ranks(lambda: is_main_process() and self._write(
                runner, scores, epoch, iteration))

    def after_val_epoch(self, runner,
                        metrics: dict[str, float] | None = None) -> None:
        """Add to a validation's scores those that these weights have."""
        if metrics is None:
            return
        metrics.update(self._take_scores(runner))
        for hook in _checkpoint_hooks(runner):
            if isinstance(hook, SafeCheckpointHook):
                continue
            # MMEngine's asks for its metrics each time, and leaves out None.
            for name in self._floors:
                if f'probe/{name}' in hook.key_indicators:
                    metrics.setdefault(f'probe/{name}', None)

    def before_train_epoch(self, runner) -> None:
        """Hand scores to the checkpoints, which count finished epochs."""
        scores = self._take_scores(runner)
        for hook in _checkpoint_hooks(runner):
            # Where there was no validation, its metrics are None.
            keys = dict.fromkeys(hook.key_indicators)
            if scores.keys() & keys.keys():
                hook.after_val_epoch(runner, keys | scores)
                hook.after_val(runner)

    def after_train(self, runner) -> None:
        super().after_train(runner)
        self.before_train_epoch(runner)

    def _score(self, model: nn.Module,
               encoder: nn.Module) -> dict[str, ProbeScore]:
        if self.bags is not None:
            return {f'bags/{score.name}': score
                    for score in self._probes['bags'].run(encoder)}
        return score_encoder(encoder, self._units, self._probes)

    def _write(self, runner, scores: Mapping[str, ProbeScore], epoch: int,
               iteration: int) -> None:
        for name, score in scores.items():
            random, plain = self._floors[name]
            floor_name = self._probes[name.partition('/')[0]].floor_name
            self._table.rows.append(dict(
                epoch=epoch, probe=name, value=score.value, low=score.low,
                high=score.high, random=random, plain=plain,
                chance=score.floor))
            runner.logger.info(
                f'Probe after epoch {epoch}: {name} {100 * score.value:.1f} '
                f'[{100 * score.low:.1f}, {100 * score.high:.1f}], random '
                f'weights {100 * random:.1f}, {floor_name} '
                f'{100 * plain:.1f}, chance {100 * score.floor:.1f}')
        if epoch > 0:
            runner.visualizer.add_scalars(self._scores, step=iteration)
        self._table.write()
        if not self._table.rows:
            raise ValueError(
                'the probe has no score: every number of images in few is '
                f'above those that there are, few is {self._options["few"]}')
        with atomic_path(self._table.picture) as temporary:
            Image.fromarray(draw_probes(self._table.rows)).save(temporary)

    def _take_scores(self, runner) -> dict[str, float]:
        """Give the scores of the weights as they are now, once."""
        scores, self._scores = self._scores, {}
        return scores if self._iteration == runner.iter else {}


def _checkpoint_hooks(runner) -> list[CheckpointHook]:
    """Those that keep a best checkpoint."""
    return [hook for hook in runner.hooks
            if isinstance(hook, CheckpointHook) and hook.save_best]


def _sample_names(part: ProbeSet | BaseDataset) -> list[str]:
    """Name images or patients, wherever their files are."""
    if isinstance(part, ProbeSet):
        return [f'{path.parent.name}/{path.name}' for path in part.paths]
    return [part.get_data_info(place)['case_id']
            for place in range(len(part))]


def draw_probes(rows: Sequence[Mapping]):
    """Draw scores over epochs with their floors as lines, RGB (H, W, 3)."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        curves.setdefault(row['probe'], []).append(
            (row['epoch'], 100 * row['value']))
    floors = {row['probe']: {
        'random weights': 100 * row['random'],
        (BagProbe if row['probe'].startswith('bags/') else
         ImageProbe).floor_name: 100 * row['plain'],
        'chance': 100 * row['chance']} for row in rows}
    return draw_curves(curves, x_label='epoch', size=(3.2, 2.6),
                       references=floors, mark_points=True,
                       y_label='score in points of 100')
