"""The reconstruction loss on held-out data, beside guesses without a model.

A loss that falls to what visible colour alone explains has learned no more.
"""

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress

import torch
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch.utils.data import Dataset, Subset

from mmmedmask.engine.checkpoint.model_card import read_config_text
from mmmedmask.engine.held_out import (
    build_held_out,
    fixed_batches,
    own_held_out,
    with_slides,
)
from mmmedmask.engine.hooks.panel_hook import LOSS_INFO
from mmmedmask.engine.hooks.watching_hook import WatchingHook
from mmmedmask.engine.masked_reconstruction import (
    MaskedAnswer,
    answer_masked,
    explain_missing,
)
from mmmedmask.engine.preserved_state import saved_model, unwrap
from mmmedmask.functional.loss_floors import (
    Guesses,
    MaskedTargets,
    fit_guesses,
    guess_errors,
    prediction_error,
    thin_places,
)
from mmmedmask.registry import HOOKS
from mmmedmask.util.checks import check_integer
from mmmedmask.util.nested import innermost_datasets

VALUES_PER_SAMPLE = 2**18
"""Numbers of a sample that guesses are fitted on: 2 MiB in float64."""
MEANINGS = {'color': 'the best guess from the visible colour',
            'median_patch': "the median of the bag's visible patches"}


@HOOKS.register_module()
class LossFloorsHook(WatchingHook):
    """Log the held-out loss as a share of its floors.

    The floors are the losses of guesses that are one colour per image, or
    one patch per bag (:mod:`mmmedmask.functional.loss_floors`): ``constant``
    and ``color`` are fitted on training samples, ``median_patch`` is the
    median of what is visible of a bag, ``own_mean`` (``own_median`` for
    absolute errors) is the sample's own best, which no model is told. They
    have the model's own target and error, averaged over all places and
    channels that count, and are computed before the first step. Views and
    masks are those of iteration 0 each time, so epochs compare; MSMAE masks
    at random here, as held-out images have no attention maps.

    The log and the visualizer get ``floors/loss``, ``floors/loss_over_color``
    and so on, panels a line. A run that ends above the floor of the visible
    colour (patches) says so. Only the main process computes; training is not
    changed.

    CMIM, MSMAE, GiMP, and mmpretrain's MAE, SimMIM and SparK are known. With
    other models the hook says in the log that it rests.

    Args:
        held_out: Samples that are not trained on, as in
            :func:`~mmmedmask.engine.held_out.build_held_out`, such as
            ``dict(split='val')``. None: those that the training set leaves
            out (``held_out_share``), and of one that leaves out none training
            samples are measured. Patients without slides are left out.
        interval: Epochs between two evaluations; there is one before
            training and one at the end.
        num_fit: Training samples that the guesses are fitted on at most.
        num_held_out: Held-out samples at most.
        optional: Whether training samples are measured, with a warning, if
            the held-out ones are not there, else a FileNotFoundError.
    """

    # Panels, which are 'LOW', write down what has been measured.
    priority = 'BELOW_NORMAL'

    def __init__(self, held_out: dict | None = None, interval: int = 1,
                 num_fit: int = 256, num_held_out: int = 128,
                 batch_size: int = 32, optional: bool = False) -> None:
        super().__init__(interval)
        self.optional = optional
        self.held_out = held_out
        self.num_fit = check_integer('num_fit', num_fit)
        self.num_held_out = check_integer('num_held_out', num_held_out)
        self.batch_size = check_integer('batch_size', batch_size)
        self._dataset: Dataset | None = None
        self._floors: dict[str, float] = {}
        self._loss = float('nan')
        self._what = 'held-out loss'
        self._measured = 0

    def prepare(self, runner: Runner) -> str | None:
        """Build the held-out set, fit the guesses and compute the floors."""
        if reason := explain_missing(unwrap(runner.model)):
            return reason
        train = with_slides(runner.train_dataloader.dataset)
        held_out = self._build_held_out(runner)
        self._dataset = with_slides(held_out or _copy_training_set(runner))
        # One draw of places for all.
        generator = torch.Generator().manual_seed(0)
        parts, criterion = [], 'squared'
        for answer in self._answers(runner, train, self.num_fit):
            criterion = answer.criterion
            channels = answer.prediction.shape[2]
            parts += thin_places(answer.targets, max(
                VALUES_PER_SAMPLE // channels, 1), generator)
        self._measure(runner, fit_guesses(parts, criterion))
        self._measured = runner.iter
        where = ''
        if not held_out:
            self._what = 'loss on training samples'
            where = ', on training samples: no held_out is given'
        runner.logger.info(
            f'Floors of the loss ({criterion} errors{where}): ' + ', '.join(
                f'{name} {floor:.4g}' for name, floor in self._floors.items()))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Warn if what is left out now was trained on before."""
        text = checkpoint.get('meta', {}).get('cfg')
        own = own_held_out(runner.cfg)
        if not runner._resume or not own or not text:
            return
        before = now = None
        # The text may be anything: what cannot be read says nothing.
        with suppress(AttributeError, LookupError, TypeError, ValueError):
            before, now = (
                [inner.get('held_out_share', 0) for inner in
                 innermost_datasets(config['train_dataloader']['dataset'])]
                for config in (read_config_text(text), runner.cfg))
        if before != now:
            runner.logger.warning(
                f'held_out_share of the training set was {before} in the '
                f'checkpoint and is {now}: the run has been trained on what '
                'it leaves out now, and the held-out loss is none. '
                'train_dataloader.dataset.held_out_share goes back to it')

    def _build_held_out(self, runner: Runner) -> Dataset | None:
        own, reason = own_held_out(runner.cfg), 'none are named'
        change = own if self.held_out is None else self.held_out
        if own and change != own:
            runner.logger.warning(
                'LossFloorsHook: its held_out names other samples, and those '
                'that held_out_share of the training set leaves out are used '
                'by nobody: train_dataloader.dataset.held_out_share=0 trains '
                'on them, too')
        if change is not None:
            try:
                return build_held_out(runner.cfg, change)
            except FileNotFoundError as error:
                if not self.optional and self.held_out is not None:
                    raise
                reason = error
        runner.logger.warning(
            f'LossFloorsHook: no held-out samples: {reason}; the loss and its '
            'floors are of training samples. default_hooks.loss_floors.held_'
            'out of the config names others, such as --cfg-options '
            'default_hooks.loss_floors.held_out.data_root=FOLDER, and '
            'train_dataloader.dataset.held_out_share=0.05 leaves tiles out of '
            'training')
        return None

    def look(self, runner: Runner, epoch: int, iteration: int) -> None:
        if iteration != self._measured:
            self._measure(runner)
        shares = {name: self._loss / floor
                  for name, floor in self._floors.items() if floor > 0}
        runner.logger.info(
            f'{self._what.capitalize()} after epoch {epoch}: '
            f'{self._loss:.4g}; '
            + ', '.join(f'{share:.3f} of {name}'
                        for name, share in shares.items()))
        runner.visualizer.add_scalars(
            {'floors/loss': self._loss} | {
                f'floors/loss_over_{name}': share
                for name, share in shares.items()}, step=iteration)
        name = self._decisive()
        if name in shares:
            # By update_info, states would name it, and resuming miss it.
            runner.message_hub.runtime_info[LOSS_INFO] = (
                f'{self._what} {shares[name]:.2f} of {MEANINGS[name]}')

    def after_train(self, runner: Runner) -> None:
        """Warn if a fill of the visible colours is as good as the model."""
        super().after_train(runner)
        name = self._decisive()
        if self._resting or self._loss < self._floors[name]:
            return
        parts = [key.removeprefix('train/')
                 for key in runner.message_hub.log_scalars
                 if key.startswith('train/loss_')]
        helps = ['more steps, a higher rate']
        optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
        if isinstance(optimizer, torch.optim.SGD):
            helps.append('AdamW')
        head = getattr(unwrap(runner.model), 'head', None)
        if name == 'color' and getattr(head, 'norm_pix', None) is False:
            helps.append('a target normalised per patch')
        if len(parts) > 1:
            helps.append(
                f'other weights of {" and ".join(parts)}: once gradients are '
                'clipped, the larger one may leave nothing of the other')
        runner.logger.warning(
            f'The {self._what} is {self._loss:.4g}, {MEANINGS[name]} has '
            f'{self._floors[name]:.4g}: the model has learned no more than '
            f'that. What may help: {", ".join(helps)}.')

    def _decisive(self) -> str:
        return next((name for name in MEANINGS if name in self._floors), '')

    def _measure(self, runner: Runner, guesses: Guesses | None = None) -> None:
        """The model's loss, and with guesses also their floors."""
        error = count = 0.0
        errors = Counter()
        for answer in self._answers(runner, self._dataset, self.num_held_out):
            prediction, targets, criterion = answer
            error += prediction_error(prediction, targets, criterion)
            count += float(targets.weight.double().sum()
                           ) * targets.values.shape[2]
            if guesses is not None:
                errors.update(guess_errors(targets, guesses))
        if not count:
            raise ValueError('LossFloorsHook: the loss counts no place of '
                             f'{self.num_held_out} samples')
        self._loss = error / count
        if guesses is not None:
            self._floors = {name: value / count
                            for name, value in errors.items()}

    def _answers(self, runner: Runner, dataset: Dataset,
                 number: int) -> Iterator[MaskedAnswer]:
        """The model's answers on samples taken evenly, on the CPU."""
        for data in fixed_batches(runner, dataset, number, self.batch_size):
            prediction, targets, criterion = answer_masked(
                saved_model(runner), data['inputs'],
                data.get('data_samples'))
            yield MaskedAnswer(prediction.cpu(), MaskedTargets(*(
                None if value is None else value.cpu()
                for value in targets)), criterion)


def _copy_training_set(runner: Runner) -> Dataset:
    """Build the training set anew, or copy one that has no config.

    Its own transforms draw other views in each epoch, as
    ``TransformEpochHook`` tells them to. Those of the copy do not.
    """
    train = runner.train_dataloader.dataset
    config = (runner.cfg.get('train_dataloader') or {}).get('dataset')
    # num_batch_per_epoch wraps it, and takes the first samples.
    copied = DATASETS.build(config) if isinstance(config, Mapping) \
        else copy.deepcopy(getattr(train, '_dataset', train))
    return Subset(copied, range(len(train)))
