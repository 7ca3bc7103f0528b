"""Labelled images on which frozen encoders are probed, and their loading."""

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import print_log

from mmmedmask.datasets.coco_instances import decode_masks
from mmmedmask.datasets.image_io import read_image
from mmmedmask.datasets.labelled_images import (
    CLASS_FILE,
    check_groups,
    image_rows,
    read_classes,
    read_split_file,
)
from mmmedmask.datasets.lesion_masks import read_lesion_mask
from mmmedmask.datasets.radiology import split_part
from mmmedmask.datasets.tiles import list_images
from mmmedmask.util.checks import check_choice, check_integer
from mmmedmask.util.file_walk import match_paths
from mmmedmask.util.nearest import did_you_mean
from mmmedmask.util.table_files import (
    check_cell,
    check_files,
    check_spelling,
    read_table,
)

SPLIT_NAMES = {'train': ('train', 'training', 'Training'),
               'test': ('test', 'Test', 'Testing', 'val', 'validation')}
"""Folders that hold the splits, the first one that exists is taken."""
CONVERTED_SPLITS = ('grouped', 'lesion', 'clean-train', 'patient', 'paper')
"""Splits of our converters, the first one that exists is taken: those that
keep copies, lesions and patients on one side come before the paper's."""
COLORS = ('rgb', 'gray', 'jitter', 'standardized')
JITTER = 0.4
"""Largest relative change of a channel, and of its mean, by the jitter."""


@dataclass(frozen=True)
class ProbeSet:
    """The images of one split.

    Attributes:
        classes: Names of the classes; empty for sets that have masks alone.
        labels: Class of each image, integers of shape (N,), or None.
        groups: The patient (lesion, copy) of each image, or None.
        masks: For each image a mask file, a boolean array (H, W), or None
            where it has no mask.
    """

    paths: tuple[Path, ...]
    classes: tuple[str, ...] = ()
    labels: np.ndarray | None = None
    groups: tuple[str, ...] | None = None
    masks: tuple[Path | np.ndarray | None, ...] = ()

    def mask(self, index: int) -> np.ndarray | None:
        """Read the mask of an image: boolean, shape (H, W), or None."""
        mask = self.masks[index] if self.masks else None
        return read_lesion_mask(mask) if isinstance(mask, Path) else mask

    def thin(self, count: int | None) -> 'ProbeSet':
        """Take so many images evenly, of labelled ones class by class.

        None takes all.
        """
        if count is None or count >= len(self.paths):
            return self
        check_integer('count', count)
        order = np.arange(len(self.paths)) if self.labels is None else \
            np.argsort(self.labels, kind='stable')
        places = np.sort(order[np.linspace(
            0, len(self.paths) - 1, count).round().astype(int)])

        def take(values):
            return values and tuple(values[place] for place in places)

        return ProbeSet(take(self.paths), self.classes,
                        None if self.labels is None else self.labels[places],
                        take(self.groups), take(self.masks))


def read_probe_sets(source: str | Path, split_folder: str | None = None,
                    trained: Mapping[str | Path, str] | None = None
                    ) -> tuple[ProbeSet, ProbeSet]:
    """Find the training and the test images of a labelled data set.

    Args:
        source: A table with a row per image: ``path``, relative to the table's
            folder, ``split`` (train or test), ``label`` or ``mask`` or both,
            and perhaps ``group``. Or a folder with ``classes.txt``, as our
            converters write it; or one with a folder per split (``train`` or
            ``training``, ``test`` or ``val``), each with a folder per class;
            or one with COCO's
            ``annotations/train.json`` and ``annotations/test.json``, whose
            instances become one mask per image; the images lie in its
            ``images``, or in the folder itself, as those of GlaS.
        split_folder: Folder of the csv files of the first layout. None takes
            the one that the encoder is trained on, else the first of
            :data:`CONVERTED_SPLITS`, else the only one. The log names it.
        trained: The ``split_folder`` of each ``data_root`` that the encoder
            is trained on.

    Raises:
        FileNotFoundError: If the folder has none of these layouts, an image
            or a mask is not there, or there are several splits to choose from.
        ValueError: If the splits differ in their classes, or have an image
            in common, or names of classes or groups differ by upper and lower
            case, blanks or kinds of hyphens alone; or a table has an unknown
            split, an empty path, label or group, or an image twice.
    """
    train, test = _read_parts(Path(source), split_folder, trained)
    for part in (train, test):
        files = (*part.paths, *(
            mask for mask in part.masks if isinstance(mask, Path)))
        check_files(source, (split_part(file)[0] for file in files))
    shared = {os.path.normpath(path) for path in train.paths} & {
        os.path.normpath(path) for path in test.paths}
    if shared:
        raise ValueError(
            f'{source}: {len(shared)} images are to train and to test, such '
            f'as {min(shared)}; an image belongs to one split')
    groups = [part.groups or () for part in (train, test)]
    check_groups(source, sum(groups, ()))
    groups = set.intersection(*map(set, groups))
    if groups:
        print_log(f'{source}: {len(groups)} of {len(set(test.groups))} groups '
                  f'to test are in training, too, such as {min(groups)}: '
                  'scores say little about new ones', logger='current',
                  level=logging.WARNING)
    return train, test


def _read_parts(source: Path, split_folder: str | None,
                trained: Mapping[str | Path, str] | None
                ) -> tuple[ProbeSet, ProbeSet]:
    if source.is_file():
        return _read_listing(source)
    if not source.is_dir():
        raise FileNotFoundError(f'there is no folder or table {source}')
    if (source / CLASS_FILE).is_file():
        classes = read_classes(source)
        split_folder = split_folder or _choose_split(source, trained)
        print_log(f'{source} is probed on {split_folder}: fitted on train, '
                  'tested on val', logger='current')
        files = (source / split_folder / f'{name}.csv'
                 for name in ('train', 'val'))
        return tuple(_from_rows(read_split_file(file, source, classes),
                                source, classes) for file in files)
    annotations = source / 'annotations'
    if annotations.is_dir():
        return tuple(
            _read_coco(annotations / f'{name}.json', source)
            for name in ('train', 'test'))
    train, test = (_split_folder(source, name) for name in SPLIT_NAMES)
    sets = _read_classes(train), _read_classes(test)
    if sets[0].classes != sets[1].classes:
        raise ValueError(f'{train} has the classes {list(sets[0].classes)}, '
                         f'{test} has {list(sets[1].classes)}')
    return sets


def _choose_split(source: Path,
                  trained: Mapping[str | Path, str] | None) -> str:
    for root, split_folder in (trained or {}).items():
        if os.path.realpath(root) == os.path.realpath(source):
            return split_folder
    present = [file.parent.name
               for file in match_paths(source, 'splits/*/train.csv')]
    known = [name for name in CONVERTED_SPLITS if name in present]
    if not known and len(present) != 1:
        raise FileNotFoundError(
            f'{source} has the splits {present}, and none of '
            f'{CONVERTED_SPLITS} among them: name the split_folder to probe '
            "on, such as 'splits/mine'")
    return f'splits/{(known or present)[0]}'


def _split_folder(source: Path, split: str) -> Path:
    for name in SPLIT_NAMES[split]:
        if (source / name).is_dir():
            return source / name
    present = sorted(path.name for path in source.iterdir())
    raise FileNotFoundError(
        f'{source} has neither {CLASS_FILE} nor annotations/ nor a folder '
        f'{" or ".join(SPLIT_NAMES[split])}, but {present[:8]}.'
        f'{did_you_mean(split, present)}')


def _read_classes(folder: Path) -> ProbeSet:
    classes = tuple(sorted(path.name for path in folder.iterdir()
                           if path.is_dir() and path.name[0] != '.'))
    if not classes:
        raise FileNotFoundError(f'{folder} has no folder with images')
    check_spelling(folder, 'class', classes)
    paths, labels = zip(*(
        (Path(image), label) for label, name in enumerate(classes)
        for image in list_images(folder / name)), strict=True)
    return ProbeSet(paths, classes, np.array(labels))


def _from_rows(rows: Sequence[Mapping[str, str]], root: Path,
               classes: Sequence[str]) -> ProbeSet:
    """Take rows with a path, and a label, group and mask if they have one."""
    return ProbeSet(
        paths=tuple(root / row['path'] for row in rows),
        classes=tuple(classes),
        labels=np.array([classes.index(row['label']) for row in rows])
        if 'label' in rows[0] else None,
        groups=tuple(row['group'] for row in rows)
        if 'group' in rows[0] else None,
        masks=tuple(root / row['mask'] if row.get('mask') else None
                    for row in rows))


def _read_listing(file: Path) -> tuple[ProbeSet, ProbeSet]:
    table = read_table(file, ('path', 'split'))
    if not {'label', 'mask'} & set(table.names):
        raise ValueError(f'{file} has neither a column label nor a column '
                         f'mask, but {table.names}')
    rows = {split: [] for split in ('train', 'test')}
    for where, row in image_rows(table, file.parent):
        split = check_cell(where, 'split', row['split'], tuple(rows))
        rows[split].append(row)
    classes = [sorted({row['label'] for row in part if 'label' in row})
               for part in rows.values()]
    if not all(rows.values()) or classes[0] != classes[1]:
        raise ValueError(
            f'{file} has {len(rows["train"])} images to train, of the classes '
            f'{classes[0]}, and {len(rows["test"])} to test, of {classes[1]}: '
            'both must have images, of the same classes')
    return tuple(_from_rows(part, file.parent, classes[0])
                 for part in rows.values())


def _read_coco(file: Path, source: Path) -> ProbeSet:
    try:
        content = json.loads(file.read_text('utf-8'))
    except ValueError as error:
        raise ValueError(f'{file} is not json: {error}') from None
    if not content.get('images'):
        raise ValueError(f'{file} lists no images')
    # Some name files below the folder of images, some below the whole set.
    first = content['images'][0]['file_name']
    folder = (source if split_part(source / first)[0].is_file()
              else source / 'images')
    paths, masks = [], []
    for image, _, instances in decode_masks(content, file):
        paths.append(folder / image['file_name'])
        empty = np.zeros((image['height'], image['width']), bool)
        masks.append(np.logical_or.reduce([empty, *instances]))
    return ProbeSet(tuple(paths), masks=tuple(masks))


def resize_square(image: torch.Tensor, size: int | None) -> torch.Tensor:
    """Resize (C, H, W) to a square, antialiased, same type; None keeps it."""
    if size is None or image.shape[1:] == (size, size):
        return image
    resized = F.interpolate(image[None].float(), (size, size),
                            mode='bilinear', antialias=True)[0]
    if image.dtype == torch.uint8:
        resized = resized.round().clamp(0, 255)
    return resized.to(image.dtype)


def channel_statistics(images: Iterable[torch.Tensor]
                       ) -> tuple[torch.Tensor, torch.Tensor]:
    """Average means and deviations in images (C, H, W): two of (C, 1, 1)."""
    moments = [(image.float().mean(dim=(1, 2), keepdim=True),
                image.float().std(dim=(1, 2), keepdim=True))
               for image in images]
    means, deviations = (torch.stack(part).mean(dim=0)
                         for part in zip(*moments, strict=True))
    return means, deviations


def load_image(path: Path, size: int | None = None, color: str = 'rgb',
               seed: int = 0,
               reference: tuple[torch.Tensor, torch.Tensor] | None = None
               ) -> torch.Tensor:
    """Read an 8-bit image as an encoder takes it, uint8 (3, h, w).

    Args:
        path: The file; gray becomes three equal channels.
        size: Side in pixels of the square it is resized to, None keeps it.
        color: ``'rgb'``; ``'gray'`` makes all channels equal to the
            luminance; ``'jitter'`` scales and shifts each channel at random;
            ``'standardized'`` brings each channel to the mean and the
            deviation of ``reference``. Gray hides the hue, and neither
            brightness nor contrast; jitter blurs all of them; the last one
            takes mean and deviation away, as far as 8 bits allow, and leaves
            what is in between.
        reference: What :func:`channel_statistics` gives.

    Raises:
        ValueError: If the image is not uint8 of one or three channels, or
            there is no reference to bring it to.
    """
    check_choice('color', color, COLORS)
    if color == 'standardized' and reference is None:
        raise ValueError("color='standardized' needs a reference, of which "
                         'channel_statistics makes one')
    image = read_image(path)
    if image.dtype != np.uint8 or image.shape[2] not in (1, 3):
        raise ValueError(f'{path} must have 8 bits and one or three channels, '
                         f'got {image.dtype} and {image.shape[2]} channels')
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    pixels = pixels.expand(3, -1, -1).float()
    pixels = resize_square(pixels, size)
    if color == 'gray':
        weights = pixels.new_tensor([0.299, 0.587, 0.114])
        pixels = (weights @ pixels.flatten(1)).view(1, *pixels.shape[1:])
        pixels = pixels.expand(3, -1, -1)
    elif color == 'jitter':
        generator = torch.Generator().manual_seed(seed)
        scale, shift = (JITTER * (2 * torch.rand(
            3, 1, 1, generator=generator) - 1) for _ in range(2))
        pixels = pixels * (1 + scale) + 255 * shift / 4
    elif color == 'standardized':
        mean, deviation = channel_statistics([pixels])
        pixels = (pixels - mean) / deviation.clamp(min=1) * reference[1] \
            + reference[0]
    return pixels.round().clamp(0, 255).to(torch.uint8)
