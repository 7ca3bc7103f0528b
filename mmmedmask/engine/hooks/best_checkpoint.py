"""Keep the best checkpoint under a name that a later stage can know."""

import os
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmmedmask.registry import HOOKS

FILE_NAME = 'best.pth'


@HOOKS.register_module()
class BestCheckpointHook(Hook):
    """Let ``best.pth`` in the work folder be the best checkpoint so far.

    ``save_best`` of MMEngine's ``CheckpointHook`` puts the epoch into the
    name, which the config of the next stage cannot know. ``best.pth`` is
    another name of the same file and takes no space.
    """

    # After CheckpointHook.
    priority = 'LOWEST'

    def after_val_epoch(self, runner, metrics=None) -> None:
        """Point to the best checkpoint, if there is a new one."""
        best = runner.message_hub.runtime_info.get('best_ckpt')
        if best is None or not is_main_process():
            return
        link = Path(runner.work_dir) / FILE_NAME
        if link.exists() and link.samefile(best):
            return
        temporary = link.with_suffix('.part')
        temporary.unlink(missing_ok=True)
        os.link(best, temporary)
        os.replace(temporary, link)

    # Probes choose checkpoints, too, without a validation.
    before_train_epoch = after_train = after_val_epoch
