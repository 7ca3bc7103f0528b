"""Read config files without importing PyTorch.

A plan of hundreds of runs is a matter of configs alone: planning does not
wait for the libraries that train.
"""

import ast
import functools
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from mmmedmask.compat.config_bases import find_config_folder
from mmmedmask.config_variables import names_in_vain
from mmmedmask.util.nearest import did_you_mean, nearest_names
from mmmedmask.util.nested import walk_nested

#: Beside the configs: names their metafiles, as OpenMMLab's tools read it.
MODEL_INDEX = 'model-index.yml'
#: What MMEngine's runner or our tools read from a config besides the
#: arguments of the runner.
EXTRA_KEYS = frozenset({
    'activation_checkpointing', 'compile', 'custom_imports',
    'efficient_conv_bn_eval', 'find_unused_parameters', 'model_wrapper_cfg',
    'runner_type', 'strategy', 'sync_bn', 'tta_model', 'tta_pipeline'
})
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
#: Keys of ``expression`` of a slide-omic data set that name files.
EXPRESSION_FILES = ('path', 'sample_sheet', 'gene_list', 'case_list')
#: Keys of models that name files where they are texts, not lists.
MODEL_FILES = ('gene_list', 'gene_sets')
#: What MMEngine takes where a scheduler has no end.
NO_END = 10**9
#: File that names the best checkpoint; one of several metrics has its name.
BEST_POINTER = 'best_checkpoint'
_BATCH_IN_NAME = re.compile(r'_(\d+)xb(\d+)')


def named_files(config: Mapping) -> list[Path]:
    """List the files that a config names, below a ``data_root`` too.

    Example:
        >>> Path('data').mkdir()
        >>> Path('data/genes.txt').touch()
        >>> [file.as_posix() for file in named_files(dict(
        ...     dataset=dict(data_root='data', gene_list='genes.txt')))]
        ['data/genes.txt']
    """
    names = []
    for _, node in walk_nested(config):
        if isinstance(node, str):
            names.append(node)
        elif isinstance(node, Mapping) and isinstance(
                root := node.get('data_root'), str):
            names += [os.path.join(root, text) for _, text in
                      walk_nested(node) if isinstance(text, str)]
    return [Path(name) for name in dict.fromkeys(names)
            if os.path.isfile(name)]


def load_config(path: str | Path,
                options: Mapping[str, Any] | None = None,
                import_modules: bool = True) -> Config:
    """Read a config file and override some of its settings.

    Args:
        options: Dotted key to value, as ``--cfg-options`` gives them.
        import_modules: Whether to import the config's ``custom_imports``,
            which is needed to build from it.

    Raises:
        FileNotFoundError: If there is no such file; shipped configs with a
            similar name are listed.
        ValueError: If it or a base cannot be read, an option's first key is
            nothing that a runner reads, or the file sets a variable of a base
            that has used its own value already, or one that is nearly a
            runner's key. Of others that nothing reads the log warns.
    """
    if not Path(path).is_file():
        similar = _similar_configs(Path(path).name)
        hint = f'; shipped configs like it: {", ".join(similar)}' \
            if similar else ''
        raise FileNotFoundError(
            f'config {str(path)!r} does not exist (working folder: '
            f'{Path.cwd()}){hint}')
    try:
        config = Config.fromfile(path, import_custom_modules=False)
    except Exception as error:
        # It is Python, and may end with any error.
        kind = '' if isinstance(error, SyntaxError | OSError | ValueError) \
            else f'{type(error).__name__}: '
        raise ValueError(f'config {str(path)!r}, or a base of it, cannot be '
                         f'read: {kind}{error}') from error
    if import_modules:
        _import_modules(config, path)
    in_vain = names_in_vain(path, runner_keys())
    advice = '. '.join(f'{name.place}: {name.reason}; {name.mend}'
                       for name in in_vain)
    if any(name.overrides or name.key for name in in_vain):
        raise ValueError(f'{path} has settings without effect. {advice}')
    if in_vain:
        from mmengine.logging import print_log
        print_log(f'{path} has settings without effect. {advice}', 'current',
                  30)
    if options:
        override_settings(config, options)
    return config


def _import_modules(config: Config, path: str | Path) -> None:
    """Import what a config names, with an error that says which config.

    A module that is not there is a ValueError; one with an error of its own
    is an ImportError, whose cause shows where.
    """
    imports = config.get('custom_imports')
    if not imports:
        return
    try:
        import_modules_from_strings(**imports)
    except ImportError as error:
        raise ValueError(
            f'config {str(path)!r}: custom_imports {imports["imports"]} '
            f'cannot be imported: {error.__context__ or error}. Set '
            'PYTHONPATH to the folder that has them') from error
    except Exception as error:
        raise ImportError(f'config {str(path)!r}: custom_imports '
                          f'{imports["imports"]}: {error}') from error


def find_config(run: Path) -> Path:
    """Find the config that a training has written into its work dir.

    A ValueError if there is none or several.
    """
    configs = sorted(run.glob('*.py'))
    if len(configs) != 1:
        several = ', '.join(config.name for config in configs)
        raise ValueError(
            f'{run} has the configs {several}: leave the one there that the '
            'run was trained with' if configs else
            f'{run} has no config: give the folder of a run')
    return configs[0]


def override_settings(config: Config, options: Mapping[str, Any]) -> None:
    """Override some settings of a config, as :func:`load_config` does.

    Plain variables at the top of a config are used while it is read, so
    changing them afterwards would have no effect.
    """
    keys = runner_keys()
    for option in options:
        first = option.partition('.')[0]
        if first in keys:
            continue
        reason = (
            'is a plain variable, used while the config was read: override '
            'the settings that it went into, or inherit from the config in '
            'a file that sets them' if first in config else
            'is nothing that a runner reads')
        raise ValueError(
            f'the option {option!r} would have no effect: {first!r} '
            f'{reason}.{did_you_mean(first, keys, count=3)}')
    config.merge_from_dict(dict(options))


@functools.cache
def runner_keys() -> frozenset[str]:
    """List the keys of a config that make a run; others are variables."""
    # Importing the runner takes seconds.
    package = importlib.util.find_spec('mmengine').submodule_search_locations
    source = Path(package[0], 'runner', 'runner.py').read_text('utf-8')
    arguments = next(
        node.args for runner in ast.parse(source).body
        if getattr(runner, 'name', '') == 'Runner' for node in runner.body
        if getattr(node, 'name', '') == '__init__')
    names = {argument.arg for argument in
             (*arguments.args, *arguments.kwonlyargs)}
    return frozenset(names | EXTRA_KEYS) - {'self', 'cfg'}


def model_index() -> dict[str, Path]:
    """Map the models of the metafiles to their configs, sorted by name.

    Raises:
        FileNotFoundError: If mmmedmask is installed without configs.
    """
    root = find_config_folder().parent
    index = yaml.safe_load((root / MODEL_INDEX).read_text('utf-8'))
    configs = {}
    for metafile in index['Import']:
        content = yaml.safe_load((root / metafile).read_text('utf-8'))
        configs |= {model['Name']: root / model['Config']
                    for model in content['Models']}
    return dict(sorted(configs.items()))


def find_hooks(config: Mapping) -> dict[str, dict]:
    """Find the hooks of a config by their places, ``default_hooks.logger``.

    Those that are switched off are left out.
    """
    hooks = {f'{group}.{name}': hook for group, named in (
        ('default_hooks', (config.get('default_hooks') or {}).items()),
        ('custom_hooks', enumerate(config.get('custom_hooks') or [])))
        for name, hook in named}
    return {place: hook for place, hook in hooks.items() if hook is not None}


def best_pointers(config: Config) -> list[str]:
    """Name the files that say which checkpoints of a run are its best.

    ``SafeCheckpointHook`` keeps one in the work dir for each metric of its
    ``save_best``, with the path of the checkpoint.

    Raises:
        ValueError: If another hook saves the best: it keeps no such file.
    """
    hook = (config.get('default_hooks') or {}).get('checkpoint') or {}
    kind = str(hook.get('type', 'CheckpointHook')).rpartition('.')[2]
    if hook.get('save_best') and kind != 'SafeCheckpointHook':
        raise ValueError(
            f'{config.filename}: the {kind} of default_hooks.checkpoint keeps '
            'no file that names the best checkpoint, which a chain of runs '
            "starts from: set its type to 'mmmedmask.SafeCheckpointHook'")
    return name_best_pointers(hook.get('save_best'))


def name_best_pointers(save_best: str | Sequence[str] | None) -> list[str]:
    """Name ``best_checkpoint`` for a metric, one with its name for each of
    several; see :func:`best_pointers`.
    """
    if not save_best or isinstance(save_best, str) or len(save_best) == 1:
        return [BEST_POINTER] if save_best else []
    return [f'{BEST_POINTER}_{key.replace("/", "_")}' for key in save_best]


def planned_gpus(config: Config) -> tuple[int, int] | None:
    """Read GPUs and batch, ``(8, 32)`` of ``..._8xb32-...``, if it tells."""
    batch = _BATCH_IN_NAME.search(Path(config.filename or '').stem)
    return (int(batch[1]), int(batch[2])) if batch else None


def missing_test_keys(config: Config) -> list[str]:
    """Keys that a config lacks to be tested."""
    return [key for key in ('test_cfg', 'test_dataloader', 'test_evaluator')
            if config.get(key) is None]


def need_keys(config: Config, *keys: str) -> None:
    """Raise a ValueError that names the keys that a config lacks.

    Example:
        >>> need_keys(Config(dict(model=dict())), 'model', 'train_cfg')
        Traceback (most recent call last):
        ValueError: the config lacks train_cfg
    """
    if missing := [key for key in keys if config.get(key) is None]:
        raise ValueError(
            f'{config.filename or "the config"} lacks {", ".join(missing)}')


def schedulers_of(config: Config) -> Sequence:
    """Return the schedulers of a config, of which there may be one or none."""
    schedulers = config.get('param_scheduler') or []
    return [schedulers] if isinstance(schedulers, Mapping) else schedulers


def scheduler_keys(config: Config) -> list[str]:
    """Name each of :func:`schedulers_of` as ``--cfg-options`` does.

    Example:
        >>> scheduler_keys(Config(dict(param_scheduler=dict(type='StepLR'))))
        ['param_scheduler']
    """
    if isinstance(config.get('param_scheduler'), Mapping):
        return ['param_scheduler']
    return [f'param_scheduler.{number}'
            for number in range(len(schedulers_of(config)))]


def wrong_schedules(config: Config) -> Iterator[tuple[str, object, str]]:
    """Find values of wrong types: key, value, and what it must be.

    Example:
        >>> list(wrong_schedules(Config(dict(param_scheduler=dict(end='9')))))
        [('param_scheduler.end', '9', 'a number')]
    """
    schedulers = schedulers_of(config)
    if not isinstance(schedulers, list | tuple):
        yield 'param_scheduler', schedulers, 'a dict or a list of them'
        return
    for where, scheduler in zip(scheduler_keys(config), schedulers,
                                strict=True):
        if not isinstance(scheduler, Mapping):
            yield where, scheduler, 'a dict'
            continue
        for key in ('begin', 'end', 'T_max', 'start_factor', 'end_factor'):
            value = scheduler.get(key, 0)
            # Without T_max a cosine takes its whole length.
            if not isinstance(value, int | float) and (
                    value is not None or key != 'T_max'):
                yield f'{where}.{key}', value, 'a number'


def samples_per_step(config: Config, gpus: int) -> tuple[int, int]:
    """Count the samples that all GPUs take together in an iteration, and in
    an update of the weights, which may accumulate several.
    """
    batch = gpus * config.train_dataloader.get('batch_size', 1)
    counts = (config.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    return batch, batch * counts


def training_length(config: Config) -> tuple[int, bool] | None:
    """Read how long a config trains, and whether that is in epochs."""
    loop = config.get('train_cfg')
    if not loop:
        return None
    if 'max_iters' in loop:
        return loop['max_iters'], False
    return loop.get('max_epochs', 0), True


def length_for(scheduler: Mapping, length: tuple[int, bool],
               epoch_length: int | None = None) -> float | None:
    """Return a training's length in what a scheduler counts.

    Args:
        length: See :func:`training_length`.
        epoch_length: Iterations of an epoch; without it, None if the
            scheduler counts epochs and the training iterations, or the other
            way round.

    Example:
        >>> length_for(dict(by_epoch=False), (100, True), 2)
        200
    """
    total, by_epoch = length
    if scheduler.get('by_epoch', True) == by_epoch:
        return total
    if not epoch_length:
        return None
    return total * epoch_length if by_epoch else total / epoch_length


def late_schedule(scheduler: Mapping,
                  limit: float) -> tuple[str, str, str] | None:
    """Say why a training is over before a scheduler, or its warm-up, is due.

    Args:
        limit: See :func:`length_for`.

    Returns:
        The key that is too late, the reason and what to do; None if none is.

    Example:
        >>> late_schedule(dict(type='LinearLR', end=5), 2)[:2]
        ('end', 'the warm-up lasts 5 epochs, and training 2: the learning ...')
    """
    name = str(scheduler.get('type', 'scheduler')).rpartition('.')[2]
    unit = 'epochs' if scheduler.get('by_epoch', True) else 'iterations'
    begin, end = scheduler.get('begin', 0), scheduler.get('end', NO_END)
    if begin >= limit:
        return ('begin', f'{name} begins at {begin}, and training ends after '
                f'{limit:g} {unit}: it never starts',
                f'begin before {limit:g}, or train longer')
    rises = name.startswith('Linear') and name.endswith('LR') and \
        scheduler.get('start_factor', 1 / 3) < scheduler.get('end_factor', 1)
    if rises and limit < end < NO_END:
        return ('end', f'the warm-up lasts {end} {unit}, and training '
                f'{limit:g}: the learning rate never gets where it is meant '
                f'to', f'let it end by {limit:g}, or train longer')
    if rises and end - begin == 1 and not scheduler.get(
            'convert_to_iter_based'):
        # MMEngine's last step of a warm-up has the full rate.
        return ('end', f'a warm-up of 1 {unit[:-1]} has its first rate alone, '
                'at which training would stay',
                f'let it last 2 {unit} or more, or leave it out')
    return None


def in_iterations(scheduler: Mapping, total: int) -> str | None:
    """Write a schedule of epochs as a training of ``total`` iterations needs.

    MMEngine takes such a training for one epoch, which is where a schedule
    without an end stops. None if it is right as it is: it counts
    iterations, says its end to be converted, or goes by measured values.

    Example:
        >>> in_iterations(dict(type='CosineAnnealingLR', begin=5), 900)
        "dict(type='CosineAnnealingLR', begin=..., end=900, by_epoch=False)"
    """
    if 'type' not in scheduler or not scheduler.get('by_epoch', True) \
            or 'ReduceOnPlateau' in str(scheduler['type']) \
            or scheduler.get('convert_to_iter_based') and 'end' in scheduler:
        return None
    counts = ('begin', 'end', 'milestones', 'T_max', 'step_size', 'periods',
              'total_steps')
    settings = {key: '...' if key in counts and value else repr(value)
                for key, value in scheduler.items()
                if key not in ('by_epoch', 'convert_to_iter_based')}
    settings.setdefault('end', str(total))
    return 'dict(' + ', '.join(f'{key}={value}' for key, value in
                               settings.items()) + ', by_epoch=False)'


def _similar_configs(name: str) -> list[str]:
    """Paths of shipped configs whose name resembles ``name``."""
    try:
        folder = find_config_folder()
    except FileNotFoundError:
        return []
    names = {file.name: str(file.relative_to(folder))
             for file in folder.rglob('*.py')}
    return [names[near] for near in
            nearest_names(name, names, count=3, cutoff=.5)]
