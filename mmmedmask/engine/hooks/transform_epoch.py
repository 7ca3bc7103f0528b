"""Tell random transforms in loader workers which epoch begins."""

from collections.abc import Iterator

from mmengine.dataset import ClassBalancedDataset, RepeatDataset
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmmedmask.engine.wrapped_datasets import datasets_of
from mmmedmask.registry import HOOKS


@HOOKS.register_module()
class TransformEpochHook(Hook):
    """Call ``set_epoch`` of every transform that has it.

    Transforms such as ``mmmedmask.CMIMTwoViews`` draw from a seed, the epoch
    and the sample's index. They keep the epoch in shared memory, so
    persistent workers follow.

    Raises:
        ValueError: If there is such a transform and the loop does not count
            epochs: workers read ahead, so there is no moment at which an
            iteration could be announced.
    """

    def before_train(self, runner: Runner) -> None:
        dataset = runner.train_dataloader.dataset
        drawing = epoch_transforms(dataset)
        if drawing and not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ValueError(
                f'{type(drawing[0]).__name__} draws anew in each epoch, and '
                f'{type(runner.train_loop).__name__} counts none: set '
                'train_cfg=dict(by_epoch=True, max_epochs=...), or take '
                "another transform, such as mmpretrain's; CMIM can draw its "
                "views on the device (view_source='device')")
        for part in datasets_of(dataset):
            if isinstance(part, (RepeatDataset, ClassBalancedDataset)) \
                    and epoch_transforms(part):
                runner.logger.warning(
                    f'{type(part).__name__}: an image that comes several '
                    'times in one epoch looks the same each time, since '
                    'crops and flips are drawn from the epoch and the sample. '
                    'More epochs draw anew; a weighted sampler cannot help.')

    def before_train_epoch(self, runner: Runner) -> None:
        for transform in epoch_transforms(runner.train_dataloader.dataset):
            transform.set_epoch(runner.epoch, runner.seed)


def epoch_transforms(dataset: object) -> list:
    """Find a data set's transforms that draw anew in each epoch."""
    return [transform for transform in transforms_of(dataset)
            if hasattr(transform, 'set_epoch')]


def transforms_of(dataset: object) -> Iterator[object]:
    """Find a data set's transforms, also inside of others; each once."""
    seen: set[int] = set()
    for part in datasets_of(dataset):
        yield from _nested_transforms(getattr(part, 'pipeline', None), seen)


def inner_transforms(node: object) -> list:
    """Find the transforms that one is made of, in their order."""
    # As `t` mmpretrain keeps the one of torchvision that it wraps.
    inner = getattr(node, 't', getattr(node, 'transforms', None))
    parts = inner if isinstance(inner, list | tuple) else [inner]
    return [part for part in parts if part is not None]


def _nested_transforms(node: object, seen: set[int]) -> Iterator[object]:
    for part in inner_transforms(node):
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        yield from _nested_transforms(part, seen)
