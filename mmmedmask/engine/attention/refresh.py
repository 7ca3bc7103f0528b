"""What is computed from every training image, anew every few epochs."""

import time
from collections.abc import Iterable, Sequence
from types import SimpleNamespace

import torch
from mmengine.dataset import Compose
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmmedmask.datasets.transforms import RandomResizedCrop
from mmmedmask.engine.attention.store import ImageStore
from mmmedmask.engine.attention.whole_images import (
    ImageIndex,
    run_whole_images,
)
from mmmedmask.engine.hooks.transform_epoch import (
    TransformEpochHook,
    transforms_of,
)
from mmmedmask.engine.preserved_state import model_at_rest, unwrap
from mmmedmask.engine.rank_errors import on_all_ranks
from mmmedmask.util.checks import check_integer

#: Rows of all processes that are gathered at a time.
GATHERED_ROWS = 65536
#: Transforms, of any library, that move pixels and do not record it as
#: mmmedmask's do; those with one of these as their base, too.
MOVING = frozenset((
    'CenterCrop', 'EfficientNetCenterCrop', 'ElasticTransform', 'FiveCrop',
    'Pad', 'RandomAffine', 'RandomCrop', 'RandomHorizontalFlip',
    'RandomPerspective', 'RandomResizedCrop',
    'RandomResizedCropAndInterpolationWithTwoPic', 'RandomRotFlip',
    'RandomRotate', 'RandomRotate90', 'RandomRotation', 'RandomShift',
    'RandomTranslatePad', 'RandomVerticalFlip', 'Rotate', 'Shear', 'ShearX',
    'ShearY', 'TenCrop', 'Translate', 'TranslateX', 'TranslateY'))
#: Those of torchvision that draw such steps; mmpretrain's name theirs.
AUTO_AUGMENT = 'torchvision.transforms.autoaugment'


def moving_transforms(transforms: Iterable) -> list[str]:
    """Name the transforms that move pixels and do not record it."""
    return [kind.__name__ for kind in map(type, transforms)
            if kind.__module__ == AUTO_AUGMENT
            or any(base.__name__ in MOVING and not issubclass(
                base, RandomResizedCrop) for base in kind.__mro__)]


def is_flip(transform: object) -> bool:
    """Tell whether a transform, of any library, mirrors and records it."""
    return any(base.__name__ == 'RandomFlip'
               for base in type(transform).__mro__)


def check_whole(pipeline: Compose) -> None:
    """Raise a ValueError if a pipeline for whole images moves pixels."""
    own = list(transforms_of(SimpleNamespace(pipeline=pipeline)))
    moving = moving_transforms(own) + [
        type(transform).__name__ for transform in own
        if is_flip(transform) or isinstance(transform, RandomResizedCrop)]
    if moving:
        raise ValueError(
            'the pipeline for whole images must neither crop nor mirror nor '
            f'turn them, but it has {", ".join(moving)}; use '
            'mmmedmask.ResizeImage')


def is_refresh_epoch(epoch: int, begin: int, interval: int) -> bool:
    """Tell whether values are made anew before an epoch, counted from 0.

    The code released for MSMAE refreshes after epoch 40 and uses the maps from
    epoch 41 on; the paper has 40 epochs of random masking, ``begin=40`` here.
    """
    return epoch >= begin and (epoch - begin) % interval == 0


class RefreshHook(Hook):
    """Compute a tensor from each training image before some of the epochs.

    Before epochs ``begin``, ``begin + interval``, ... all training images
    are run through the model, whole and in evaluation mode, under the
    autocast of training; each process takes a part, and all have all values
    afterwards. The weights are those that are trained, not the average of
    ``EMAHook``. A refresh draws no random number.

    Values are saved with checkpoints, and a resumed run goes on with them,
    but not one from ``load_from``, nor if the training set has other files.
    Transforms that draw need ``mmmedmask.TransformEpochHook``, too.

    Subclasses set the name of the values in a checkpoint (``state_key``), of
    the tensor there (``value_name``) and in the log (``plural``), and write
    :meth:`check_training` and :meth:`compute`.

    Attributes:
        just_made: Whether the present epoch began with new values.

    Args:
        begin: First epoch with values, counted from 0.
        interval: Epochs from one refresh to the next.
        pipeline: Transforms that load, resize and pack a whole image.
        batch_size: Whole images per forward pass and process.

    Raises:
        ValueError: If an argument is out of range; in training, if loop,
            model or samples do not fit.
    """

    # Before the timer, whose times are those of training, and before hooks
    # that run the model.
    priority = 'HIGH'

    state_key: str
    value_name: str
    plural: str

    def __init__(self, begin: int, interval: int, pipeline: Sequence | None,
                 batch_size: int, num_workers: int) -> None:
        self.begin = check_integer('begin', begin, 0)
        self.interval = check_integer('interval', interval)
        self.batch_size = check_integer('batch_size', batch_size)
        self.num_workers = check_integer('num_workers', num_workers, 0)
        if not pipeline:
            raise ValueError(
                f'{type(self).__name__} needs a pipeline for whole images, '
                "e.g. [dict(type='mmmedmask.LoadTile'), "
                "dict(type='mmmedmask.ResizeImage', scale=224), "
                f"dict(type='mmmedmask.PackTile')], got {pipeline!r}")
        self.pipeline = Compose(pipeline)
        self.store: ImageStore | None = None
        self.just_made = False
        self.refresh_seconds = 0.0
        self._loaded_state: dict | None = None
        self._train_start = 0.0

    def check_training(self, model: nn.Module, transforms: list) -> None:
        """Raise a ValueError if the model or a transform does not fit."""

    def compute(self, model: nn.Module, batch: dict) -> torch.Tensor:
        """Compute the values (B, ...) of a batch of whole images."""
        raise NotImplementedError

    def values_changed(self) -> None:
        """Pass on what is in the store now."""

    def read_state(self, runner: Runner,
                   state: dict) -> tuple[dict | None, str | None]:
        """Get the state that a checkpoint's entry stands for, or why not."""
        return state, self.store.why_not(state)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remember the values of a checkpoint until training begins."""
        self._loaded_state = checkpoint.get(self.state_key)

    def before_train(self, runner: Runner) -> None:
        """Check what is there, list the images, take up saved values."""
        self._check_run(runner)
        self.store = ImageStore(
            ImageIndex(runner.train_dataloader.dataset), self.value_name)
        self.values_changed()
        self._restore(runner)
        self.refresh_seconds = 0.0
        self._train_start = time.perf_counter()

    def before_train_epoch(self, runner: Runner) -> None:
        """Make new values if it is time, or if there should be some.

        A state in the middle of an epoch has what was made before it.
        """
        self.just_made = self.store.epoch != runner.epoch and (
            runner.epoch >= self.begin and not self.store.is_filled
            or is_refresh_epoch(runner.epoch, self.begin, self.interval))
        if self.just_made:
            self._refresh(runner)

    def after_train(self, runner: Runner) -> None:
        runner.logger.info(f'{self.plural} took {self._cost()}.')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self.store is not None and self.store.is_filled:
            checkpoint[self.state_key] = self.store.state_dict()

    def _check_run(self, runner: Runner) -> None:
        name = type(self).__name__
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ValueError(
                f'{name} counts epochs and needs an EpochBasedTrainLoop, got '
                f'{type(runner.train_loop).__name__}')
        if is_model_wrapper(runner.model) and not isinstance(
                runner.model, DistributedDataParallel):
            raise ValueError(f'{name} works with DistributedDataParallel, not '
                             f'with {type(runner.model).__name__}: each '
                             'process needs the whole model')
        transforms = list(transforms_of(runner.train_dataloader.dataset))
        self.check_training(unwrap(runner.model), transforms)
        check_whole(self.pipeline)
        announced = any(isinstance(hook, TransformEpochHook)
                        for hook in runner.hooks)
        for transform in transforms:
            if hasattr(transform, 'set_epoch') and not announced:
                raise ValueError(
                    f'{type(transform).__name__} would draw the same in '
                    "every epoch: add transform_epoch=dict(type='mmmedmask."
                    "TransformEpochHook') to default_hooks")
        if self.begin >= runner.max_epochs:
            runner.logger.warning(
                f'{name} will do nothing: begin {self.begin} is not below '
                f'max_epochs {runner.max_epochs}.')

    def _restore(self, runner: Runner) -> None:
        """Take up the values of a resumed run; say why if that cannot be."""
        state, self._loaded_state = self._loaded_state, None
        if not (runner._resume and runner.iter > 0):
            if state is not None:
                runner.logger.warning(
                    f'{self.plural} of the loaded checkpoint are not used: '
                    'only a resumed run goes on with them.')
            return
        # In epoch begin they are made anew anyway.
        if state is None and runner.epoch <= self.begin:
            return
        reason = ('the checkpoint has none (save_state=False, or it was '
                  'written without this hook)')
        if state is not None:
            state, reason = self.read_state(runner, state)
        if reason is None:
            self.store.load_state_dict(state)
            self.values_changed()
            runner.logger.info(
                f'{self.plural} of {len(self.store)} images, made before '
                f'epoch {self.store.epoch}, taken from the checkpoint.')
            return
        runner.logger.warning(
            f'{self.plural} cannot be resumed: {reason}. New ones are made '
            f'when they are needed, from epoch {self.begin} on, so this run '
            'will differ from one that was not interrupted.')

    def _refresh(self, runner: Runner) -> None:
        start = time.perf_counter()
        with model_at_rest(runner) as model:
            rows, parts = on_all_ranks(
                run_whole_images, self.store.images.sources, self.pipeline,
                lambda batch: self.compute(model, batch).half(),
                self.batch_size, self.num_workers)
        values, present = combine_parts(rows, parts, len(self.store))
        self._check_values(values, present)
        self.store.fill(values, runner.epoch)
        self.values_changed()
        seconds = time.perf_counter() - start
        self.refresh_seconds += seconds
        unusable = int((~present).sum())
        runner.logger.info(
            f'{self.plural} of {len(self.store)} images made before epoch '
            f'{runner.epoch} in {seconds:.1f} s; so far they took '
            f'{self._cost()}.'
            f'{f" {unusable} files could not be read." if unusable else ""}')

    def _check_values(self, values: torch.Tensor,
                      present: torch.Tensor) -> None:
        if not present.any():
            raise ValueError(f'none of the {len(present)} training images '
                             'could be read')
        broken = present & ~values.isfinite().flatten(1).all(dim=1)
        if broken.any():
            first = self.store.images.keys[int(broken.nonzero()[0])]
            raise ValueError(
                f'{self.plural}: {int(broken.sum())} of {len(present)} are '
                f'not finite, the first is of {first}: the model has diverged')

    def _cost(self) -> str:
        total = time.perf_counter() - self._train_start
        share = self.refresh_seconds / max(total, 1e-9)
        return (f'{self.refresh_seconds:.1f} s, {share:.1%} of the '
                f'{total:.1f} s of training')


def combine_parts(rows: Sequence[int], parts: Sequence[torch.Tensor],
                  count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Put together what the processes have computed.

    ``parts`` are the values (B, ...) of this process's ``rows``, float16, on
    the CPU. Returns those of all rows, (N, ...), NaN where no process has
    one, and where there is one, (N, ), bool; the same everywhere.
    """
    sizes = set(all_gather_object(
        tuple(parts[0].shape[1:]) if rows else None)) - {None} or {()}
    if len(sizes) > 1:
        raise ValueError('the values of the processes differ in size: '
                         f'{sorted(sizes)}')
    result = torch.full((count, *sizes.pop()), torch.nan, dtype=torch.float16)
    present = torch.zeros(count, dtype=torch.bool)
    own = torch.tensor(rows, dtype=torch.int64)
    values = torch.cat(list(parts)) if rows else result[:0]
    # In blocks: NCCL gathers on each GPU, and a million maps are gigabytes.
    for start in range(0, count, GATHERED_ROWS):
        block = (start <= own) & (own < start + GATHERED_ROWS)
        for there, part in all_gather_object((own[block], values[block])):
            result[there] = part
            present[there] = True
    return result, present
