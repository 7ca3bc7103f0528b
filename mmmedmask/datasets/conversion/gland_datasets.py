"""GlaS and CRAG: find the files, convert the masks, check the result.

GlaS is the MICCAI 2015 challenge's set (Sirinukunwattana et al. 2017,
doi:10.1016/j.media.2016.08.008), CRAG that of Graham et al. 2019
(doi:10.1016/j.media.2018.12.001). The splits are those of ConCL: GlaS tests
on A and B together.
"""

import csv
import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmmedmask.datasets.coco_instances import (
    TINY_AREA,
    CocoInstanceWriter,
    InstanceOptions,
    SplitTotals,
    count_components,
    decode_masks,
    is_binary_mask,
    mask_to_labels,
    split_instances,
)
from mmmedmask.datasets.conversion import LayoutError
from mmmedmask.datasets.conversion.check_report import (
    CheckReport,
    ConversionError,
)
from mmmedmask.datasets.conversion.duplicates import (
    NEAR_THRESHOLD,
    add_duplicates,
    make_record,
)
from mmmedmask.datasets.conversion.folders import only_folder
from mmmedmask.datasets.image_io import ImageFileError, read_image

CATEGORY = 'gland'
_IMAGE_SUFFIXES = ('.bmp', '.png', '.tif', '.tiff')


@dataclass(frozen=True)
class ImageWithMask:
    """An image, its mask, and how the image is called in the COCO file.

    Attributes:
        image: Path of the image.
        mask: Path of the mask.
        file_name: The image relative to the data root, forward slashes.
        part: The official part that it belongs to, such as ``testA``.
    """

    image: Path
    mask: Path
    file_name: str
    part: str


Splits = dict[str, list[ImageWithMask]]


@dataclass(frozen=True)
class GlandSource:
    """A data set of glands.

    Attributes:
        name: Its name.
        find: Finds the images of each split below a data root.
        official: Number of images in each official part.
        patients: Returns the patient of each image, by the image's name
            without its ending; None if the release does not say.
    """

    name: str
    find: Callable[[Path], Splits]
    official: dict[str, int]
    patients: Callable[[Splits], dict[str, str]] | None = None


def find_glas(data_root: Path) -> Splits:
    """Find the images of GlaS.

    The release is one folder with ``train_N``, ``testA_N`` and ``testB_N``
    and their masks ``*_anno``. BMP in the release; PNG does as well.

    Args:
        data_root: That folder, or one that holds it.

    Returns:
        The splits ``train`` and ``test``.

    Raises:
        LayoutError: If there is no such folder, or a mask or an image is
            missing.
    """
    folder = only_folder(
        data_root, lambda place: any(place.glob('train_*_anno.*')),
        'train_1.bmp, train_1_anno.bmp, ...')
    pattern = re.compile(r'(train|testA|testB)_(\d+)(_anno)?')
    found: dict[tuple[str, int], dict[bool, Path]] = {}
    for path in sorted(folder.iterdir()):
        match = pattern.fullmatch(path.stem)
        if not match or path.suffix.lower() not in _IMAGE_SUFFIXES:
            continue
        part, number, annotation = match.groups()
        entry = found.setdefault((part, int(number)), {})
        if bool(annotation) in entry:
            raise LayoutError(
                f'{entry[bool(annotation)]} and {path} are the same image; '
                'keep one of them')
        entry[bool(annotation)] = path
    splits: Splits = {'train': [], 'test': []}
    for (part, number), entry in sorted(
            found.items(), key=lambda item: (item[0][0] != 'train', item)):
        if len(entry) < 2:
            has, lacks = ('mask', 'image') if True in entry else (
                'image', 'mask')
            raise LayoutError(
                f'{part}_{number} has no {lacks}: found only the {has} '
                f'{next(iter(entry.values()))}')
        splits['train' if part == 'train' else 'test'].append(
            ImageWithMask(
                entry[False], entry[True],
                entry[False].relative_to(data_root).as_posix(), part))
    return _not_empty(splits, folder)


def glas_patients(splits: Splits) -> dict[str, str]:
    """Read the patients of GlaS from ``Grade.csv``.

    Args:
        splits: The images.

    Returns:
        Patient by name such as ``testA_1``; empty if there is no such file.

    Raises:
        LayoutError: If the file lacks the column of names or of patients.
    """
    path = splits['train'][0].image.parent / 'Grade.csv'
    if not path.is_file():
        return {}
    with path.open(encoding='utf-8-sig', newline='') as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    try:
        name, patient = (
            rows[0].index(column) for column in ('name', 'patient ID'))
    except (ValueError, IndexError) as error:
        raise LayoutError(
            f"{path} must have the columns 'name' and 'patient ID', has "
            f'{rows[:1]}') from error
    return {row[name]: row[patient] for row in rows[1:]
            if len(row) > max(name, patient)}


def find_crag(data_root: Path) -> Splits:
    """Find the images of CRAG.

    The release (version 2) holds ``train`` and ``valid`` (in some copies
    ``test``), each with ``Images/NAME.png`` and ``Annotation/NAME.png``.

    Args:
        data_root: That folder, or one that holds it.

    Returns:
        The splits ``train`` and ``test``.

    Raises:
        LayoutError: If there is no such folder, or a mask or an image is
            missing.
    """
    folder = only_folder(
        data_root, lambda place: (place / 'train' / 'Images').is_dir(),
        'train/Images, train/Annotation, valid/Images, valid/Annotation')
    tests = [name for name in ('valid', 'test')
             if (folder / name / 'Images').is_dir()]
    if len(tests) != 1:
        raise LayoutError(
            f'{folder} must hold either valid/Images or test/Images, found '
            f'{tests or "neither"}')
    return _not_empty(
        {
            'train': _crag_part(data_root, folder / 'train', 'train'),
            'test': _crag_part(data_root, folder / tests[0], 'test')
        }, folder)


def _crag_part(data_root: Path, folder: Path,
               part: str) -> list[ImageWithMask]:
    """List one part of CRAG in the order of the numbers in its names."""
    images, masks = (_by_stem(folder / name)
                     for name in ('Images', 'Annotation'))
    for present, absent, lacks in ((images, masks, 'mask in Annotation'),
                                   (masks, images, 'image in Images')):
        lonely = sorted(set(present) - set(absent))
        if lonely:
            raise LayoutError(
                f'{len(lonely)} files of {folder} have no {lacks}, the '
                f'first is {present[lonely[0]]}')
    stems = sorted(
        images,
        key=lambda stem: [int(part) if part.isdigit() else part
                          for part in re.split(r'(\d+)', stem)])
    return [
        ImageWithMask(
            images[stem], masks[stem],
            images[stem].relative_to(data_root).as_posix(), part)
        for stem in stems
    ]


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise LayoutError(f'{folder} does not exist')
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if (path.suffix.lower() not in _IMAGE_SUFFIXES
                or path.name.startswith('.')):
            continue
        if path.stem in found:
            raise LayoutError(
                f'{found[path.stem]} and {path} are the same image; keep '
                'one of them')
        found[path.stem] = path
    return found


def _not_empty(splits: Splits, folder: Path) -> Splits:
    empty = [name for name, images in splits.items() if not images]
    if empty:
        raise LayoutError(f'{folder} has no images for: {", ".join(empty)}')
    return splits


SOURCES = {
    'glas':
    GlandSource(
        'GlaS', find_glas, {'train': 85, 'testA': 60, 'testB': 20},
        glas_patients),
    'crag':
    GlandSource('CRAG', find_crag, {'train': 173, 'test': 40}),
}


def compare_with_official(splits: Splits, source: GlandSource) -> str:
    """Say whether the data set is complete.

    Args:
        splits: The images found.
        source: The data set.

    Returns:
        A sentence; empty if all official numbers agree.
    """
    counts = dict.fromkeys(source.official, 0)
    for images in splits.values():
        for image in images:
            counts[image.part] += 1
    if counts == source.official:
        return ''
    parts = ', '.join(
        f'{part} {counts[part]} of {official}'
        for part, official in source.official.items())
    return (f'This is not the complete {source.name}: {parts} images. '
            'Results are not comparable with published ones.')


def read_labels(pair: ImageWithMask) -> np.ndarray:
    """Read a mask.

    Args:
        pair: Image and mask.

    Returns:
        Array of shape (H, W), 0 is background.

    Raises:
        ImageFileError: If the file is broken.
        ValueError: If it holds colours; names the file.
    """
    try:
        return mask_to_labels(read_image(pair.mask))
    except ValueError as error:
        raise ValueError(f'{pair.mask}: {error}') from error


def read_pair(
    pair: ImageWithMask, report: CheckReport
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Read an image with its mask and report what is wrong with them.

    Args:
        pair: Image and mask.
        report: Where problems go.

    Returns:
        The image, (H, W, C), and the labels, (H, W). None for the one that
        cannot be read, and for both labels and image if they do not fit.
    """
    image = labels = None
    try:
        image = read_image(pair.image)
    except ImageFileError as error:
        report.add_problem('broken_file', str(pair.image), detail=str(error))
    try:
        labels = read_labels(pair)
    except ImageFileError as error:
        report.add_problem('broken_file', str(pair.mask), detail=str(error))
    except ValueError as error:
        report.add_problem('bad_mask', str(pair.mask), detail=str(error))
    if image is None or labels is None:
        return image, labels
    if image.shape[:2] != labels.shape:
        report.add_problem(
            'size_mismatch', str(pair.image), str(pair.mask),
            detail=f'image {image.shape[:2]}, mask {labels.shape}, (h, w)')
        labels = None
    return image, labels


def convert(splits: Splits, out_dir: Path, source: GlandSource,
            options: InstanceOptions) -> dict[str, SplitTotals]:
    """Write one COCO file per split, or none if a file is unusable.

    Args:
        splits: The images.
        out_dir: Where ``train.json`` and ``test.json`` go.
        source: The data set, named in the files.
        options: How masks become instances.

    Returns:
        What each file holds.

    Raises:
        ConversionError: If files are broken or do not fit together; holds
            the report that names them all.
    """
    report, writers = CheckReport(), {}
    for split, pairs in splits.items():
        writer = CocoInstanceWriter(
            CATEGORY, options, description=f'{source.name} {split}')
        for pair in pairs:
            _, labels = read_pair(pair, report)
            if labels is not None:
                writer.add(pair.file_name, labels)
        writers[split] = writer
    if report.problems:
        raise ConversionError(report)
    for split, writer in writers.items():
        writer.write(out_dir / f'{split}.json')
    return {split: writer.totals for split, writer in writers.items()}


def check(splits: Splits, out_dir: Path, source: GlandSource,
          options: InstanceOptions,
          threshold: float = NEAR_THRESHOLD) -> CheckReport:
    """Read images, masks and, where there are any, annotations back.

    Args:
        splits: The images.
        out_dir: Where :func:`convert` wrote to.
        source: The data set.
        options: The options that it had.
        threshold: See :mod:`mmmedmask.datasets.conversion.duplicates`.

    Returns:
        The report.
    """
    report, records = CheckReport(), []
    for split, pairs in splits.items():
        written = _written_masks(out_dir / f'{split}.json')
        for pair in pairs:
            image, labels = read_pair(pair, report)
            if image is not None:
                records.append(make_record(
                    str(pair.image), split, pair.image.read_bytes(), image))
            if labels is None:
                continue
            _check_labels(pair, labels, options, report)
            if written is not None:
                _check_annotations(pair, labels, written, options, report)
        report.checked.append(
            f'{split}: {len(pairs)} images with masks'
            + ('' if written is None else ', and their annotations'))
    add_duplicates(report, records, threshold)
    if source.patients:
        _add_shared_patients(splits, source.patients(splits), report)
    return report


def _add_shared_patients(splits: Splits, patients: dict[str, str],
                         report: CheckReport) -> None:
    """Report how many test images are of patients of the training set."""
    numbers = {split: defaultdict(int) for split in splits}
    for split, pairs in splits.items():
        for pair in pairs:
            if pair.image.stem in patients:
                numbers[split][patients[pair.image.stem]] += 1
    train, test = numbers['train'], numbers['test']
    shared = sorted(set(train) & set(test))
    if shared:
        report.add_notice(
            'shared_patient',
            *(f'patient {patient}' for patient in shared),
            detail=f'{sum(test[patient] for patient in shared)} of '
            f'{len(splits["test"])} test images')


def _written_masks(path: Path) -> dict[str, tuple] | None:
    """Return masks and annotations by file name."""
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding='utf-8'))
    annotations = {image['id']: [] for image in content['images']}
    for annotation in content['annotations']:
        annotations[annotation['image_id']].append(annotation)
    return {
        image['file_name']: (image, masks, annotations[image['id']])
        for image, masks in decode_masks(content)
    }


def _check_labels(pair: ImageWithMask, labels: np.ndarray,
                  options: InstanceOptions, report: CheckReport) -> None:
    """Report empty and binary masks, tiny and scattered instances."""
    if not labels.any():
        report.add_problem('empty_mask', str(pair.mask))
        return
    areas = [int(mask.sum()) for mask in split_instances(labels, options)]
    tiny = [area for area in areas if options.min_area <= area < TINY_AREA]
    if tiny:
        report.add_notice(
            'tiny_instance', str(pair.mask), detail=f'{tiny} pixels')
    if options.mask_kind == 'auto' and is_binary_mask(labels):
        report.add_notice('binary_mask', str(pair.mask))
        return
    scattered = [
        int(value) for value in np.unique(labels[labels != 0])
        if options.mask_kind != 'binary'
        and count_components(labels == value)[0] > 1
    ]
    if scattered:
        report.add_notice(
            'several_parts', str(pair.mask),
            detail=f'instances {scattered}')


def _check_annotations(pair: ImageWithMask, labels: np.ndarray,
                       written: dict[str, tuple], options: InstanceOptions,
                       report: CheckReport) -> None:
    """Compare the written annotations of an image with its mask."""
    expected = [mask for mask in split_instances(labels, options)
                if mask.sum() >= options.min_area]
    if pair.file_name not in written:
        report.add_problem(
            'annotation_mismatch', pair.file_name,
            detail='not in the annotation file')
        return
    image, masks, annotations = written[pair.file_name]
    wrong = []
    if (image['height'], image['width']) != labels.shape:
        wrong.append('size')
    if len(masks) != len(expected) or any(
            not np.array_equal(*both)
            for both in zip(masks, expected, strict=False)):
        wrong.append('masks')
    for mask, annotation in zip(masks, annotations, strict=True):
        if annotation['area'] != mask.sum():
            wrong.append(f'area of annotation {annotation["id"]}')
        if annotation['bbox'] != tight_box(mask):
            wrong.append(f'box of annotation {annotation["id"]}')
    if wrong:
        report.add_problem(
            'annotation_mismatch', pair.file_name, detail=', '.join(wrong))


def tight_box(mask: np.ndarray) -> list[int]:
    """Return the smallest box around a mask.

    Args:
        mask: Boolean array of shape (H, W), not empty.

    Returns:
        COCO's box: x, y, width, height.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    return [
        int(columns[0]), int(rows[0]),
        int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)
    ]
