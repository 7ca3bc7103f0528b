"""Say at the end of every epoch how many files were skipped, and which."""

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmmedmask.engine.checkpoint.reading import listing
from mmmedmask.engine.wrapped_datasets import datasets_of
from mmmedmask.registry import HOOKS


@HOOKS.register_module()
class SkippedFilesHook(Hook):
    """Log the files that data sets with ``on_error='skip'`` left out.

    A data set logs each file when it meets it; this sums up what would
    otherwise be lost in a long log, over all processes.
    """

    priority = 'LOW'

    def __init__(self) -> None:
        self._reported = 0

    def after_train_epoch(self, runner: Runner) -> None:
        dataset = runner.train_dataloader.dataset
        parts = [part for part in datasets_of(dataset)
                 if getattr(part, 'on_error', 'raise') == 'skip']
        if not parts:
            return
        # Each process's loader met other files.
        paths = sorted(set().union(*all_gather_object(
            [path for part in parts for path in part.skipped_paths()])))
        if len(paths) == self._reported:
            return
        self._reported = len(paths)
        runner.logger.warning(f'Skipped {len(paths)} of {len(dataset)} files '
                              f'so far: {listing(paths)}')
