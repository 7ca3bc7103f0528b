"""Watch how far each stage of the encoder moves.

A loss can fall through the decoder alone.
"""

from collections.abc import Iterable, Sequence

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.linalg import vector_norm

from mmmedmask.engine.frozen_features import encoder_of, encoder_stages
from mmmedmask.engine.preserved_state import unwrap
from mmmedmask.registry import HOOKS

LEAST_FALL = 0.01
"""Share by which the mean loss of an epoch has to fall to be called falling.
At the end of a cosine schedule nothing moves, and nothing has to."""
STILL = 1e-3
"""Share of its weights below which a stage's movement is none."""


@HOOKS.register_module()
class MovementHook(Hook):
    """Log how far the encoder's weights move, stage by stage.

    Once per epoch, for each stage of the encoder (layers of a CNN or an
    aggregator, blocks of a transformer, and the rest): the distance of the
    weights from those at the start of the epoch, and the length of the
    epoch's last step, both as shares of the length of the weights. The
    visualizer gets ``movement/STAGE`` and ``movement_step/STAGE``. At the end
    a line says how far each stage is from where training began or went on.

    A warning names the stages that move less than 0.1 % of their weights in
    an epoch in which the mean loss falls by more than 1 % (in the first
    epoch: from its first to its second half).

    Only parameters that are trained count. Training is not changed; the main
    process keeps two copies of the encoder's weights in the memory of the CPU.
    A model without a ``backbone`` or ``aggregator`` is a ValueError.
    """

    priority = 'LOW'

    def __init__(self) -> None:
        self._stages: dict[str, list[nn.Parameter]] = {}
        self._first: dict[str, list[Tensor]] = {}
        self._first_iteration = 0
        self._begin: dict[str, list[Tensor]] = {}
        self._before_step: dict[str, list[Tensor]] = {}
        self._losses: list[Tensor] = []
        self._mean_loss: float | None = None

    def before_train(self, runner: Runner) -> None:
        encoder = encoder_of(unwrap(runner.model))
        if is_main_process():
            self._stages = stage_parameters(encoder)
            self._first = self._copy()
            self._first_iteration = runner.iter

    def before_train_epoch(self, runner: Runner) -> None:
        self._begin = self._copy()
        self._losses = []

    def before_train_iter(self, runner: Runner, batch_idx: int,
                          data_batch: dict | None = None) -> None:
        """Keep the weights before the last step."""
        # A run that goes on in the middle of an epoch counts its batches anew.
        length = len(runner.train_dataloader)
        if batch_idx == length - 1 or (runner.iter + 1) % length == 0:
            self._before_step = self._copy()

    def after_train_iter(self, runner: Runner, batch_idx: int,
                         data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        if self._stages and 'loss' in (outputs or {}):
            self._losses.append(outputs['loss'].detach().float())

    def after_train_epoch(self, runner: Runner) -> None:
        if not self._before_step:
            # No main process, or an epoch of which no step was left.
            return
        moved = self._shares(self._begin)
        stepped = self._shares(self._before_step)
        epoch = runner.epoch + 1
        runner.logger.info(
            f'Movement in epoch {epoch} (last step): ' + ', '.join(
                f'{name} {share:.2%} ({stepped[name]:.2g})'
                for name, share in moved.items()))
        runner.visualizer.add_scalars(
            {f'movement/{name}': share for name, share in moved.items()}
            | {f'movement_step/{name}': stepped[name] for name in moved},
            step=runner.iter)
        still = [name for name, share in moved.items() if share < STILL]
        if self._loss_falls() and still:
            runner.logger.warning(
                f'The loss falls, but in epoch {epoch} these stages of the '
                f'encoder moved less than {STILL:.2%} of their weights: '
                f'{", ".join(still)}. The rest of the model learns without '
                'them. What may help: a higher rate, AdamW, a loss that is '
                'not divided by so many values.')
        self._before_step = {}

    def after_train(self, runner: Runner) -> None:
        if self._stages:
            # No checkpoint has the weights of the very beginning.
            since = f'iteration {self._first_iteration}' \
                if self._first_iteration else 'training began'
            runner.logger.info(f'Movement since {since}: ' + ', '.join(
                f'{name} {share:.1%}'
                for name, share in self._shares(self._first).items()))

    def _copy(self) -> dict[str, list[Tensor]]:
        return {name: [parameter.detach().to('cpu', copy=True)
                       for parameter in parameters]
                for name, parameters in self._stages.items()}

    def _shares(self, old: dict[str, list[Tensor]]) -> dict[str, float]:
        return {name: moved_share(old[name], parameters)
                for name, parameters in self._stages.items() if name in old}

    def _loss_falls(self) -> bool:
        if not self._losses:
            return False
        losses = torch.stack(self._losses).cpu()
        before, self._mean_loss = self._mean_loss, float(losses.mean())
        now = self._mean_loss
        if before is None:
            half = len(losses) // 2
            if not half:
                return False
            before, now = (float(part.mean()) for part in (
                losses[:half], losses[half:]))
        return before - now > LEAST_FALL * abs(before)


def stage_parameters(encoder: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Sort the trained parameters of an encoder by its stages.

    Those outside of all stages are ``'rest'``.
    """
    try:
        stages = encoder_stages(encoder)
    except ValueError:
        stages = {}
    groups = {name: [parameter for parameter in stage.parameters()
                     if parameter.requires_grad]
              for name, stage in stages.items()}
    known = {id(parameter) for group in groups.values() for parameter in group}
    groups['rest'] = [
        parameter for parameter in encoder.parameters()
        if parameter.requires_grad and id(parameter) not in known]
    return {name: group for name, group in groups.items() if group}


def moved_share(old: Sequence[Tensor], new: Iterable[Tensor]) -> float:
    """Distance of weights from where they were, as a share of their length."""
    distance = length = 0.0
    for before, now in zip(old, new, strict=True):
        before = before.float()
        moved = now.detach().cpu().float() - before
        # Sums in double, without a copy of each tensor in double.
        distance += float(vector_norm(moved, dtype=torch.float64))**2
        length += float(vector_norm(before, dtype=torch.float64))**2
    return (distance / max(length, 1e-24))**0.5
