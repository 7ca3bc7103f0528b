"""The base of hooks that look at a model while it trains."""

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmmedmask.util.checks import check_integer


class WatchingHook(Hook):
    """Look at a model before training, at every interval, and at the end.

    A run that goes on within an epoch is not looked at before: what is known
    of the last epoch's end is not of its weights, and an epoch of which
    nothing is left to train is looked at when it ends.

    Subclasses write :meth:`prepare` and :meth:`look`, at
    :func:`~mmmedmask.engine.preserved_state.saved_model`: with an ``EMAHook``
    at the average of the weights, as validation does. ``interval`` counts
    epochs or iterations. All processes look, or the main one alone.
    """

    # After the hooks that change weights, maps or the logged iteration, and
    # before checkpoints are written.
    priority = 'LOW'
    on_all_ranks = False

    def __init__(self, interval: int, by_epoch: bool = True) -> None:
        self.interval = check_integer('interval', interval)
        self.by_epoch = by_epoch
        self._resting = True
        self._last: int | None = None

    def prepare(self, runner: Runner) -> str | None:
        """Get ready; a returned text says why there is nothing to look at."""
        raise NotImplementedError

    def look(self, runner: Runner, epoch: int, iteration: int) -> None:
        """Look at the model after so many finished epochs and iterations."""
        raise NotImplementedError

    def before_train(self, runner: Runner) -> None:
        """Get ready, and look for the first time, but within no epoch."""
        if not self.on_all_ranks and not is_main_process():
            return
        reason = self.prepare(runner)
        self._resting = reason is not None
        if self._resting:
            runner.logger.warning(f'{type(self).__name__} rests: {reason}')
            return
        if not isinstance(runner.train_loop, EpochBasedTrainLoop) \
                or runner.iter == runner.epoch * len(runner.train_dataloader):
            self._look_once(runner, runner.epoch, runner.iter)

    def after_train_iter(self, runner: Runner, batch_idx: int,
                         data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        if not self.by_epoch and self.every_n_train_iters(
                runner, self.interval):
            self._look_once(runner, runner.epoch, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Look when ``interval`` epochs are over, and after the last one."""
        if self.by_epoch and (self.every_n_epochs(runner, self.interval)
                              or self.is_last_train_epoch(runner)):
            self._look_once(runner, runner.epoch + 1, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Look for the last time, unless it has just been done."""
        self._look_once(runner, runner.epoch, runner.iter)

    def _look_once(self, runner: Runner, epoch: int, iteration: int) -> None:
        if not self._resting and self._last != iteration:
            self.look(runner, epoch, iteration)
            self._last = iteration
