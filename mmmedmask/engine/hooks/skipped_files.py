"""Say at the end of every epoch how many files were skipped, and which."""

from collections.abc import Iterator

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mmmedmask.registry import HOOKS


@HOOKS.register_module()
class SkippedFilesHook(Hook):
    """Log the files that data sets with ``on_error='skip'`` left out.

    A data set logs each file when it meets it; this sums up what would
    otherwise be lost in a long log. Each process reports the files that its
    own loader met.

    Args:
        max_listed: How many files to name.

    Raises:
        ValueError: If ``max_listed`` is negative.
    """

    priority = 'LOW'

    def __init__(self, max_listed: int = 5) -> None:
        if max_listed < 0:
            raise ValueError(
                f'max_listed must be at least 0, got {max_listed}')
        self.max_listed = max_listed
        self._reported = 0

    def after_train_epoch(self, runner: Runner) -> None:
        """Report, if files were skipped since the last report."""
        dataset = runner.train_dataloader.dataset
        paths = [path for part in datasets_that_skip(dataset)
                 for path in part.skipped_paths()]
        if len(paths) == self._reported:
            return
        self._reported = len(paths)
        listed = paths[:self.max_listed]
        more = len(paths) - len(listed)
        runner.logger.warning(
            f'Skipped {len(paths)} of {len(dataset)} files so far: '
            + ', '.join(listed)
            + (f' and {more} more' if listed and more else ''))


def datasets_that_skip(dataset: Dataset) -> Iterator[Dataset]:
    """Find the data sets that can skip, inside wrappers too.

    Args:
        dataset: A data set or a wrapper with ``dataset`` or ``datasets``.

    Yields:
        Data sets with ``skipped_paths``.
    """
    if hasattr(dataset, 'skipped_paths'):
        yield dataset
        return
    inner = getattr(dataset, 'datasets', None) or [
        getattr(dataset, 'dataset', None)]
    for part in inner:
        if part is not None:
            yield from datasets_that_skip(part)
