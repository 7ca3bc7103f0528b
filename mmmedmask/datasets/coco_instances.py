"""Turn instance masks into COCO's run lengths, which lose no pixel."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from mmmedmask.datasets.image_io import gray_channel
from mmmedmask.util.atomic_files import write_json
from mmmedmask.util.checks import check_choice, check_range
from mmmedmask.util.extras import late_module

rle_tools = late_module('pycocotools.mask', 'detection')

MASK_KINDS = ('auto', 'instances', 'binary')

TINY_AREA = 100
"""Instances with fewer pixels are counted as tiny, but kept.

At 20x a gland has thousands; the smallest of GlaS, specks apart, has 564.
"""

_FRAGMENT_AREA = 10
_FRAGMENTS = 10
# A mask of GlaS has one fragment at most, as JPEG 22 to hundreds.


@dataclass
class InstanceOptions:
    """How masks become instances.

    Attributes:
        mask_kind: ``'instances'`` if pixels are instance numbers, ``'binary'``
            if they say object or not; ``'auto'`` takes a mask of nothing but
            0 and 255, or the largest number of its type, as binary.
        split_components: Whether each of several places with one number
            becomes an instance.
        min_area: Instances with fewer pixels are left out (and counted).
    """

    mask_kind: str = 'auto'
    split_components: bool = False
    min_area: int = 0

    def __post_init__(self) -> None:
        check_choice('mask_kind', self.mask_kind, MASK_KINDS)
        check_range('min_area', self.min_area, 0)


def mask_to_labels(mask: np.ndarray) -> np.ndarray:
    """Reduce a mask image to one channel of labels (H, W), 0 is background.

    It is of shape (H, W) or (H, W, C): some releases store gray in three or
    four channels. See :func:`gray_channel`.

    Raises:
        ValueError: If the values are not integers, or below 0, or the colour
            channels differ; or if there are many numbers in scattered pixels,
            as compression with loss and interpolation leave them.
    """
    if mask.dtype.kind not in 'ui' and mask.dtype != bool:
        raise ValueError(f'a mask holds integers, this one holds {mask.dtype}')
    if mask.ndim == 2:
        mask = mask[..., None]
    if mask.ndim != 3:
        raise ValueError(
            f'a mask has the shape (H, W) or (H, W, C), got {mask.shape}')
    try:
        labels = gray_channel(mask)
    except ValueError as error:
        raise ValueError(f'the mask {error} (instance numbers, or 0 and '
                         '255)') from error
    values = np.unique(labels[labels != 0])
    if values.size and values[0] < 0:
        raise ValueError(f'the mask holds {values[0]}: numbers of instances '
                         'are at least 1, 0 is background')
    fragments = 0 if len(values) <= 2 else sum(
        int((np.bincount(count_components(labels == value)[1].ravel())[1:]
             < _FRAGMENT_AREA).sum()) for value in values)
    if fragments > max(_FRAGMENTS, len(values)):
        raise ValueError(
            f'the mask has {len(values)} numbers in {fragments} fragments of '
            f'fewer than {_FRAGMENT_AREA} pixels: was it compressed with '
            'loss, or resized with interpolation?')
    return labels


def is_binary_mask(labels: np.ndarray) -> bool:
    """Say whether a mask (H, W) holds one number, which means object.

    It is 255 or the largest of the type; 1 is a number. Beside it is 0 alone.
    """
    return _numbers(labels) in ({255}, {_largest(labels)})


def has_void(labels: np.ndarray) -> bool:
    """Say whether the largest number of a type of masks may mean void.

    It stands beside others, of which none is as large but for one.
    """
    numbers, largest = _numbers(labels), _largest(labels)
    return (labels.dtype.kind == 'u' and len(numbers) > 1
            and largest in numbers and largest - 1 not in numbers)


def _numbers(labels: np.ndarray) -> set[int]:
    return set(np.unique(labels).tolist()) - {0}


def _largest(labels: np.ndarray) -> int:
    return 1 if labels.dtype == bool else np.iinfo(labels.dtype).max


def split_instances(labels: np.ndarray,
                    options: InstanceOptions) -> list[np.ndarray]:
    """List the instances of a mask (H, W), in which 0 is background.

    They are boolean (H, W), in the order of their numbers, then of their
    first row. Parts are 8-connected. ``min_area`` plays no part here.
    """
    if options.mask_kind == 'binary' or (
            options.mask_kind == 'auto' and is_binary_mask(labels)):
        places = [labels != 0]
    else:
        places = [labels == value for value in np.unique(labels[labels != 0])]
        if not options.split_components:
            return places
    return [parts == index for place in places
            for number, parts in [count_components(place)]
            for index in range(1, number + 1)]


def count_components(mask: np.ndarray) -> tuple[int, np.ndarray]:
    """Count and number the 8-connected parts of a boolean mask (H, W)."""
    number, labels = cv2.connectedComponents(
        mask.astype(np.uint8), connectivity=8)
    return number - 1, labels


@dataclass
class SplitTotals:
    """What went into one annotation file; lists name the images.

    ``numbers`` are those of all masks, without 0.
    """

    images: int = 0
    instances: int = 0
    empty_images: list[str] = field(default_factory=list)
    binary_masks: list[str] = field(default_factory=list)
    void_masks: int = 0
    numbers: set[int] = field(default_factory=set)
    too_small: int = 0
    tiny: int = 0
    in_several_parts: int = 0

    @property
    def doubt(self) -> str:
        """Say that masks may be binary that were not taken so, or nothing."""
        if len(self.numbers) > 1 or not self.in_several_parts \
                or self.images < 2:
            return ''
        return (f'no mask holds a number but {min(self.numbers)}. If they '
                'only say gland or not, use --mask-kind binary.')

    def remarks(self) -> list[str]:
        """Say what was decided on the way, a sentence each."""
        lines = []
        if self.binary_masks:
            lines.append(f'WARNING: {len(self.binary_masks)} of {self.images} '
                         'masks are binary. Their instances are connected '
                         'parts: glands that touch became one.')
        if self.doubt:
            lines.append(f'WARNING: {self.doubt}')
        for number, remark in (
                (self.in_several_parts, 'instances consist of several parts '
                 '(--split-components separates them)'),
                (self.tiny, f'instances have fewer than {TINY_AREA} pixels, '
                 'probably specks (--min-area leaves them out)'),
                (self.too_small, 'instances left out, smaller than '
                 '--min-area'),
                (self.void_masks, 'masks hold the largest number of their '
                 'type beside others: an instance, or pixels without a label?'
                 ' The latter have to be 0'),
                (len(self.empty_images), 'images without instances: '
                 + ', '.join(self.empty_images[:5]))):
            if number:
                lines.append(f'NOTICE: {number} {remark}')
        return lines


class CocoInstanceWriter:
    """Collect images with masks of one category and write one COCO file."""

    def __init__(self, category: str, options: InstanceOptions | None = None,
                 description: str = '') -> None:
        self.options = options or InstanceOptions()
        self.totals = SplitTotals()
        self._content = {'info': {'description': description}, 'licenses': [],
                         'categories': [{'id': 1, 'name': category}],
                         'images': [], 'annotations': []}

    def add(self, file_name: str, labels: np.ndarray) -> None:
        """Add an image, named relative to the data root with forward slashes.

        ``labels`` are of shape (H, W); see :class:`InstanceOptions`.
        """
        totals, (height, width) = self.totals, labels.shape
        image_id = len(self._content['images']) + 1
        self._content['images'].append({'id': image_id, 'file_name': file_name,
                                        'height': height, 'width': width})
        totals.images += 1
        if self.options.mask_kind == 'auto' and is_binary_mask(labels):
            totals.binary_masks.append(file_name)
        totals.numbers |= _numbers(labels)
        totals.void_masks += has_void(labels)
        before = totals.instances
        for instance in split_instances(labels, self.options):
            self._add_instance(image_id, instance)
        if totals.instances == before:
            totals.empty_images.append(file_name)

    def _add_instance(self, image_id: int, instance: np.ndarray) -> None:
        area = int(instance.sum())
        if area < self.options.min_area:
            self.totals.too_small += 1
            return
        self.totals.instances += 1
        self.totals.tiny += area < TINY_AREA
        self.totals.in_several_parts += count_components(instance)[0] > 1
        rle = encode_mask(instance)
        self._content['annotations'].append(
            {'id': len(self._content['annotations']) + 1, 'image_id': image_id,
             'category_id': 1, 'bbox': rle_tools.toBbox(rle).tolist(),
             'area': area, 'iscrowd': 0, 'segmentation': rle})

    def write(self, path: str | Path) -> None:
        """Write the COCO file; its folder is made if need be."""
        write_json(path, self._content, indent=None, separators=(',', ':'))


def encode_mask(mask: np.ndarray) -> dict:
    """Encode a boolean mask (H, W) as COCO's compressed run lengths."""
    rle = rle_tools.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {'size': list(rle['size']), 'counts': rle['counts'].decode()}


def decode_masks(
        content: dict, file: str | Path
) -> Iterator[tuple[dict, list[dict], list[np.ndarray]]]:
    """Decode the masks of a parsed COCO file, image by image.

    Yields an entry of ``images``, its annotations, and masks, boolean (H, W).

    Raises:
        ValueError: If an annotation has no mask of its image's size, or no
            image. It names the ``file`` and the annotation.
    """
    by_image = {image['id']: [] for image in content['images']}
    for annotation in content['annotations']:
        if annotation['image_id'] not in by_image:
            raise ValueError(f'{file}: annotation {annotation["id"]} is of '
                             f'image {annotation["image_id"]}, which is not '
                             'in the file')
        by_image[annotation['image_id']].append(annotation)
    for image in content['images']:
        masks = []
        for annotation in by_image[image['id']]:
            try:
                masks.append(_decode(annotation.get('segmentation'),
                                     image['height'], image['width']))
            # pycocotools fails in many ways.
            except Exception as error:
                raise ValueError(f'{file}: annotation {annotation["id"]} has '
                                 f'no mask: {error}') from error
        yield image, by_image[image['id']], masks


def _decode(segmentation: list | dict | None, height: int,
            width: int) -> np.ndarray:
    """Decode polygons or run lengths, compressed or not, as bool (H, W)."""
    if not segmentation:
        raise ValueError('its segmentation is empty')
    if isinstance(segmentation, list):
        if any(len(polygon) < 6 for polygon in segmentation):
            raise ValueError('a polygon has three corners at least')
        return rle_tools.decode(rle_tools.merge(rle_tools.frPyObjects(
            segmentation, height, width))).astype(bool)
    if list(segmentation['size']) != [height, width]:
        raise ValueError(f'its size (h, w) is {segmentation["size"]}, that of '
                         f'its image {[height, width]}')
    counts = segmentation['counts']
    if isinstance(counts, list):
        # pycocotools would write behind the end of the mask.
        if min(counts) < 0 or sum(counts) != height * width:
            raise ValueError('its run lengths do not cover the image')
        segmentation = rle_tools.frPyObjects(segmentation, height, width)
    return rle_tools.decode(segmentation).astype(bool)
