"""Load a config, apply what a command line asks for, make its runner.

``tools/train.py`` and ``tools/test.py`` are thin covers of these functions;
from Python they do the same. All of them work for configs of any host
library. Configs are changed in place.
"""

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from inspect import signature
from pathlib import Path

from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmmedmask.compat.cpu_distributed import enable_cpu_distributed
from mmmedmask.config_files import (
    in_iterations,
    late_schedule,
    length_for,
    missing_test_keys,
    samples_per_step,
    scheduler_keys,
    schedulers_of,
    training_length,
    wrong_schedules,
)
from mmmedmask.engine.batch_sizes import (
    MEND,
    batch_sizes,
    no_batch,
    unfit_batch,
)
from mmmedmask.engine.checkpoint.reading import read_checkpoint
from mmmedmask.engine.checkpoint.run_folder import find_resumable
from mmmedmask.engine.preserved_state import unwrap
from mmmedmask.registry import HOOKS
from mmmedmask.util.file_locks import LockedError, lock_file
from mmmedmask.util.nested import innermost_datasets, nested_dicts

#: Host library to the distribution that brings it.
HOSTS = {'mmpretrain': 'onedl-mmpretrain', 'mmdet': 'onedl-mmdetection',
         'mmseg': 'onedl-mmsegmentation'}
#: In the place of the hosts' own hooks, which read files in another way.
PICTURES = 'mmmedmask.PredictionPicturesHook'
#: Host library to its hook and visualizer for predictions.
DRAWING = {'mmpretrain': ('VisualizationHook', 'UniversalVisualizer'),
           'mmdet': ('DetVisualizationHook', 'DetLocalVisualizer'),
           'mmseg': ('SegVisualizationHook',
                     'mmmedmask.SegmentationVisualizer')}
#: Launcher to the environment variable with the number of a process.
RANKS = {'pytorch': 'RANK', 'slurm': 'SLURM_PROCID',
         'mpi': 'OMPI_COMM_WORLD_RANK'}
AMP_DTYPES = ('float16', 'bfloat16')


def set_work_dir(config: Config, work_dir: str | Path | None) -> None:
    """Set where logs and checkpoints go.

    None keeps the config's own, or makes it ``work_dirs/<name of config>``.

    Example:
        >>> config = Config()
        >>> set_work_dir(config, 'runs/first')
        >>> config.work_dir
        'runs/first'
    """
    if work_dir is not None:
        config.work_dir = str(work_dir)
    elif config.get('work_dir') is None:
        config.work_dir = str(Path('work_dirs', Path(config.filename).stem))


def set_resume(config: Config, resume: str) -> None:
    """Continue an earlier run.

    Args:
        resume: A checkpoint, or ``'auto'``: the latest one in the config's
            ``work_dir``, and without any a fresh start. The config's own
            ``load_from`` (say, pre-trained weights) counts in a fresh start,
            so that one command serves the first start and all after it.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.

    Example:
        >>> set_resume(Config(dict(work_dir='runs/first')), 'epoch_1.pth')
        Traceback (most recent call last):
        FileNotFoundError: checkpoint 'epoch_1.pth' to resume from does ...
    """
    if resume == 'auto':
        latest = find_resumable(config.work_dir)
        if latest is None:
            print_log(f'No checkpoint in {config.work_dir}: a fresh start.',
                      'current')
            config.resume = False
            return
        resume = str(latest)
    if not Path(resume).is_file():
        raise FileNotFoundError(
            f'checkpoint {resume!r} to resume from does not exist')
    config.resume = True
    config.load_from = resume


@contextmanager
def lock_work_dir(work_dir: str, launcher: str = 'none') -> Iterator[None]:
    """Keep other trainings out of a work dir, for the length of a block.

    Of several processes of one training (``launcher``, see
    :func:`build_runner`), the first holds the lock. It ends with its process,
    whatever ends that. A process that trains there already is a ValueError.

    Example:
        >>> with lock_work_dir('runs/locked'):
        ...     Path('runs/locked', 'train.lock').is_file()
        True
    """
    if os.environ.get(RANKS.get(launcher, ''), '0') != '0':
        yield
        return
    Path(work_dir).mkdir(parents=True, exist_ok=True)
    file = Path(work_dir, 'train.lock')

    def freed(holder: str) -> None:
        print_log(f'{holder} trained in {work_dir} and was killed: its lock '
                  'is free.', 'current', 30)

    with ExitStack() as stack:
        try:
            stack.enter_context(lock_file(file, freed=freed))
        except LockedError as error:
            raise ValueError(
                f'another training is in {work_dir} ({error}): wait until it '
                'ends, or take another --work-dir') from None
        yield


def check_warmup(config: Config, epoch_length: int | None = None) -> None:
    """Refuse a training that is over before a schedule begins, or a warm-up
    ends.

    MMEngine would say that an end should be larger than a beginning, or
    nothing; this ValueError says which options make the warm-up shorter.
    Schedules of epochs in a training of iterations are refused, too, see
    :func:`~mmmedmask.config_files.in_iterations`.

    Args:
        epoch_length: Iterations of an epoch. Without it, a schedule of
            iterations in a training of epochs is not looked at.

    Example:
        >>> check_warmup(Config(dict(
        ...     train_cfg=dict(max_epochs=2),
        ...     param_scheduler=[dict(type='LinearLR', end=5),
        ...                      dict(type='CosineAnnealingLR', begin=5)])))
        Traceback (most recent call last):
        ValueError: param_scheduler.0: the warm-up lasts 5 epochs, and ...
    """
    length = training_length(config)
    if length is None or not length[0]:
        return
    for where, value, wanted in wrong_schedules(config):
        raise ValueError(f'{where} is {value!r}: it must be {wanted}')
    total, by_epoch = length
    schedulers, keys = schedulers_of(config), scheduler_keys(config)
    wrong = {key: line for key, scheduler in zip(
        keys, schedulers, strict=True)
        if not by_epoch and (line := in_iterations(scheduler, total))}
    if wrong:
        raise ValueError(
            f'training counts iterations, and {min(wrong)} '
            'counts epochs: it would take no step, or end after one pass '
            'over the data. Write, with iterations in the place of ...:\n'
            + '\n'.join(f'{key}: {line}' for key, line in wrong.items()))
    limits = [length_for(scheduler, length, epoch_length)
              for scheduler in schedulers]
    late = {number: problem for number, (scheduler, limit) in enumerate(
        zip(schedulers, limits, strict=True)) if limit is not None
        and (problem := late_schedule(scheduler, limit))}
    if not late:
        return
    # A warm-up of one step has no full rate, see late_schedule.
    least = max(2 if side == 'end' and not schedulers[number].get(
        'convert_to_iter_based') else 1 for number, (side, *_) in late.items())
    short = {number: max(least, int(limits[number]) // 10) for number in late}
    options = [f'{keys[number]}.{side}={short[number]}'
               for number, (side, *_) in late.items()]
    units = ['epochs' if scheduler.get('by_epoch', True) else 'iterations'
             for scheduler in schedulers]
    # What meets one that is late, and is in time itself, moves with it.
    across = dict(begin='end', end='begin')
    options += [f'{keys[other]}.{across[side]}={short[number]}'
                for number, (side, *_) in late.items()
                for other, scheduler in enumerate(schedulers)
                if other not in late and units[other] == units[number]
                and side in schedulers[number] and scheduler.get(
                    across[side]) == schedulers[number][side]]
    if any(limits[number] <= least for number in late):
        options = ['param_scheduler=None']
    note = '' if len(set(units)) < 2 else '\n' + ', '.join(
        f'{key} counts {unit}'
        for key, unit in zip(keys, units, strict=True))
    raise ValueError('\n'.join(
        f'{keys[number]}: {reason}; {mend}'
        for number, (_, reason, mend) in late.items())
        + f'\n--cfg-options {" ".join(options)}{note}')


def _use_safe_checkpoints(config: Config) -> None:
    """Replace MMEngine's checkpoint hook by ``SafeCheckpointHook``; log it."""
    hooks = config.get('default_hooks') or {}
    hook = hooks.get('checkpoint', dict(type='CheckpointHook', interval=1))
    if hook is None or 'runner_type' in config \
            or hook.get('type', 'CheckpointHook') != 'CheckpointHook':
        return
    name = 'mmmedmask.SafeCheckpointHook'
    others = sorted(set(hook) - set(signature(
        HOOKS.get(name).__init__).parameters) - {'type', 'priority'})
    if '://' in str(hook.get('out_dir')):
        others.append('out_dir')
    if others:
        print_log(f'default_hooks.checkpoint is a CheckpointHook with '
                  f'{others}, which {name} does not take: a kill may lose the '
                  'best checkpoint, and a resumed run keeps the rates of the '
                  'length that it had', 'current', 30)
        return
    print_log(f'default_hooks.checkpoint is {name} in the place of '
              'CheckpointHook', 'current')
    config.default_hooks = {**hooks, 'checkpoint': {**hook, 'type': name}}


def set_mixed_precision(config: Config, dtype: str | None = None) -> None:
    """Train with autocast.

    Args:
        dtype: ``'float16'``, with dynamic loss scaling, on GPUs only, or
            ``'bfloat16'``, which has float32's range and needs no scaling.
            None leaves a config that has autocast as it is, and else means
            ``'float16'``.

    Raises:
        ValueError: If float16 is asked for without a GPU, or the config's
            optimizer wrapper cannot be replaced by one with autocast.

    Example:
        >>> config = Config(dict(optim_wrapper=dict(type='OptimWrapper')))
        >>> set_mixed_precision(config, 'bfloat16')
        >>> config.optim_wrapper.type
        'mmmedmask.Bfloat16OptimWrapper'
    """
    if dtype not in (None, *AMP_DTYPES):
        raise ValueError(
            f'mixed precision in {dtype!r}, valid are {AMP_DTYPES}')
    wrapper = config.get('optim_wrapper')
    name = str(wrapper.get('type', 'OptimWrapper')) if wrapper else None
    mixed = ('AmpOptimWrapper', 'Bfloat16OptimWrapper')
    if str(name).rpartition('.')[2] not in ('OptimWrapper', *mixed):
        raise ValueError('mixed precision replaces an OptimWrapper, and the '
                         f'optim_wrapper of this config is {name!r}')
    if dtype is None:
        if name.rpartition('.')[2] in mixed:
            return
        dtype = 'float16'
    for key in ('dtype', 'loss_scale'):
        wrapper.pop(key, None)
    if dtype == 'bfloat16':
        wrapper.type = 'mmmedmask.Bfloat16OptimWrapper'
        return
    if get_device() in ('cpu', 'mps'):
        raise ValueError(
            'mixed precision in float16 needs a GPU, and the device here is '
            f"{get_device()!r}: take 'bfloat16' or none")
    wrapper.update(type='AmpOptimWrapper', dtype=dtype, loss_scale='dynamic')


def disable_validation(config: Config) -> None:
    """Train without looking at the validation data.

    Example:
        >>> config = Config(dict(val_cfg=dict(interval=2)))
        >>> disable_validation(config)
        >>> config.val_cfg is None
        True
    """
    config.val_cfg = None
    config.val_dataloader = None
    config.val_evaluator = None


def enable_lr_scaling(config: Config) -> None:
    """Scale the learning rate to the number of samples per update.

    A config must say for which batch its learning rate is meant.

    Example:
        >>> config = Config(dict(auto_scale_lr=dict(base_batch_size=256)))
        >>> enable_lr_scaling(config)
        >>> config.auto_scale_lr.enable
        True
    """
    scaling = config.get('auto_scale_lr')
    if not scaling or 'base_batch_size' not in scaling:
        raise ValueError('scaling the learning rate needs auto_scale_lr = '
                         'dict(base_batch_size=...) in the config, this one '
                         f'has auto_scale_lr = {scaling}')
    config.auto_scale_lr.enable = True


def save_predictions(config: Config, path: str) -> None:
    """Let testing write all predictions into one ``.pkl`` or ``.pickle`` file.

    Instance masks (mmdet) are run-length encoded.

    Example:
        >>> config = Config(dict(test_evaluator=dict(type='Accuracy')))
        >>> save_predictions(config, 'out.pkl')
        >>> [metric['type'] for metric in config.test_evaluator]
        ['Accuracy', 'DumpResults']
    """
    _check_predictions(config)
    if Path(path).suffix not in ('.pkl', '.pickle'):
        raise ValueError(
            f'predictions go into a .pkl or .pickle file, not {path!r}')
    is_mmdet = config.get('default_scope') == 'mmdet'
    dump = dict(type='mmdet.DumpDetResults' if is_mmdet else 'DumpResults',
                out_file_path=path)
    metrics = config.test_evaluator
    if not isinstance(metrics, list | tuple):
        metrics = [metrics]
    config.test_evaluator = [*metrics, dump]


def draw_predictions(config: Config, folder: str) -> None:
    """Let testing draw every prediction into a folder.

    ``PredictionPicturesHook`` takes the place of the host library's hook, and
    a config without a visualizer that can draw gets that of the host. A hook
    of its own is a ValueError, and so are data that are no images.

    Example:
        >>> config = Config(dict(default_scope='mmdet'))
        >>> draw_predictions(config, 'pictures')
        >>> config.visualizer.type
        'DetLocalVisualizer'
    """
    scope = config.get('default_scope')
    if scope not in DRAWING:
        raise ValueError('drawing predictions works for configs of '
                         f'{", ".join(DRAWING)}, not of {scope!r}')
    _check_predictions(config)
    dataset = (config.get('test_dataloader') or {}).get('dataset') or {}
    if any(_kind(part) == 'SlideOmicDataset'
           for part in innermost_datasets(dataset)):
        raise ValueError(
            'the test data are features of slides, and no pictures that '
            'predictions could be drawn on: see tools/visualizations/'
            'visualize_slide_attention.py')
    hook_type, visualizer_type = DRAWING[scope]
    if config.get('default_hooks') is None:
        config.default_hooks = dict()
    if config.default_hooks.get('visualization') is None:
        config.default_hooks.visualization = dict(type=hook_type)
    hook = config.default_hooks.visualization
    if hook.type != PICTURES and _kind(hook) != hook_type:
        raise ValueError(
            f"default_hooks['visualization'] is a {hook.type}: only the "
            f"host's {hook_type} can be told where to draw")
    if config.get('visualizer', {}).get('type') in (None, 'Visualizer'):
        config.visualizer = dict(
            type=visualizer_type, vis_backends=[dict(type='LocalVisBackend')])
    for key in ('enable', 'out_dir', 'backend_args'):
        hook.pop(key, None)
    known = {'type', 'priority', *signature(
        HOOKS.get(PICTURES).__init__).parameters}
    # What mmpretrain's hook hands to the visualizer.
    options = {key: hook.pop(key) for key in sorted(set(hook) - known)}
    hook.update(type=PICTURES, draw=True,
                test_out_dir=str(Path(folder).resolve()),
                options={**(hook.get('options') or {}), **options})


def _kind(part: Mapping | None) -> str:
    return str((part or {}).get('type')).rpartition('.')[2]


def _check_predictions(config: Config) -> None:
    if _kind(config.get('test_cfg')) == 'ProbeLoop':
        raise ValueError('the test of this config is a ProbeLoop, which '
                         'scores an encoder and predicts nothing that could '
                         'be saved or drawn')


def enable_test_time_augmentation(config: Config) -> None:
    """Test with the config's ``tta_model`` and ``tta_pipeline``.

    A pipeline that brings images to sizes of which none is that of plain
    testing is a ValueError.

    Example:
        >>> config = Config(dict(
        ...     model=dict(type='ImageClassifier'),
        ...     tta_model=dict(type='AverageClsScoreTTA'),
        ...     tta_pipeline=[dict(type='TestTimeAug')],
        ...     test_dataloader=dict(dataset=dict(pipeline=[]))))
        >>> enable_test_time_augmentation(config)
        >>> config.model.type, config.model.module.type
        ('AverageClsScoreTTA', 'ImageClassifier')
    """
    tta_type = (config.get('tta_model') or {}).get('type', 'DetTTAModel')
    if config.get('default_scope') == 'mmdet' and 'DetTTAModel' in tta_type \
            and any(part and part.get('mask_head') for part in (
                config.model, config.model.get('roi_head'))):
        raise ValueError(
            "mmdet's test-time augmentation merges boxes and no masks, and "
            f'this {config.model.type} has a mask_head: test it without')
    missing = [
        key for key in ('tta_model', 'tta_pipeline') if not config.get(key)]
    if missing:
        raise ValueError('test-time augmentation needs tta_model and '
                         'tta_pipeline in the config, this one lacks '
                         f'{" and ".join(missing)}')
    for dataset in innermost_datasets(config.test_dataloader.dataset):
        if 'pipeline' not in dataset:
            raise ValueError(
                'test-time augmentation replaces the pipeline of the test '
                f'data set, and {dataset.get("type")!r} has none')
        plain, augmented = map(
            _image_sizes, (dataset.pipeline, config.tta_pipeline))
        if plain and augmented and plain.isdisjoint(augmented):
            raise ValueError(
                f'tta_pipeline resizes images to {sorted(augmented)}, the '
                f'test pipeline to {sorted(plain)}: one of the former must be '
                'the size that the model is tested at')
        dataset.pipeline = config.tta_pipeline
    config.model = dict(**config.tta_model, module=config.model)


def _image_sizes(pipeline: Sequence[Mapping]) -> set[tuple[int, int]]:
    """Find the sizes that transforms of a pipeline resize images to."""
    scales = [step['scale'] for step in nested_dicts(pipeline)
              if str(step.get('type')).rpartition('.')[2].startswith('Resize')
              and step.get('scale') is not None]
    return {(scale, scale) if isinstance(scale, int) else tuple(scale)
            for scale in scales}


def prepare_test(config: Config, checkpoint: str | None) -> None:
    """Let a runner test the weights of a checkpoint.

    Args:
        checkpoint: The file; None if the config trains nothing.

    Raises:
        ValueError: If the config has no test data, like most configs for
            pre-training, or the checkpoint cannot be read safely.

    Example:
        >>> prepare_test(Config(dict(test_cfg=dict())), 'epoch_1.pth')
        Traceback (most recent call last):
        ValueError: the config has nothing to test: it lacks ...
    """
    missing = missing_test_keys(config)
    if missing:
        raise ValueError(
            f'the config has nothing to test: it lacks {", ".join(missing)} '
            '(pre-training is judged by a downstream config)')
    if checkpoint is not None:
        read_checkpoint(checkpoint)
    elif config.get('train_cfg') is not None:
        raise ValueError('the config trains a model: name a checkpoint of it')
    config.load_from = checkpoint
    config.resume = False


def build_runner(config: Config, launcher: str = 'none') -> Runner:
    """Make the runner of a config.

    The registries import the host library on first use. A hook of
    ``default_hooks`` that is None is switched off. ``SafeCheckpointHook``
    takes the place of ``'CheckpointHook'``, which a runner has by itself.
    ``'mmengine.CheckpointHook'`` stays, and what has arguments that ours does
    not know, with a warning. Runners of another type keep theirs, which
    writes what their strategy gathers.

    Args:
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
            Without an accelerator the processes work on the CPU.

    Raises:
        ModuleNotFoundError: If the host library is not installed.

    Example:
        >>> build_runner(Config(dict(default_scope='mmnone')))
        Traceback (most recent call last):
        ModuleNotFoundError: the config belongs to 'mmnone' ...
    """
    scope = config.get('default_scope') or 'mmengine'
    if importlib.util.find_spec(scope) is None:
        raise ModuleNotFoundError(
            f'the config belongs to {scope!r} (its default_scope), which is '
            f'not installed: pip install {HOSTS.get(scope, scope)}')
    _use_safe_checkpoints(config)
    config.launcher = launcher
    if launcher != 'none':
        enable_cpu_distributed()
    runner = RUNNERS.build(config) if 'runner_type' in config \
        else Runner.from_cfg(config)
    scaling = config.get('auto_scale_lr') or {}
    if scaling.get('base_batch_size') and config.get('train_dataloader'):
        # MMEngine divides what an iteration takes by it.
        batch, update = samples_per_step(config, 1)
        runner.auto_scale_lr = {
            **scaling,
            'base_batch_size': scaling['base_batch_size'] * batch / update}
    return runner


def check_iterations(runner: Runner) -> None:
    """Build the training set before ``train()``; refuse one without a batch.

    MMEngine would end in an error about the schedule, or wait for ever. A
    batch that the model cannot train on is refused, too, see
    :func:`~mmmedmask.engine.batch_sizes.unfit_batch`, and a warm-up that is
    longer than the training: of iterations, see :func:`check_warmup`, or of
    the model, such as ConCL's.

    Example:
        >>> from types import SimpleNamespace
        >>> check_iterations(SimpleNamespace(train_loop=None))  # only tests
    """
    if runner.train_loop is None:
        return
    model, loader = unwrap(runner.model), runner.train_dataloader
    if hasattr(model, 'check_epochs'):
        model.check_epochs(runner.max_epochs)
    if len(loader) > 0:
        check_warmup(runner.cfg, len(loader))
        _refuse_unfit_batches(runner)
        return
    number, size = len(loader.sampler), loader.batch_size
    if loader.drop_last and number:
        raise ValueError('; '.join(no_batch(
            len(loader.dataset), number, runner.world_size, size)))
    raise ValueError(f'an epoch has no iteration: the training set has '
                     f'{len(loader.dataset)} samples')


def _refuse_unfit_batches(runner: Runner) -> None:
    loader = runner.train_dataloader
    if loader.batch_size is None:
        # A batch sampler of its own.
        return
    endless = isinstance(loader.sampler, InfiniteSampler) \
        or runner.max_iters < len(loader)
    problem = unfit_batch(
        unwrap(runner.model), batch_sizes(
            len(loader.sampler), loader.batch_size,
            loader.drop_last or endless), runner.world_size,
        lambda: loader.collate_fn([loader.dataset[0]]))
    if problem:
        raise ValueError(f'{problem}: {MEND}')
