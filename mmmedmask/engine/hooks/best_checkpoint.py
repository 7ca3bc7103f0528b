"""Keep the best checkpoint under a name that a later stage can know."""

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook

from mmmedmask.engine.checkpoint.run_folder import supersede
from mmmedmask.registry import HOOKS
from mmmedmask.util.atomic_files import link_or_copy

FILE_NAME = 'best.pth'


@HOOKS.register_module()
class BestCheckpointHook(Hook):
    """Let ``best.pth`` in the work folder be the best checkpoint so far.

    ``save_best`` of MMEngine's ``CheckpointHook`` puts the epoch into the
    name, which the config of the next stage cannot know. ``best.pth`` is
    another name of the same file and takes no space, or a copy if checkpoints
    are on another disk. That of an earlier run is moved into ``superseded``
    before training. Several metrics, each with a best of its own, are a
    ValueError there.
    """

    # After CheckpointHook.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._source: str | None = None

    def before_train(self, runner) -> None:
        """Refuse several bests, and set that of an earlier run aside."""
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook) and len(
                    hook.save_best or ()) > 1:
                raise ValueError(
                    f'{FILE_NAME} is the best by one metric, and save_best is '
                    f'{hook.save_best}: name one of them, or leave '
                    'BestCheckpointHook out (default_hooks.best_checkpoint='
                    'None)')
        link = Path(runner.work_dir, FILE_NAME)
        if self._best(runner) is None and is_main_process() and link.is_file():
            supersede(runner, [link])

    def after_val_epoch(self, runner, metrics=None) -> None:
        """Point to the best checkpoint, if there is a new one."""
        best, link = self._best(runner), Path(runner.work_dir, FILE_NAME)
        if best is None or not is_main_process() or (
                best == self._source and link.exists()):
            return
        link_or_copy(best, link)
        self._source = best

    # Probes choose checkpoints, too, without a validation.
    before_train_epoch = after_train = after_val_epoch

    def _best(self, runner) -> str | None:
        """The file of this run's best checkpoint so far."""
        return runner.message_hub.runtime_info.get('best_ckpt')
