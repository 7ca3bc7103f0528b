"""The reconstruction loss on held-out images, beside guesses without a model.

In stained tissue most of a patch's variance is its colour. A loss that falls
to what the visible colour alone explains has learned nothing else.
"""

from collections.abc import Mapping

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import DATASETS
from torch import nn

from mmmedmask.engine.preserved_state import (
    at_iteration,
    evaluating,
    preserve_random_state,
    unwrap,
)
from mmmedmask.functional.loss_floors import (
    TargetSums,
    join_sums,
    loss_floors,
    target_sums,
)
from mmmedmask.functional.masking import resize_mask
from mmmedmask.registry import HOOKS
from mmmedmask.util.checks import check_integer


@HOOKS.register_module()
class LossFloorsHook(Hook):
    """Log the held-out loss as a share of its floors.

    The floors are the losses of the mean target of the training set
    (``constant``), of the best linear guess from the visible colour
    (``color``), and of each image's own mean (``own_mean``), see
    :func:`~mmmedmask.functional.loss_floors.loss_floors`. They are computed
    once, before the first step. Views and masks are those of iteration 0
    each time, so values of different epochs compare.

    The log and the visualizer get ``floors/loss`` and
    ``floors/loss_over_color`` and so on. A run that ends above the floor of
    the colour says so. Only the main process computes; training is not
    changed.

    The model needs ``reconstruct(inputs)`` and ``head.target(key)``, as
    :class:`mmmedmask.models.cmim.CMIM` has them.

    Args:
        held_out: Config of a data set of images that are not trained on,
            with the pipeline of the training set.
        interval: Epochs between two evaluations; there is one before
            training and one at the end.
        num_fit: Training images that the guesses are fitted on at most.
        num_held_out: Held-out images at most.
        batch_size: Images per batch.

    Raises:
        ValueError: If a number is not positive; before training if the
            model cannot reconstruct.
    """

    priority = 'LOW'

    def __init__(self,
                 held_out: dict,
                 interval: int = 1,
                 num_fit: int = 256,
                 num_held_out: int = 128,
                 batch_size: int = 32) -> None:
        self.held_out = held_out
        self.interval = check_integer('interval', interval)
        self.num_fit = check_integer('num_fit', num_fit)
        self.num_held_out = check_integer('num_held_out', num_held_out)
        self.batch_size = check_integer('batch_size', batch_size)
        self._dataset = None
        self._floors: dict[str, float] = {}
        self._loss = float('nan')

    def before_train(self, runner) -> None:
        """Compute the floors, and the loss before the first step."""
        model = unwrap(runner.model)
        if not (hasattr(model, 'reconstruct')
                and hasattr(getattr(model, 'head', None), 'target')):
            raise ValueError(
                f'LossFloorsHook: {type(model).__name__} has no '
                'reconstruct(inputs) and head.target(key); take the hook out')
        if not is_main_process():
            return
        self._dataset = DATASETS.build(self.held_out)
        fit, _ = self._measure(runner, runner.train_dataloader.dataset,
                               self.num_fit)
        held_out, self._loss = self._measure(runner, self._dataset,
                                             self.num_held_out)
        self._floors = loss_floors(fit, held_out)
        self._log(runner, runner.epoch)

    def after_train_epoch(self, runner) -> None:
        """Evaluate when ``interval`` epochs are over."""
        if not is_main_process() or not (
                self.every_n_epochs(runner, self.interval)
                or self.is_last_train_epoch(runner)):
            return
        _, self._loss = self._measure(runner, self._dataset,
                                      self.num_held_out)
        self._log(runner, runner.epoch + 1)

    def after_train(self, runner) -> None:
        """Say so if the model is no better than the colour."""
        if is_main_process() and self._loss >= self._floors['color']:
            runner.logger.warning(
                f'The held-out loss is {self._loss:.4g}, the best guess from '
                f'the visible colour {self._floors["color"]:.4g}: the model '
                'has learned the colour at most. What may help: AdamW, more '
                'steps, a target normalised per patch.')

    def _log(self, runner, epoch: int) -> None:
        shares = {name: self._loss / floor
                  for name, floor in self._floors.items()}
        runner.logger.info(
            f'Held-out loss after epoch {epoch}: {self._loss:.4g}; ' +
            ', '.join(f'{shares[name]:.3f} of {name} ({floor:.4g})'
                      for name, floor in self._floors.items()))
        runner.visualizer.add_scalars(
            {'floors/loss': self._loss,
             **{f'floors/loss_over_{name}': share
                for name, share in shares.items()}}, step=runner.iter)

    def _measure(self, runner, dataset,
                 number: int) -> tuple[TargetSums, float]:
        """Sums of the targets, and the model's own loss."""
        model = unwrap(runner.model)
        number = min(number, len(dataset))
        indices = np.linspace(0, len(dataset) - 1, number).round().astype(int)
        parts, errors, counts = [], 0.0, 0.0
        with preserve_random_state(), at_iteration(runner, 0), \
                evaluating(model), torch.no_grad():
            for start in range(0, number, self.batch_size):
                batch = pseudo_collate([
                    dataset[int(index)]
                    for index in indices[start:start + self.batch_size]
                ])
                sums, error, count = _measure_batch(model, batch)
                parts.append(sums)
                errors, counts = errors + error, counts + count
        return join_sums(parts), errors / counts


def _measure_batch(model: nn.Module,
                   batch: Mapping) -> tuple[TargetSums, float, float]:
    inputs = model.data_preprocessor(batch, True)['inputs']
    prediction, weight = model.reconstruct(inputs)
    target = model.head.target(inputs['key'].float())
    query = inputs['query'].float()
    sums = target_sums(target, weight, query,
                       resize_mask(inputs['mask'], query.shape[-2:]))
    error = ((prediction.float() - target)**2 * weight).double().sum()
    return (TargetSums(*(value.cpu() for value in sums)), float(error),
            float(weight.double().sum()) * target.shape[1])
