"""Base of lists of image files, some of which may be missing or broken."""

import logging
from collections.abc import Sequence

import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from mmmedmask.datasets.image_io import ImageFileError
from mmmedmask.util.checks import check_choice, check_range


def check_held_out(share: float, held_out: bool) -> None:
    """Check that what is held out can be, and is, a part of the images."""
    check_range('held_out_share', share, 0, 1)
    if share == 1 or held_out and not share:
        raise ValueError(f'held_out={held_out} with held_out_share={share}: '
                         'expected a share below 1, above 0 to take what is '
                         'held out')


class ImageFileDataset(BaseDataset):
    """A list of image files with a policy for those that cannot be used.

    Subclasses write ``load_data_list``, which returns dicts with at least
    ``img_path``. The pipeline also gets ``sample_idx``, the position.

    Args:
        on_error: What to do at a file that cannot be used. ``'raise'``
            stops with an :class:`ImageFileError` that names the file.
            ``'skip'`` gives the next usable sample of the list instead (so
            the same index gives the same sample in every worker and run),
            logs the file once, and counts it: see :meth:`skipped_paths`.
        base: Arguments of MMEngine's ``BaseDataset``: ``ann_file``,
            ``metainfo``, ``data_root``, ``pipeline``, ``indices``,
            ``serialize_data``, ``test_mode`` and ``lazy_init``.
    """

    def __init__(self, on_error: str = 'raise', pipeline: Sequence = (),
                 **base: object) -> None:
        self.on_error = check_choice('on_error', on_error, ('raise', 'skip'))
        self._skipped: torch.Tensor | None = None
        super().__init__(data_prefix={}, pipeline=list(pipeline), **base)

    def full_init(self) -> None:
        if self._fully_initialized:
            return
        super().full_init()
        self._make_skip_marks()

    def get_subset_(self, indices: int | Sequence[int]) -> None:
        super().get_subset_(indices)
        self._make_skip_marks()

    def get_subset(self, indices: int | Sequence[int]) -> 'ImageFileDataset':
        subset = super().get_subset(indices)
        subset._make_skip_marks()
        return subset

    def _make_skip_marks(self) -> None:
        # One byte per sample in shared memory: workers mark without a lock,
        # and the main process sees every mark.
        if self.on_error == 'skip':
            self._skipped = torch.zeros(
                len(self), dtype=torch.uint8).share_memory_()

    def __getitem__(self, idx: int) -> dict:
        """Return the sample at ``idx``, which may be negative."""
        self.full_init()
        length = len(self)
        if not -length <= idx < length:
            raise IndexError(
                f'Index {idx} is out of range for {length} samples')
        if self.on_error == 'raise':
            return self.prepare_data(idx)
        return self._next_usable(idx % length)

    def _next_usable(self, start: int) -> dict:
        """Return the first usable sample from ``start`` on, cyclically."""
        length = len(self)
        last_error = None
        for step in range(length):
            idx = (start + step) % length
            if self._skipped[idx]:
                continue
            try:
                return self.prepare_data(idx)
            except ImageFileError as error:
                last_error = error
                self._skipped[idx] = 1
                print_log(f'Skipped {int(self._skipped.sum())} of {length} '
                          f'files so far. {error}', logger='current',
                          level=logging.WARNING)
        raise ImageFileError(
            f'None of the {length} files can be used, the last error was: '
            f'{last_error or "logged before"}')

    def skipped_paths(self) -> list[str]:
        """List the files that any worker of this process has skipped."""
        if self._skipped is None:
            return []
        # A copy: nonzero counts twice, and workers may write in between.
        return [self.get_data_info(int(idx))['img_path']
                for idx in self._skipped.clone().nonzero().flatten()]
