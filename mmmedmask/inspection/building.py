"""Build the parts of a config one by one, and load its first samples."""

import copy
import tempfile
import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import (
    DATASETS,
    FUNCTIONS,
    HOOKS,
    METRICS,
    MODELS,
    PARAM_SCHEDULERS,
    VISUALIZERS,
    init_default_scope,
)
from torch import nn

from mmmedmask.engine.preserved_state import preserve_random_state
from mmmedmask.inspection.findings import (
    GREEN,
    RED,
    YELLOW,
    Finding,
    describe_error,
)
from mmmedmask.inspection.paths import data_is_there
from mmmedmask.inspection.schedules import schedulers_of
from mmmedmask.inspection.unknown_keys import STANDARD_HOOKS, typed_parts
from mmmedmask.shrinking.shrink import without_mixed_precision
from mmmedmask.util.nested import dotted

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
EVALUATORS = ('val_evaluator', 'test_evaluator')
#: Samples that are loaded and put into a batch.
SAMPLES = 2
#: Iterations of an epoch that schedulers are built with where none is known.
ASSUMED_LENGTH = 100


@dataclass
class Parts:
    """What could be built of a config.

    Attributes:
        model: The model, on the CPU and not initialised, or ``None``.
        wrapper: The optimizer wrapper of the model, or ``None``.
        datasets: Name of the loader to its data set, where the data are.
        metrics: Name of the evaluator to its metrics.
        findings: A finding for each part.
    """

    model: nn.Module | None = None
    wrapper: OptimWrapper | None = None
    datasets: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, list] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def build_parts(config: Config) -> Parts:
    """Build model, data sets, optimizer, schedules, hooks and metrics.

    Each part is built by itself, so that one that fails hides no other.
    The default scope is that of the config from here on.

    Args:
        config: The config; it is not changed.

    Returns:
        The parts and their findings.
    """
    config = copy.deepcopy(config)
    init_default_scope(config.get('default_scope') or 'mmengine')
    parts = Parts()
    with preserve_random_state():
        _build_model(config, parts)
        _build_optimizer(config, parts)
        for name in LOADERS:
            _build_dataset(config, name, parts)
        for name in EVALUATORS:
            _build_metrics(config, name, parts)
        # Hooks ask for the visualizer when they are made.
        _build_visualizer(config, parts)
        _build_hooks(config, parts)
    return parts


def _attempt(parts: Parts, config: Config, check: str, where: str,
             build: Callable[[], Any]) -> Any:
    """Build something; an error becomes a red finding."""
    try:
        return build()
    except Exception as error:  # any part of any library may raise anything
        parts.findings.append(Finding(
            RED, check, describe_error(error),
            locate_error(config, error, where), 'see the message'))
        return None


def locate_error(config: Config, error: BaseException, where: str) -> str:
    """Find the part of a config that was being built when an error came.

    Args:
        config: The config.
        error: The error, with its traceback.
        where: Dotted key of what was to be built.

    Returns:
        Dotted key of the innermost part that was being built and that is in
        the config below the same top-level key, else ``where``.
    """
    built = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == 'build_from_cfg':
            built = frame.f_locals.get('cfg')
    if not isinstance(built, Mapping):
        return where
    top = where.split('.')[0]
    likeness = {}
    for part, path, _ in typed_parts(
            config.to_dict().get(top), (top, ), ''):
        if part['type'] == built.get('type'):
            # Whoever builds a part may have added to it.
            likeness[dotted(path)] = sum(
                built.get(key) == value for key, value in part.items())
    return max(likeness, key=likeness.get, default=where)


def _build_model(config: Config, parts: Parts) -> None:
    settings = config.get('model')
    if settings is None:
        parts.findings.append(Finding(
            RED, 'model', 'the config has no model', 'model',
            'add a model, or inherit from a config that has one'))
        return
    if config.get('data_preprocessor') is not None:
        settings.setdefault('data_preprocessor', config.data_preprocessor)
    model = _attempt(parts, config, 'model', 'model',
                     lambda: MODELS.build(settings))
    if model is None:
        if parts.findings[-1].message.startswith('FileNotFoundError') \
                and not data_is_there(dict(model=settings)):
            parts.findings[-1] = Finding(
                YELLOW, 'model', 'the model is not built: a file that it '
                'names is not there', 'model', 'see the lines with "path"')
        return
    parts.model = model
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters()
                  if parameter.requires_grad)
    text = f'{type(model).__name__}, {total / 1e6:.2f} M parameters'
    if trained != total:
        text += f', of which {trained / 1e6:.2f} M are trained'
    parts.findings.append(Finding(GREEN, 'model', text, 'model'))


def _build_optimizer(config: Config, parts: Parts) -> None:
    settings = config.get('optim_wrapper')
    if parts.model is None or settings is None:
        return
    settings = without_mixed_precision(settings)
    settings.setdefault('type', 'OptimWrapper')
    wrapper = _attempt(parts, config, 'optimizer', 'optim_wrapper',
                       lambda: build_optim_wrapper(parts.model, settings))
    if wrapper is None:
        return
    parts.wrapper = wrapper
    optimizer = getattr(wrapper, 'optimizer', None)
    parts.findings.append(Finding(
        GREEN, 'optimizer', f'{type(optimizer).__name__}, '
        f'{len(wrapper.param_groups)} groups of parameters',
        'optim_wrapper'))
    schedulers = schedulers_of(config)
    built = 0
    for number, scheduler in enumerate(schedulers):
        built += _attempt(
            parts, config, 'schedule', f'param_scheduler.{number}',
            lambda scheduler=scheduler: PARAM_SCHEDULERS.build(
                scheduler, default_args=dict(
                    optimizer=optimizer, epoch_length=ASSUMED_LENGTH))
        ) is not None
    if schedulers and built == len(schedulers):
        parts.findings.append(Finding(
            GREEN, 'schedule', f'{built} schedules are built',
            'param_scheduler'))


def _build_dataset(config: Config, name: str, parts: Parts) -> None:
    loader = config.get(name)
    if not loader:
        return
    where = f'{name}.dataset'
    part = name.partition('_')[0]
    if not data_is_there(loader.dataset):
        parts.findings.append(Finding(
            YELLOW, 'data', f'the {part} data are not there, so its samples '
            'are not looked at', where, 'see the lines with "path"'))
        return
    dataset = _attempt(parts, config, 'data', where,
                       lambda: DATASETS.build(loader.dataset))
    if dataset is None:
        return
    batch = _attempt(parts, config, 'data', f'{where}.pipeline',
                     lambda: _first_batch(dataset, loader))
    if batch is None:
        return
    parts.datasets[name] = dataset
    parts.findings.append(Finding(
        GREEN, 'data', f'{len(dataset)} {part} samples, the first two in a '
        f'batch: {batch}', where))


def _first_batch(dataset: Any, loader: Mapping) -> str:
    """Load the first samples, collate them, and describe the batch."""
    if len(dataset) == 0:
        raise ValueError('the data set is empty')
    samples = [dataset[number]
               for number in range(min(SAMPLES, len(dataset)))]
    collate = loader.get('collate_fn') or dict(type='pseudo_collate')
    arguments = {key: value for key, value in collate.items()
                 if key != 'type'}
    batch = FUNCTIONS.get(collate['type'])(samples, **arguments)
    return describe_batch(batch.get('inputs') if isinstance(batch, Mapping)
                          else batch)


def describe_batch(batch: Any) -> str:
    """Write the shapes and types of tensors in lists and dictionaries."""
    if isinstance(batch, torch.Tensor):
        size = ' x '.join(map(str, batch.shape))
        return f'{size} {str(batch.dtype).rpartition(".")[2]}'
    if isinstance(batch, Mapping):
        items = [f'{key} {describe_batch(value)}'
                 for key, value in batch.items()]
        return '{' + ', '.join(items) + '}'
    if isinstance(batch, list | tuple):
        return '[' + ', '.join(map(describe_batch, batch)) + ']'
    return type(batch).__name__


def _build_metrics(config: Config, name: str, parts: Parts) -> None:
    metrics = config.get(name)
    if not metrics:
        return
    metrics = metrics if isinstance(metrics, list | tuple) else [metrics]
    for number, metric in enumerate(metrics):
        if not data_is_there(dict(metric=metric)):
            parts.findings.append(Finding(
                YELLOW, 'metric', f'{metric.get("type")} is not built: its '
                'file is not there', name, 'see the lines with "path"'))
            continue
        where = f'{name}.{number}' if len(metrics) > 1 else name
        built = _attempt(parts, config, 'metric', where,
                         lambda metric=metric: METRICS.build(metric))
        if built is not None:
            parts.metrics.setdefault(name, []).append(built)
            parts.findings.append(Finding(
                GREEN, 'metric', f'{metric.get("type")} is built', where))


def _build_hooks(config: Config, parts: Parts) -> None:
    hooks = {
        f'default_hooks.{name}': hook
        for name, hook in (config.get('default_hooks') or {}).items()
        if hook is not None
    }
    for number, hook in enumerate(config.get('custom_hooks') or []):
        hooks[f'custom_hooks.{number}'] = hook
    built = 0
    for where, hook in hooks.items():
        hook = dict(hook)
        hook.pop('priority', None)
        hook.setdefault('type', STANDARD_HOOKS.get(where.split('.')[1]))
        built += _attempt(parts, config, 'hook', where,
                          lambda hook=hook: HOOKS.build(hook)) is not None
    if built == len(hooks):
        parts.findings.append(Finding(
            GREEN, 'hook', f'{built} hooks are built',
            'default_hooks, custom_hooks'))


def _build_visualizer(config: Config, parts: Parts) -> None:
    settings = config.get('visualizer') or dict(type='Visualizer')
    with tempfile.TemporaryDirectory() as folder:
        settings = {**settings, 'name': f'check_{uuid.uuid4().hex}',
                    'save_dir': folder}
        visualizer = _attempt(parts, config, 'visualizer', 'visualizer',
                              lambda: VISUALIZERS.build(settings))
    if visualizer is not None:
        parts.findings.append(Finding(
            GREEN, 'visualizer', f'{type(visualizer).__name__} is built',
            'visualizer'))
