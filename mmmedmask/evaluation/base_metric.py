"""What all metrics share: sizes, files, messages."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log

from mmmedmask.util.checks import check_choice


class SampleMetric(BaseMetric):
    """Score predictions on single samples, and write them into files.

    Args:
        out_dir: Folder of the files. None takes the folder of the run's log,
            ``WORK_DIR/TIMESTAMP``, and writes nothing if there is no log.
        collect_device: ``'cpu'`` or ``'gpu'``, where the results of several
            processes meet.
        prefix: First part of the names of the scores.
    """

    def __init__(self, out_dir: str | None = None, collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        check_choice('collect_device', collect_device, ('cpu', 'gpu'))
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.out_dir = out_dir
        self._size: int | None = None

    def evaluate(self, size: int) -> dict:
        """Compute the scores of ``size`` samples from all processes."""
        self._size = size
        return super().evaluate(size)

    def check_number(self, results: Sequence) -> None:
        """Raise a ValueError unless there are results of all samples."""
        if not results or self._size not in (None, len(results)):
            raise ValueError(
                f'{len(results)} predictions on {self._size or "no"} samples: '
                'did a process get fewer than others?')

    def undefined_scores(self, infos: Sequence[Mapping]) -> dict[str, str]:
        """Name scores that will be NaN whatever is predicted, with the reason.

        ``infos`` are the data set's entries; names have no prefix.
        """
        return {}

    def write(self, name: str, write: Callable, *content: object) -> None:
        """Let a function write a file, if there is a folder for it."""
        folder = self.output_folder()
        if folder is not None:
            write(folder / name, *content)

    def output_folder(self) -> Path | None:
        """Find the folder of the files, which may be missing, or None."""
        if self.out_dir is not None:
            return Path(self.out_dir)
        for handler in MMLogger.get_current_instance().handlers:
            if isinstance(handler, logging.FileHandler):
                return Path(handler.baseFilename).parent
        return None


def undefined_scores(metrics: Iterable[BaseMetric],
                     dataset: object) -> dict[str, str]:
    """Name scores, as validation reports them, that will be NaN anyway.

    Each with the reason. Of the metrics only ours are asked.
    """
    metrics = [metric for metric in metrics
               if isinstance(metric, SampleMetric)]
    if not metrics or not hasattr(dataset, 'get_data_info'):
        return {}
    infos = list(map(dataset.get_data_info, range(len(dataset))))
    return {f'{metric.prefix}/{name}': reason for metric in metrics
            for name, reason in metric.undefined_scores(infos).items()}


def require_keys(sample: Mapping, keys: Sequence[str], name: str) -> None:
    """Raise a ValueError that names what a prediction lacks."""
    missing = [key for key in keys if sample.get(key) is None]
    if missing:
        raise ValueError(f'the prediction on {name} lacks {missing}, it has '
                         f'{sorted(sample)}')


def log_warning(message: str) -> None:
    """Warn in the log of the run."""
    print_log(message, logger='current', level=logging.WARNING)
