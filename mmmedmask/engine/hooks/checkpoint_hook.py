"""Save checkpoints so that a kill or a full disk at any moment costs nothing.

Each file is written beside its place, synced, and moved there; then the
pointer ``last_checkpoint`` is, and then what is not needed any more goes.
"""

import re
from logging import LogRecord
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.logging import MessageHub
from mmengine.runner import (
    BaseLoop,
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    Runner,
)
from torch import Tensor

from mmmedmask.config_files import BEST_POINTER, name_best_pointers
from mmmedmask.engine.checkpoint import loaded_state, run_folder
from mmmedmask.engine.checkpoint.loaded_state import EPOCH_LENGTH, VALIDATED
from mmmedmask.engine.checkpoint.writing import WHOLE_FILES
from mmmedmask.evaluation.base_metric import undefined_scores
from mmmedmask.registry import HOOKS
from mmmedmask.util.atomic_files import link_or_copy, write_text
from mmmedmask.util.checks import check_integer

#: Entry of the message hub: length of a training that a hook stopped early.
STOPPED = 'stopped_early_of'
#: Entry of the message hub: metrics that have a best, to their rules.
BEST_RULES = 'best_rules'
#: Entries of a state: gradients that wait for the optimizer's next step, and
#: of how many iterations a step has them.
GRADIENTS, ACCUMULATED = 'accumulated_gradients', 'accumulative_counts'
#: Entry of a state: how long early stopping has waited, and its best score.
EARLY_STOPPING = 'early_stopping'


def _is_no_loss(record: LogRecord) -> bool:
    """Tell a message from MMEngine's of gradients that a resumed run lacks."""
    return 'not divisible by `_accumulative_counts`' not in record.msg


def pop_info(hub: MessageHub, key: str, default: Any = None) -> Any:
    """Take an entry out of a message hub, and out of what is resumed of it.

    MMEngine keeps its name there, and warns of it in each later start.
    """
    hub._resumed_keys.pop(key, None)
    return hub.pop_info(key, default)


def _length(runner: Runner) -> tuple[int, int]:
    """How far a training is, and its length: epochs where it counts those.

    With other batches an epoch has other iterations.
    """
    if isinstance(runner.train_loop, IterBasedTrainLoop):
        return runner.iter, runner.max_iters
    return runner.epoch, runner.max_epochs


def _early_stopping(runner: Runner) -> dict[str, EarlyStoppingHook]:
    return {f'{hook.monitor} {hook.rule}': hook for hook in runner.hooks
            if isinstance(hook, EarlyStoppingHook)}


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """Save the state of a run and its best weights; let it go on from there.

    It replaces MMEngine's hook, keeps its names, entries and arguments, so
    that any config goes on to work, and differs in this:

    * An old file is deleted after the new one and the pointer are on the
      disk, best weights when no state refers to them any more.
    * A run that was killed in a validation begins with it.
    * Of equally good weights the latest are the best: a score of few samples
      gets to its end, such as an AUC of 1, long before training does.
    * A best checkpoint that the state refers to has to be beside it, unless
      ``save_best`` or ``rule`` are others now, or what a probe scores on:
      then the log says so, and the best is looked for anew. Its path is in
      the file ``best_checkpoint`` of the work dir, see
      :func:`~mmmedmask.config_files.best_pointers`.
    * Gradients that were accumulated and not used yet are in the state, of
      one process; the log warns where several have their own, and where a
      resumed run accumulates those of another number of iterations.
    * What ``EarlyStoppingHook`` has counted is in the state, too.
    * A resumed run whose config has other schedules, as with a larger
      ``max_epochs``, follows the config, see
      :func:`~mmmedmask.engine.checkpoint.loaded_state.follow_config`.
    * One whose epochs have other iterations, as with other batches or ranks,
      goes on where as many epochs are over, and counts their iterations.
    * A run that a hook stops early, such as ``EarlyStoppingHook``, has a
      state of its end. Resumed, it is over unless it is made longer.
    * Weights of another model are refused, to resume, to test, and if none
      fits to start from; so is a state of another optimizer.
    * What another run, or a later part of this one, has left in the work dir
      is moved into a folder of its folder ``superseded``.

    Args:
        interval: Epochs, or iterations if not ``by_epoch``, from one state to
            the next; -1 saves none on the way.
        save_optimizer: Whether states contain the optimizer's.
        save_param_scheduler: Whether states contain the schedulers'.
        out_dir: Local folder in which a folder of the work dir's name gets
            the checkpoints; None is the work dir itself.
        max_keep_ckpts: States that are kept; -1 keeps all.
        save_last: Whether the end of training is saved in any case, also an
            early one.
        save_best: Metric, or metrics, whose best weights are kept; ``'auto'``
            takes the first one that validation reports.
        rule: ``'greater'`` or ``'less'``, for each metric; None goes by the
            metric's name, of which ``greater_keys`` and ``less_keys`` say
            for which parts more, or less, is better.
        save_begin: Epoch or iteration from which on states are saved.

    Raises:
        ValueError: If an argument is invalid; before training, if the
            metric is not defined on the validation data, or the best
            checkpoint of a resumed run is not there; in training, if the
            validation does not report the metric.
    """

    def __init__(
            self, interval: int = -1, by_epoch: bool = True,
            save_optimizer: bool = True, save_param_scheduler: bool = True,
            out_dir: str | None = None, max_keep_ckpts: int = -1,
            save_last: bool = True, save_best: str | list[str] | None = None,
            rule: str | list[str] | None = None,
            greater_keys: list[str] | None = None,
            less_keys: list[str] | None = None, save_begin: int = 0) -> None:
        for name, number in (('interval', interval),
                             ('max_keep_ckpts', max_keep_ckpts)):
            if check_integer(name, number, -1) == 0:
                raise ValueError(f'{name} must be -1 or positive, got 0')
        check_integer('save_begin', save_begin, 0)
        if out_dir is not None and '://' in str(out_dir):
            raise ValueError(
                f'out_dir must be a local folder, got {out_dir!r}: '
                "MMEngine's CheckpointHook writes to other storage")
        try:
            super().__init__(
                interval=interval, by_epoch=by_epoch,
                save_optimizer=save_optimizer,
                save_param_scheduler=save_param_scheduler, out_dir=out_dir,
                max_keep_ckpts=max_keep_ckpts, save_last=save_last,
                save_best=save_best, rule=rule, greater_keys=greater_keys,
                less_keys=less_keys, save_begin=save_begin,
                backend_args=dict(WHOLE_FILES))
        except (AssertionError, KeyError) as error:
            raise ValueError(f'save_best = {save_best!r} and rule = {rule!r}: '
                             f'{error}') from None
        # Metrics that other hooks add to some validations: the rest has no
        # candidate for the best.
        self.occasional_keys: set[str] = set()
        # Metrics whose scores in the state are of other data than here, and
        # the best weights by them.
        self.outdated_keys: set[str] = set()
        self._outdated_bests: list[str] = []
        self._fresh: list | None = None
        self._saved_schedules: list | dict | None = None
        self._saved_gradients: dict[str, Tensor] = {}
        # The iteration that names the state that is loaded, and whether it is
        # another one here.
        self._loaded_iter = 0
        self._counted_anew = False
        # Epoch or iteration of the latest state, and the bests it names.
        self._state_step: int | None = None
        self._state_bests: set[str] = set()
        # Whether a best was found that no state names.
        self._improved = False

    def before_run(self, runner: Runner) -> None:
        """Find what an automatic resume goes on from."""
        if not isinstance(runner._train_loop, BaseLoop):
            return
        self._fresh = loaded_state.remember_schedules(runner)
        if runner._resume and runner._load_from is None:
            latest = run_folder.find_resumable(runner.work_dir)
            runner._resume = latest is not None
            runner._load_from = latest and str(latest)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse another model; keep the run's schedules and gradients."""
        if isinstance(runner, Runner):
            loaded_state.refuse_another_model(runner, checkpoint)
        if runner._resume:
            loaded_state.leave_average(runner, checkpoint)
            self._saved_schedules = checkpoint.get('param_schedulers')
            self._loaded_iter = checkpoint['meta']['iter']
            # Here, so that hooks begin training with what is counted anew.
            self._counted_anew = loaded_state.count_anew(runner, checkpoint)
            self._take_up_gradients(runner, checkpoint)
            # A run that was stopped, and is made longer, waits anew.
            stopped = checkpoint['message_hub']['runtime_info'].get(STOPPED)
            saved = checkpoint.get(EARLY_STOPPING, {})
            for name, hook in _early_stopping(runner).items():
                if name in saved:
                    waited, hook.best_score = saved[name]
                    hook.wait_count = 0 if stopped else waited

    def _take_up_gradients(self, runner: Runner, checkpoint: dict) -> None:
        """Keep gradients that are part of the next step, as it is now."""
        self._saved_gradients = checkpoint.get(GRADIENTS, {})
        if not self._saved_gradients:
            return
        now = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        # Older states do not tell their number.
        before = checkpoint.get(ACCUMULATED, now)
        if self._counted_anew or before != now:
            runner.logger.warning(
                f'{runner._load_from} lies within a step, whose gradients are '
                'left out: iterations are counted anew, or accumulative_counts'
                f' are others, {before} there and {now} here.')
            self._saved_gradients = {}
        else:
            runner.logger.addFilter(_is_no_loss)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add what was counted, and accumulated for a step to come."""
        if hooks := _early_stopping(runner):
            checkpoint[EARLY_STOPPING] = {
                name: (hook.wait_count, float(hook.best_score))
                for name, hook in hooks.items()}
        wrapper = runner.optim_wrapper
        counts = getattr(wrapper, '_accumulative_counts', 1)
        if 'optimizer' not in checkpoint or counts == 1 \
                or wrapper._inner_count % counts == 0:
            return
        if get_world_size() > 1:
            runner.logger.warning(
                f'The checkpoint lies within {counts} iterations whose '
                'gradients are accumulated, and has none of them: a resumed '
                'run will differ. Save at multiples of them.')
            return
        checkpoint[ACCUMULATED] = counts
        checkpoint[GRADIENTS] = {
            name: parameter.grad.cpu().clone()
            for name, parameter in runner.model.named_parameters()
            if parameter.grad is not None}

    def before_train(self, runner: Runner) -> None:
        """Take up a run: schedules, best weights, a validation that is due."""
        runner.logger.removeFilter(_is_no_loss)
        hub = runner.message_hub
        folder = Path(runner.work_dir)
        if self.out_dir not in (None, runner.work_dir):
            folder = Path(self.out_dir, folder.name)
        resumed = runner._resume and self._loaded_iter > 0
        source = Path(runner._load_from).parent if resumed else None
        if source is None or source.resolve() != folder.resolve():
            # By these numbers MMEngine deletes what is of another run here.
            pop_info(hub, 'keep_ckpt_ids')
        if resumed:
            # Also those by other scores than here: the state needs them.
            self._state_bests = {
                Path(file).name for entry, file in hub.runtime_info.items()
                if entry.startswith('best_ckpt') and file}
            self._take_up_bests(runner)
            for hook in _early_stopping(runner).values():
                if hook.monitor in self.outdated_keys:
                    hook.wait_count = 0
                    hook.best_score = self.init_value_map[hook.rule]
        super().before_train(runner)
        self._refuse_undefined(runner)
        if resumed:
            self._check_bests(runner, source)
        barrier()
        if is_main_process():
            folder.mkdir(parents=True, exist_ok=True)
            run_folder.remove_parts(folder)
            self._clear(runner, folder, source)
        barrier()
        hub.update_info(EPOCH_LENGTH, len(runner.train_dataloader))
        if not resumed:
            # A run before this one, in the same process, may have left it.
            hub.update_info(STOPPED, 0)
            loaded_state.warn_of_the_end(runner)
            return
        self._state_step, bests = self._step(runner), self._bests(runner)
        for entry, name in bests.items():
            self._set_best(runner, entry, folder / name)
        # A kill may have left some, and a run that is over saves no more.
        self._delete_old_bests(runner)
        for name, parameter in runner.model.named_parameters():
            if name in self._saved_gradients:
                parameter.grad = self._saved_gradients[name].to(
                    parameter.device)
        if self._saved_gradients:
            number = runner.iter % runner.optim_wrapper._accumulative_counts
            runner.logger.info(f'The gradients of {number} iterations are '
                               'taken from the checkpoint.')
        if self._saved_schedules is not None and self._fresh is not None:
            loaded_state.follow_config(runner, self._fresh,
                                       self._saved_schedules,
                                       self._counted_anew)
        if hub.runtime_info.get(STOPPED, 0) >= _length(runner)[1]:
            runner.logger.warning(
                f'Training was stopped early at iteration {runner.iter}, so '
                'it is over; a larger max_epochs or max_iters goes on.')
            runner.train_loop.stop_training = True
            return
        hub.update_info(STOPPED, 0)
        loaded_state.warn_of_the_end(runner)
        if self._validation_is_due(runner):
            runner.logger.info(
                f'Epoch {runner.epoch}, iteration {runner.iter} was not '
                'validated before the interruption: it is now.')
            runner.val_loop.run()

    def _refuse_undefined(self, runner: Runner) -> None:
        """Raise a ValueError if the best is to be told by NaN alone."""
        if not self.save_best or runner.val_loop is None:
            return
        undefined = undefined_scores(runner.val_loop.evaluator.metrics,
                                     runner.val_dataloader.dataset)
        for key in undefined.keys() & set(self.key_indicators):
            raise ValueError(
                f'save_best is {key!r}, which will be NaN in every '
                f'validation: {undefined[key]}; choose another score, or set '
                'default_hooks.checkpoint.save_best=None')

    def _step(self, runner: Runner) -> int:
        return runner.epoch if self.by_epoch else runner.iter

    def _bests(self, runner: Runner) -> dict[str, str]:
        """Entries of best checkpoints in the message hub, to file names."""
        known = runner.message_hub.runtime_info
        return {entry: Path(known[entry]).name
                for entry in self._best_pointers() if known.get(entry)}

    def _best_pointers(self) -> dict[str, str]:
        """Entries of best checkpoints to the files that name them."""
        keys = list(self.key_indicators) if self.save_best else []
        entries = ['best_ckpt'] if len(keys) == 1 else [
            f'best_ckpt_{key}' for key in keys]
        return dict(zip(entries, name_best_pointers(keys), strict=True))

    def _point_to_best(self, runner: Runner, entry: str) -> None:
        write_text(Path(runner.work_dir, self._best_pointers()[entry]),
                   str(Path(self.out_dir, self._bests(runner)[entry])))

    def _note_best(self, runner: Runner, key: str, rule: str, score: float,
                   file: str | Path) -> str:
        """Enter a best into the message hub; return the entry of its file."""
        hub = runner.message_hub
        ending = '' if len(self.key_indicators) == 1 else f'_{key}'
        hub.update_info(f'best_score{ending}', score)
        hub.update_info(
            BEST_RULES, hub.runtime_info.get(BEST_RULES, {}) | {key: rule})
        self._set_best(runner, f'best_ckpt{ending}', file)
        return f'best_ckpt{ending}'

    def _set_best(self, runner: Runner, entry: str,
                  file: str | Path) -> None:
        runner.message_hub.update_info(entry, str(file))
        if entry == 'best_ckpt':
            self.best_ckpt_path = str(file)
        else:
            key = entry.removeprefix('best_ckpt_')
            self.best_ckpt_path_dict[key] = str(file)

    def _take_up_bests(self, runner: Runner) -> None:
        """Name the bests of a state as here; leave those by other scores."""
        wanted = dict(zip(self.key_indicators, self.rules, strict=True)) \
            if self.save_best else {}
        if 'auto' in wanted:
            # The first validation tells the metric.
            return
        hub, bests, left = runner.message_hub, [], []
        for key, rule in pop_info(hub, BEST_RULES, {}).items():
            ending = f'_{key}' if f'best_score_{key}' in hub.runtime_info \
                else ''
            score, file = (pop_info(hub, f'{what}{ending}')
                           for what in ('best_score', 'best_ckpt'))
            if wanted.get(key) == rule and key not in self.outdated_keys:
                bests.append((key, rule, score, file))
            else:
                left.append(f'{Path(file).name} ({rule} {key})')
            if key in self.outdated_keys:
                self._outdated_bests.append(Path(file).name)
        for best in bests:
            self._note_best(runner, *best)
        if left:
            runner.logger.warning(
                f'save_best is {self.save_best!r}, or its data are others, so '
                'that the best weights so far do not count any more: '
                f'{", ".join(left)}.')

    def _check_bests(self, runner: Runner, source: Path) -> None:
        for name in self._bests(runner).values():
            if not Path(source, name).is_file():
                raise ValueError(
                    f'the run goes on from {runner._load_from}, whose best '
                    f'checkpoint {name} is not in {source}: without it '
                    'another epoch would be taken for the best. Bring it '
                    'back, go on from another checkpoint, or leave best '
                    'checkpoints out with '
                    'default_hooks.checkpoint.save_best=None')

    def _clear(self, runner: Runner, folder: Path,
               source: Path | None) -> None:
        """Leave in the work dir what belongs to the run as it goes on."""
        bests = self._bests(runner) if source else {}
        here = source is not None and source.resolve() == folder.resolve()
        # First: a pointer must never name what is not there.
        pointers = self._best_pointers()
        named = {pointers[entry] for entry in bests} if here else ()
        for pointer in Path(runner.work_dir).glob(f'{BEST_POINTER}*'):
            if pointer.name not in named:
                pointer.unlink()
        if here:
            for entry in bests:
                self._point_to_best(runner, entry)
            # What is there is named by the iterations of the state.
            later, surplus = run_folder.list_later(
                folder, runner.epoch, self._loaded_iter)
            # With other batches an earlier best may have a larger number.
            surplus = [file for file in surplus if file.name not in (
                *bests.values(), *self._outdated_bests)]
            if not later:
                # The killed part of this run made them, and will again.
                for file in surplus:
                    file.unlink()
                surplus = []
            surplus += [file for name in self._outdated_bests
                        if (file := folder / name).is_file()]
            shared = [folder / name for name in bests.values()]
        else:
            Path(runner.work_dir, run_folder.POINTER).unlink(missing_ok=True)
            later, surplus = run_folder.list_later(folder)
            shared = []
        if aside := [*later, *surplus]:
            place = run_folder.supersede(runner, aside, shared)
            runner.logger.warning(
                'Checkpoints that this run does not go on from were in '
                f'{folder}, and are in {place} now: '
                f'{", ".join(file.name for file in aside)}.')
        if not here:
            for entry, name in bests.items():
                link_or_copy(source / name, folder / name)
                self._point_to_best(runner, entry)

    def _validation_is_due(self, runner: Runner) -> bool:
        """Whether the loop would have validated at this point, and has not."""
        loop = runner.train_loop
        validated = runner.message_hub.runtime_info.get(VALIDATED)
        if runner.val_loop is None or validated == runner.iter:
            return False
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        if by_epoch and runner.iter != runner.epoch * len(loop.dataloader):
            # Within an epoch, at whose end the loop validates by itself.
            return False
        done = runner.epoch if by_epoch else runner.iter
        loop._decide_current_val_interval()
        return done >= loop.val_begin and (
            done % loop.val_interval == 0 or runner.iter >= runner.max_iters)

    def _save_checkpoint_with_step(self, runner: Runner, step: int,
                                   meta: dict) -> None:
        """Write a state, then the pointer, then delete what is too old."""
        folder, hub = Path(self.out_dir), runner.message_hub
        kept = list(getattr(self, 'keep_ckpt_ids', ()))
        if self.max_keep_ckpts > 0:
            if step not in kept:
                kept.append(step)
            # Those that are about to go are in it: a run that is killed now
            # goes on from this state, and has to delete them.
            hub.update_info('keep_ckpt_ids', kept)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = str(folder / name)
        hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir, name, save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler, meta=meta,
            by_epoch=self.by_epoch, backend_args=self.backend_args)
        self._state_step = step
        self._state_bests = set(self._bests(runner).values())
        if is_main_process():
            write_text(Path(runner.work_dir, run_folder.POINTER),
                       self.last_ckpt)
        if self.max_keep_ckpts > 0:
            surplus = kept[:-self.max_keep_ckpts]
            kept = kept[-self.max_keep_ckpts:]
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(kept)
            hub.update_info('keep_ckpt_ids', kept)
            if is_main_process():
                for old in surplus:
                    Path(folder, self.filename_tmpl.format(old)).unlink(
                        missing_ok=True)
        self._delete_old_bests(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None
                        ) -> None:
        """Note that the run has validated, and save what is best so far."""
        if self.out_dir is None or not hasattr(self, 'file_backend'):
            # A validation without training.
            return
        runner.message_hub.update_info(VALIDATED, runner.iter)
        if self.save_best and metrics:
            self._improved = self._save_best_checkpoint(runner, metrics)
        elif self.save_best:
            runner.logger.warning(
                'The validation gives no scores: none of them is the best')

    def after_val(self, runner: Runner) -> None:
        """Save the state again, with what all hooks know of the scores."""
        improved, self._improved = self._improved, False
        step = self._step(runner)
        over = runner.iter >= runner.max_iters
        if step == self._state_step and (improved or over):
            self._save_checkpoint_with_step(
                runner, step, dict(epoch=runner.epoch, iter=runner.iter))
        elif improved:
            self._delete_old_bests(runner)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> bool:
        """Save weights that are the best so far; return whether some are."""
        step, hub = self._step(runner), runner.message_hub
        improved = False
        if 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
            self._take_up_bests(runner)
        for key, rule in zip(self.key_indicators, self.rules, strict=True):
            if key not in metrics:
                if key in self.occasional_keys:
                    continue
                raise ValueError(f'save_best is {key!r}, and validation '
                                 f'reports {", ".join(metrics)}')
            entry = 'best_score' if len(self.key_indicators) == 1 \
                else f'best_score_{key}'
            best = hub.runtime_info.get(entry, self.init_value_map[rule])
            score = metrics[key]
            ties = entry in hub.runtime_info and score == best
            if score is None or not (
                    ties or self.is_better_than[key](score, best)):
                continue
            improved = True
            name = (f'best_{key}_' + self.filename_tmpl.format(step)).replace(
                '/', '_')
            entry = self._note_best(runner, key, rule, score,
                                    Path(self.out_dir, name))
            runner.save_checkpoint(
                self.out_dir, name, save_optimizer=False,
                save_param_scheduler=False,
                meta=dict(epoch=runner.epoch, iter=runner.iter),
                by_epoch=False, backend_args=self.backend_args)
            if is_main_process():
                self._point_to_best(runner, entry)
            runner.logger.info(
                f'The best checkpoint with {score:0.4f} {key} at {step} '
                f'{"epoch" if self.by_epoch else "iter"} is saved to {name}.')
        return improved

    def _delete_old_bests(self, runner: Runner) -> None:
        """Delete best weights that neither this run nor its state needs."""
        if not is_main_process() or not self.save_best:
            return
        needed = self._state_bests | set(self._bests(runner).values())
        # A resumed run may not know yet what 'auto' is, but its state does.
        keys = '|'.join(re.escape(key.replace('/', '_')) for key in (
            *self.key_indicators,
            *runner.message_hub.runtime_info.get(BEST_RULES, {})))
        ours = re.compile(rf'best_({keys})_(epoch|iter)_\d+\.pth')
        for _, file in run_folder.list_bests(Path(self.out_dir)):
            if file.name not in needed and ours.match(file.name):
                file.unlink(missing_ok=True)

    def after_train(self, runner: Runner) -> None:
        """Save the end of a run that was stopped; look for its best."""
        step, hub = self._step(runner), runner.message_hub
        done, length = _length(runner)
        if step and done < length and not hub.runtime_info.get(STOPPED) \
                and (self.save_last or step == self._state_step):
            hub.update_info(STOPPED, length)
            self._save_checkpoint_with_step(
                runner, step, dict(epoch=runner.epoch, iter=runner.iter))
            runner.logger.info('Training was stopped early: its state is in '
                               f'{self.last_ckpt}.')
        if self.save_best and runner.val_loop and not self._bests(runner):
            runner.logger.warning(
                f'No validation gave a score to choose by (save_best is '
                f'{self.save_best!r}): there is no best checkpoint.')
        if is_main_process():
            for name in self._bests(runner).values():
                if not Path(self.out_dir, name).is_file():
                    raise ValueError(
                        f'the best checkpoint {name} is not in '
                        f'{self.out_dir} any more: somebody has deleted it')
