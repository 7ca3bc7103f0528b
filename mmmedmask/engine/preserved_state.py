"""Look at a model between two steps, and leave everything as it was."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.hooks import EMAHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn


@contextmanager
def preserve_random_state() -> Iterator[None]:
    """Leave the global generators as they were: Python, NumPy, torch."""
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    in_use = torch.cuda.is_available() and torch.cuda.is_initialized()
    devices = [torch.cuda.current_device()] if in_use else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


@contextmanager
def preserve_modes(model: nn.Module) -> Iterator[None]:
    """Give every module its mode back, training or evaluation."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode; afterwards modules have their own.

    Compiled ones run eagerly meanwhile: another mode would compile anew.
    """
    compiled = {module: module._compiled_call_impl
                for module in model.modules()
                if module._compiled_call_impl is not None}
    with preserve_modes(model):
        model.eval()
        for module in compiled:
            module._compiled_call_impl = None
        try:
            yield
        finally:
            for module, implementation in compiled.items():
                module._compiled_call_impl = implementation


@contextmanager
def model_at_rest(runner: Runner,
                  model: nn.Module | None = None) -> Iterator[nn.Module]:
    """Give a runner's model, unwrapped, for inference under its autocast.

    It is the one that is trained, if none is named.
    """
    model = unwrap(runner.model) if model is None else model
    with preserve_random_state(), evaluating(model), \
            torch.inference_mode(), runner.optim_wrapper.optim_context(model):
        yield model


@contextmanager
def at_iteration(runner: Runner, iteration: int) -> Iterator[None]:
    """Let data preprocessors, which draw from it, see another iteration."""
    hub = runner.message_hub
    hub.update_info('iter', iteration)
    try:
        yield
    finally:
        hub.update_info('iter', runner.iter)


def unwrap(model: nn.Module) -> nn.Module:
    """Take a model out of its wrapper, such as DistributedDataParallel."""
    return model.module if is_model_wrapper(model) else model


def saved_model(runner: Runner) -> nn.Module:
    """The model that is validated and that a checkpoint has as its own.

    It is the average of an ``EMAHook``, whose parameters have no gradient,
    but before the first iteration, with which the average begins; without
    such a hook the model that is trained.
    """
    averages = [hook.ema_model.module for hook in runner.hooks
                if isinstance(hook, EMAHook)]
    return averages[0] if averages and runner.iter else unwrap(runner.model)
