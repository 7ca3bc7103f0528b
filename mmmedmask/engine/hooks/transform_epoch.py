"""Tell random transforms in loader workers which epoch begins."""

from collections.abc import Iterator

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmmedmask.registry import HOOKS


@HOOKS.register_module()
class TransformEpochHook(Hook):
    """Call ``set_epoch`` of every transform that has it.

    Transforms such as ``mmmedmask.CMIMTwoViews`` draw from a seed, the epoch
    and the sample's index. They keep the epoch in shared memory, so
    persistent workers follow.

    Raises:
        ValueError: If the loop does not count epochs: workers read ahead, so
            there is no moment at which an iteration could be announced.
    """

    def before_train(self, runner: Runner) -> None:
        """Check the loop."""
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ValueError(
                'TransformEpochHook needs an EpochBasedTrainLoop, got '
                f'{type(runner.train_loop).__name__}; draw the views on the '
                "device instead (view_source='device')")

    def before_train_epoch(self, runner: Runner) -> None:
        """Announce the epoch."""
        for transform in transforms_of(runner.train_dataloader.dataset):
            if hasattr(transform, 'set_epoch'):
                transform.set_epoch(runner.epoch, runner.seed)


def transforms_of(dataset: object) -> Iterator[object]:
    """Find the transforms of a data set and of those that it wraps.

    Args:
        dataset: A data set, or a wrapper with ``dataset`` or ``datasets``.

    Yields:
        Transforms.
    """
    for wrapped in getattr(dataset, 'datasets', []):
        yield from transforms_of(wrapped)
    if hasattr(dataset, 'dataset'):
        yield from transforms_of(dataset.dataset)
    pipeline = getattr(dataset, 'pipeline', None)
    yield from getattr(pipeline, 'transforms', [])
