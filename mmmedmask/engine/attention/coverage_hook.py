"""Measure, while a model trains, how much of its attention is on lesions."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import nn
from torch.utils.data import Dataset

from mmmedmask.datasets.image_io import write_image
from mmmedmask.datasets.lesion_masks import read_lesion_mask
from mmmedmask.engine.attention.mask_hook import (
    AttentionMaskHook,
    find_mask_hook,
    whole_pipeline,
)
from mmmedmask.engine.attention.whole_images import (
    ImageIndex,
    run_whole_images,
)
from mmmedmask.engine.hooks.panel_hook import choose_positions
from mmmedmask.engine.preserved_state import (
    model_at_rest,
    saved_model,
    unwrap,
)
from mmmedmask.engine.run_table import RunTable
from mmmedmask.engine.wrapped_datasets import ImageSource
from mmmedmask.functional import lesion_coverage
from mmmedmask.functional.attention_masking import (
    map_to_patches,
    partition_tokens,
)
from mmmedmask.functional.randomness import sample_generator, stream_seed
from mmmedmask.registry import DATASETS, HOOKS
from mmmedmask.util.checks import check_choice, check_integer
from mmmedmask.visualization.curves import draw_curves

NAME = 'lesion_coverage'
START, REFRESH, END = 'start', 'refresh', 'end'
# Kind of map to the model's method.
MAPS = {'attention': 'attention_maps',
        'class_activation': 'class_activation_maps'}
COLUMNS = ('epoch', 'iteration', 'moment', *lesion_coverage.SUMMARY_NAMES,
           'masked_gain', 'num_images', 'num_without_lesion')
# Title of a curve: its values, and those of chance.
CURVES = {
    'attention on the lesion': ('attention_share', 'lesion_share'),
    'maximum on the lesion': ('pointing', 'pointing_chance'),
    'lesion patches masked': ('masked', 'masked_chance'),
    'lesion patches visible': ('visible', 'visible_chance')}


@HOOKS.register_module()
class LesionCoverageHook(Hook):
    """Measure attention maps and masking against lesion masks.

    After every refresh of :class:`AttentionMaskHook`, from its maps, and at
    the end of training, from maps of the final weights. With an ``EMAHook``
    refreshes are of the weights that are trained, which mask, and the end is
    of their average, as validation and checkpoints are. For what is
    measured see
    :func:`~mmmedmask.functional.lesion_coverage.summarize_coverage`. Each
    masking is drawn from the whole image's map, as the model does for a crop.
    Without an AttentionMaskHook (then at the end alone), or with a model that
    masks at random, there are only maps to measure. Two controls:
    random weights (``at_start``), and maps of a supervised classifier
    (``maps='class_activation'``).

    Values go to the log, to the visualizer as ``lesion_coverage/...``, and,
    next to chance, to ``lesion_coverage.png`` in the work dir, with
    ``lesion_coverage.csv`` (see :class:`~mmmedmask.engine.run_table.RunTable`)
    beside it. Its columns are ``epoch`` and ``iteration``, how much of the
    training was over; ``moment``, ``start``, ``refresh`` of the maps or
    ``end``; and the values, empty where one is not defined. Only the main
    process measures, and training stays the same.

    Images need a ``lesion_path``, as ``mmmedmask.LabelledImages`` gives it:
    a mask of the whole image, of its size. All are read before training, so
    that a wrong one stops it there. Where no image has a lesion, it rests.

    Args:
        pipeline: Transforms that load, resize and pack a whole image; None
            takes those of AttentionMaskHook.
        dataset: Data set with lesion masks, or its config, used without its
            own pipeline; None takes the training set.
        num_images: Number of images, taken evenly from all that have a
            lesion mask; None takes all.
        num_draws: Maskings to draw per image.
        maps: ``'attention'`` of the class token, or ``'class_activation'``:
            what speaks for the image's own class, see
            :func:`~mmmedmask.models.msmae.patch_logits`; measured
            at the end, and no masking is drawn from it.
        at_start: Whether to measure the weights that training starts with,
            too; not after a resume.
        batch_size: Whole images per forward pass, where maps are computed;
            with as many loader processes as AttentionMaskHook has.

    Raises:
        ValueError: If an argument is out of range; in training, if there
            is no pipeline, or the model has no attention maps.
        ImageFileError: In training, if a lesion mask cannot be used.
    """

    # After the refresh of the maps, whose priority is HIGH.
    priority = 'LOW'

    def __init__(self, pipeline: Sequence | None = None,
                 dataset: Dataset | Mapping | None = None,
                 num_images: int | None = None, num_draws: int = 8,
                 maps: str = 'attention', at_start: bool = False,
                 batch_size: int = 64) -> None:
        if num_images is not None:
            check_integer('num_images', num_images)
        self.pipeline = None if pipeline is None else Compose(pipeline)
        self.dataset = dataset
        self.num_images = num_images
        self.num_draws = check_integer('num_draws', num_draws)
        self.maps = check_choice('maps', maps, MAPS)
        self.at_start = at_start
        self.batch_size = check_integer('batch_size', batch_size)
        self._attention: AttentionMaskHook | None = None
        self._sources: list[ImageSource] = []
        self._table: RunTable | None = None

    def before_train(self, runner: Runner) -> None:
        """Find the images, and check them and their lesion masks."""
        if not is_main_process():
            return
        model = unwrap(runner.model)
        if not hasattr(model, MAPS[self.maps]):
            raise ValueError(
                f'LesionCoverageHook: {type(model).__name__} has no method '
                f'{MAPS[self.maps]}; remove the hook from the config')
        attention = find_mask_hook(runner)
        if attention and runner.hooks.index(self) < runner.hooks.index(
                attention):
            raise ValueError('LesionCoverageHook must come after '
                             'AttentionMaskHook: leave the priorities of both '
                             'as they are')
        self.pipeline = whole_pipeline(self, attention)
        self._attention = attention if self.maps == 'attention' else None
        self._sources = self._choose_images(runner)
        if not self._any_lesion():
            self._sources = []
            runner.logger.warning(
                'LesionCoverageHook rests: no image of the '
                f'{"training set" if self.dataset is None else "dataset"} '
                'has a lesion. LabelledImages takes the masks from the '
                'column mask of the split file; name a dataset with masks, '
                'or switch the hook off')
            return
        self._table = RunTable(
            runner, NAME, dict.fromkeys(COLUMNS, str),
            (PurePath(source.info['img_path']).name
             for source in self._sources),
            dict(maps=self.maps, num_draws=self.num_draws))
        if self.at_start and runner.iter == 0:
            self._measure(runner, self._compute_maps(runner), START)

    def before_train_epoch(self, runner: Runner) -> None:
        """Measure the maps if they have just been made."""
        attention = self._attention
        if attention and self._sources and attention.just_made:
            maps = [attention.store.lookup(source.info['img_path'])
                    for source in self._sources] if self.dataset is None \
                else self._compute_maps(runner)
            self._measure(runner, maps, REFRESH)

    def after_train(self, runner: Runner) -> None:
        """Measure the final weights."""
        if self._sources:
            self._measure(runner, self._compute_maps(
                runner, saved_model(runner)), END)

    def _choose_images(self, runner: Runner) -> list[ImageSource]:
        """List the images that have a lesion mask, or some of them."""
        if isinstance(self.dataset, Mapping):
            self.dataset = DATASETS.build(dict(self.dataset))
        dataset = runner.train_dataloader.dataset if self.dataset is None \
            else self.dataset
        sources = [source for source in ImageIndex(dataset).sources
                   if source.info.get('lesion_path')]
        return sources and [sources[position] for position in choose_positions(
            len(sources), self.num_images or len(sources))]

    def _any_lesion(self) -> bool:
        """Read all masks once: now, not after hours of training."""
        has_lesion = False
        for source in self._sources:
            info = source.info
            mask = read_lesion_mask(info['lesion_path'])
            has_lesion |= bool(mask.any())
            size = image_size(info['img_path'])
            if size not in (None, mask.shape):
                raise ValueError(
                    f'{info["lesion_path"]} has {mask.shape} pixels, (h, w),'
                    f' but its image {info["img_path"]} has {size}')
        return has_lesion

    def _compute_maps(self, runner: Runner, model: nn.Module | None = None
                      ) -> list[torch.Tensor | None]:
        """Run the images through the model, as AttentionMaskHook does.

        It is the one that is trained, as there, if none is named.
        """

        def compute(batch: dict) -> torch.Tensor:
            batch = model.data_preprocessor(batch, False)
            if self.maps == 'attention':
                return model.attention_maps(batch['inputs']).float()
            return model.class_activation_maps(
                batch['inputs'], batch['data_samples'])

        workers = self._attention.num_workers if self._attention else 0
        with model_at_rest(runner, model) as model:
            rows, parts = run_whole_images(
                self._sources, self.pipeline, compute, self.batch_size,
                workers, everywhere=True)
        maps = dict(zip(rows, (attention_map.clone() for part in parts
                               for attention_map in part), strict=True))
        return [maps.get(row) for row in range(len(self._sources))]

    def _measure(self, runner: Runner, maps: Sequence[torch.Tensor | None],
                 moment: str) -> None:
        """Compare maps with masks; log, draw and write the result."""
        model = unwrap(runner.model)
        seed = stream_seed(runner.seed, NAME)
        images = []
        for row, (source, attention_map) in enumerate(
                zip(self._sources, maps, strict=True)):
            if attention_map is None:
                continue
            attention_map = attention_map.float()
            mask = read_lesion_mask(source.info['lesion_path'])
            images.append(lesion_coverage.image_coverage(
                attention_map, torch.from_numpy(mask),
                self._draw_flags(model, attention_map, sample_generator(
                    seed, runner.epoch, row))))
        if missing := len(maps) - len(images):
            runner.logger.warning(
                f'LesionCoverageHook: {missing} of {len(maps)} images could '
                'not be read and are left out.')
        if not any(image['lesion_share'] > 0 for image in images):
            runner.logger.warning('LesionCoverageHook: none of the others has '
                                  'a lesion, so nothing is measured.')
            return
        values = lesion_coverage.summarize_coverage(images)
        runner.logger.info(
            f'Lesion coverage ({moment}, epoch {runner.epoch}): ' + ', '.join(
                f'{name} {value:.4g}' for name, value in values.items()))
        runner.visualizer.add_scalars(
            {f'{NAME}/{name}': value for name, value in values.items()},
            runner.iter)
        place = dict(epoch=str(runner.epoch), iteration=str(runner.iter),
                     moment=moment)
        written = {name: str(value) if isinstance(value, int)
                   else f'{value:.6g}' for name, value in values.items()}
        rows = self._table.rows
        # Each start of a run that is over measures its end.
        rows[:] = [row for row in rows if any(
            row[name] != value for name, value in place.items())]
        rows.append(dict.fromkeys(COLUMNS, '') | place | written)
        self._table.write()
        write_image(self._table.picture, draw_coverage(rows))

    def _draw_flags(self, model: nn.Module, attention_map: torch.Tensor,
                    generator: torch.Generator) -> torch.Tensor | None:
        """Mask a whole image several times by its map, (D, L)."""
        masking = getattr(model, 'masking', 'attention')
        if self._attention is None or masking == 'random':
            return None
        weights = map_to_patches(
            attention_map[None], torch.tensor([[0., 0., 1., 1.]]),
            torch.zeros(1, 2, dtype=torch.bool), tuple(attention_map.shape))
        weights = weights.expand(self.num_draws, -1)
        noise = torch.empty(weights.shape).exponential_(generator=generator)
        return partition_tokens(
            weights, noise, model.mask_ratio, model.throw_ratio,
            visible_first=masking == 'inverse_attention').flags()


def image_size(path: str) -> tuple[int, int] | None:
    """Read the upright size (h, w) of an image; None if its loader must."""
    try:
        with Image.open(path) as image:
            size = image.height, image.width
            # Pillow turns the size of a TIFF by itself.
            turned = image.format != 'TIFF' and image.getexif().get(
                ExifTags.Base.Orientation, 1) >= 5
            return size[::-1] if turned else size
    except (OSError, UnidentifiedImageError):
        return None


def draw_coverage(rows: Sequence[Mapping[str, str]]) -> np.ndarray:
    """Draw the rows of a table over the epochs, next to chance; RGB, uint8."""
    def curve(name: str) -> list[tuple[int, float]]:
        return [(int(row['epoch']), float(row[name]))
                for row in rows if row[name]]

    curves = {title: values for title, (name, _) in CURVES.items()
              if (values := curve(name))}
    chances = {title: {'chance': curve(CURVES[title][1])[-1][1]}
               for title in curves}
    return draw_curves(
        curves, x_label='epoch', references=chances, mark_points=True)
