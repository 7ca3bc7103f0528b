"""Run a config for a moment: at reduced size, or with its true model."""

import contextlib
import copy
import signal
import threading
import traceback
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from mmmedmask.config_files import LOADERS
from mmmedmask.engine.preserved_state import preserve_random_state
from mmmedmask.inspection.findings import (
    Finding,
    describe_error,
    green,
    red,
    yellow,
)
from mmmedmask.inspection.paths import data_is_there
from mmmedmask.phantoms.slide_omic_cohort import write_slide_omic_cohort
from mmmedmask.shrinking import drawn_data
from mmmedmask.shrinking.model_sizes import detach_model, kind_of
from mmmedmask.shrinking.shrink import shrink_config, without_mixed_precision
from mmmedmask.util.nested import nested_dicts
from mmmedmask.util.silence import in_silence

#: Samples of a step with the true model.
FULL_SIZE_BATCH = 2
#: The same where a batch has to hold pairs of several classes.
BALANCED_BATCH = 4
#: Patches of a drawn slide where the config does not say how many it takes.
DRAWN_PATCHES = 2048
SLIDES = 'mmmedmask.SlideOmicDataset'
#: Hooks that look at the whole data set, or only draw or check weights.
SLOW_HOOKS = ('AttentionPanelHook', 'LesionCoverageHook', 'LoadCheckHook',
              'LossFloorsHook', 'MovementHook', 'ProbeHook',
              'PreciseBNHook', 'ReconstructionPanelHook')


class OutOfTimeError(Exception):
    """A time limit was reached."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `OutOfTimeError` after some seconds; 0 means no limit.

    Other threads than the main one, and systems without alarms, have none.
    """

    def interrupt(number: int, frame: object) -> None:
        raise OutOfTimeError(f'not done within {seconds:g} s')

    in_main = threading.current_thread() is threading.main_thread()
    if not seconds or not in_main or not hasattr(signal, 'SIGALRM'):
        yield
        return
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def separate(config: Config) -> Config:
    """Give a run, in place, a name of its own: it shares no global object.

    MMEngine keeps visualizers and logs by name, with the first run's folder.
    """
    config.experiment_name = f'check_{uuid.uuid4().hex}'
    if config.get('visualizer') is not None:
        config.visualizer.name = config.experiment_name
    return config


def _set_steps(config: Config, steps: int) -> None:
    """Let an epoch have some steps, where the loader can be cut short.

    Hooks ask data sets of slides for their genes, and batch samplers for
    their classes, which a part of a data set does not tell.
    """
    loader = config.train_dataloader
    if 'val_begin' in config.train_cfg:
        config.train_cfg.val_begin = 1
    if 'max_iters' in config.train_cfg:
        config.train_cfg.update(max_iters=steps, val_interval=steps)
    elif loader.get('batch_sampler') is None and loader.dataset.type != SLIDES:
        loader.num_batch_per_epoch = steps


def run_reduced(config: Config, folder: str | Path, steps: int = 1,
                datasets: Mapping[str, Any] | None = None) -> Finding:
    """Train and validate a reduced copy of a config.

    The model is narrower and the images are smaller, but every part is
    there: hooks, optimizer, schedules, metrics, checkpoints. The samples are
    some of the true ones where these are there, but for slides, whose sizes
    are those of the model; else they are drawn.

    Args:
        folder: For the drawn data and the run.
        steps: Training steps; of slides and of few samples it is an epoch.
        datasets: Name of a loader to the data set that its config makes,
            where the data are there.
    """
    try:
        with in_silence(), preserve_random_state():
            reduced = shrink_config(config, folder)
    except ValueError as error:
        return yellow(
            'step', f'no step at reduced size: {error}', 'train_cfg',
            'with the data there, --full-size takes a step of the true model')
    except Exception as error:  # the config may be wrong in any way
        return red(
            'step', f'the config cannot be reduced: {describe_error(error)}',
            'train_cfg', 'mend what is red above, then try again')
    _set_steps(reduced, min(steps, drawn_data.ITERATIONS))
    title = 'drawn data'
    for name, dataset in (datasets or {}).items():
        if _take_true_samples(reduced, config, name, dataset, steps):
            title = 'true data'
    return _run(reduced, f'reduced model, {title}')


def _take_true_samples(reduced: Config, config: Config, name: str,
                       dataset: Any, steps: int) -> bool:
    """Let a reduced loader read a few true samples; tell whether it can.

    There is one of each class, with and without a mask, so that scores are
    defined that are so on all of them.
    """
    settings = config[name].dataset
    if settings.type == SLIDES or not hasattr(dataset, 'get_data_info') \
            or settings.get('indices') is not None:
        return False
    kinds: dict[tuple, int] = {}
    for place in range(len(dataset)):
        info = dataset.get_data_info(place)
        kinds.setdefault((str(info.get('gt_label')), 'lesion_path' in info),
                         place)
    places = {*kinds.values(), len(dataset) - 1,
              *range(min(steps * drawn_data.BATCH_SIZE, len(dataset)))}
    # An epoch of all of them.
    reduced[name].pop('num_batch_per_epoch', None)
    reduced[name].dataset = dict(
        copy.deepcopy(settings), indices=sorted(places),
        pipeline=reduced[name].dataset.pipeline)
    evaluator = name.replace('dataloader', 'evaluator')
    if reduced.get(evaluator):
        # It may name the files of the data.
        reduced[evaluator] = copy.deepcopy(config[evaluator])
    return True


def run_full_size(config: Config, folder: str | Path, steps: int = 1,
                  limit: float = 0) -> Finding:
    """Train and validate with the true model, on a sample or two.

    ``folder`` is for run and drawn data, ``limit`` in seconds, 0 is none.
    """
    try:
        full = full_size_config(config, folder, validate=True)
    except ValueError as error:
        return yellow('step', str(error), 'train_cfg', 'get the data first')
    _set_steps(full, steps)
    for name in LOADERS[1:]:
        loader = full.get(name)
        if loader is not None and loader.dataset.type != SLIDES:
            loader.num_batch_per_epoch = steps
    source = describe_data(config.train_dataloader.dataset)
    return _run(full, f'true model, {source}', limit)


def _run(config: Config, title: str, limit: float = 0) -> Finding:
    try:
        with in_silence(), preserve_random_state(), time_limit(limit):
            runner = Runner.from_cfg(separate(config))
            runner.train()
            logged = runner.message_hub.log_scalars
    except OutOfTimeError as error:
        return yellow('step', f'{title}: {error}', 'train_cfg',
                      'raise --time-limit')
    except Exception as error:  # any part may raise anything
        return red('step', f'{title}: {describe_error(error)}, in '
                   f'{_place(error)}', 'train_cfg', 'see the message')
    text = f'{title}: {runner.iter} training steps'
    if 'train/loss' in logged:
        text += f', loss {logged["train/loss"].current():.4g}'
    scores = [f'{name.removeprefix("val/")} {scalar.current():.4g}'
              for name, scalar in logged.items() if name.startswith('val/')
              and not name.endswith(('/time', '/data_time'))]
    if config.get('val_dataloader') is not None:
        text += f', validated ({", ".join(scores[:3]) or "no score"})'
    return green('step', text, 'train_cfg')


def _place(error: BaseException) -> str:
    """Name the innermost line of an error that is not a library's of torch."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames
            if f'{Path("/mm")}' in frame.filename] or frames
    frame = ours[-1]
    return '/'.join(Path(frame.filename).parts[-3:]) + f':{frame.lineno}'


def full_size_config(config: Config, folder: str | Path,
                     validate: bool = False) -> Config:
    """Prepare a few steps of the true model on one or two samples.

    The pipelines are the true ones. Where the data are not there, drawn
    ones take their place. The copy has no weights to load but random ones of
    teachers, no checkpoints and no slow hooks.

    Raises:
        ValueError: If the data are not there and cannot be drawn.
    """
    full = copy.deepcopy(config)
    full.work_dir = str(Path(folder, 'run'))
    full.update(load_from=None, resume=False, log_level='ERROR')
    full.pop('compile', None)
    if full.get('auto_scale_lr'):
        full.auto_scale_lr.enable = False
    detach_model(full.model)
    # The CLIP of our configs is ViT-B/16.
    with in_silence(), preserve_random_state():
        drawn_data.draw_teachers(full.model, Path(folder, 'teachers'), 768, 12)
    without_mixed_precision(full.optim_wrapper)
    for name in ['test'] if validate else ['test', 'val']:
        for key in ('dataloader', 'cfg', 'evaluator'):
            full[f'{name}_{key}'] = None
    full.default_hooks = {
        name: hook for name, hook in (full.get('default_hooks') or {}).items()
        if kind_of(hook) not in SLOW_HOOKS}
    full.default_hooks['checkpoint'] = None
    full.custom_hooks = [hook for hook in full.get('custom_hooks') or []
                         if kind_of(hook) not in SLOW_HOOKS]
    if 'max_epochs' in full.train_cfg:
        full.train_cfg.max_epochs = 1
        full.param_scheduler = []
        if kind_of(full.model) == 'ConCL':
            # Which would be the one epoch.
            full.model.warm_up_epochs = 0
    _use_available_data(full, config, Path(folder))
    return full


def _use_available_data(full: Config, config: Config, folder: Path) -> None:
    loaders = {name: full[name] for name in LOADERS
               if full.get(name) is not None}
    missing = [name for name, loader in loaders.items()
               if not data_is_there(loader.dataset)]
    if missing:
        with in_silence(), preserve_random_state():
            reduced = shrink_config(config, folder / 'drawn')
    for name, loader in loaders.items():
        if name in missing:
            dataset = reduced[name].dataset
            dataset.pipeline = loader.dataset.get('pipeline', [])
            loader.dataset = dataset
            if dataset.type == SLIDES:
                _draw_slides(full, dataset, folder / 'slides')
        loader.update(num_workers=0, persistent_workers=False,
                      pin_memory=False)
        loader.pop('prefetch_factor', None)
        size = FULL_SIZE_BATCH if loader.get('batch_sampler') is None \
            else BALANCED_BATCH
        loader.batch_size = min(size, loader.get('batch_size', 1))
        evaluator = name.replace('dataloader', 'evaluator')
        if name in missing and full.get(evaluator) is not None:
            # It names the files of the data.
            full[evaluator] = reduced[evaluator]


def _drawn_patches(dataset: dict) -> int:
    """Return how many patches a drawn slide has: what the pipeline takes."""
    lengths = [part['length'] for part in nested_dicts(
        dataset.get('pipeline')) if 'length' in part]
    return max(lengths, default=DRAWN_PATCHES)


def describe_data(dataset: dict) -> str:
    """Say what the true model is tried on: true data, or what is drawn."""
    if data_is_there(dataset):
        return 'true data'
    if dataset.get('type') == SLIDES:
        return f'drawn slides of {_drawn_patches(dataset)} patches'
    return 'drawn data'


def _draw_slides(full: Config, dataset: dict, root: Path) -> None:
    """Draw a cohort with the sizes that the true model expects."""
    sizes = {key: part[key] for part in nested_dicts(full.model)
             for key in ('in_dims', 'num_genes')
             if isinstance(part.get(key), int)}
    dims = sizes.get('in_dims', 1024)
    patches = _drawn_patches(dataset)
    classes = tuple((dataset.get('metainfo') or {}).get('classes')
                    or ('LUAD', 'LUSC'))
    if not root.exists():
        write_slide_omic_cohort(
            root, num_cases=12 * len(classes), classes=classes,
            patches=(patches, patches + 1), dims=dims,
            num_genes=sizes.get('num_genes', 2000),
            num_pathways=len(classes), pathway_size=5)
    dataset['data_root'] = str(root)
    if dataset.get('dims') is not None:
        dataset['dims'] = dims
