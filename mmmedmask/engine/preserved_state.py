"""Look at a model while it trains, and leave everything as it was.

For hooks that draw or measure between two steps: losses are equal to the bit
with and without them.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.model import is_model_wrapper
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
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, without compilation.

    Afterwards every module has the mode it had: some may have been in
    evaluation mode on purpose. Compiled modules run eagerly meanwhile, since
    another mode would compile them once more.

    Args:
        model: The model.
    """
    training = {module: module.training for module in model.modules()}
    compiled = {
        module: module._compiled_call_impl
        for module in training if module._compiled_call_impl is not None
    }
    model.eval()
    for module in compiled:
        module._compiled_call_impl = None
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
        for module, implementation in compiled.items():
            module._compiled_call_impl = implementation


@contextmanager
def at_iteration(runner, iteration: int) -> Iterator[None]:
    """Let data preprocessors believe that an iteration is running.

    They draw views and masks from the seed, the iteration and the sample.

    Args:
        runner: The runner.
        iteration: The iteration, counted from 0.
    """
    hub = runner.message_hub
    hub.update_info('iter', iteration)
    try:
        yield
    finally:
        hub.update_info('iter', runner.iter)


def unwrap(model: nn.Module) -> nn.Module:
    """Take a model out of its wrapper, such as DistributedDataParallel.

    Args:
        model: The runner's model.

    Returns:
        The model itself.
    """
    return model.module if is_model_wrapper(model) else model
