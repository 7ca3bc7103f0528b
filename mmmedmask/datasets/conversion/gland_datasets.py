"""GlaS and CRAG: find the files, convert the masks, check the result.

GlaS (Sirinukunwattana et al. 2017, doi:10.1016/j.media.2016.08.008), CRAG
(Graham et al. 2019, doi:10.1016/j.media.2018.12.001). The splits are those of
ConCL: GlaS tests on A and B together.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from mmmedmask.datasets.coco_instances import (
    TINY_AREA,
    CocoInstanceWriter,
    InstanceOptions,
    SplitTotals,
    count_components,
    decode_masks,
    has_void,
    is_binary_mask,
    mask_to_labels,
    split_instances,
)
from mmmedmask.datasets.conversion import (
    Conversion,
    LayoutError,
    copies,
    folders,
)
from mmmedmask.datasets.conversion.check_report import (
    CheckReport,
    ConversionError,
)
from mmmedmask.util.table_files import MISSING, read_table

CATEGORY = 'gland'
_IMAGE_SUFFIXES = ('.bmp', '.png', '.tif', '.tiff')


@dataclass(frozen=True)
class ImageWithMask:
    """An image and its mask; ``part`` is official, such as ``testA``."""

    image: Path
    mask: Path
    file_name: str
    part: str


Splits = dict[str, list[ImageWithMask]]


@dataclass(frozen=True)
class GlandSource:
    """A data set of glands.

    ``official`` is the number of images in each official part; ``patients``
    gives the patient of each image by the stem of its name, if it is known.
    """

    name: str
    find: Callable[[Path], Splits]
    official: dict[str, int]
    patients: Callable[[Splits], dict[str, str]] | None = None


def find_glas(data_root: Path) -> Splits:
    """Find ``train_N``, ``testA_N``, ``testB_N``, ``*_anno``, BMP or PNG."""
    folder = folders.only_folder(data_root, ['train_*_anno.*'],
                         'train_1.bmp, train_1_anno.bmp, ...')
    files = [path for path in folders.image_files(folder, _IMAGE_SUFFIXES)[0]
             if re.fullmatch(r'(train|testA|testB)_\d+(_anno)?', path.stem)]
    images, masks = (folders.index_files([path for path in files
                                  if path.stem.endswith('_anno') == is_mask],
                                 lambda path: path.stem.removesuffix('_anno'))
                     for is_mask in (False, True))
    splits: Splits = {'train': [], 'test': []}
    for pair in _pair_up(images, masks, folder, data_root):
        splits['train' if pair.part == 'train' else 'test'].append(pair)
    return splits


def glas_patients(splits: Splits) -> dict[str, str]:
    """Read patients by name, as ``testA_1``, from ``Grade.csv``, if any."""
    path = splits['train'][0].image.parent / 'Grade.csv'
    if not path.is_file():
        return {}
    rows = read_table(path, ('name', 'patient ID')).rows()
    return {row['name']: row['patient ID'] for _, row in rows
            if row['patient ID'] not in MISSING}


def find_crag(data_root: Path) -> Splits:
    """Find ``Images/NAME.png`` and ``Annotation/NAME.png`` of both splits.

    The folders are ``train`` and ``valid``, in some copies ``test``.
    """
    folder = folders.only_folder(
        data_root, ['train/Images/'],
        'train/Images, train/Annotation, valid/Images, valid/Annotation')
    tests = [name for name in ('valid', 'test')
             if (folder / name / 'Images').is_dir()]
    if len(tests) != 1:
        raise LayoutError(f'{folder} must hold either valid/Images or '
                          f'test/Images, found {tests or "neither"}')
    splits = {}
    for split, part in (('train', 'train'), ('test', tests[0])):
        images, masks = (
            folders.index_files(folders.image_files(folder / part / name,
                                                    _IMAGE_SUFFIXES)[0],
                                lambda path: path.stem)
            for name in ('Images', 'Annotation'))
        splits[split] = _pair_up(
            images, masks, folder / part, data_root, split)
    return splits


def _pair_up(images: dict[str, Path], masks: dict[str, Path], folder: Path,
             data_root: Path, part: str = '') -> list[ImageWithMask]:
    """Pair images and masks by name, in the order of the names' numbers."""
    folders.check_same_names(images, masks, folder)
    names = sorted(images, key=lambda name: [
        int(piece) if piece.isdigit() else piece
        for piece in re.split(r'(\d+)', name)])
    return [ImageWithMask(images[name], masks[name],
                          images[name].relative_to(data_root).as_posix(),
                          part or name.split('_')[0]) for name in names]


SOURCES = {
    'glas': GlandSource('GlaS', find_glas, {
        'train': 85, 'testA': 60, 'testB': 20}, glas_patients),
    'crag': GlandSource('CRAG', find_crag, {'train': 173, 'test': 40})}


def read_pair(
    pair: ImageWithMask, report: CheckReport
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Read an image with its mask and report what is wrong with them.

    Gives image (H, W, C) and labels (H, W), or None for what cannot be read,
    and for labels that do not fit the image.
    """
    image, mask = report.read_image(pair.image), report.read_image(pair.mask)
    if mask is None:
        return image, None
    try:
        labels = mask_to_labels(mask)
    except ValueError as error:
        report.add_problem('bad_mask', str(pair.mask), detail=str(error))
        return image, None
    if image is not None and image.shape[:2] != labels.shape:
        report.add_problem(
            'size_mismatch', str(pair.image), str(pair.mask),
            detail=f'image {image.shape[:2]}, mask {labels.shape}, (h, w)')
        return image, None
    return image, labels


@dataclass(frozen=True)
class GlandConversion(Conversion):
    """A download of glands, and ``totals`` of each COCO file once written."""

    source: GlandSource
    splits: Splits
    options: InstanceOptions = field(default_factory=InstanceOptions)
    threshold: float = copies.NEAR_THRESHOLD
    totals: dict[str, SplitTotals] = field(default_factory=dict)

    @property
    def notices(self) -> list[str]:
        """Whether the data set is complete."""
        counts = Counter(
            pair.part for pairs in self.splits.values() for pair in pairs)
        return folders.compare_counts(self.source.name, counts,
                                      self.source.official)

    def write(self, out: Path) -> list[str]:
        """Write ``train.json`` and ``test.json``, see the base class."""
        report, writers = CheckReport(), {}
        for split, pairs in self.splits.items():
            writers[split] = CocoInstanceWriter(
                CATEGORY, self.options, f'{self.source.name} {split}')
            for pair in pairs:
                _, labels = read_pair(pair, report)
                if labels is not None:
                    writers[split].add(pair.file_name, labels)
        if report.problems:
            raise ConversionError(report)
        lines = []
        for split, writer in writers.items():
            path = out / f'{split}.json'
            writer.write(path)
            self.totals[split] = writer.totals
            lines += [f'{path}: {writer.totals.images} images, '
                      f'{writer.totals.instances} instances',
                      *writer.totals.remarks()]
        return lines

    def check(self, out: Path) -> CheckReport:
        """Read images, masks and, where there are any, annotations."""
        report, records = CheckReport(), []
        for split, pairs in self.splits.items():
            written, path = None, out / f'{split}.json'
            try:
                written = _written_masks(path)
            except ValueError as error:
                report.add_problem(
                    'annotation_mismatch', str(path), detail=str(error))
            writer = CocoInstanceWriter(CATEGORY, self.options)
            for pair in pairs:
                image, labels = read_pair(pair, report)
                if image is not None:
                    records.append(copies.make_record(str(pair.image), split,
                                               pair.image.read_bytes(), image))
                if labels is None:
                    continue
                writer.add(pair.file_name, labels)
                _check_labels(pair, labels, self.options, report)
                if written is not None:
                    _check_annotations(
                        pair, labels, written, self.options, report)
            if writer.totals.doubt:
                report.add_notice(
                    'one_number', split, detail=writer.totals.doubt)
            report.checked.append(
                f'{split}: {len(pairs)} images with masks'
                + ('' if written is None else ', and their annotations'))
        copies.report_copies(report, records, self.threshold)
        if self.source.patients:
            _add_shared_patients(
                self.splits, self.source.patients(self.splits), report)
        return report


def prepare(name: str, data_root: Path, options: InstanceOptions | None = None,
            threshold: float = copies.NEAR_THRESHOLD) -> GlandConversion:
    """Find a set of :data:`SOURCES` in an unpacked download, to be checked."""
    source = SOURCES[name]
    splits = source.find(data_root)
    empty = [split for split, pairs in splits.items() if not pairs]
    if empty:
        raise LayoutError(f'{data_root} has no images for: {", ".join(empty)}')
    return GlandConversion(
        source, splits, options or InstanceOptions(), threshold)


def _add_shared_patients(splits: Splits, patients: dict[str, str],
                         report: CheckReport) -> None:
    """Report how many test images are of patients of the training set."""
    train, test = (Counter(patients[pair.image.stem] for pair in splits[split]
                           if pair.image.stem in patients) for split in splits)
    shared = sorted(set(train) & set(test))
    if shared:
        report.add_notice('shared_patient',
                          *(f'patient {patient}' for patient in shared),
                          detail=f'{sum(test[patient] for patient in shared)} '
                          f'of {len(splits["test"])} test images')


def _written_masks(path: Path) -> dict[str, tuple] | None:
    """Return image, annotations and masks by file name."""
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding='utf-8'))
    return {image['file_name']: (image, *rest)
            for image, *rest in decode_masks(content, path)}


def _check_labels(pair: ImageWithMask, labels: np.ndarray,
                  options: InstanceOptions, report: CheckReport) -> None:
    """Report empty and binary masks, void, tiny and scattered instances."""
    if not labels.any():
        report.add_problem('empty_mask', str(pair.mask))
        return
    if has_void(labels):
        report.add_notice('void', str(pair.mask), detail=f'{labels.max()}')
    areas = [int(mask.sum()) for mask in split_instances(labels, options)]
    tiny = [area for area in areas if options.min_area <= area < TINY_AREA]
    if tiny:
        report.add_notice(
            'tiny_instance', str(pair.mask), detail=f'{tiny} pixels')
    if options.mask_kind == 'auto' and is_binary_mask(labels):
        report.add_notice('binary_mask', str(pair.mask))
        return
    scattered = [int(value) for value in np.unique(labels[labels != 0])
                 if options.mask_kind != 'binary'
                 and count_components(labels == value)[0] > 1]
    if scattered:
        report.add_notice('several_parts', str(pair.mask),
                          detail=f'instances {scattered}')


def _check_annotations(pair: ImageWithMask, labels: np.ndarray,
                       written: dict[str, tuple], options: InstanceOptions,
                       report: CheckReport) -> None:
    """Compare the written annotations of an image with its mask."""
    if pair.file_name not in written:
        report.add_problem('annotation_mismatch', pair.file_name,
                           detail='not in the annotation file')
        return
    expected = [mask for mask in split_instances(labels, options)
                if mask.sum() >= options.min_area]
    image, annotations, masks = written[pair.file_name]
    wrong = []
    if (image['height'], image['width']) != labels.shape:
        wrong.append('size')
    if not np.array_equal(masks, expected):
        wrong.append('masks')
    for mask, annotation in zip(masks, annotations, strict=True):
        if annotation['area'] != mask.sum():
            wrong.append(f'area of annotation {annotation["id"]}')
        if annotation['bbox'] != list(cv2.boundingRect(mask.astype(np.uint8))):
            wrong.append(f'box of annotation {annotation["id"]}')
    if wrong:
        report.add_problem(
            'annotation_mismatch', pair.file_name, detail=', '.join(wrong))
