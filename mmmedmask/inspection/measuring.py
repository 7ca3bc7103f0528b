"""Memory, time and operations of a training step, measured on the CPU."""

import copy
import inspect
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from mmmedmask.engine.preserved_state import preserve_random_state
from mmmedmask.inspection import trial
from mmmedmask.util.silence import in_silence

_ATEN = torch.ops.aten
# Fused attention on a CPU, of which torch counts nothing by itself.
ATTENTION_FORMULAS = {
    _ATEN._scaled_dot_product_flash_attention_for_cpu:
        lambda query, key, value, *_, **__: sdpa_flop_count(query, key, value),
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward:
        lambda gradient, query, key, value, *_, **__: sdpa_backward_flop_count(
            gradient, query, key, value)}


class EnoughError(Exception):
    """A run has done what it was started for."""


@dataclass(frozen=True)
class FixedMemory:
    """Bytes that do not depend on the batch.

    ``optimizer``: its state after a first step, None if it cannot be told.
    """

    parameters: int
    buffers: int
    gradients: int
    optimizer: int | None

    @property
    def total(self) -> int:
        """All of them together."""
        return (self.parameters + self.buffers + self.gradients
                + (self.optimizer or 0))


@dataclass
class Activations:
    """What a forward pass keeps for its backward pass.

    Attributes:
        scaling: Bytes that grow with the batch.
        constant: Bytes of copies of weights (of autocast), which do not.
    """

    scaling: int = 0
    constant: int = 0


@dataclass
class StepMeasurement:
    """A training step of the true model.

    Attributes:
        activations: What its forward pass kept, in float32; ``mixed`` under
            bfloat16 autocast, if that was measured.
        flops: Operations of forward and backward pass, multiply and add
            counted as two.
        seconds: Time of the step, data loading left out.
        source: What the samples are: true or drawn data.
    """

    samples: int
    activations: Activations
    flops: int
    seconds: float
    source: str
    mixed: Activations | None = None


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def fixed_memory(model: nn.Module,
                 wrapper: OptimWrapper | None) -> FixedMemory:
    """Count the bytes of weights, gradients and optimizer, exactly."""
    parameters = list(model.parameters())
    return FixedMemory(
        parameters=sum(map(_size, parameters)),
        buffers=sum(map(_size, model.buffers())),
        gradients=sum(_size(parameter) for parameter in parameters
                      if parameter.requires_grad),
        optimizer=wrapper and optimizer_state(wrapper.optimizer))


def optimizer_state(optimizer: torch.optim.Optimizer) -> int | None:
    """Count the bytes of an optimizer's state after its first step.

    The same optimizer takes a step on the meta device, where tensors have
    shapes and no values. One that looks at values (LARS asks for norms)
    takes it with ones. None if that fails.
    """
    for device in ('meta', 'cpu'):
        try:
            shadow = _shadow(optimizer, device)
            if shadow is None:
                return 0
            shadow.step()
        except (RuntimeError, NotImplementedError, TypeError):
            continue
        return sum(_size(value) for state in shadow.state.values()
                   for value in state.values() if isinstance(value, Tensor))
    return None


def _shadow(optimizer: torch.optim.Optimizer,
            device: str) -> torch.optim.Optimizer | None:
    """Make an optimizer of the same type for parameters of the same shapes."""
    valid = inspect.signature(type(optimizer).__init__).parameters
    defaults = {key: value for key, value in optimizer.defaults.items()
                if key in valid}
    groups = []
    for group in optimizer.param_groups:
        shadows = [nn.Parameter(torch.ones_like(parameter, device=device))
                   for parameter in group['params'] if parameter.requires_grad]
        for shadow in shadows:
            shadow.grad = torch.ones_like(shadow)
        if shadows:
            groups.append({**group, 'params': shadows})
    return type(optimizer)(groups, **defaults) if groups else None


@contextmanager
def count_activations(model: nn.Module) -> Iterator[Activations]:
    """Count the bytes that a forward pass keeps for its backward pass.

    Distinct storages count once; those of the model's own parameters and
    buffers do not count. The count is complete when the pass is over.
    """
    count = Activations()
    seen = {tensor.untyped_storage().data_ptr()
            for tensor in (*model.parameters(), *model.buffers())}
    shapes = {tuple(parameter.shape) for parameter in model.parameters()}
    shapes |= {shape[::-1] for shape in shapes if len(shape) == 2}

    def pack(tensor: Tensor) -> Tensor:
        # The graph holds what is packed, so no address is used twice.
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if address not in seen:
            seen.add(address)
            copied = tensor.dtype in (torch.bfloat16, torch.float16) \
                and tuple(tensor.shape) in shapes
            if copied:
                count.constant += storage.nbytes()
            else:
                count.scaling += storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield count


def _batch_length(data: object) -> int:
    if isinstance(data, dict):
        for key in ('data_samples', 'inputs'):
            if key in data:
                return _batch_length(data[key])
        return max(map(_batch_length, data.values()), default=1)
    if isinstance(data, list | tuple):
        nested = data and isinstance(data[0], list | tuple)
        return _batch_length(data[0]) if nested else len(data)
    return len(data) if isinstance(data, Tensor) and data.dim() else 1


def measure_step(config: Config, folder: str | Path, limit: float = 0,
                 mixed: bool = True, timed: bool = True) -> StepMeasurement:
    """Measure a training step of the true model on the CPU.

    Args:
        folder: For the run, and for drawn data where the real ones are not
            there.
        limit: Seconds for all of it; 0 means no limit. The activations
            under autocast are left out where time is short.
        mixed: Whether to count them at all, slow without bfloat16.
        timed: Whether to take a second step for the time, because counting
            operations slows the first one down.

    Raises:
        OutOfTimeError: If not even the first step is done in time.
        ValueError: If the data are not there and cannot be drawn.
    """
    full = trial.full_size_config(config, folder)
    results: dict[str, object] = {}
    start = time.perf_counter()
    with in_silence(), preserve_random_state():
        try:
            with trial.time_limit(limit):
                runner = Runner.from_cfg(trial.separate(full))
                _measure_steps(runner, results, start, limit, mixed, timed)
                runner.train()
        except EnoughError:
            pass
        except trial.OutOfTimeError:
            if 'flops' not in results:
                raise
    results.setdefault('seconds', results.pop('counted_seconds'))
    return StepMeasurement(**results, source=trial.describe_data(
        config.train_dataloader.dataset))


def _measure_steps(runner: Runner, results: dict, start: float,
                   limit: float, mixed: bool, timed: bool) -> None:
    """Let a runner's model measure its first steps, and end the run."""
    model = runner.model
    train_step = model.train_step
    forward = model._run_forward

    def count(data, mode):
        with count_activations(model) as activations:
            outputs = forward(data, mode)
        results['activations'] = activations
        return outputs

    def measured(data, optim_wrapper):
        begin = time.perf_counter()
        if 'flops' in results:
            train_step(data, optim_wrapper)
            results['seconds'] = time.perf_counter() - begin
            raise EnoughError
        results['samples'] = _batch_length(data)
        again = copy.copy(data)
        model._run_forward = count
        with FlopCounterMode(display=False,
                             custom_mapping=ATTENTION_FORMULAS) as counter:
            outputs = train_step(data, optim_wrapper)
        model._run_forward = forward
        results['counted_seconds'] = time.perf_counter() - begin
        results['flops'] = counter.get_total_flops()
        spent = time.perf_counter() - start
        if mixed and (not limit or
                      spent + 4 * results['counted_seconds'] < limit):
            results['mixed'] = _mixed_activations(model, again, forward)
        if not timed:
            raise EnoughError
        return outputs

    model.train_step = measured


def _mixed_activations(model: nn.Module, data: object,
                       forward) -> Activations | None:
    """Count the activations under bfloat16 autocast."""
    try:
        with torch.autocast('cpu', dtype=torch.bfloat16), \
                count_activations(model) as activations:
            outputs = forward(model.data_preprocessor(data, True), 'loss')
        del outputs
    except (RuntimeError, ValueError, TypeError, NotImplementedError):
        # Some operations have no bfloat16 kernel on the CPU.
        return None
    return activations


def scaled_memory(fixed: FixedMemory, activations: Activations,
                  samples: int, batch: int) -> int:
    """Estimate the memory of a step of ``batch`` samples, in bytes.

    ``activations`` are what a forward pass of ``samples`` samples kept.
    Workspaces of kernels and fragmentation come on top.
    """
    return fixed.total + activations.constant + math.ceil(
        activations.scaling * batch / samples)
