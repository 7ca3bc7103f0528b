"""Panels of attention, masking and prediction, in training and afterwards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.runner import Runner
from torch import nn

from mmmedmask.datasets.lesion_masks import read_lesion_mask
from mmmedmask.engine.attention import whole_images
from mmmedmask.engine.attention.mask_hook import find_mask_hook, whole_pipeline
from mmmedmask.engine.hooks.panel_hook import PanelHook, choose_positions
from mmmedmask.functional.attention_masking import TokenPartition
from mmmedmask.registry import HOOKS
from mmmedmask.util.checks import check_indices
from mmmedmask.visualization.attention_pictures import attention_columns
from mmmedmask.visualization.grid import draw_grid
from mmmedmask.visualization.pictures import PictureUnits


def check_model(model: nn.Module) -> None:
    """Raise a ValueError if a model lacks a method that a panel needs."""
    missing = [name for name in ('attention_maps', 'partition')
               if not hasattr(model, name)]
    if missing:
        raise ValueError(
            f'an attention panel needs a model such as mmmedmask.MSMAE, and '
            f'{type(model).__name__} has no method {" and ".join(missing)}')


@HOOKS.register_module()
class AttentionPanelHook(PanelHook):
    """Draw attention and masking of the same images at every interval.

    A row per image: the whole image, with its lesion outlined if the data
    set knows it; what the class token looks at now; a masking drawn from
    that map, while training may mask by older ones; and, if the model has a
    decoder, what it reconstructs. In runs without
    ``mmmedmask.AttentionMaskHook``, and with models that mask at random, the
    masking is random here, too.

    The noise of the masking is the same in all panels, also of a resumed
    run. The model needs ``attention_maps`` and ``partition``, as
    :class:`mmmedmask.models.msmae.MSMAE` and ``MSMAEClassifier`` have them.

    Args:
        interval: Epochs between two panels; for what is not listed here see
            :class:`PanelHook`.
        indices: Samples to show instead of ``num_samples``, by their
            position in the training set.
        pipeline: Transforms that load, resize and pack a whole image; None
            takes those of AttentionMaskHook.
        window: Stored values shown black and white; needed if images have
            not 8 bits.

    Raises:
        ValueError: If an argument is out of range, or, in training, if there
            is not a pipeline, no such sample, or a model without attention.
    """

    panel_name = 'attention'

    def __init__(self, interval: int = 10, num_samples: int = 6,
                 indices: Sequence[int] | None = None,
                 pipeline: Sequence | None = None,
                 channels: Sequence[int] | None = None,
                 window: Sequence[float] | None = None,
                 min_side: int = 150) -> None:
        super().__init__(interval, num_samples, channels, window, min_side)
        self.indices = indices
        if indices is not None:
            check_indices('indices', indices)
        self.pipeline = None if pipeline is None else Compose(pipeline)
        self._panel: AttentionPanel | None = None

    check_model = staticmethod(check_model)

    def load_samples(self, runner: Runner, model: nn.Module) -> None:
        """Load the images."""
        attention = find_mask_hook(runner)
        self.pipeline = whole_pipeline(self, attention)
        dataset = runner.train_dataloader.dataset
        positions = choose_positions(
            len(dataset), self.num_samples, self.indices)
        sources = whole_images.list_sources(dataset)
        self._panel = load_panel(
            [sources[position] for position in positions], positions,
            self.pipeline, follows_attention(model, attention is not None))

    def draw(self, model: nn.Module, heading: str) -> np.ndarray:
        """Draw where the model looks, and what it masks."""
        return draw_panel(
            model, self._panel, self.units, heading, self.min_side)


@dataclass(frozen=True)
class AttentionPanel:
    """The rows of a panel, before a model looks at them.

    ``batch`` is for a data preprocessor, ``lesions`` are bool in the size of
    its inputs, or None; ``by_attention`` says what decides on the masking.
    """

    batch: dict
    lesions: list[np.ndarray | None]
    titles: list[str]
    by_attention: bool


def follows_attention(model: nn.Module, has_maps: bool) -> bool:
    """Tell whether attention decides on the masking in training.

    A model may mask at random on purpose, or as long as there are no maps
    (``has_maps``: whether there is an AttentionMaskHook).
    """
    return getattr(model, 'masking', 'attention') != 'random' and (
        has_maps or getattr(model, 'ratios_without_maps', ()) is None)


def load_panel(sources: Sequence[whole_images.ImageSource],
               positions: Sequence[int], pipeline: Callable[[dict], dict],
               by_attention: bool) -> AttentionPanel:
    """Load whole images for a panel, but for broken files that are skipped.

    ``positions`` are the numbers from which a masking is drawn. The pipeline
    has to keep images whole and bring them to one size.
    """
    images = whole_images.WholeImages(sources, pipeline)
    rows, batch = whole_images.collate_whole(
        [images[row] for row in range(len(images))])
    if batch is None:
        raise ValueError(
            f'none of {len(sources)} images for the panel can be used')
    lesions, titles = [], []
    for row, inputs, sample in zip(
            rows, batch['inputs'], batch['data_samples'], strict=True):
        info = sources[row].info
        # What the masking is drawn from; a pipeline need not keep it.
        sample.set_metainfo(
            dict(img_path=info['img_path'], sample_idx=int(positions[row]),
                 crop_box=whole_images.WHOLE, flip=False, flip_direction=None))
        lesions.append(read_lesion(info.get('lesion_path'), inputs.shape[-2:]))
        titles.append(describe_image(info, sources[row].dataset))
    return AttentionPanel(batch, lesions, titles, by_attention)


def read_lesion(path: str | None, size: Sequence[int]) -> np.ndarray | None:
    """Read a lesion mask, bool, in the size (h, w) of a model's input."""
    if path is None:
        return None
    return cv2.resize(read_lesion_mask(path).astype(np.uint8), size[::-1],
                      interpolation=cv2.INTER_NEAREST_EXACT) > 0


def describe_image(info: dict, dataset: object) -> str:
    """Name an image, and its class if it is known."""
    name, label = Path(info['img_path']).name, info.get('gt_label')
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    return name if label is None or not classes \
        else f'{name}: {classes[int(label)]}'


class Look(NamedTuple):
    """What a model sees and does.

    Normalised ``images`` (B, C, H, W), ``maps`` (B, gh, gw), and the images
    with their masked patches predicted; None without a decoder.
    """

    images: torch.Tensor
    maps: torch.Tensor
    partition: TokenPartition
    reconstruction: torch.Tensor | None


@torch.no_grad()
def look_at(model: nn.Module, panel: AttentionPanel) -> Look:
    """Let a model in evaluation mode look at the images, and mask them."""
    # The preprocessor may write into what it gets.
    samples = [sample.clone() for sample in panel.batch['data_samples']]
    processed = model.data_preprocessor(
        dict(panel.batch, data_samples=samples), False)
    inputs, samples = processed['inputs'], processed['data_samples']
    maps = model.attention_maps(inputs)
    if panel.by_attention:
        for sample, attention_map in zip(samples, maps, strict=True):
            sample.set_field(
                attention_map, 'attention_map', dtype=torch.Tensor)
    partition = model.partition(inputs, samples)
    return Look(inputs, maps, partition, model.reconstruct(inputs, partition)
                if hasattr(model, 'reconstruct') else None)


def draw_panel(model: nn.Module, panel: AttentionPanel, units: PictureUnits,
               heading: str = '', min_side: int = 150) -> np.ndarray:
    """Let a model look at the images of a panel, and draw it.

    ``units`` undo the model's normalisation; small images are enlarged to
    about ``min_side`` pixels. Returns a uint8 RGB picture (H, W, 3).
    """
    look = look_at(model, panel)
    columns = attention_columns(look.images, look.maps, look.partition, units,
                                panel.lesions, look.reconstruction)
    return draw_grid(columns, heading, min_side, panel.titles)
