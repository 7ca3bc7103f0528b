"""Find the content of every training image, for the crops of two views.

ContrastiveCrop (Peng et al., "Crafting Better Contrastive Views for Siamese
Representation Learning", CVPR 2022, arXiv 2202.03278), Algorithm 1.
"""

import time
from collections import Counter
from collections.abc import Sequence

import torch
from mmengine.dataset import Compose
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from mmmedmask.datasets.transforms import ContrastiveCrop
from mmmedmask.engine.attention.mask_hook import (
    combine_parts,
    is_refresh_epoch,
)
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
from mmmedmask.functional.contrastive_crop import heat_map_boxes
from mmmedmask.registry import HOOKS

STATE_KEY = 'contrastive_crop_regions'


@HOOKS.register_module()
class ContrastiveCropHook(Hook):
    """Keep a region per training image and hand them to the transforms.

    Before epochs ``begin``, ``begin + interval``, ... all training images
    are run through the encoder, whole and in evaluation mode, under the
    autocast of training; with several processes each takes a part, and all
    have all regions afterwards. A region is the box around what is warm in
    the last feature map, see
    :func:`~mmmedmask.functional.contrastive_crop.heat_map_boxes`. Until
    ``begin`` crops are uniform. No random number is drawn for a refresh.

    ``mmmedmask.ContrastiveCrop`` reads the regions in loader workers, from
    shared memory, so they may be persistent. The model needs
    ``extract_feat(inputs)`` with a feature map, as mmpretrain's
    self-supervised models with a convolutional or Swin backbone have it.
    ``mmmedmask.TransformEpochHook`` has to be among the hooks, too.

    Regions and their epoch are saved with checkpoints, as float16: 8 bytes
    per image. A resumed run goes on with them. They are not taken from
    ``load_from``, nor if the training set has other files.

    Args:
        begin: First epoch with regions, counted from 0. The authors take
            20 % of the training.
        interval: Epochs from one refresh to the next; likewise.
        pipeline: Transforms that load, resize and pack a whole image, as the
            preprocessor of the model expects it.
        threshold: k, what is warm in a heat map from 0 to 1.
        batch_size: Whole images per forward pass and process.
        num_workers: Loader processes of a refresh.

    Attributes:
        regions: Shape (N, 4), float32 in shared memory: (x0, y0, x1, y1) in
            fractions of an image, NaN where there is none; None before
            training.
        last_refresh_epoch: Epoch before which they were made, or None.

    Raises:
        ValueError: If an argument is out of range; in training, if loop,
            model or transforms do not fit.
    """

    # Before the timer, whose times are those of training.
    priority = 'HIGH'

    def __init__(self,
                 begin: int,
                 interval: int,
                 pipeline: Sequence,
                 threshold: float = 0.1,
                 batch_size: int = 64,
                 num_workers: int = 0) -> None:
        for name, value, least in (('begin', begin, 0),
                                   ('interval', interval, 1),
                                   ('batch_size', batch_size, 1),
                                   ('num_workers', num_workers, 0)):
            if value < least:
                raise ValueError(
                    f'{name} must be at least {least}, got {value}')
        if not 0 <= threshold < 1:
            raise ValueError(f'threshold must be in [0, 1), got {threshold}')
        if not pipeline:
            raise ValueError('ContrastiveCropHook needs a pipeline for whole '
                             f'images, got {pipeline!r}')
        self.begin = begin
        self.interval = interval
        self.pipeline = Compose(pipeline)
        self.threshold = threshold
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.regions: torch.Tensor | None = None
        self.last_refresh_epoch: int | None = None
        self._images: ImageIndex | None = None
        self._loaded_state: dict | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remember the regions of a checkpoint until training begins."""
        self._loaded_state = checkpoint.get(STATE_KEY)

    def before_train(self, runner: Runner) -> None:
        """Check what is there, list the images, take up saved regions."""
        crops = self._check_run(runner)
        self._images = ImageIndex(runner.train_dataloader.dataset)
        # Before the workers start, which will see what is written into it.
        self.regions = torch.full(
            (len(self._images.keys), 4), torch.nan).share_memory_()
        self.last_refresh_epoch = None
        for crop in crops:
            crop.share_regions(self._images.rows, self.regions)
        self._restore(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        """Make new regions if it is time, or if there should be some."""
        if runner.epoch < self.begin:
            return
        if self.last_refresh_epoch is None or is_refresh_epoch(
                runner.epoch, self.begin, self.interval):
            self._refresh(runner)

    def before_save_checkpoint(self, runner: Runner,
                               checkpoint: dict) -> None:
        """Add the regions to a checkpoint."""
        if self.last_refresh_epoch is not None:
            checkpoint[STATE_KEY] = dict(
                fingerprint=self._images.fingerprint,
                epoch=self.last_refresh_epoch,
                regions=self.regions.half())

    def _check_run(self, runner: Runner) -> list[ContrastiveCrop]:
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ValueError(
                'ContrastiveCropHook counts epochs and needs an '
                f'EpochBasedTrainLoop, got {type(runner.train_loop).__name__}')
        if not any(isinstance(hook, TransformEpochHook)
                   for hook in runner.hooks):
            raise ValueError(
                'ContrastiveCrop would draw the same in every epoch: add '
                "dict(type='mmmedmask.TransformEpochHook') to custom_hooks")
        transforms = list(transforms_of(runner.train_dataloader.dataset))
        crops = [one for one in transforms
                 if isinstance(one, ContrastiveCrop)]
        if not crops:
            raise ValueError(
                'ContrastiveCropHook: the training pipeline has no '
                'mmmedmask.ContrastiveCrop, for which regions are made')
        for transform in transforms:
            check_views(transform)
        if self.begin >= runner.max_epochs:
            runner.logger.warning(
                f'ContrastiveCropHook will do nothing: begin {self.begin} is '
                f'not below max_epochs {runner.max_epochs}.')
        return crops

    def _restore(self, runner: Runner) -> None:
        """Take up the regions of a resumed run; say why if that cannot be."""
        state, self._loaded_state = self._loaded_state, None
        if not (runner._resume and runner.iter > 0):
            return
        if state is None:
            # In epoch begin they are made anew anyway.
            reason = 'the checkpoint has none' \
                if runner.epoch > self.begin else None
        elif state['fingerprint'] != self._images.fingerprint:
            reason = ('they belong to another set of images '
                      f'({len(state["regions"])} there, '
                      f'{len(self.regions)} here)')
        else:
            self.regions.copy_(state['regions'])
            self.last_refresh_epoch = state['epoch']
            return
        if reason:
            runner.logger.warning(
                f'No regions for ContrastiveCrop to go on with: {reason}. '
                f'New ones are made from epoch {self.begin} on, so this run '
                'will differ from one that was not interrupted.')

    def _refresh(self, runner: Runner) -> None:
        start = time.perf_counter()
        model = unwrap(runner.model)
        with preserve_random_state(), evaluating(model), \
                torch.inference_mode(), \
                runner.optim_wrapper.optim_context(model):
            rows, parts = run_whole_images(
                self._images, self.pipeline,
                lambda batch: self._boxes(model, batch), self.batch_size,
                self.num_workers)
        part = torch.cat(parts) if parts else torch.zeros(0, 0, 0).half()
        boxes, present = combine_parts(rows, part, len(self.regions))
        if not present.any():
            raise ValueError(f'none of the {len(self.regions)} training '
                             'images could be read')
        self.regions.copy_(boxes[:, 0])
        self.last_refresh_epoch = runner.epoch
        sides = self.regions[present].view(-1, 2, 2).diff(dim=1)
        runner.logger.info(
            f'Regions of {int(present.sum())} images made before epoch '
            f'{runner.epoch} in {time.perf_counter() - start:.1f} s; they '
            f'cover {float(sides.prod(dim=2).mean()):.0%} of an image.')

    def _boxes(self, model: nn.Module, batch: dict) -> torch.Tensor:
        """Boxes of a batch of whole images, shape (B, 1, 4)."""
        batch = dict(batch, inputs=torch.stack(batch['inputs']))
        inputs = model.data_preprocessor(batch, False)['inputs']
        features = model.extract_feat(inputs)[-1]
        if features.ndim != 4:
            raise ValueError(
                f'the backbone of {type(model).__name__} must give feature '
                f'maps (B, C, h, w), got {tuple(features.shape)}')
        if not features.isfinite().all():
            raise ValueError(
                f'features of {batch["data_samples"][0].img_path} or an '
                'image in its batch are not finite: the model has diverged')
        return heat_map_boxes(
            features, inputs.shape[-2:], self.threshold)[:, None]


def check_views(transform: object) -> None:
    """Refuse views that would be the same crop of an image.

    Args:
        transform: A transform; of interest are ``MultiView``.

    Raises:
        ValueError: If several of its views have the same draws.
    """
    if not hasattr(transform, 'num_views'):
        return
    counts = Counter(
        one.view for view in transform.transforms for one in view
        if isinstance(one, ContrastiveCrop))
    twice = sorted(view for view, count in counts.items() if count > 1)
    if twice:
        raise ValueError(
            f'MultiView has several views whose ContrastiveCrop has view '
            f'{twice[0]}, and they would be the same: give each of them a '
            'pipeline of its own, with another view')
