"""Compare what a runner loads with its config: model, optimizer, schedules.

MMEngine leaves what does not fit of a model as it was drawn, and restores a
scheduler with the length that it had: a longer run would end at its last rate.
"""

import copy
import dis
import math
import warnings
from collections.abc import Container, Mapping, Sequence

from mmengine.hooks import EMAHook
from mmengine.model import BaseTTAModel
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner

from mmmedmask.engine.checkpoint import matching
from mmmedmask.engine.checkpoint.reading import get_state_dict, listing
from mmmedmask.engine.preserved_state import unwrap

#: Entry of the message hub: iterations of an epoch.
EPOCH_LENGTH = 'epoch_length'
#: Entry of the message hub: the iteration after which was validated last.
VALIDATED = 'validated_iter'


def _all_of(schedules: Sequence | Mapping | None) -> list:
    """List schedulers, or their states, of one optimizer or of several."""
    if isinstance(schedules, Mapping):
        return [scheduler for part in schedules.values() for scheduler in part]
    return list(schedules or [])


def refuse_another_model(runner: Runner, checkpoint: Mapping) -> None:
    """Refuse weights that are not of the config's model.

    To resume or to test, each tensor of the model has to be there; to resume,
    none may be left over, and the optimizer has to be the same; where its
    hyperparameters differ that no schedule sets, the log says so. To train
    from ``load_from``, one tensor has to fit; the log says how many do.
    """
    model, tensors = unwrap(runner.model), get_state_dict(checkpoint)
    if isinstance(model, BaseTTAModel):
        # Of test-time augmentation; MMEngine loads what is in it.
        model = unwrap(model.module)
    training = isinstance(runner._train_loop, BaseLoop)
    if training and not runner._resume:
        report = matching.compare_modules([model], tensors)
        summary = (f'{len(report.matched)} of {report.expected} tensors of '
                   f'the model are in {runner._load_from}, of its own '
                   f'{len(report.unused)} are not used')
        if not report.matched:
            raise ValueError(f'{summary}.\n{report.describe()}\n'
                             f'{report.advise()}')
        runner.logger.info(f'load_from: {summary}.')
        return
    try:
        missing, unused = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        problem = str(error)
    else:
        missing = [name for name in missing
                   if not matching.matches_any(name, matching.ALLOWED_MISSING)]
        problem = '; '.join(
            f'{what} {listing(names)}' for what, names in (
                ('it lacks', missing),
                ('the model has no', unused if training else [])) if names)
    mend = ('change the config back, or start anew in another work dir with '
            'the file as load_from') if training else (
        'name a checkpoint of this config, or the config of the checkpoint')
    if problem:
        raise ValueError(
            f'{runner._load_from} is of another model than that of the '
            f'config: {problem}\n{mend}')
    if not training:
        return
    wrapper, saved = runner.optim_wrapper, checkpoint.get('optimizer')
    if not isinstance(wrapper, OptimWrapper) or not saved:
        return
    own, theirs = wrapper.optimizer.param_groups, saved['param_groups']
    counts = [[len(group['params']) for group in groups]
              for groups in (own, theirs)]
    unknown = sorted(name for name in theirs[0].keys() - own[0].keys()
                     if not name.startswith('initial_'))
    if counts[0] != counts[1] or unknown:
        raise ValueError(
            f'the run cannot go on from {runner._load_from}, which is of '
            'another optimizer: '
            + (f'it has {unknown}, which {type(wrapper.optimizer).__name__} '
               'has not' if unknown else f'it has {counts[1]} parameters in '
               f'its groups, the config has {counts[0]}') + f'; {mend}')
    scheduled = {scheduler.param_name
                 for scheduler in _all_of(runner.param_schedulers)}
    for name in own[0].keys() & theirs[0].keys() - scheduled - {'params'}:
        if own[0][name] != theirs[0][name] and not name.startswith('initial_'):
            runner.logger.warning(
                f'{name} of the optimizer is {own[0][name]} in the config and '
                f'{theirs[0][name]} in {runner._load_from}, which counts.')


def leave_average(runner: Runner, checkpoint: Mapping) -> None:
    """Go on from the weights themselves where no hook averages them now.

    With an ``EMAHook`` a state has the average as its own weights.
    """
    average = checkpoint.get('ema_state_dict')
    if average is None or any(isinstance(hook, EMAHook)
                              for hook in runner.hooks):
        return
    checkpoint['state_dict'].update(
        {name.removeprefix('module.'): value
         for name, value in average.items() if name.startswith('module.')})
    runner.logger.warning(
        f'{runner._load_from} has an average of the weights, and the config '
        'no EMAHook: the run goes on from the weights themselves, which are '
        'validated and saved from now on.')


def count_anew(runner: Runner, checkpoint: Mapping) -> bool:
    """Count a state's iterations as here, where its epochs had others.

    Other batches or ranks change the length of an epoch. The run goes on where
    as many epochs are over, and one that was begun begins anew. Returns
    whether the length has changed; MMEngine reads the state after that.
    """
    loop = runner._train_loop
    if not isinstance(loop, EpochBasedTrainLoop):
        return False
    meta = checkpoint['meta']
    known = checkpoint['message_hub']['runtime_info']
    length = len(loop.dataloader)
    before, now = meta['iter'], meta['epoch'] * length
    # Older states do not tell their length.
    if known[EPOCH_LENGTH] == length if EPOCH_LENGTH in known else \
            now <= before <= now + length:
        return False
    meta['iter'] = now
    if known.get(VALIDATED) == before:
        known[VALIDATED] = now
    runner.logger.warning(
        f'Epochs have {length} iterations, and had others in '
        f'{runner._load_from}: its iteration {before} is {now} now, where '
        f'{meta["epoch"]} epochs are over.')
    return True


def remember_schedules(runner: Runner) -> list[tuple[dict, list[float]]]:
    """Copy the schedules before a checkpoint is loaded into them.

    Returns the state of each, and the value of its parameter in each group.
    """
    return [(copy.deepcopy(scheduler.state_dict()),
             [group[scheduler.param_name]
              for group in scheduler.optimizer.param_groups])
            for scheduler in _all_of(runner.param_schedulers)]


def follow_config(runner: Runner, fresh: Sequence[tuple[dict, list[float]]],
                  saved: Sequence[Mapping] | Mapping,
                  counted_anew: bool = False) -> None:
    """Put the schedules of a resumed run where a new run would be by now.

    Nothing is done if those that :func:`remember_schedules` has kept are
    those ``saved`` in the checkpoint, unless they go by iterations, and those
    are ``counted_anew``. Else those of the config are stepped from their
    beginning to the present iteration, and the log says so.

    Raises:
        ValueError: If the schedules differ, and one goes by measured values,
            so that it cannot be stepped again.
    """
    schedulers = _all_of(runner.param_schedulers)
    progress = _progress(schedulers)
    there = [_kind(state, progress) for state in _all_of(saved)]
    here = [_kind(state, progress) for state, _ in fresh]
    by_value = [type(scheduler).__name__ for scheduler in schedulers
                if getattr(scheduler, 'need_val_args', False)]
    if there == here and (by_value or not counted_anew or all(
            scheduler.by_epoch for scheduler in schedulers)):
        return
    if by_value:
        raise ValueError(
            'the schedules of the config are not those of the checkpoint '
            f'({_differences(there, here)}), and {by_value[0]} goes by values '
            'that were measured: start anew with the checkpoint as load_from, '
            'or go on with the schedules that it was trained with')
    before = _first_values(schedulers)
    _replay(runner, schedulers, fresh)
    after = _first_values(schedulers)
    changes = ', '.join(f'{name} {old:.4g} is {after[name]:.4g} now'
                        for name, old in before.items())
    runner.logger.warning(
        'The schedules of the config are not those of the checkpoint '
        f'({_differences(there, here) or "other iterations"}): they follow '
        'the config, as if the run had been of this length from the '
        f'beginning. {changes}.')


def _progress(schedulers: Sequence[_ParamScheduler]) -> set[str]:
    """Attributes that say how far schedulers got: those that steps set."""
    steps = {vars(kind)['step'] for scheduler in schedulers
             for kind in type(scheduler).__mro__ if 'step' in vars(kind)}
    return {'verbose'} | {
        line.argval for step in steps for line in dis.get_instructions(step)
        if line.opname == 'STORE_ATTR'}


def _kind(state: Mapping, progress: Container[str]) -> dict:
    """What a scheduler is, without how far it got."""
    return {key: list(value) if isinstance(value, tuple) else value
            for key, value in state.items() if key not in progress}


def _differences(saved: Sequence[Mapping], fresh: Sequence[Mapping]) -> str:
    if len(saved) != len(fresh):
        return f'{len(saved)} there, {len(fresh)} here'
    return ', '.join(
        f'{key} {there.get(key)} there, {here.get(key)} here'
        for there, here in zip(saved, fresh, strict=True)
        for key in sorted({*there, *here}) if there.get(key) != here.get(key))


def _first_values(schedulers: Sequence[_ParamScheduler]) -> dict[str, float]:
    """Value of each scheduled parameter in the first group."""
    return {scheduler.param_name:
            scheduler.optimizer.param_groups[0][scheduler.param_name]
            for scheduler in schedulers}


def _replay(runner: Runner, schedulers: Sequence[_ParamScheduler],
            fresh: Sequence[tuple[dict, list[float]]]) -> None:
    for scheduler, (state, values) in zip(schedulers, fresh, strict=True):
        optimizer = scheduler.optimizer
        scheduler.__dict__ = copy.deepcopy(state) | dict(optimizer=optimizer)
        for group, value in zip(optimizer.param_groups, values, strict=True):
            group[scheduler.param_name] = value
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    epochs = runner.epoch if by_epoch else 0
    length = len(runner.train_dataloader)
    with warnings.catch_warnings():
        # Of steps before the first of the optimizer.
        warnings.simplefilter('ignore')
        for done in range(1, runner.iter + 1):
            _step(schedulers, False)
            if done % length == 0 and done <= epochs * length:
                _step(schedulers, True)


def _step(schedulers: Sequence[_ParamScheduler], by_epoch: bool) -> None:
    for scheduler in schedulers:
        if scheduler.by_epoch is by_epoch:
            scheduler.step()


def warn_of_the_end(runner: Runner) -> None:
    """Say that training goes on behind the end of all schedules."""
    length = len(runner.train_dataloader)
    ends = [math.inf if getattr(scheduler, 'need_val_args', False) else
            scheduler.end * (length if scheduler.by_epoch else 1)
            for scheduler in _all_of(runner.param_schedulers)
            if scheduler.param_name == 'lr']
    if ends and max(ends) < runner.max_iters:
        runner.logger.warning(
            f'All schedules of the learning rate end at iteration {max(ends)} '
            f'of {runner.max_iters}, from where on it stays as it is: change '
            "'end' in param_scheduler if it should follow.")
