"""Make an attention map of every training image, and hand them to the model.

Algorithm 1 of MSMAE (arXiv 2305.05871): every few epochs the model looks at
all whole images; what its class token attends to drives the masking of the
epochs that follow.
"""

import io
import time
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from mmengine import fileio
from mmengine.dataset import Compose
from mmengine.dist import all_reduce
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import (
    EpochBasedTrainLoop,
    Runner,
    find_latest_checkpoint,
)
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmmedmask.engine.attention.store import AttentionMapStore
from mmmedmask.engine.attention.whole_images import (
    ImageIndex,
    run_whole_images,
)
from mmmedmask.engine.hooks.transform_epoch import (
    TransformEpochHook,
    transforms_of,
)
from mmmedmask.engine.preserved_state import (
    evaluating,
    preserve_random_state,
    unwrap,
)
from mmmedmask.registry import HOOKS

STATE_KEY = 'attention_masks'
SAVE_STATE_CHOICES = (True, False, 'file')
REDUCED_ROWS = 65536
# What a training sample has to say of itself, and who says it.
NEEDED_KEYS = {
    'img_path': 'a data set with image files',
    'crop_box': 'mmmedmask.RandomResizedCrop or mmmedmask.ResizeImage',
    'flip': 'mmmedmask.RandomResizedCrop, mmmedmask.ResizeImage or '
            'mmmedmask.RandomFlip'
}


def is_refresh_epoch(epoch: int, begin: int, interval: int) -> bool:
    """Tell whether new maps are made before an epoch.

    Args:
        epoch: Epoch, counted from 0.
        begin: First epoch with maps.
        interval: Epochs from one refresh to the next.

    Returns:
        Whether they are.
    """
    return epoch >= begin and (epoch - begin) % interval == 0


def refresh_epochs(begin: int, interval: int, max_epochs: int) -> list[int]:
    """List the epochs before which new maps are made.

    The code released for the paper refreshes after epoch 40 and uses the
    maps from epoch 41 on; the paper has 40 epochs of random masking, which
    is ``begin=40`` here.

    Args:
        begin: First epoch with maps, counted from 0.
        interval: Epochs from one refresh to the next.
        max_epochs: Length of the training.

    Returns:
        Ascending epochs.
    """
    return [epoch for epoch in range(max_epochs)
            if is_refresh_epoch(epoch, begin, interval)]


@HOOKS.register_module()
class AttentionMaskHook(Hook):
    """Keep a map per training image and attach it to its samples.

    Before epochs ``begin``, ``begin + interval``, ... all training images
    are run through the model, whole and in evaluation mode, under the
    autocast of training; with several processes each takes a part, and all
    have all maps afterwards. From then on each sample gets ``attention_map``,
    shape (rows, columns), before its iteration. Maps come from the weights
    that are trained, not from the average that ``EMAHook`` keeps. No random
    number is drawn for a refresh, and the maps are attached in the main
    process: workers that live for the whole training need not know them.

    The model needs ``attention_maps(inputs)``, as
    :class:`mmmedmask.models.msmae.MSMAE` and ``MSMAEClassifier`` have it.
    Samples need the metainfo ``img_path``, ``crop_box``, ``flip`` and
    ``flip_direction``. Transforms such as ``mmmedmask.RandomResizedCrop``
    need ``mmmedmask.TransformEpochHook`` beside this hook.

    Maps and their epoch are saved with checkpoints, as float16: 392 bytes
    per image of 14 x 14 tokens. A resumed run goes on with them. They are
    not taken from ``load_from``, nor if the training set has other files.
    ``tools/model_converters`` leave them out.

    Args:
        begin: First epoch with maps, counted from 0.
        interval: Epochs from one refresh to the next.
        pipeline: Transforms that load, resize and pack a whole image, e.g.
            ``LoadTile``, ``ResizeImage`` and ``PackTile``.
        batch_size: Whole images per forward pass and process.
        num_workers: Loader processes of a refresh.
        save_state: Whether checkpoints contain the maps. ``'file'`` writes
            one file per refresh beside the checkpoints instead, which refer
            to it: for sets of a million images. Without them, a resumed run
            makes maps at once, which an uninterrupted run would not.

    Attributes:
        store: The maps, an
            :class:`~mmmedmask.engine.attention.store.AttentionMapStore`;
            None before training.
        refresh_seconds: Time spent on refreshes by this process.

    Raises:
        ValueError: If an argument is out of range; in training, if loop,
            model or samples do not fit.
    """

    # Before the timer, whose times are those of training, and before hooks
    # that run the model.
    priority = 'HIGH'

    def __init__(self,
                 begin: int = 40,
                 interval: int = 40,
                 pipeline: Sequence | None = None,
                 batch_size: int = 64,
                 num_workers: int = 0,
                 save_state: bool | str = True) -> None:
        for name, value, least in (('begin', begin, 0),
                                   ('interval', interval, 1),
                                   ('batch_size', batch_size, 1),
                                   ('num_workers', num_workers, 0)):
            if value < least:
                raise ValueError(
                    f'{name} must be at least {least}, got {value}')
        if not pipeline:
            raise ValueError(
                'AttentionMaskHook needs a pipeline for whole images, e.g. '
                "[dict(type='mmmedmask.LoadTile'), "
                "dict(type='mmmedmask.ResizeImage', scale=224), "
                f"dict(type='mmmedmask.PackTile')], got {pipeline!r}")
        if save_state not in SAVE_STATE_CHOICES:
            raise ValueError(f'save_state must be one of '
                             f'{SAVE_STATE_CHOICES}, got {save_state!r}')
        self.begin = begin
        self.interval = interval
        self.pipeline = Compose(pipeline)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.save_state = save_state
        self.store: AttentionMapStore | None = None
        self.refresh_seconds = 0.0
        self._images: ImageIndex | None = None
        self._loaded_state: dict | None = None
        self._written: tuple[str, int] | None = None
        self._train_start = 0.0

    @property
    def last_refresh_epoch(self) -> int | None:
        """Epoch before which the present maps were made, or None."""
        return None if self.store is None else self.store.epoch

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remember the maps of a checkpoint until training begins."""
        self._loaded_state = checkpoint.get(STATE_KEY)

    def before_train(self, runner: Runner) -> None:
        """Check what is there, list the images, take up saved maps."""
        self._check_run(runner)
        self._images = ImageIndex(runner.train_dataloader.dataset)
        self._check_samples()
        self.store = AttentionMapStore(self._images)
        self._restore(runner)
        self.refresh_seconds = 0.0
        self._train_start = time.perf_counter()

    def before_train_epoch(self, runner: Runner) -> None:
        """Make new maps if it is time, or if there should be some."""
        if runner.epoch < self.begin:
            return
        if not self.store.is_filled or is_refresh_epoch(
                runner.epoch, self.begin, self.interval):
            self._refresh(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int,
                          data_batch: dict | None = None) -> None:
        """Attach the samples' maps.

        Raises:
            ValueError: If there is none for a sample, or it does not say
                which crop of its image it is.
        """
        if runner.epoch < self.begin or not self.store.is_filled:
            return
        samples = data_batch['data_samples']
        for sample in samples:
            check_sample(sample)
        maps = self.store.gather([sample.img_path for sample in samples])
        for sample, one in zip(samples, maps, strict=True):
            sample.set_field(one, 'attention_map', dtype=torch.Tensor)

    def after_train(self, runner: Runner) -> None:
        """Say what the maps cost."""
        runner.logger.info(f'Attention maps took {self._cost()}.')

    def before_save_checkpoint(self, runner: Runner,
                               checkpoint: dict) -> None:
        """Add the maps to a checkpoint, or the name of their file."""
        if not self.save_state or self.store is None \
                or not self.store.is_filled:
            return
        state = self.store.state_dict()
        if self.save_state == 'file':
            name = f'{STATE_KEY}_epoch_{self.store.epoch}.pth'
            self._write(runner, name, state)
            state = {key: value for key, value in state.items()
                     if key not in ('keys', 'maps')} | dict(file=name)
        checkpoint[STATE_KEY] = state

    def _check_run(self, runner: Runner) -> None:
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ValueError(
                'AttentionMaskHook counts epochs and needs an '
                f'EpochBasedTrainLoop, got {type(runner.train_loop).__name__}')
        if is_model_wrapper(runner.model) and not isinstance(
                runner.model, DistributedDataParallel):
            raise ValueError(
                'AttentionMaskHook works with DistributedDataParallel, not '
                f'with {type(runner.model).__name__}: each process needs the '
                'whole model')
        model = unwrap(runner.model)
        if not hasattr(model, 'attention_maps'):
            raise ValueError(
                f'AttentionMaskHook: {type(model).__name__} has no method '
                'attention_maps(inputs); use mmmedmask.MSMAE or '
                'mmmedmask.MSMAEClassifier, or remove the hook')
        if getattr(model.data_preprocessor, 'batch_augments', None):
            raise ValueError(
                'AttentionMaskHook: the data preprocessor mixes images '
                '(batch_augments, Mixup or CutMix), and a mixed image has '
                'no attention map; remove them or the hook')
        for transform in transforms_of(runner.train_dataloader.dataset):
            if hasattr(transform, 'set_epoch') and not any(
                    isinstance(hook, TransformEpochHook)
                    for hook in runner.hooks):
                raise ValueError(
                    f'{type(transform).__name__} would draw the same in '
                    "every epoch: add dict(type='mmmedmask."
                    "TransformEpochHook') to custom_hooks")
        if self.begin >= runner.max_epochs:
            runner.logger.warning(
                f'AttentionMaskHook will do nothing: begin {self.begin} is '
                f'not below max_epochs {runner.max_epochs}.')

    def _check_samples(self) -> None:
        """Look at the first sample of every data set."""
        datasets = {id(source.dataset): source.dataset
                    for source in self._images.sources}
        with preserve_random_state():
            for dataset in datasets.values():
                packed = dataset[0]
                check_sample(packed.get('data_samples') if isinstance(
                    packed, dict) else None)

    def _restore(self, runner: Runner) -> None:
        """Take up the maps of a resumed run; say why if that cannot be."""
        state, self._loaded_state = self._loaded_state, None
        if not (runner._resume and runner.iter > 0):
            if state is not None:
                runner.logger.warning(
                    'The attention maps in the loaded checkpoint are not '
                    'used: only a resumed run goes on with its maps.')
            return
        # In epoch begin they are made anew anyway.
        if state is None and runner.epoch <= self.begin:
            return
        reason = ('the checkpoint has none (save_state=False, or it was '
                  'written without this hook)')
        if state is not None:
            reason = self.store.why_not(state)
            if reason is None and 'file' in state:
                state, reason = self._read(runner, state)
        if reason is None:
            self.store.load_state_dict(state)
            runner.logger.info(
                f'Attention maps of {len(self.store)} images, made before '
                f'epoch {self.store.epoch}, taken from the checkpoint.')
            return
        runner.logger.warning(
            f'No attention maps to go on with: {reason}. New ones are made '
            f'when they are needed, from epoch {self.begin} on, so this run '
            'will differ from one that was not interrupted.')

    def _refresh(self, runner: Runner) -> None:
        start = time.perf_counter()
        model = unwrap(runner.model)
        with preserve_random_state(), evaluating(model), \
                torch.inference_mode(), \
                runner.optim_wrapper.optim_context(model):
            rows, parts = self._compute(model)
        # Outside of autocast, which takes no float16 on a CPU.
        part = torch.cat(parts) if parts else torch.zeros(0, 0, 0).half()
        maps, present = combine_parts(rows, part, len(self.store))
        self._check_maps(maps, present)
        self.store.fill(maps, runner.epoch)
        self.refresh_seconds += time.perf_counter() - start
        message = (
            f'Attention maps of {len(self.store)} images made before epoch '
            f'{runner.epoch} in {time.perf_counter() - start:.1f} s; so far '
            f'they took {self._cost()}.')
        unusable = int((~present).sum())
        if unusable:
            message += f' {unusable} files could not be read.'
        runner.logger.info(message)

    def _compute(
            self, model: nn.Module) -> tuple[list[int], list[torch.Tensor]]:
        """Run this process's part of the images; float16 on the CPU."""

        def attention_maps(batch: dict) -> torch.Tensor:
            count = len(batch['inputs'])
            inputs = model.data_preprocessor(batch, False)['inputs']
            maps = model.attention_maps(inputs)
            if maps.ndim != 3 or len(maps) != count:
                raise ValueError(
                    f'attention_maps of {type(model).__name__} must return '
                    f'({count}, rows, columns), got {tuple(maps.shape)}')
            return maps

        return run_whole_images(self._images, self.pipeline, attention_maps,
                                self.batch_size, self.num_workers)

    def _check_maps(self, maps: torch.Tensor,
                    present: torch.Tensor) -> None:
        if not present.any():
            raise ValueError(
                f'none of the {len(self.store)} training images could be '
                'read')
        broken = present & ~maps.isfinite().flatten(1).all(dim=1)
        if broken.any():
            first = self.store.keys[int(broken.nonzero()[0])]
            raise ValueError(
                f'{int(broken.sum())} of {len(self.store)} attention maps '
                f'are not finite, the first is of {first}: the model has '
                'diverged')

    def _cost(self) -> str:
        total = time.perf_counter() - self._train_start
        share = self.refresh_seconds / max(total, 1e-9)
        return (f'{self.refresh_seconds:.1f} s, {share:.1%} of the '
                f'{total:.1f} s of training')

    def _write(self, runner: Runner, name: str, state: dict) -> None:
        """Write the file of a refresh, if it is not there yet."""
        folder, backend_args = checkpoint_folder(runner)
        if self._written == (folder, self.store.epoch):
            return
        buffer = io.BytesIO()
        torch.save(state, buffer)
        fileio.put(
            buffer.getvalue(),
            fileio.join_path(folder, name, backend_args=backend_args),
            backend_args=backend_args)
        self._written = folder, self.store.epoch

    def _read(self, runner: Runner,
              state: dict) -> tuple[dict | None, str | None]:
        """Read the file that a checkpoint refers to, or say why not."""
        source = runner._load_from or find_latest_checkpoint(runner.work_dir)
        folder, _, _ = str(source).rpartition('/')
        _, backend_args = checkpoint_folder(runner)
        path = fileio.join_path(
            folder or '.', Path(state['file']).name,
            backend_args=backend_args)
        if not fileio.exists(path, backend_args=backend_args):
            return None, f'the file {path}, where they should be, is missing'
        try:
            saved = torch.load(
                io.BytesIO(fileio.get(path, backend_args=backend_args)),
                map_location='cpu',
                weights_only=True)
        except (RuntimeError, EOFError, UnpicklingError) as error:
            return None, f'the file {path} cannot be read ({error})'
        reason = self.store.why_not(saved)
        if reason is None and saved['epoch'] != state['epoch']:
            reason = (f'the file {path} has those of epoch '
                      f'{saved["epoch"]}, not {state["epoch"]}')
        return saved, reason


def check_sample(sample: object) -> None:
    """Check that a training sample says which part of which image it is.

    Args:
        sample: A data sample.

    Raises:
        ValueError: If not, with the transform that would.
    """
    if sample is None or not hasattr(sample, 'metainfo_keys'):
        raise ValueError(
            'AttentionMaskHook needs data samples in the batch, which '
            f'mmmedmask.PackTile makes; got {type(sample).__name__}')
    for key, source in NEEDED_KEYS.items():
        if sample.get(key) is None:
            raise ValueError(
                f'the sample of {sample.get("img_path")} has no {key}, '
                f'which its attention map needs: take it from {source} and '
                f"name {key!r} in PackTile's meta_keys, with 'img_path', "
                "'crop_box', 'flip' and 'flip_direction'")


def combine_parts(rows: Sequence[int], maps: torch.Tensor,
                  count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Put together what the processes have computed.

    Args:
        rows: Rows of this process's maps; one that several processes have
            is averaged.
        maps: Shape (len(rows), rows, columns), float16, on the CPU; all
            sizes are 0 if this process has none.
        count: Number of rows, N.

    Returns:
        Maps of shape (N, rows, columns), float16, NaN where no process has
        one, and where there is one, shape (N, ), bool; the same everywhere.

    Raises:
        ValueError: If the maps of the processes differ in size.
    """
    grid = torch.tensor(maps.shape[1:])
    all_reduce(grid, op='max')
    differs = torch.tensor(
        [int(len(rows) > 0 and maps.shape[1:] != tuple(grid.tolist()))])
    all_reduce(differs, op='max')
    if differs.item():
        raise ValueError('the attention maps of the processes differ in size')
    result = torch.zeros(count, *grid.tolist(), dtype=torch.float16)
    number = torch.zeros(count)
    if len(rows):
        indices = torch.tensor(rows)
        result.index_add_(0, indices, maps)
        number.index_add_(0, indices, torch.ones(len(rows)))
    all_reduce(number)
    # In parts: sums are float32, and a million maps of them are a gigabyte.
    for start in range(0, count, REDUCED_ROWS):
        part = slice(start, start + REDUCED_ROWS)
        sums = result[part].float()
        all_reduce(sums)
        # 0 / 0 is NaN.
        result[part] = sums / number[part, None, None]
    return result, number > 0


def checkpoint_folder(runner: Runner) -> tuple[str, dict | None]:
    """Find where the runner's checkpoints go.

    Args:
        runner: The runner.

    Returns:
        The folder, and the arguments of its file backend.
    """
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            return str(hook.out_dir or runner.work_dir), hook.backend_args
    return runner.work_dir, None
