"""Learning rate, batch and schedules of a config, without building it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from mmmedmask.config_files import (
    NO_END,
    in_iterations,
    late_schedule,
    length_for,
    planned_gpus,
    samples_per_step,
    scheduler_keys,
    schedulers_of,
    training_length,
    wrong_schedules,
)
from mmmedmask.inspection.findings import Finding, green, red, yellow
from mmmedmask.shrinking.model_sizes import kind_of

#: Keys of numbers, their types, and how those are called.
NUMBERS = dict.fromkeys((
    'train_dataloader.batch_size', 'train_cfg.max_epochs',
    'train_cfg.max_iters', 'train_cfg.val_interval',
    'optim_wrapper.accumulative_counts', 'auto_scale_lr.base_batch_size',
    'default_hooks.checkpoint.interval'), (int, 'a whole number')) | {
    'optim_wrapper.optimizer.lr': (int | float, 'a number, without quotes')}


def check_values(config: Config) -> Iterator[Finding]:
    """Find values of other types than this module can compute with."""
    content = config.to_dict()
    for where, (kinds, wanted) in NUMBERS.items():
        node: Any = content
        for key in where.split('.'):
            node = node.get(key) if isinstance(node, Mapping) else None
        if node is not None and (
                isinstance(node, bool) or not isinstance(node, kinds)):
            yield _wrong_value(where, node, wanted)
    loader = config.get('train_dataloader')
    if isinstance(loader, Mapping) and loader.get('batch_size', 1) is None:
        yield _wrong_value('train_dataloader.batch_size', None,
                           'a whole number')
    for wrong in wrong_schedules(config):
        yield _wrong_value(*wrong)


def _wrong_value(where: str, value: object, wanted: str) -> Finding:
    return red('value', f'{where} is {value!r}, which is '
               f'{type(value).__name__}', where, f'it must be {wanted}')


def check_batch(config: Config, gpus: int | None = None) -> list[Finding]:
    """Compare the batch with the one that the learning rate is meant for.

    Without ``gpus``, those in the config's name count, else 1.
    """
    if config.get('train_dataloader') is None \
            or config.get('optim_wrapper') is None:
        return []
    planned = planned_gpus(config)
    source = 'as asked for' if gpus else 'as its name says' if planned \
        else 'its name tells none'
    gpus = gpus or (planned[0] if planned else 1)
    findings = []
    batch_size = config.train_dataloader.get('batch_size', 1)
    if planned and planned[1] != batch_size:
        findings.append(yellow(
            'batch', f'the name says {planned[1]} samples per GPU, the config '
            f'{batch_size}', 'train_dataloader.batch_size',
            'rename the config, or set the batch'))
    batch, update = samples_per_step(config, gpus)
    text = f'{gpus} x {batch_size} = {batch} samples ({gpus} GPU, {source})'
    if update != batch:
        text += f', {update} in an update by accumulation'
    rate = (config.optim_wrapper.get('optimizer') or {}).get('lr')
    if rate is None:
        # Several optimizers, or one without a rate.
        return findings
    base = (config.get('auto_scale_lr') or {}).get('base_batch_size')
    if not base:
        return [*findings, yellow(
            'learning rate', f'{text}; the config does not say for which '
            f'batch lr = {rate} is meant', 'auto_scale_lr',
            'add auto_scale_lr = dict(base_batch_size=...)')]
    where, meant = 'auto_scale_lr.base_batch_size', \
        f'lr = {rate:g} is meant for {base} samples'
    if base == update:
        return [*findings, green('learning rate', f'{meant}: {text}', where)]
    scaled = rate * update / base
    mend = f'--auto-scale-lr would make it {scaled:g}'
    if config.auto_scale_lr.get('enable'):
        text += f'; auto_scale_lr is on and makes it {scaled:g}'
        where, mend = 'auto_scale_lr.enable', ''
    return [*findings, yellow('learning rate', f'{meant}, here are {text}',
                              where, mend)]


def check_schedules(config: Config,
                    epoch_length: int | None = None) -> list[Finding]:
    """Compare schedules, validation and checkpoints with the training.

    ``epoch_length`` is an epoch's, in iterations, where the data are there.
    """
    length = training_length(config)
    if length is None:
        return []
    total, by_epoch = length
    schedulers = schedulers_of(config)
    findings = [
        finding for where, scheduler in zip(
            scheduler_keys(config), schedulers, strict=True)
        for finding in _check_scheduler(
            scheduler, where, *length, epoch_length)]
    ends = [_end_in(scheduler, by_epoch, epoch_length)
            for scheduler in schedulers]
    if ends and None not in ends and max(ends) < total:
        findings.append(yellow(
            'schedule', f'the last schedule ends at {max(ends):g}, training '
            f'at {total} {_unit(by_epoch)}: from there on the learning rate '
            'stays as it is', 'param_scheduler', f'let it end at {total}'))
    findings += _check_intervals(config, *length, epoch_length)
    return findings or [green('schedule', f'{len(schedulers)} schedules fit '
                              f'{total} {_unit(by_epoch)}', 'param_scheduler')]


def _unit(by_epoch: bool) -> str:
    return 'epochs' if by_epoch else 'iterations'


def _end_in(scheduler: Mapping, by_epoch: bool,
            epoch_length: int | None) -> float | None:
    """Return where a schedule ends, in the units of the training."""
    end = scheduler.get('end', NO_END)
    own = scheduler.get('by_epoch', True)
    if end >= NO_END or own == by_epoch:
        return end
    if epoch_length is None:
        return None
    return end / epoch_length if by_epoch else end * epoch_length


def _check_scheduler(scheduler: Mapping, where: str, total: int,
                     by_epoch: bool,
                     epoch_length: int | None) -> Iterator[Finding]:
    name = kind_of(scheduler) if 'type' in scheduler else 'scheduler'
    own = scheduler.get('by_epoch', True)
    begin = scheduler.get('begin', 0)
    end = scheduler.get('end', NO_END)
    line = None if by_epoch else in_iterations(scheduler, total)
    if line is not None:
        yield red(
            'schedule', f'{name} counts epochs, and the training counts '
            'iterations: it would take no step, or end after one pass over '
            'the data', f'{where}.by_epoch',
            f'{line}, with iterations in the place of ...')
        return
    unit = _unit(own)
    if begin >= end:
        yield red('schedule', f'{name} begins at {begin} and ends at {end}',
                  where, 'let it end after it begins')
    limit = length_for(scheduler, (total, by_epoch), epoch_length)
    if limit is None:
        # Without the data, epochs cannot be turned into iterations.
        return
    if late := late_schedule(scheduler, limit):
        key, reason, mend = late
        yield red('schedule', reason, f'{where}.{key}', mend)
    elif limit < end < NO_END:
        yield yellow('schedule', f'{name} ends at {end}, training after '
                     f'{limit:g} {unit}: the schedule is cut off',
                     f'{where}.end', f'end={limit:g}')
    milestones: Sequence[Any] = scheduler.get('milestones') or ()
    late = [milestone for milestone in milestones if milestone >= limit]
    if late:
        yield (red if len(late) == len(milestones) else yellow)(
            'schedule', f'{name} never gets to its milestones {late}: '
            f'training ends after {limit:g} {unit}', f'{where}.milestones',
            f'set milestones before {limit:g}')
    t_max, last = scheduler.get('T_max'), min(limit, end)
    if t_max is not None and begin + t_max < last:
        yield yellow('schedule', f'T_max={t_max} from {begin} on: the cosine '
                     f'is at its end before the schedule ({last:g} {unit}) '
                     'and rises again', f'{where}.T_max',
                     f'T_max={last - begin:g}')


def _check_intervals(config: Config, total: int, by_epoch: bool,
                     epoch_length: int | None) -> Iterator[Finding]:
    unit = _unit(by_epoch)
    interval = config.train_cfg.get('val_interval', 1)
    if config.get('val_cfg') is not None and interval > total:
        yield yellow('validation', f'val_interval={interval}, and training '
                     f'ends after {total} {unit}', 'train_cfg.val_interval',
                     f'at most {total}')
    log = config.get('log_processor')
    if isinstance(log, Mapping) and log.get('by_epoch', True) != by_epoch:
        yield yellow('logging', f'the log counts {_unit(not by_epoch)}, the '
                     f'training {unit}', 'log_processor.by_epoch',
                     f'by_epoch={by_epoch}')
    checkpoint = (config.get('default_hooks') or {}).get('checkpoint')
    if not isinstance(checkpoint, Mapping):
        return
    where = 'default_hooks.checkpoint'
    own = checkpoint.get('by_epoch', True)
    # Without the data, iterations cannot be compared with epochs.
    last = length_for(checkpoint, (total, by_epoch), epoch_length)
    if own and not by_epoch:
        yield red('checkpoints', 'the hook counts epochs, the training '
                  'iterations: its interval never comes', f'{where}.by_epoch',
                  'by_epoch=False')
    elif last is not None and checkpoint.get('interval', -1) > last \
            and not checkpoint.get('save_last', True):
        yield red(
            'checkpoints', f'interval={checkpoint["interval"]} and '
            f'save_last=False, and training ends after {last} {_unit(own)}: '
            'nothing is ever written', f'{where}.interval', f'at most {last}')
