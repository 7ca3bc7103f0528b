"""Unknown types and unknown keys of a config, before anything is built.

Dictionaries with a ``type`` are compared with the signature of its class,
others (data loaders, loops, ...) with what MMEngine reads from them.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import mmengine.registry as mmengine_registry
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmmedmask.config_files import LOADERS, runner_keys
from mmmedmask.inspection.findings import (
    Finding,
    ask_typo,
    red,
    suggest,
    yellow,
)
from mmmedmask.inspection.signatures import accepted_parameters, keys_read_from
from mmmedmask.shrinking.model_sizes import kind_of
from mmmedmask.util.nested import dotted, walk_nested
from mmmedmask.util.silence import in_silence

#: Registry in which the type of a dictionary is looked up first, by the
#: key that leads to it; below it the registry stays the same.
REGISTRIES = {key: registry for registry, keys in {
    'BATCH_AUGMENTS': ('batch_augments', 'augments'),
    'DATASETS': ('dataset', ),
    'DATA_SAMPLERS': ('batch_sampler', *LOADERS),
    'FUNCTIONS': ('collate_fn', 'worker_init_fn'),
    'HOOKS': ('custom_hooks', 'default_hooks'),
    'LOG_PROCESSORS': ('log_processor', ),
    'METRICS': ('val_evaluator', 'test_evaluator'),
    'MODELS': ('model', 'data_preprocessor', 'tta_model'),
    'MODEL_WRAPPERS': ('model_wrapper_cfg', ),
    'OPTIMIZERS': ('optimizer', ),
    'OPTIM_WRAPPERS': ('optim_wrapper', ),
    'PARAM_SCHEDULERS': ('param_scheduler', ),
    'TRANSFORMS': ('pipeline', 'policies', 'transforms', 'tta_pipeline'),
    'VISBACKENDS': ('vis_backends', ),
    'VISUALIZERS': ('visualizer', ),
    'WEIGHT_INITIALIZERS': ('init_cfg', )}.items() for key in keys}
#: Tried after the first one: builders within a model name parts of others.
FALLBACKS = ('MODELS', 'TASK_UTILS', 'TRANSFORMS', 'WEIGHT_INITIALIZERS',
             'DATASETS', 'DATA_SAMPLERS', 'HOOKS', 'METRICS', 'EVALUATOR',
             'OPTIMIZERS', 'OPTIM_WRAPPERS', 'OPTIM_WRAPPER_CONSTRUCTORS',
             'PARAM_SCHEDULERS', 'VISUALIZERS', 'VISBACKENDS', 'FUNCTIONS',
             'LOOPS', 'LOG_PROCESSORS', 'BATCH_AUGMENTS', 'TOKENIZER',
             'STRATEGIES')
#: What the function that builds from a registry takes out of the dictionary.
TAKEN_BY_BUILDERS = {
    'HOOKS': {'priority'},
    'OPTIM_WRAPPERS': {'constructor', 'paramwise_cfg', 'optimizer'},
    'PARAM_SCHEDULERS': {'convert_to_iter_based'},
    'WEIGHT_INITIALIZERS': {'override', 'layer'}}
#: The same for builders of mmcv's bricks and of policies, by the key that
#: leads to the dictionary.
TAKEN_BY_KEY = {'norm_cfg': {'requires_grad'},
                'policies': {'magnitude_key', 'magnitude_range'}}
#: Dictionaries whose ``type`` is not a name in a registry, or which their
#: reader changes before it builds from them.
OPAQUE = frozenset({'backend_args', 'clip_grad', 'file_client_args',
                    'metainfo', 'nms', 'roi_layer', 'upsample_cfg'})
LOADER_EXTRAS = {'dataset', 'num_batch_per_epoch',
                 'disable_subprocess_warning'}
ENVIRONMENT_KEYS = ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit')
LR_SCALING_KEYS = ('enable', 'base_batch_size')
#: Hooks that a runner makes by itself, by their name in ``default_hooks``.
STANDARD_HOOKS = {
    'checkpoint': 'CheckpointHook', 'logger': 'LoggerHook',
    'param_scheduler': 'ParamSchedulerHook', 'timer': 'IterTimerHook',
    'runtime_info': 'RuntimeInfoHook', 'sampler_seed': 'DistSamplerSeedHook'}
ALWAYS = frozenset({'type', '_scope_', '_delete_'})
# Likeness to a key beside it from which a key is taken for a typo of it.
TYPO_BESIDE = .9


def check_types(config: Config) -> list[Finding]:
    """Compare every part of a config with the class that is made from it.

    Nothing is built; the host library is imported. Unknown types and keys
    are red, with the nearest valid one, and so is text in the place of a
    truth value.
    """
    keys = runner_keys()
    settings = {key: value for key, value in config.to_dict().items()
                if key in keys}
    scope = settings.get('default_scope') or 'mmengine'
    findings: list[Finding] = []
    # Imports and failed look-ups log and warn.
    with in_silence():
        for key, value in settings.items():
            if key in OPAQUE:
                continue
            for part in typed_parts(value, (key, ), scope):
                findings += _check_part(*part)
        findings += _check_untyped(settings, scope)
    return findings


def typed_parts(node: Any, path: tuple,
                scope: str) -> Iterator[tuple[Mapping, tuple, str]]:
    """Find all dictionaries with a type in a part of a config.

    Each comes with the keys that lead to it and the default scope there.
    """
    scopes = {path[:-1]: scope}
    for place, part in walk_nested(node, path):
        scopes[place] = scope = scopes[place[:-1]]
        if not OPAQUE.isdisjoint(place[len(path):]) \
                or not isinstance(part, Mapping):
            continue
        scopes[place] = scope = part.get('_scope_') or scope
        if 'type' in part:
            yield part, place, scope


def _context(path: tuple) -> str:
    """Name the registry that the keys of a dictionary point to."""
    words = [key for key in path if isinstance(key, str)]
    for word in reversed(words):
        if word == 'sampler':
            return 'TASK_UTILS' if 'model' in words else 'DATA_SAMPLERS'
        if word in ('train_cfg', 'val_cfg', 'test_cfg'):
            return 'TASK_UTILS' if 'model' in words else 'LOOPS'
        if word in REGISTRIES:
            return REGISTRIES[word]
    return 'MODELS'


@functools.cache
def _registry(name: str, scope: str) -> Registry | None:
    """Return MMEngine's registry of a kind, or that of a host alone."""
    registry = getattr(mmengine_registry, name, None)
    if registry is not None or scope == 'mmengine':
        return registry
    try:
        module = __import__(f'{scope}.registry', fromlist=['registry'])
    except ImportError:
        return None
    return getattr(module, name, None)


@functools.cache
def find_type(name: str, context: str,
              scope: str) -> tuple[Callable | None, str]:
    """Look a type up as a builder would, in ``'MODELS'`` or so first.

    Returns what is registered, or None, and the kind of registry.
    """
    for kind in (context, *FALLBACKS):
        registry = _registry(kind, scope)
        if registry is None:
            continue
        with registry.switch_scope_and_registry(scope) as scoped, \
                contextlib.suppress(ImportError, KeyError):
            if (component := scoped.get(name)) is not None:
                return component, kind
    return None, context


def _registered_names(context: str, scope: str) -> set[str]:
    registry = _registry(context, scope)
    if registry is None:
        return set()
    names: set[str] = set()
    with registry.switch_scope_and_registry(scope) as scoped:
        scoped.import_from_location()
        while scoped is not None:
            names |= set(scoped.module_dict)
            scoped = scoped.parent
    ours = registry.root.children.get('mmmedmask')
    if ours is not None:
        ours.import_from_location()
        names |= {f'mmmedmask.{name}' for name in ours.module_dict}
    return names


def _check_part(node: Mapping, path: tuple, scope: str) -> Iterator[Finding]:
    context = _context(path)
    name = node['type']
    target, kind = find_type(name, context, scope) \
        if isinstance(name, str) else (name, context)
    if target is None:
        yield _unknown_type(name, path, context, scope)
    elif callable(target):
        last = next(key for key in reversed(path) if isinstance(key, str))
        yield from _check_keys(
            node, path, target, TAKEN_BY_BUILDERS.get(kind, set())
            | TAKEN_BY_KEY.get(last, set()))


def _unknown_type(name: str, path: tuple, context: str, scope: str) -> Finding:
    names = _registered_names(context, scope)
    prefixed = f'mmmedmask.{name}'
    mend = f'types of this package have a prefix: {prefixed!r}' \
        if prefixed in names else suggest(name, names)
    return red(
        'type', f'{name!r} is registered nowhere (default scope {scope!r}), '
        'so building it would fail', dotted((*path, 'type')), mend)


def _check_keys(node: Mapping, path: tuple, target: Callable,
                taken: set[str]) -> Iterator[Finding]:
    parameters = accepted_parameters(target)
    valid = parameters.names | taken
    name = getattr(target, '__name__', str(target))
    for key, value in node.items():
        where = dotted((*path, key))
        # Text that says no is true, too.
        if key in parameters.flags and isinstance(value, str):
            yield red('value', f'{name} takes {key!r} as true or false, and '
                      f'any text is true, got {value!r}', where,
                      'True or False, without quotes')
        if key in valid or key in ALWAYS:
            continue
        if parameters.closed:
            yield red('key', f'{name} takes no {key!r}', where,
                      suggest(key, valid))
        # A base may have set the right one.
        elif near := ask_typo(key, valid - set(node)) or ask_typo(
                key, valid & set(node), TYPO_BESIDE):
            yield yellow('key', f'{name} names no {key!r}, and hands it on to '
                         'whoever may know it', where, near)


def _check_names(node: Any, path: tuple, valid: Any,
                 reader: str) -> Iterator[Finding]:
    for key in node if isinstance(node, Mapping) else ():
        if key not in valid and key not in ALWAYS:
            yield red('key', f'{reader} does not read {key!r}',
                      dotted((*path, key)), suggest(key, valid))


def _names(function: Callable) -> set[str]:
    return set(inspect.signature(function).parameters) - {'self'}


def _check_untyped(settings: Mapping, scope: str) -> Iterator[Finding]:
    """Check the parts whose class MMEngine knows without a type."""
    loader_keys = _names(DataLoader.__init__) | LOADER_EXTRAS
    loop = settings.get('test_cfg')
    probed = isinstance(loop, Mapping) and kind_of(loop) == 'ProbeLoop'
    for name in LOADERS:
        loader = settings.get(name)
        yield from _check_names(loader, (name, ), loader_keys, 'a data loader')
        if name == 'test_dataloader' and probed:
            if loader:
                yield red('key', 'ProbeLoop reads its own images', name,
                          f'set {name}=dict()')
        elif isinstance(loader, Mapping):
            for key in ('dataset', 'sampler', 'batch_size'):
                if key not in loader and not (
                        key == 'batch_size' and 'batch_sampler' in loader):
                    yield red('key', f'the data loader has no {key!r}', name,
                              f'add {name}.{key}')
    for key, names in (('env_cfg', ENVIRONMENT_KEYS),
                       ('randomness', _names(Runner.set_randomness)),
                       ('auto_scale_lr', LR_SCALING_KEYS)):
        yield from _check_names(settings.get(key), (key, ), names, 'MMEngine')
    yield from _check_loops(settings, scope)
    yield from _check_stage_settings(settings)
    yield from _check_optim_wrapper(settings, scope)
    yield from _check_default_hooks(settings, scope)


def _check_loops(settings: Mapping, scope: str) -> Iterator[Finding]:
    defaults = dict(val_cfg='ValLoop', test_cfg='TestLoop')
    for name in ('train_cfg', 'val_cfg', 'test_cfg'):
        loop = settings.get(name)
        if isinstance(loop, Mapping) and 'type' not in loop:
            train = 'EpochBasedTrainLoop' if loop.get('by_epoch') \
                else 'IterBasedTrainLoop'
            target, _ = find_type(defaults.get(name, train), 'LOOPS', scope)
            yield from _check_keys(loop, (name, ), target, {'by_epoch'})


def _check_stage_settings(settings: Mapping) -> Iterator[Finding]:
    """Look for misspelled keys in what a model's stages read without a type.

    Nothing tells which keys they read, but a base has set the right ones.
    """
    model = settings.get('model')
    nodes = [(model.get(name), ('model', name))
             for name in ('train_cfg', 'test_cfg')
             if isinstance(model, Mapping)]
    while nodes:
        node, path = nodes.pop()
        if not isinstance(node, Mapping) or 'type' in node:
            continue
        before = []
        for key, value in node.items():
            # What is added comes after what it should have replaced.
            if near := ask_typo(str(key), before):
                yield yellow(
                    'key', f'{key!r} stands beside a key of nearly the same '
                    'name, and may be read by nobody', dotted((*path, key)),
                    near)
            before.append(str(key))
            nodes.append((value, (*path, key)))


def _check_optim_wrapper(settings: Mapping, scope: str) -> Iterator[Finding]:
    wrapper = settings.get('optim_wrapper')
    if not isinstance(wrapper, Mapping):
        return
    if 'type' not in wrapper and 'constructor' not in wrapper:
        target, kind = find_type('OptimWrapper', 'OPTIM_WRAPPERS', scope)
        yield from _check_keys(wrapper, ('optim_wrapper', ), target,
                               TAKEN_BY_BUILDERS[kind])
    name = wrapper.get('constructor', 'DefaultOptimWrapperConstructor')
    constructor, _ = find_type(name, 'OPTIM_WRAPPER_CONSTRUCTORS', scope)
    if constructor is None:
        names = _registered_names('OPTIM_WRAPPER_CONSTRUCTORS', scope)
        yield red(
            'type', f'{name!r} is not a constructor of an optimizer wrapper',
            'optim_wrapper.constructor', suggest(name, names))
        return
    yield from _check_names(
        wrapper.get('paramwise_cfg'), ('optim_wrapper', 'paramwise_cfg'),
        keys_read_from(constructor, 'paramwise_cfg'), constructor.__name__)


def _check_default_hooks(settings: Mapping, scope: str) -> Iterator[Finding]:
    hooks = settings.get('default_hooks')
    for name, hook in hooks.items() if isinstance(hooks, Mapping) else ():
        path = ('default_hooks', name)
        if name in STANDARD_HOOKS:
            if isinstance(hook, Mapping) and 'type' not in hook:
                target, _ = find_type(STANDARD_HOOKS[name], 'HOOKS', scope)
                yield from _check_keys(hook, path, target, {'priority'})
            continue
        if hook is None:
            continue
        if not isinstance(hook, Mapping):
            yield red('key', f'a hook is a dict or None, got {hook!r}',
                      dotted(path), 'None switches it off')
            continue
        near = ask_typo(name, STANDARD_HOOKS)
        # A 'best_checkpoint' with a type is meant so, 'chekpoint' is not.
        longer = 'type' in hook and name.endswith(
            tuple(f'_{standard}' for standard in STANDARD_HOOKS))
        if near and not longer:
            yield (yellow if 'type' in hook else red)(
                'key', f'{name!r} is none of the hooks that MMEngine makes by '
                'itself, so this would be one more', dotted(path), near)
        elif 'type' not in hook:
            yield red('key', f'the hook {name!r} has no type', dotted(path),
                      'add a type, or use the name of a standard hook: '
                      f'{", ".join(STANDARD_HOOKS)}')
