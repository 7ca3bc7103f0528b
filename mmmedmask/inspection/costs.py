"""What a run will take: memory, time, operations and disk space."""

import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmedmask.config_files import (
    length_for,
    samples_per_step,
    training_length,
)
from mmmedmask.datasets.nct_crc import NCT_SPLIT_SIZES
from mmmedmask.engine.batch_sizes import batch_sizes
from mmmedmask.inspection.findings import Finding, green, yellow
from mmmedmask.inspection.known_data import TRAINING_SAMPLES
from mmmedmask.inspection.measuring import (
    FixedMemory,
    StepMeasurement,
    scaled_memory,
)
from mmmedmask.shrinking.model_sizes import kind_of


@dataclass(frozen=True)
class Length:
    """Forward passes of each process, and samples that all see together."""

    iterations: int
    samples: int


def format_bytes(number: float) -> str:
    """Write a number of bytes in MiB or GiB."""
    return f'{number / 2**20:.1f} MiB' if number < 2**30 \
        else f'{number / 2**30:.2f} GiB'


def format_seconds(seconds: float) -> str:
    """Write a time, in seconds, in the unit that fits."""
    for size, unit in ((86400, 'days'), (3600, 'hours'), (60, 'minutes')):
        if seconds >= 2 * size:
            return f'{seconds / size:.1f} {unit}'
    return f'{seconds:.3g} s'


def number_of_samples(config: Config, dataset: Any | None) -> int | None:
    """Count the training samples, or else those published, if known."""
    if dataset is not None:
        return len(dataset)
    settings: Mapping = (config.get('train_dataloader') or {}).get(
        'dataset', {})
    split = settings.get('split', 'train')
    if settings.get('indices') is not None:
        return None
    if settings.get('type') == 'mmmedmask.NCTCRC':
        return NCT_SPLIT_SIZES.get(settings.get('ann_file') or split)
    known = TRAINING_SAMPLES.get(Path(str(settings.get('data_root'))).name)
    part = next(filter(None, map(
        settings.get, ('split_file', 'split_folder', 'ann_file'))), split)
    return known.get(part) if known and split == 'train' else None


def share_of_samples(config: Config, samples: int, gpus: int) -> int:
    """Count those of a process: all have as many, some of them twice."""
    # MMEngine's endless sampler has the length of the whole set.
    endless = kind_of(config.train_dataloader.get('sampler') or {}
                      ) == 'InfiniteSampler'
    return samples if endless else math.ceil(samples / gpus)


def epoch_length(config: Config, samples: int | None,
                 gpus: int) -> int | None:
    """Count the iterations of an epoch, as sampler and loader round them."""
    if samples is None:
        return None
    loader = config.train_dataloader
    size = loader.get('batch_size', 1)
    batches = loader.get('batch_sampler') or {}
    if kind_of(batches) == 'ClassBalancedBatchSampler':
        # It counts those of all processes together.
        return max(1, samples // (size * gpus))
    steps = len(batch_sizes(
        share_of_samples(config, samples, gpus), size,
        loader.get('drop_last') or batches.get('drop_last')))
    return min(steps, loader.get('num_batch_per_epoch') or steps)


def run_length(config: Config, samples: int | None,
               gpus: int) -> Length | None:
    """Count iterations; None without training or a known set of samples."""
    length = training_length(config)
    if length is None:
        return None
    total, by_epoch = length
    batch, _ = samples_per_step(config, gpus)
    if not by_epoch:
        return Length(total, total * batch)
    steps = epoch_length(config, samples, gpus)
    return None if steps is None else Length(
        total * steps, total * min(samples, steps * batch))


def report_memory(fixed: FixedMemory, measured: StepMeasurement | None,
                  batch: int) -> Iterator[Finding]:
    """Say what a training step of ``batch`` samples needs on each GPU."""
    optimizer = 'of unknown size' if fixed.optimizer is None \
        else format_bytes(fixed.optimizer)
    yield green(
        'memory', f'parameters {format_bytes(fixed.parameters)}, buffers '
        f'{format_bytes(fixed.buffers)}, gradients '
        f'{format_bytes(fixed.gradients)}, state of the optimizer {optimizer}',
        'model')
    if measured is None:
        return
    for title, activations in (('float32', measured.activations),
                               ('mixed precision', measured.mixed)):
        if activations is None:
            continue
        need = scaled_memory(fixed, activations, measured.samples, batch)
        each = activations.scaling / measured.samples
        yield green(
            'memory', f'{title}: about {format_bytes(need)} per GPU with '
            f'{batch} samples, {format_bytes(each)} of activations per sample '
            f'(an estimate, from what a forward pass of {measured.samples} '
            f'samples keeps, {measured.source}; workspaces come on top)',
            'train_dataloader.batch_size')


def report_costs(measured: StepMeasurement, length: Length | None,
                 gpus: int, tflops: float | None) -> Iterator[Finding]:
    """Say how long a run takes, if its length is known.

    ``tflops`` is what the user expects of a GPU, 10^12 operations a second.
    """
    operations = measured.flops / measured.samples
    seconds = measured.seconds / measured.samples
    text = (f'a sample takes {operations / 1e9:.4g} GFLOP forward and '
            f'backward, and {format_seconds(seconds)} on this CPU '
            f'({measured.source})')
    if length is None:
        yield yellow('cost', f'{text}; without the data the number of '
                     'training samples is not known, so nothing is said of a '
                     'run', 'train_dataloader.dataset', 'get the data')
        return
    petaflop = length.samples * operations / 1e15
    yield green(
        'cost', f'{text}; the run has {length.iterations} iterations and '
        f'{length.samples} samples, {petaflop:.4g} PFLOP, about '
        f'{format_seconds(length.samples * seconds)} on this CPU', 'train_cfg')
    if tflops:
        seconds = length.samples * operations / (tflops * 1e12 * gpus)
        yield green(
            'cost', f'about {format_seconds(seconds)} on {gpus} GPU at '
            f'{tflops:g} TFLOP/s each, as assumed by --tflops, if nothing '
            'but the operations takes time', 'train_cfg')


def free_space(config: Config) -> int | None:
    """Bytes that are free where a run's checkpoints go, None if not local.

    That is the folder that the checkpoint hook names, else the work dir.
    What does not exist yet will be on the disk of its parent.
    """
    hook = (config.get('default_hooks') or {}).get('checkpoint') or {}
    folder = str(hook.get('out_dir') or config.get('work_dir') or 'work_dirs')
    if '://' in folder:
        return None
    path = Path(folder).absolute()
    return shutil.disk_usage(next(
        place for place in (path, *path.parents) if place.exists())).free


def report_disk(config: Config, fixed: FixedMemory, free: int | None,
                epoch_length: int | None = None) -> Iterator[Finding]:
    """Say how much space checkpoints take, and whether it is ``free``.

    ``free`` is None where it is not known, and so is ``epoch_length``, an
    epoch's, in iterations: nothing is said if all depends on it.
    """
    hook = (config.get('default_hooks') or {}).get('checkpoint')
    length = training_length(config)
    if not isinstance(hook, Mapping) or length is None:
        return
    each = fixed.parameters + fixed.buffers
    if hook.get('save_optimizer', True):
        each += fixed.optimizer or 0
    total = length_for(hook, length, epoch_length)
    interval, count = hook.get('interval', -1), math.inf
    if total is not None:
        count, rest = divmod(total, interval) if interval > 0 else (0, total)
        count = int(count) + bool(rest and hook.get('save_last', True))
    kept = hook.get('max_keep_ckpts', -1)
    if kept > 0:
        count = min(count, kept)
    if count == math.inf:
        return
    best = hook.get('save_best')
    count += len(best) if isinstance(best, list | tuple) else bool(best)
    space, where = each * count, 'default_hooks.checkpoint'
    text = (f'{count} checkpoints of {format_bytes(each)}, '
            f'{format_bytes(space)} in all')
    if free is not None and free < space:
        yield yellow('disk', f'{text}, and {format_bytes(free)} are free',
                     where, 'keep fewer (max_keep_ckpts)')
    else:
        yield green('disk', text, where)
