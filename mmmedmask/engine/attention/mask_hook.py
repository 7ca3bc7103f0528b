"""Make an attention map of every training image, and hand them to the model.

Algorithm 1 of MSMAE (arXiv 2305.05871).
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from mmengine import fileio
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner, find_latest_checkpoint, save_checkpoint
from torch import nn

from mmmedmask.datasets.transforms import RandomFlip
from mmmedmask.engine.attention.refresh import (
    RefreshHook,
    check_whole,
    is_flip,
    moving_transforms,
)
from mmmedmask.engine.hooks.transform_epoch import inner_transforms
from mmmedmask.engine.preserved_state import preserve_random_state
from mmmedmask.engine.wrapped_datasets import datasets_of
from mmmedmask.registry import HOOKS
from mmmedmask.util.checks import check_choice, check_shape

# What a training sample has to say of itself, and who says it.
NEEDED_KEYS = {
    'img_path': 'a data set with image files',
    'crop_box': 'mmmedmask.RandomResizedCrop or mmmedmask.ResizeImage',
    **dict.fromkeys(
        ('flip', 'flip_direction'), 'mmmedmask.RandomResizedCrop, '
        'mmmedmask.ResizeImage or mmmedmask.RandomFlip')}


@HOOKS.register_module()
class AttentionMaskHook(RefreshHook):
    """Keep a map per training image and attach it to its samples.

    When maps are made, saved and resumed says :class:`RefreshHook`. From
    epoch ``begin`` on each sample gets ``attention_map``, shape (rows,
    columns), before its iteration, in the main process.

    The model needs ``attention_maps(inputs)``, as
    :class:`mmmedmask.models.msmae.MSMAE` and ``MSMAEClassifier`` have it,
    samples the metainfo ``img_path``, ``crop_box``, ``flip`` and
    ``flip_direction``. In a checkpoint a map of 14 x 14 tokens is 392 bytes,
    float16; ``tools/model_converters`` leave the maps out.

    Args:
        begin: See :class:`RefreshHook`, as for the next four.
        pipeline: E.g. ``LoadTile``, ``ResizeImage`` and ``PackTile``.
        save_state: Whether checkpoints contain the maps. ``'file'`` writes
            one file per refresh beside the checkpoints instead, which refer
            to it: for sets of a million images. Without them, a resumed run
            makes maps at once, which an uninterrupted run would not.
    """

    state_key = 'attention_masks'
    value_name = 'maps'
    plural = 'Attention maps'

    def __init__(self, begin: int = 40, interval: int = 40,
                 pipeline: Sequence | None = None, batch_size: int = 64,
                 num_workers: int = 0, save_state: bool | str = True) -> None:
        super().__init__(begin, interval, pipeline, batch_size, num_workers)
        self.save_state = check_choice(
            'save_state', save_state, (True, False, 'file'))
        self._written: tuple[str, int] | None = None

    def check_training(self, model: nn.Module, transforms: list) -> None:
        """Refuse models without maps, mixed images and unrecorded moves."""
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
        moving = moving_transforms(transforms)
        if moving:
            raise ValueError(
                f'AttentionMaskHook: {", ".join(moving)} in the training '
                'pipeline would move pixels without recording it, and the '
                'maps would be read at wrong places; use '
                'mmmedmask.RandomResizedCrop, mmmedmask.ResizeImage and '
                'mmmedmask.RandomFlip')

    def compute(self, model: nn.Module, batch: dict) -> torch.Tensor:
        """Make the maps of whole images, (B, rows, columns)."""
        count = len(batch['inputs'])
        inputs = model.data_preprocessor(batch, False)['inputs']
        maps = model.attention_maps(inputs)
        check_shape(f'attention_maps of {type(model).__name__}', maps,
                    (count, 'rows', 'columns'))
        return maps

    def before_train(self, runner: Runner) -> None:
        """See the base; look at the first sample of every data set, too."""
        super().before_train(runner)
        with preserve_random_state():
            for dataset in {id(source.dataset): source.dataset for source
                            in self.store.images.sources}.values():
                mirrors = [check_flips(getattr(part, 'pipeline', None))
                           for part in datasets_of(dataset)]
                packed = dataset[0]
                check_sample(packed.get('data_samples') if isinstance(
                    packed, dict) else None, any(mirrors))

    def before_train_iter(self, runner: Runner, batch_idx: int,
                          data_batch: dict | None = None) -> None:
        """Attach the samples' maps; each sample needs one."""
        if runner.epoch < self.begin or not self.store.is_filled:
            return
        samples = data_batch['data_samples']
        for sample in samples:
            check_sample(sample)
        maps = self.store.gather([sample.img_path for sample in samples])
        for sample, attention_map in zip(samples, maps, strict=True):
            sample.set_field(
                attention_map, 'attention_map', dtype=torch.Tensor)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the maps to a checkpoint, or the name of their file."""
        if not self.save_state:
            return
        super().before_save_checkpoint(runner, checkpoint)
        if self.save_state == 'file' and self.state_key in checkpoint:
            checkpoint[self.state_key] = self._write(
                runner, checkpoint[self.state_key])

    def _write(self, runner: Runner, state: dict) -> dict:
        """Write the file of a refresh, unless it is there; refer to it."""
        name = f'{self.state_key}_epoch_{self.store.epoch}.pth'
        folder, backend_args = checkpoint_folder(runner)
        if self._written != (folder, self.store.epoch):
            path = fileio.join_path(folder, name, backend_args=backend_args)
            save_checkpoint(state, path, backend_args=backend_args)
            self._written = folder, self.store.epoch
        return {key: value for key, value in state.items()
                if key not in ('keys', 'maps')} | dict(file=name)

    def read_state(self, runner: Runner,
                   state: dict) -> tuple[dict | None, str | None]:
        """Read the file that a checkpoint refers to, if it does."""
        reason = self.store.why_not(state)
        if reason is not None or 'file' not in state:
            return state, reason
        source = runner._load_from or find_latest_checkpoint(runner.work_dir)
        _, backend_args = checkpoint_folder(runner)
        path = fileio.join_path(
            str(source).rpartition('/')[0] or '.', Path(state['file']).name,
            backend_args=backend_args)
        if not fileio.exists(path, backend_args=backend_args):
            return None, f'the file {path}, where they should be, is missing'
        try:
            saved = torch.load(
                io.BytesIO(fileio.get(path, backend_args=backend_args)),
                map_location='cpu', weights_only=True)
        except (RuntimeError, EOFError, UnpicklingError) as error:
            return None, f'the file {path} cannot be read ({error})'
        reason = self.store.why_not(saved)
        if reason is None and saved['epoch'] != state['epoch']:
            reason = (f'the file {path} has those of epoch '
                      f'{saved["epoch"]}, not {state["epoch"]}')
        return saved, reason


def find_mask_hook(runner: Runner) -> AttentionMaskHook | None:
    """Find the hook of a run that makes the maps."""
    return next((hook for hook in runner.hooks
                 if isinstance(hook, AttentionMaskHook)), None)


def whole_pipeline(hook: Hook, attention: AttentionMaskHook | None
                   ) -> Callable[[dict], dict]:
    """The hook's own pipeline for whole images, or else that of the maps."""
    if hook.pipeline is None and attention is None:
        raise ValueError(
            f'{type(hook).__name__} needs a pipeline for whole images, since '
            'there is no AttentionMaskHook to take it from')
    pipeline = attention.pipeline if hook.pipeline is None else hook.pipeline
    check_whole(pipeline)
    return pipeline


def check_flips(transform: object, mirrored: bool = False) -> bool:
    """Tell whether an image may be mirrored behind a transform.

    Of several flips, the later ones have to add to the record: a ValueError
    if one writes itself alone.
    """
    if is_flip(transform):
        if mirrored and not isinstance(transform, RandomFlip):
            raise ValueError(
                'AttentionMaskHook: a RandomFlip of another library behind '
                'the first forgets that one, and maps would be read at wrong '
                'places; use mmmedmask.RandomFlip')
        return True
    parts = inner_transforms(transform)
    if any(base.__name__ == 'RandomChoice'
           for base in type(transform).__mro__):
        # An image meets one of them; all are looked at.
        behind = [check_flips(part, mirrored) for part in parts]
        return mirrored or any(behind)
    for part in parts:
        mirrored = check_flips(part, mirrored)
    return mirrored


def check_sample(sample: object, mirrors: bool = False) -> None:
    """Raise a ValueError unless a sample says which crop of an image it is.

    Where others may be mirrored (``mirrors``), it has the key of a direction.
    """
    if sample is None or not hasattr(sample, 'metainfo_keys'):
        raise ValueError(
            'AttentionMaskHook needs data samples in the batch, which '
            f'mmmedmask.PackTile makes; got {type(sample).__name__}')
    for key, source in NEEDED_KEYS.items():
        # Where nothing was mirrored, there is no direction.
        if sample.get(key) is None and (
                key != 'flip_direction' or sample.get('flip')
                or mirrors and key not in sample):
            raise ValueError(
                f'the sample of {sample.get("img_path")} has no {key}, '
                f'which its attention map needs: take it from {source} and '
                f"name {key!r} in PackTile's meta_keys, with 'img_path', "
                "'crop_box', 'flip' and 'flip_direction'")


def checkpoint_folder(runner: Runner) -> tuple[str, dict | None]:
    """Find the folder of the runner's checkpoints, and its file backend."""
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            return str(hook.out_dir or runner.work_dir), hook.backend_args
    return runner.work_dir, None
