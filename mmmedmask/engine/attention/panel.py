"""From images and a model to a panel of attention, masking and prediction.

What ``mmmedmask.AttentionPanelHook`` and
``tools/visualizations/visualize_attention.py`` share.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import nn

from mmmedmask.datasets.lesion_masks import read_lesion_mask
from mmmedmask.engine.attention.whole_images import (
    WHOLE,
    Source,
    WholeImages,
    collate_whole,
)
from mmmedmask.functional.attention_masking import TokenPartition
from mmmedmask.visualization.attention_pictures import draw_attention_panel
from mmmedmask.visualization.pictures import PictureUnits


@dataclass(frozen=True)
class AttentionPanel:
    """The rows of a panel, before a model looks at them.

    Attributes:
        batch: Lists of ``inputs`` and ``data_samples``, for the model's data
            preprocessor.
        lesions: Per image its lesion mask, bool in the size of the inputs,
            or None.
        titles: Per image a line of text.
        by_attention: Whether attention decides on the masking, or chance.
    """

    batch: dict
    lesions: list[np.ndarray | None]
    titles: list[str]
    by_attention: bool


def check_model(model: nn.Module) -> None:
    """Refuse a model without attention maps.

    Args:
        model: The model.

    Raises:
        ValueError: If it lacks a method that a panel needs.
    """
    missing = [name for name in ('attention_maps', 'partition')
               if not hasattr(model, name)]
    if missing:
        raise ValueError(
            f'an attention panel needs a model such as mmmedmask.MSMAE, and '
            f'{type(model).__name__} has no method {" and ".join(missing)}')


def follows_attention(model: nn.Module, has_maps: bool) -> bool:
    """Tell whether attention decides on the masking in training.

    Args:
        model: The model.
        has_maps: Whether training has an ``AttentionMaskHook``.

    Returns:
        Whether it does.
    """
    masking = getattr(model, 'masking', None)
    return has_maps if masking is None else masking == 'attention'


def choose_positions(length: int, number: int,
                     indices: Sequence[int] | None) -> list[int]:
    """Choose samples of a data set.

    Args:
        length: Size of the data set.
        number: So many are taken, evenly.
        indices: These are taken instead.

    Returns:
        Their positions.

    Raises:
        ValueError: If one of ``indices`` is no position.
    """
    if indices is None:
        places = torch.linspace(
            0, length - 1, min(number, length), dtype=torch.float64)
        return places.round().int().tolist()
    wrong = [index for index in indices if not 0 <= index < length]
    if wrong or not indices:
        raise ValueError(
            f'indices must name at least one of 0 to {length - 1}, got '
            f'{list(indices)}')
    return list(indices)


def load_panel(sources: Sequence[Source], positions: Sequence[int],
               pipeline: Callable[[dict], dict],
               by_attention: bool) -> AttentionPanel:
    """Load whole images for a panel.

    Args:
        sources: Where the images are described.
        positions: Their numbers, from which a masking is drawn.
        pipeline: From a description to ``inputs`` and ``data_samples``.
        by_attention: Whether attention decides on the masking.

    Returns:
        The rows; files that cannot be used and that the data set skips are
        left out.

    Raises:
        ValueError: If no file can be used, or the pipeline does not keep
            images whole and bring them to one size.
        ImageFileError: If a file or a lesion mask cannot be used.
    """
    images = WholeImages(sources, pipeline)
    rows, batch = collate_whole([images[row] for row in range(len(images))])
    if batch is None:
        raise ValueError(
            f'none of {len(sources)} images for the panel can be used')
    lesions, titles = [], []
    for row, inputs, sample in zip(
            rows, batch['inputs'], batch['data_samples'], strict=True):
        info = sources[row].dataset.get_data_info(sources[row].index)
        # What the masking is drawn from; a pipeline need not keep it.
        sample.set_metainfo(
            dict(
                img_path=info['img_path'],
                sample_idx=int(positions[row]),
                crop_box=WHOLE,
                flip=False,
                flip_direction=None))
        lesions.append(read_lesion(info.get('lesion_path'), inputs.shape[-2:]))
        titles.append(describe_image(info, sources[row].dataset))
    return AttentionPanel(batch, lesions, titles, by_attention)


def read_lesion(path: str | None, size: Sequence[int]) -> np.ndarray | None:
    """Read a lesion mask and bring it to the size of a model's input.

    Args:
        path: The mask, of the whole image; None if there is none.
        size: (h, w).

    Returns:
        bool array of shape (h, w), or None.
    """
    if path is None:
        return None
    mask = read_lesion_mask(path).astype(np.uint8)
    height, width = size
    return cv2.resize(
        mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT) > 0


def describe_image(info: dict, dataset: object) -> str:
    """Name an image, and its class if it is known."""
    name = Path(info['img_path']).name
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    label = info.get('gt_label')
    if label is None or not classes:
        return name
    return f'{name}: {classes[int(label)]}'


class Look(NamedTuple):
    """What a model sees and does.

    Attributes:
        images: Normalised whole images (B, C, H, W).
        maps: What the class token looks at, (B, gh, gw).
        partition: Where each token goes.
        reconstruction: The images with their masked patches predicted, (B,
            C, H, W); None if the model has no decoder.
    """

    images: torch.Tensor
    maps: torch.Tensor
    partition: TokenPartition
    reconstruction: torch.Tensor | None


@torch.no_grad()
def look_at(model: nn.Module, panel: AttentionPanel) -> Look:
    """Let a model look at the images of a panel, and mask them.

    Args:
        model: A model that :func:`check_model` accepts, in evaluation mode.
        panel: The rows.

    Returns:
        What it sees and does.
    """
    # The preprocessor may write into what it gets.
    samples = [sample.clone() for sample in panel.batch['data_samples']]
    processed = model.data_preprocessor(
        dict(panel.batch, data_samples=samples), False)
    inputs, samples = processed['inputs'], processed['data_samples']
    maps = model.attention_maps(inputs)
    if panel.by_attention:
        for sample, one in zip(samples, maps, strict=True):
            sample.set_field(one, 'attention_map', dtype=torch.Tensor)
    partition = model.partition(inputs, samples)
    reconstruction = None
    if hasattr(model, 'reconstruct'):
        reconstruction = model.reconstruct(inputs, partition)
    return Look(inputs, maps, partition, reconstruction)


def draw_panel(model: nn.Module,
               panel: AttentionPanel,
               units: PictureUnits,
               heading: str = '',
               min_side: int = 150) -> np.ndarray:
    """Let a model look at the images of a panel, and draw it.

    Args:
        model: See :func:`look_at`.
        panel: The rows.
        units: How to undo the model's normalisation.
        heading: Line above the panel.
        min_side: Small images are enlarged to about so many pixels.

    Returns:
        uint8 RGB picture of shape (H, W, 3).
    """
    look = look_at(model, panel)
    return draw_attention_panel(
        look.images,
        look.maps,
        look.partition,
        units,
        panel.lesions,
        look.reconstruction,
        heading=heading,
        row_titles=panel.titles,
        min_side=min_side)
