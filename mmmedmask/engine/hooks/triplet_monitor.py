"""Watch whether GiMP's triplets do anything."""

from collections.abc import Mapping

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from torch import Tensor
from torch.utils.data import Dataset

from mmmedmask.engine.held_out import (
    build_held_out,
    fixed_batches,
    shared_count,
    with_slides,
)
from mmmedmask.engine.hooks.cross_fitted_genes import CrossFittedGenesHook
from mmmedmask.engine.preserved_state import saved_model
from mmmedmask.registry import HOOKS
from mmmedmask.util.checks import check_integer

PREFIXES = ('tri_', 'd2_')
MIN_ACTIVE = 0.01
SLIDES_ADVICE = (
    'The slides alone keep the classes of the training patients apart{gap}: '
    'these triplets are learned. Held-out patients tell whether the class is, '
    'or these patients are; a larger margin or fewer epochs')
ADVICE = ('The gene encoder has fitted these very patients: '
          'mmmedmask.CrossFittedGenesHook in default_hooks gives vectors of '
          'encoders that have not seen them')
MARGIN_ADVICE = (
    'The genes alone keep the classes apart by {gap:.3g} (d2_an_ge - '
    'd2_ap_ge), far above a small margin: contrast_head=dict(margin='
    '{margin:.2g}) is above that')
NO_TRIPLETS = (
    'no batch had a triplet: use mmmedmask.ClassBalancedBatchSampler as '
    'batch_sampler of the train_dataloader, and see that patients have '
    'labels, slides and genes')


@HOOKS.register_module()
class TripletMonitorHook(Hook):
    """Log the triplets of each epoch, and warn when they are dead.

    A triplet whose negative is farther than its positive by the margin has
    no gradient. With a gene encoder that separates the classes well this is
    so from the first iteration on for nearly all, and the run goes on as if
    there were no triplets. Once per epoch the means of ``tri_active``,
    ``tri_count`` and the squared distances ``d2_*`` go to the log, and to
    the visualizer as ``epoch/tri_active`` and so on; a warning says what to
    try if less than 1 % were active in the whole epoch. A model that logs no
    triplets is a ValueError.

    ``held_out`` are patients who are not trained on. Their triplets, in one
    batch, with the vectors of the model's own gene encoder, are logged before
    the first step and after each epoch, to the visualizer
    as ``held_out/tri_active`` and so on: many active ones there, where those
    of training patients are satisfied, say that these patients were
    remembered.

    Distances of pairs: ``ap`` of one class, ``an`` of two; ``img`` of
    slides, ``ge`` of genes. Triplets are dead through the genes alone if
    ``d2_an_ge - d2_ap_ge`` is far above the margin; neither vectors of length
    1 with the paper's margin nor the hardest triplets help then
    (docs/results/gimp_genes.md). Where the slides are farther apart than the
    genes, they have learned the triplets.

    Args:
        held_out: As in :func:`~mmmedmask.engine.held_out.build_held_out`;
            None holds out no patient. Those without slides are left out.
        num_held_out: Held-out patients at most, taken evenly.
    """

    priority = 'NORMAL'

    def __init__(self, held_out: dict | None = None,
                 num_held_out: int = 16) -> None:
        self.held_out = held_out
        self.num_held_out = check_integer('num_held_out', num_held_out, 2)
        self._values: list[dict[str, Tensor]] = []
        self._dataset: Dataset | None = None

    def before_train(self, runner) -> None:
        if self.held_out is None:
            return
        dataset = with_slides(build_held_out(runner.cfg, self.held_out))
        if not shared_count(dataset, self.num_held_out):
            runner.logger.warning(
                'TripletMonitorHook: '
                f'{min(len(dataset), self.num_held_out)} held-out patients '
                f'are fewer than {get_world_size()} processes: they are not '
                'looked at')
            return
        self._dataset = dataset
        self._look(runner, 'before training')

    def _look(self, runner, when: str) -> None:
        """Log the triplets of the held-out patients."""
        count = shared_count(self._dataset, self.num_held_out)
        # The triplets are of the patients of all ranks, as in training.
        for batch in fixed_batches(runner, self._dataset, count, count,
                                   shared=True):
            values = _triplet_values(runner, saved_model(runner)(
                **batch, mode='loss'))
        totals = torch.stack([value.double() for value in values.values()])
        all_reduce(totals, op='mean')
        _log(runner, 'held_out', f'{count} held-out patients {when}',
             dict(zip(values, totals.tolist(), strict=True)))

    def before_train_epoch(self, runner) -> None:
        self._values = []

    def after_train_iter(self, runner, batch_idx: int, data_batch=None,
                         outputs=None) -> None:
        self._values.append(_triplet_values(runner, outputs or {}))

    def after_train_epoch(self, runner) -> None:
        if not self._values:
            return
        names = list(self._values[0])
        totals = torch.stack([torch.stack([
            values[name].double() for values in self._values]).sum()
            for name in names])
        totals = torch.cat([totals, totals.new_tensor([len(self._values)])])
        all_reduce(totals)
        # The only point where the host waits for the device.
        *sums, count = totals.tolist()
        means = {name: total / count
                 for name, total in zip(names, sums, strict=True)}
        epoch = f'epoch {runner.epoch + 1}'
        text = _log(runner, 'epoch', epoch, means)
        if self._dataset is not None:
            self._look(runner, f'after {epoch}')
        if not means['tri_count']:
            runner.logger.warning(f'Triplets of {epoch}: {NO_TRIPLETS}')
        elif means['tri_active'] < MIN_ACTIVE:
            cross_fitted = any(isinstance(hook, CrossFittedGenesHook)
                               for hook in runner.hooks)
            runner.logger.warning(
                f'Dead triplets: {100 * means["tri_active"]:.2g} % were '
                f'active in {epoch}, less than {100 * MIN_ACTIVE:g} %; they '
                f'teach nothing ({text}). {_advice(means, cross_fitted)}.')


def _triplet_values(runner, outputs: Mapping[str, Tensor]
                    ) -> dict[str, Tensor]:
    values = {name: value.detach() for name, value in outputs.items()
              if name.startswith(PREFIXES)}
    if 'tri_active' not in values:
        raise ValueError(
            f'TripletMonitorHook: {type(runner.model).__name__} logs no '
            f'tri_active, but {sorted(outputs)}; remove the hook, or give '
            "the model contrast_head=dict(type='mmmedmask.TripletHead')")
    return values


def _log(runner, start: str, whose: str, means: Mapping[str, float]) -> str:
    """Tell visualizer and log the means, and give them as a text."""
    runner.visualizer.add_scalars(
        {f'{start}/{name}': mean for name, mean in means.items()},
        step=runner.iter)
    text = ', '.join(f'{name} {mean:.4g}' for name, mean in means.items())
    runner.logger.info(f'Triplets of {whose}: {text}')
    return text


def _advice(means: Mapping[str, float], cross_fitted: bool) -> str:
    """What helps, by which half keeps the classes apart."""
    genes, slides = (means.get(f'd2_an_{half}', 0)
                     - means.get(f'd2_ap_{half}', 0) for half in ('ge', 'img'))
    if 'd2_an_ge' not in means or slides > max(genes, 0):
        return SLIDES_ADVICE.format(
            gap=f' by {slides:.3g} (d2_an_img - d2_ap_img)'
            if slides > 0 else '')
    advice = [] if cross_fitted and genes > 0 else [ADVICE]
    if genes > 0:
        advice.append(MARGIN_ADVICE.format(gap=genes, margin=1.25 * genes))
    return '. '.join(advice)
