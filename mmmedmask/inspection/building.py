"""Build the parts of a config one by one, and load its first samples."""

import copy
import tempfile
import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine import registry
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import nn

from mmmedmask.config_files import (
    LOADERS,
    find_hooks,
    scheduler_keys,
    schedulers_of,
)
from mmmedmask.engine.preserved_state import preserve_random_state
from mmmedmask.inspection.findings import (
    Finding,
    describe_error,
    green,
    red,
    yellow,
)
from mmmedmask.inspection.paths import data_is_there
from mmmedmask.inspection.unknown_keys import STANDARD_HOOKS, typed_parts
from mmmedmask.shrinking.shrink import without_mixed_precision
from mmmedmask.util.nested import dotted

#: Samples that are loaded and put into a batch.
SAMPLES = 2
#: Iterations of an epoch that schedulers are built with where none is known.
ASSUMED_LENGTH = 100


@dataclass
class Parts:
    """What could be built of a config, and a finding for each part.

    Attributes:
        model: The model, on the CPU and not initialised.
        datasets: Name of the loader to its data set, where the data are.
        metrics: Name of the evaluator to its metrics.
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
    """
    config = copy.deepcopy(config)
    registry.init_default_scope(config.get('default_scope') or 'mmengine')
    parts = Parts()
    with preserve_random_state():
        _build_model(config, parts)
        _build_optimizer(config, parts)
        for name in LOADERS:
            _build_dataset(config, name, parts)
        for name in ('val_evaluator', 'test_evaluator'):
            _build_metrics(config, name, parts)
        # Hooks ask for the visualizer when they are made.
        _build_visualizer(config, parts)
        _build_hooks(config, parts)
    return parts


def _attempt(parts: Parts, config: Config, check: str, where: str,
             build: Callable[..., Any], *arguments: Any) -> Any:
    """Build something; an error becomes a red finding, and None."""
    try:
        return build(*arguments)
    except Exception as error:  # any part of any library may raise anything
        parts.findings.append(red(
            check, describe_error(error), locate_error(config, error, where),
            'see the message'))
        return None


def locate_error(config: Config, error: BaseException, where: str) -> str:
    """Find the part of a config that was being built when an error came.

    Returns the dotted key of the innermost one that is in the config below
    the same top-level key, else ``where``.
    """
    built = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == 'build_from_cfg':
            built = frame.f_locals.get('cfg')
    if not isinstance(built, Mapping):
        return where
    top = where.split('.')[0]
    # The parent that builds a part may have added to it.
    likeness = {dotted(path): sum(built.get(key) == value
                                  for key, value in part.items())
                for part, path, _ in typed_parts(config.to_dict().get(top),
                                                 (top, ), '')
                if part['type'] == built.get('type')}
    return max(likeness, key=likeness.get, default=where)


def _build_model(config: Config, parts: Parts) -> None:
    settings = config.get('model')
    if settings is None:
        parts.findings.append(red(
            'model', 'the config has no model', 'model',
            'add a model, or inherit from a config that has one'))
        return
    if config.get('data_preprocessor') is not None:
        settings.setdefault('data_preprocessor', config.data_preprocessor)
    model = parts.model = _attempt(parts, config, 'model', 'model',
                                   registry.MODELS.build, settings)
    if model is None:
        if parts.findings[-1].message.startswith('FileNotFoundError') \
                and not data_is_there(dict(model=settings)):
            parts.findings[-1] = yellow(
                'model', 'the model is not built: a file that it names is '
                'not there', 'model', 'see the lines with "path"')
        return
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters()
                  if parameter.requires_grad)
    text = f'{type(model).__name__}, {total / 1e6:.2f} M parameters'
    if trained != total:
        text += f', of which {trained / 1e6:.2f} M are trained'
    parts.findings.append(green('model', text, 'model'))


def _build_optimizer(config: Config, parts: Parts) -> None:
    settings = config.get('optim_wrapper')
    if parts.model is None or settings is None:
        return
    settings = without_mixed_precision(settings)
    settings.setdefault('type', 'OptimWrapper')
    wrapper = parts.wrapper = _attempt(
        parts, config, 'optimizer', 'optim_wrapper', build_optim_wrapper,
        parts.model, settings)
    if wrapper is None:
        return
    optimizer = getattr(wrapper, 'optimizer', None)
    parts.findings.append(green(
        'optimizer', f'{type(optimizer).__name__}, '
        f'{len(wrapper.param_groups)} groups of parameters', 'optim_wrapper'))
    needed = dict(optimizer=optimizer, epoch_length=ASSUMED_LENGTH)
    built = [_attempt(parts, config, 'schedule', where,
                      lambda scheduler: registry.PARAM_SCHEDULERS.build(
                          scheduler, default_args=needed), scheduler)
             for where, scheduler in zip(
                 scheduler_keys(config), schedulers_of(config), strict=True)]
    if built and None not in built:
        parts.findings.append(green(
            'schedule', f'{len(built)} schedules are built',
            'param_scheduler'))


def _build_dataset(config: Config, name: str, parts: Parts) -> None:
    loader = config.get(name)
    if not loader:
        return
    where, part = f'{name}.dataset', name.partition('_')[0]
    if not data_is_there(loader.dataset):
        parts.findings.append(yellow(
            'data', f'the {part} data are not here, so its samples are not '
            'looked at', where, 'see the lines with "path" or "remote"'))
        return
    dataset = _attempt(parts, config, 'data', where, registry.DATASETS.build,
                       loader.dataset)
    if dataset is None:
        return
    batch = _attempt(parts, config, 'data', f'{where}.pipeline', _first_batch,
                     dataset, loader)
    if batch is None:
        return
    parts.datasets[name] = dataset
    parts.findings.append(green('data', f'{len(dataset)} {part} samples, the '
                                f'first two in a batch: {batch}', where))


def _first_batch(dataset: Any, loader: Mapping) -> str:
    """Load the first samples, collate them, and describe the batch."""
    if len(dataset) == 0:
        raise ValueError('the data set is empty')
    samples = [dataset[number] for number in range(min(SAMPLES, len(dataset)))]
    batch = collate(loader, samples)
    return describe_batch(batch.get('inputs') if isinstance(batch, Mapping)
                          else batch)


def collate(loader: Mapping, samples: list) -> Any:
    """Put samples into a batch as the loader of a config does."""
    arguments = dict(loader.get('collate_fn') or dict(type='pseudo_collate'))
    return registry.FUNCTIONS.get(arguments.pop('type'))(samples, **arguments)


def describe_batch(batch: Any) -> str:
    """Write the shapes and types of tensors in lists and dictionaries."""
    if isinstance(batch, torch.Tensor):
        size = ' x '.join(map(str, batch.shape))
        return f'{size} {str(batch.dtype).rpartition(".")[2]}'
    if isinstance(batch, Mapping):
        return '{' + ', '.join(f'{key} {describe_batch(value)}' for key, value
                               in batch.items()) + '}'
    if isinstance(batch, list | tuple):
        return '[' + ', '.join(map(describe_batch, batch)) + ']'
    return type(batch).__name__


def _build_metrics(config: Config, name: str, parts: Parts) -> None:
    metrics = config.get(name)
    if not metrics:
        return
    metrics = metrics if isinstance(metrics, list | tuple) else [metrics]
    for number, metric in enumerate(metrics):
        kind = metric.get('type')
        if not data_is_there(dict(metric=metric)):
            parts.findings.append(yellow(
                'metric', f'{kind} is not built: its file is not there', name,
                'see the lines with "path"'))
            continue
        where = f'{name}.{number}' if len(metrics) > 1 else name
        built = _attempt(parts, config, 'metric', where,
                         registry.METRICS.build, metric)
        if built is not None:
            parts.metrics.setdefault(name, []).append(built)
            parts.findings.append(green('metric', f'{kind} is built', where))


def _build_hooks(config: Config, parts: Parts) -> None:
    built = []
    for where, hook in find_hooks(config).items():
        hook = {'type': STANDARD_HOOKS.get(where.split('.')[1]), **hook}
        hook.pop('priority', None)
        built.append(_attempt(parts, config, 'hook', where,
                              registry.HOOKS.build, hook))
    if None not in built:
        parts.findings.append(green('hook', f'{len(built)} hooks are built',
                                    'default_hooks, custom_hooks'))


def _build_visualizer(config: Config, parts: Parts) -> None:
    settings = config.get('visualizer') or dict(type='Visualizer')
    with tempfile.TemporaryDirectory() as folder:
        visualizer = _attempt(parts, config, 'visualizer', 'visualizer',
                              registry.VISUALIZERS.build,
                              {**settings, 'name': f'check_{uuid.uuid4().hex}',
                               'save_dir': folder})
    if visualizer is not None:
        parts.findings.append(green(
            'visualizer', f'{type(visualizer).__name__} is built',
            'visualizer'))
