"""Measure, while a model trains, how much of its attention is on lesions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image, UnidentifiedImageError
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmmedmask.datasets.lesion_masks import read_lesion_mask
from mmmedmask.engine.attention.coverage_table import (
    END,
    REFRESH,
    CoverageTable,
)
from mmmedmask.engine.attention.mask_hook import AttentionMaskHook
from mmmedmask.engine.attention.whole_images import (
    ImageIndex,
    Source,
    WholeImages,
    collate_whole,
)
from mmmedmask.engine.preserved_state import (
    evaluating,
    preserve_random_state,
    unwrap,
)
from mmmedmask.evaluation.lesion_coverage_metric import (
    check_coverage_arguments,
)
from mmmedmask.functional.attention_masking import (
    map_to_patches,
    partition_tokens,
)
from mmmedmask.functional.lesion_coverage import (
    image_coverage,
    summarize_coverage,
)
from mmmedmask.functional.randomness import sample_generator, stream_seed
from mmmedmask.registry import DATASETS, HOOKS
from mmmedmask.visualization.curves import draw_curves

NAME = 'lesion_coverage'
# Title of a curve: its values, and those of chance.
CURVES = {
    'attention on the lesion': ('attention_share', 'lesion_share'),
    'maximum on the lesion': ('pointing', 'pointing_chance'),
    'lesion patches masked': ('masked', 'masked_chance'),
    'lesion patches visible': ('visible', 'visible_chance')
}


@HOOKS.register_module()
class LesionCoverageHook(Hook):
    """Measure attention maps and masking against lesion masks.

    After every refresh of :class:`AttentionMaskHook`, from its maps, and at
    the end of training, from maps of the final weights. What is measured
    says :class:`mmmedmask.evaluation.LesionCoverage`; each masking is drawn
    from the whole image's map with the model's ``mask_ratio`` and
    ``throw_ratio``, as the model does for a crop. Without an
    AttentionMaskHook, or with a model that masks at random, there are maps
    alone to measure; without the hook, at the end alone.

    Values go to the log, to the visualizer as ``lesion_coverage/...``, to
    ``lesion_coverage.csv`` in the work dir (see :class:`CoverageTable`) and,
    next to chance, to ``lesion_coverage.png``. Only the main
    process measures, and training is the same with and without the hook.

    Images need a ``lesion_path``, as ``mmmedmask.LabelledImages`` gives it:
    a mask of the whole image, of its size. All masks are read once before
    training, so that a wrong one stops it there.

    Args:
        pipeline: Transforms that load, resize and pack a whole image; None
            takes those of AttentionMaskHook.
        dataset: Data set with lesion masks, or its config; its own pipeline
            is not used. Maps are computed for it at each refresh. None takes
            the training set.
        num_images: Measure so many images, evenly from all that have a
            lesion mask; None takes all.
        num_draws: Maskings to draw per image.
        batch_size: Whole images per forward pass.
        num_workers: Loader processes, where maps are computed; None takes as
            many as AttentionMaskHook has, or 0 without it.
        tolerance: Pixels of the mask by which a map's maximum may miss.
        min_share: Share of a patch that must be lesion for the patch to
            count as lesion.
        seed: Seed of the maskings; None takes the run's.

    Raises:
        ValueError: If an argument is out of range; in training, if there
            are no lesion masks, no pipeline, or a model without attention
            maps.
        ImageFileError: In training, if a lesion mask cannot be used.
    """

    # After the refresh of the maps, whose priority is HIGH.
    priority = 'LOW'

    def __init__(self,
                 pipeline: Sequence | None = None,
                 dataset: Dataset | Mapping | None = None,
                 num_images: int | None = None,
                 num_draws: int = 8,
                 batch_size: int = 64,
                 tolerance: float = 0.0,
                 min_share: float = 0.5,
                 seed: int | None = None,
                 num_workers: int | None = None) -> None:
        for name, value in (('num_images', num_images),
                            ('num_draws', num_draws),
                            ('batch_size', batch_size)):
            if value is not None and value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        if num_workers is not None and num_workers < 0:
            raise ValueError(
                f'num_workers must be at least 0, got {num_workers}')
        check_coverage_arguments(tolerance, min_share)
        self.pipeline = None if pipeline is None else Compose(pipeline)
        self.dataset = dataset
        self.num_images = num_images
        self.num_draws = num_draws
        self.batch_size = batch_size
        self.tolerance = tolerance
        self.min_share = min_share
        self.seed = seed
        self.num_workers = num_workers
        self._attention: AttentionMaskHook | None = None
        self._sources: list[Source] = []
        self._table: CoverageTable | None = None

    def before_train(self, runner: Runner) -> None:
        """Find the images, and check them and their lesion masks."""
        if not is_main_process():
            return
        model = unwrap(runner.model)
        if not hasattr(model, 'attention_maps'):
            raise ValueError(
                f'LesionCoverageHook: {type(model).__name__} has no method '
                'attention_maps(inputs); remove the hook from the config')
        self._attention = self._find_attention(runner)
        if self.pipeline is None:
            if self._attention is None:
                raise ValueError(
                    'LesionCoverageHook needs a pipeline for whole images, '
                    'since there is no AttentionMaskHook to take it from')
            self.pipeline = self._attention.pipeline
        self._sources = self._choose_images(runner)
        self._check_masks()
        self._table = CoverageTable(Path(runner.work_dir, f'{NAME}.csv'))
        gone = self._table.cut(runner.iter)
        if gone:
            runner.logger.info(
                f'{gone} rows of {self._table.path} are later than this '
                'start of the training and will be replaced.')

    def before_train_epoch(self, runner: Runner) -> None:
        """Measure the maps if they have just been made."""
        attention = self._attention
        if (attention is None or not is_main_process()
                or attention.last_refresh_epoch != runner.epoch):
            return
        if self.dataset is None:
            maps = [
                attention.store.lookup(image_info(source)['img_path'])
                for source in self._sources
            ]
        else:
            maps = self._compute_maps(runner)
        self._measure(runner, maps, REFRESH)

    def after_train(self, runner: Runner) -> None:
        """Measure the final weights."""
        if is_main_process():
            self._measure(runner, self._compute_maps(runner), END)

    def _find_attention(self, runner: Runner) -> AttentionMaskHook | None:
        """Find the hook that makes the maps; it has to come first."""
        for hook in runner.hooks:
            if isinstance(hook, AttentionMaskHook):
                return hook
            if hook is self and any(
                    isinstance(other, AttentionMaskHook)
                    for other in runner.hooks):
                raise ValueError(
                    'LesionCoverageHook must come after AttentionMaskHook: '
                    'leave the priorities of both as they are')
        return None

    def _choose_images(self, runner: Runner) -> list[Source]:
        """List the images that have a lesion mask, or some of them."""
        if isinstance(self.dataset, Mapping):
            self.dataset = DATASETS.build(dict(self.dataset))
        dataset = self.dataset
        if dataset is None:
            dataset = runner.train_dataloader.dataset
        everything = ImageIndex(dataset).sources
        sources = [source for source in everything
                   if image_info(source).get('lesion_path')]
        if not sources:
            raise ValueError(
                f'LesionCoverageHook: none of {len(everything)} images of '
                f'the {"training set" if self.dataset is None else "dataset"}'
                ' has a lesion_path, which LabelledImages takes from the '
                'column mask of the split file; remove the hook, or name a '
                'dataset with lesion masks')
        number = len(sources)
        if self.num_images is None or self.num_images >= number:
            return sources
        places = torch.linspace(
            0, number - 1, self.num_images, dtype=torch.float64)
        return [sources[int(place)] for place in places.round()]

    def _check_masks(self) -> None:
        """Read all masks once: now, not after hours of training."""
        lesions = 0
        for source in self._sources:
            info = image_info(source)
            mask = read_lesion_mask(info['lesion_path'])
            lesions += mask.any()
            size = image_size(info['img_path'])
            if size not in (None, mask.shape):
                raise ValueError(
                    f'{info["lesion_path"]} has {mask.shape} pixels, (h, w),'
                    f' but its image {info["img_path"]} has {size}')
        if not lesions:
            raise ValueError(
                'LesionCoverageHook: all lesion masks are empty, the first '
                f'is {image_info(self._sources[0])["lesion_path"]}')

    def _compute_maps(self, runner: Runner) -> list[torch.Tensor | None]:
        """Run the images through the model, as AttentionMaskHook does."""
        model = unwrap(runner.model)
        maps: list[torch.Tensor | None] = [None] * len(self._sources)
        workers = self.num_workers
        if workers is None:
            workers = self._attention.num_workers if self._attention else 0
        loader = DataLoader(
            WholeImages(self._sources, self.pipeline),
            batch_size=self.batch_size,
            num_workers=workers,
            collate_fn=collate_whole,
            generator=torch.Generator())
        with preserve_random_state(), evaluating(model), \
                torch.inference_mode(), \
                runner.optim_wrapper.optim_context(model):
            for rows, batch in loader:
                if batch is None:
                    continue
                inputs = model.data_preprocessor(batch, False)['inputs']
                found = model.attention_maps(inputs).float().cpu()
                for row, one in zip(rows, found, strict=True):
                    maps[row] = one.clone()
        return maps

    def _measure(self, runner: Runner, maps: Sequence[torch.Tensor | None],
                 moment: str) -> None:
        """Compare maps with masks; log, draw and write the result."""
        model = unwrap(runner.model)
        seed = stream_seed(
            runner.seed if self.seed is None else self.seed, NAME)
        images = []
        for row, (source, one) in enumerate(
                zip(self._sources, maps, strict=True)):
            if one is None:
                continue
            one = one.float()
            generator = sample_generator(seed, runner.epoch, row)
            mask = read_lesion_mask(image_info(source)['lesion_path'])
            images.append(
                image_coverage(one, torch.from_numpy(mask),
                               self._draw_flags(model, one, generator),
                               self.tolerance, self.min_share))
        values = summarize_coverage(images)
        missing = len(maps) - len(images)
        if missing:
            runner.logger.warning(
                f'LesionCoverageHook: {missing} of {len(maps)} images could '
                'not be read and are left out.')
        runner.logger.info(
            f'Lesion coverage ({moment}, epoch {runner.epoch}): '
            + ', '.join(f'{name} {value:.4g}'
                        for name, value in values.items()))
        runner.visualizer.add_scalars(
            {f'{NAME}/{name}': value
             for name, value in values.items()}, runner.iter)
        self._table.add(runner.epoch, runner.iter, moment, values)
        Image.fromarray(draw_coverage(self._table)).save(
            self._table.path.with_suffix('.png'))

    def _draw_flags(self, model: nn.Module, attention_map: torch.Tensor,
                    generator: torch.Generator) -> torch.Tensor | None:
        """Mask a whole image several times by its map, (D, L)."""
        follows = getattr(model, 'masking', 'attention') == 'attention'
        if self._attention is None or not follows:
            return None
        weights = map_to_patches(
            attention_map[None], torch.tensor([[0., 0., 1., 1.]]),
            torch.zeros(1, 2, dtype=torch.bool), tuple(attention_map.shape))
        weights = weights.expand(self.num_draws, -1)
        noise = torch.empty(weights.shape).exponential_(generator=generator)
        return partition_tokens(weights, noise, model.mask_ratio,
                                model.throw_ratio).flags()


def image_info(source: Source) -> dict:
    """Read how a data set describes an image."""
    return source.dataset.get_data_info(source.index)


def image_size(path: str) -> tuple[int, int] | None:
    """Read the size of an image, without its pixels.

    Args:
        path: The image.

    Returns:
        (h, w), or None if only its loader can tell.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, UnidentifiedImageError):
        return None


def draw_coverage(table: CoverageTable) -> np.ndarray:
    """Draw what a table holds over the epochs, next to chance.

    Args:
        table: A table with at least one row.

    Returns:
        uint8 RGB picture of shape (H, W, 3).
    """
    curves, chances = {}, {}
    for title, (name, chance) in CURVES.items():
        curve = table.curve(name)
        if curve:
            curves[title] = curve
            chances[title] = table.curve(chance)[-1][1]
    return draw_curves(
        curves, x_label='epoch', references=chances, mark_points=True)
