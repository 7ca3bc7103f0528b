"""Stop a run at the first loss or gradient that is not finite.

Losses of masked pre-training in half precision turn NaN after more than a
hundred epochs (mmpretrain#1632, ConvMAE#6), and spoil the checkpoints.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from torch import Tensor

from mmmedmask.engine.checkpoint.reading import listing
from mmmedmask.engine.preserved_state import unwrap
from mmmedmask.registry import HOOKS
from mmmedmask.util.checks import check_integer


class _Step(NamedTuple):
    """What is kept of one iteration; ``names`` are None without a step."""

    iteration: int
    loss_names: list[str]
    losses: Tensor
    names: list[str] | None
    norms: Tensor


def gradient_norms(gradients: list[Tensor]) -> Tensor:
    """Return the 2-norms of dense gradients, float32, without waiting."""
    if not gradients:
        return torch.zeros(0)
    floats = [gradient.detach().float() for gradient in gradients]
    norms = torch._foreach_norm(floats)
    return torch.stack([norm.to(floats[0].device) for norm in norms])


@HOOKS.register_module()
class NaNGuardHook(Hook):
    """End training where a loss or the gradient norm is not finite.

    A FloatingPointError names the iteration, every part of the loss, the
    gradient norm and the parameters whose gradients are not finite, before
    the next checkpoint is written: no saved file holds broken weights.

    Losses and norms stay on the device and are read every ``interval``
    iterations, and before each checkpoint and validation; the iteration that
    is named is the first bad one all the same. (MMEngine's own log reads the
    losses in every iteration, too.) Judged are the entries whose name
    contains ``loss``, which are those that MMEngine adds up.

    Gradients are seen where the optimiser would use them: after unscaling
    and, if they are clipped, before clipping. A step that ``GradScaler``
    leaves out because float16 gradients overflowed is legal and passes; a
    loss that is not finite is not, in any precision. A gradient so large
    that its norm overflows float32 counts as not finite.
    """

    priority = 'HIGH'

    def __init__(self, interval: int = 10) -> None:
        self.interval = check_integer('interval', interval)
        self._steps: list[_Step] = []
        self._names: dict[int, str] = {}
        self._before_clipping: dict[int, tuple[list[str], Tensor]] = {}
        self._applied: list[tuple[list[str], Tensor]] = []
        self._undo: list[Callable[[], None]] = []

    def before_train(self, runner) -> None:
        self._names = {id(p): name for name, p in
                       unwrap(runner.model).named_parameters()}
        wrappers = runner.optim_wrapper
        wrappers = [wrappers] if isinstance(wrappers, OptimWrapper) \
            else list(wrappers.values())
        for wrapper in wrappers:
            self._listen(wrapper)

    def _listen(self, wrapper: OptimWrapper) -> None:
        optimizer = wrapper.optimizer
        handle = optimizer.register_step_pre_hook(self._before_step)
        self._undo.append(handle.remove)
        if not wrapper.clip_grad_kwargs:
            return
        clip = wrapper.clip_func

        def look_and_clip(parameters, **kwargs):
            self._before_clipping[id(optimizer)] = self._look_at(parameters)
            return clip(parameters, **kwargs)

        wrapper.clip_func = look_and_clip
        self._undo.append(lambda: setattr(wrapper, 'clip_func', clip))

    def _look_at(self, parameters: Iterable[Tensor]
                 ) -> tuple[list[str], Tensor]:
        """Names of parameters with a gradient, and its norm."""
        parameters = [p for p in parameters if p.grad is not None]
        return ([self._names.get(id(p), 'a parameter outside the model')
                 for p in parameters],
                gradient_norms([p.grad for p in parameters]))

    def _before_step(self, optimizer, args, kwargs) -> None:
        seen = self._before_clipping.pop(id(optimizer), None)
        names, norms = seen or self._look_at(
            p for group in optimizer.param_groups for p in group['params'])
        # Fused optimisers are called for skipped steps too, and unscale
        # gradients themselves; GradScaler leaves them what they need.
        scale = getattr(optimizer, 'grad_scale', None)
        found_inf = getattr(optimizer, 'found_inf', None)
        if scale is not None:
            norms = norms / scale
        if found_inf is not None:
            norms = torch.where(found_inf > 0, torch.zeros_like(norms), norms)
        self._applied.append((names, norms))

    def after_train_iter(self, runner, batch_idx: int, data_batch=None,
                         outputs=None) -> None:
        """Keep this iteration's values; look at them when it is time."""
        outputs = outputs or {}
        losses = [torch.as_tensor(v).detach() for v in outputs.values()]
        names, norms = None, torch.zeros(0)
        if self._applied:
            names = [name for seen, _ in self._applied for name in seen]
            norms = torch.cat([seen for _, seen in self._applied])
        self._applied.clear()
        self._before_clipping.clear()
        # A host may log a value that it computed on the CPU.
        losses = torch.stack([v.float().reshape(()).to(losses[0].device)
                              for v in losses]) if losses else torch.zeros(0)
        self._steps.append(
            _Step(runner.iter + 1, list(outputs), losses, names, norms))
        if len(self._steps) >= self.interval:
            self._look()

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        self._look()

    def before_val(self, runner) -> None:
        self._look()

    def after_train(self, runner) -> None:
        """Look a last time, and leave the optimisers as they were."""
        self._look()
        for undo in self._undo:
            undo()
        self._undo.clear()

    def _look(self) -> None:
        if not self._steps:
            return
        values = [value for step in self._steps
                  for value in (step.losses, step.norms)]
        # The only point where the host waits for the device.
        device = values[0].device
        on_host = torch.cat([v.to(device) for v in values]).cpu().split(
            [len(v) for v in values])
        for step, losses, norms in zip(
                self._steps, on_host[::2], on_host[1::2], strict=True):
            self._judge(step, losses.tolist(), norms.tolist())
        self._steps.clear()

    def _judge(self, step: _Step, losses: list[float],
               norms: list[float]) -> None:
        bad_losses = [
            name for name, value in zip(step.loss_names, losses, strict=True)
            if 'loss' in name and not math.isfinite(value)]
        total = math.sqrt(sum(norm**2 for norm in norms))
        if not bad_losses and math.isfinite(total):
            return
        parts = ', '.join(f'{name}={value:.6g}' for name, value in zip(
            step.loss_names, losses, strict=True))
        what = ' and '.join(bad_losses) or 'the gradient norm'
        norm_text = 'no step was taken'
        if step.names is not None:
            names = [name for name, norm in zip(step.names, norms, strict=True)
                     if not math.isfinite(norm)]
            norm_text = (
                f'{total:.6g}\n  gradients that are not finite ({len(names)} '
                f'of {len(norms)} parameters): {listing(names) or "none"}')
        raise FloatingPointError(
            f'training stopped: {what} is not finite at iteration '
            f'{step.iteration} (counted from 1, as in the log)\n'
            f'  loss parts: {parts or "the model reports none"}\n'
            f'  gradient norm: {norm_text}\n'
            '  Files saved so far hold finite weights. Usual causes: too '
            'high a learning rate, float16 where bfloat16 or float32 is '
            'needed, images or targets that are not finite.')
