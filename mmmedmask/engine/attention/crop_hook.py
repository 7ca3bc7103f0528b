"""Find the content of every training image, for the crops of two views.

ContrastiveCrop: Peng et al., CVPR 2022, arXiv 2202.03278, Algorithm 1.
"""

from collections.abc import Sequence

import torch
from mmengine.runner import Runner
from torch import nn

from mmmedmask.datasets.transforms import ContrastiveCrop
from mmmedmask.engine.attention.refresh import RefreshHook
from mmmedmask.functional.contrastive_crop import heat_map_boxes
from mmmedmask.registry import HOOKS
from mmmedmask.util.checks import check_range, check_shape


@HOOKS.register_module()
class ContrastiveCropHook(RefreshHook):
    """Keep a region per training image and hand them to the transforms.

    When regions are made, saved and resumed says :class:`RefreshHook`. A
    region is the box around what is warm in the last feature map, see
    :func:`~mmmedmask.functional.contrastive_crop.heat_map_boxes`. Until
    ``begin`` crops are uniform.

    ``mmmedmask.ContrastiveCrop`` reads the regions in loader workers, from
    shared memory, so they may be persistent. The model needs
    ``extract_feat(inputs)`` with a feature map, as mmpretrain's
    self-supervised models with a convolutional or Swin backbone have it.

    Args:
        begin: See :class:`RefreshHook`; the authors take 20 % of the
            training, also as the ``interval``.
        threshold: k, what is warm in a heat map from 0 to 1.

    Attributes:
        regions: (N, 4), float32: (x0, y0, x1, y1) in fractions of an image,
            NaN where there is none; None before training.
    """

    state_key = 'contrastive_crop_regions'
    value_name = 'regions'
    plural = 'Regions for ContrastiveCrop'

    def __init__(self, begin: int, interval: int, pipeline: Sequence,
                 threshold: float = 0.1, batch_size: int = 64,
                 num_workers: int = 0) -> None:
        super().__init__(begin, interval, pipeline, batch_size, num_workers)
        self.threshold = check_range(
            'threshold', threshold, 0, 1, open_high=True)
        self.regions: torch.Tensor | None = None
        self._crops: list[ContrastiveCrop] = []

    def check_training(self, model: nn.Module, transforms: list) -> None:
        """Refuse pipelines without views that follow the regions."""
        self._crops = [transform for transform in transforms
                       if isinstance(transform, ContrastiveCrop)]
        if not self._crops:
            raise ValueError(
                'ContrastiveCropHook: the training pipeline has no '
                'mmmedmask.ContrastiveCrop, for which regions are made')

    def before_train(self, runner: Runner) -> None:
        self.regions = None
        super().before_train(runner)

    def values_changed(self) -> None:
        """Write the regions into the memory that the workers read."""
        if self.regions is None:
            # Before the workers start, which see what is written into it.
            self.regions = torch.full(
                (len(self.store), 4), torch.nan).share_memory_()
            for crop in self._crops:
                crop.share_regions(self.store.images.rows, self.regions)
        if self.store.is_filled:
            self.regions.copy_(self.store.values)

    def compute(self, model: nn.Module, batch: dict) -> torch.Tensor:
        """Find the boxes of whole images, (B, 4)."""
        batch = dict(batch, inputs=torch.stack(batch['inputs']))
        inputs = model.data_preprocessor(batch, False)['inputs']
        features = model.extract_feat(inputs)[-1]
        check_shape(f'feature maps of the backbone of {type(model).__name__}',
                    features, ('B', 'C', 'h', 'w'))
        if not features.isfinite().all():
            raise ValueError(
                f'features of {batch["data_samples"][0].img_path} or an '
                'image in its batch are not finite: the model has diverged')
        return heat_map_boxes(features, inputs.shape[-2:], self.threshold)
