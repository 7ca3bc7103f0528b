"""Refuse data whose classes are not those of the weights."""

from collections.abc import Mapping

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmmedmask.engine.checkpoint.reading import get_dataset_meta
from mmmedmask.engine.preserved_state import unwrap
from mmmedmask.engine.wrapped_datasets import datasets_of
from mmmedmask.registry import HOOKS
from mmmedmask.util.nested import as_list


@HOOKS.register_module()
class ClassNamesHook(Hook):
    """Compare names and order of classes, of data and of the weights.

    A label is the place of a name in the ``classes`` of a data set: weights
    that learned them in another order would be scored as if they were wrong.
    A test compares the data set with what the checkpoint says of its
    training set, as does a resumed training; validation compares with the
    training set. A training that only starts from a checkpoint
    (``load_from``, ``init_cfg``) may have other classes.

    Models of which no part has ``num_classes``, of survival or most
    pre-training, are not compared. A checkpoint that names no classes is a
    warning.

    Raises:
        ValueError: In a run if the classes differ; names both lists.
    """

    def __init__(self) -> None:
        self._learned: tuple[str, list[str] | None] = ('', None)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note the classes that the weights were trained for."""
        self._learned = ('the checkpoint', names_of(
            get_dataset_meta(checkpoint)))

    def before_train(self, runner: Runner) -> None:
        dataset = runner.train_dataloader.dataset
        if runner.iter > 0:
            self._compare(runner, dataset, 'training set')
        self._learned = ('the training set', names_in(dataset))
        if runner.val_loop is not None:
            self.before_val(runner)

    def before_val(self, runner: Runner) -> None:
        self._compare(runner, getattr(runner.val_dataloader, 'dataset', None),
                      'validation set')

    def before_test(self, runner: Runner) -> None:
        # Probes have no loader: their classes are their own.
        self._compare(runner, getattr(runner.test_dataloader, 'dataset', None),
                      'test set')

    def _compare(self, runner: Runner, dataset: object, name: str) -> None:
        source, learned = self._learned
        classes = names_in(dataset)
        if not source or classes is None or learned == classes \
                or not has_classes(unwrap(runner.model)):
            return
        if learned is None:
            runner.logger.warning(
                f'{source} names no classes: that those of the {name}, '
                f'{classes}, are in its order is not checked')
            return
        raise ValueError(
            f'the {name} has the classes {classes}, and {source} {learned}: a '
            'label would mean two things. Give the data set these names in '
            'this order (metainfo=dict(classes=[...]), or classes.txt of '
            'labelled images)')


def has_classes(model: nn.Module) -> bool:
    """Whether any part of a model has ``num_classes``."""
    return any(getattr(module, 'num_classes', None)
               for module in model.modules())


def names_in(dataset: object) -> list[str] | None:
    """List the classes of a data set, or of what it wraps; None if none."""
    return next(filter(None, (
        names_of(getattr(part, 'metainfo', None))
        for part in datasets_of(dataset))), None)


def names_of(meta: Mapping | None) -> list[str] | None:
    """List the classes of a ``metainfo``; None if it has none."""
    classes = as_list((meta or {}).get('classes') or [])
    return list(map(str, classes)) or None
