"""Find images that occur twice: same bytes, same pixels, nearly the same.

Nearly the same is decided on fingerprints: gray, 32 x 32, with the coarse
brightness removed. The correlation of two fingerprints, the best of the
eight flips and quarter turns, is compared with a threshold. Measured on
public data:

- different images: at most 0.18 (GlaS, 496 pairs) and 0.27 (LC25000 lung,
  404,000 pairs of different sources);
- copies: at least 0.98 after JPEG 50, half the size, blur, gamma, another
  stain, a flip or a turn; 0.87 after cutting 2 % off, 0.70 after a shift by
  2 %, 0.56 after cutting 5 % off.

So the default of 0.6 has no false alarm there. What it does not find:
copies turned by other angles (it finds 47 of the 538 pairs of one source in
LC25000), and fields of view that only overlap. It is made for tissue:
images of aligned anatomy, such as MRI slices, correlate by nature. For those
there is :func:`local_fingerprint`, 64 x 64 with the local contrast removed
too; with it, in Brain Tumor MRI, neighbouring slices of a patient reach 0.857
and the copies of slices with a tumour begin at 0.91.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mmmedmask.datasets.conversion.check_report import CheckReport

NEAR_THRESHOLD = 0.6
_SIDE = 32
_COARSE = 3.0
_LOCAL_SIDE = 64
_LOCAL_COARSE = 2.0
# Added to the local contrast, in parts of full brightness: where there is
# less, there is noise.
_LOCAL_NOISE = 0.02
# Deviation of a fingerprint, in parts of full brightness, below which there
# is only noise to compare.
_MIN_CONTRAST = 0.004
_BLOCK = 4096


@dataclass
class ImageRecord:
    """What is kept of an image to compare it with others.

    Attributes:
        name: How to name it in a report.
        split: The split that it belongs to.
        file_hash: Of the bytes.
        pixel_hash: Of the decoded pixels and their shape.
        fingerprint: Square float32 array, of the same size for all images
            to be compared, or None if the image shows too little structure.
    """

    name: str
    split: str
    file_hash: bytes
    pixel_hash: bytes
    fingerprint: np.ndarray | None


def fingerprint(image: np.ndarray) -> np.ndarray | None:
    """Reduce an image to its structure.

    Args:
        image: Array of shape (H, W, C), uint8 or uint16.

    Returns:
        float32 array of shape (32, 32), mean 0 and length 1, or None if
        there is almost no structure.
    """
    return _normalise(_fine_structure(image, _SIDE, _COARSE))


def local_fingerprint(image: np.ndarray) -> np.ndarray | None:
    """Reduce an image to its finer structure, without its local contrast.

    What was brightened or sharpened keeps this fingerprint, and slices of
    the same anatomy differ in it.

    Args:
        image: Array of shape (H, W, C), uint8 or uint16.

    Returns:
        float32 array of shape (64, 64), mean 0 and length 1, or None if
        there is almost no structure.
    """
    fine = _fine_structure(image, _LOCAL_SIDE, _LOCAL_COARSE)
    if fine is None:
        return None
    power = cv2.GaussianBlur(fine**2, (0, 0), _LOCAL_COARSE)
    return _normalise(fine / np.sqrt(power + _LOCAL_NOISE**2))


def _fine_structure(image: np.ndarray, side: int,
                    coarse: float) -> np.ndarray | None:
    """Shrink an image to gray and remove its coarse brightness."""
    gray = image.astype(np.float32).mean(axis=2) / np.iinfo(image.dtype).max
    small = cv2.resize(gray, (side, side), interpolation=cv2.INTER_AREA)
    fine = small - cv2.GaussianBlur(small, (0, 0), coarse)
    return fine if fine.std() >= _MIN_CONTRAST else None


def _normalise(fine: np.ndarray | None) -> np.ndarray | None:
    """Give a fingerprint mean 0 and length 1."""
    if fine is None:
        return None
    fine = fine - fine.mean()
    return fine / np.linalg.norm(fine)


def make_record(
    name: str,
    split: str,
    encoded: bytes,
    image: np.ndarray,
    fingerprint_of: Callable[[np.ndarray], np.ndarray | None] = fingerprint
) -> ImageRecord:
    """Summarise an image.

    Args:
        name: How to name it in a report.
        split: The split that it belongs to.
        encoded: The file's bytes.
        image: Its pixels, shape (H, W, C), uint8 or uint16.
        fingerprint_of: Makes the fingerprint.

    Returns:
        The record.
    """
    pixels = hashlib.sha256(
        f'{image.shape}{image.dtype}'.encode()
        + np.ascontiguousarray(image).data.tobytes())
    return ImageRecord(
        name, split,
        hashlib.sha256(encoded).digest(), pixels.digest(),
        fingerprint_of(image))


def add_duplicates(report: CheckReport,
                   records: Sequence[ImageRecord],
                   threshold: float = NEAR_THRESHOLD,
                   within_splits: bool = True) -> None:
    """Compare all images and put what is found into a report.

    Copies in different splits are problems, within one split notices.

    Args:
        report: Where to.
        records: The images.
        threshold: Correlation from which on images are nearly identical,
            in (0, 1].
        within_splits: Whether to look for near copies within a split too.

    Raises:
        ValueError: If the threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f'threshold must be in (0, 1], got {threshold}')
    _add_identical(report, records)
    # One image stands for all that are identical to it in its split.
    representatives = {
        (record.pixel_hash, record.split): record
        for record in reversed(records)
    }
    usable = []
    for record in records:
        if record.fingerprint is None:
            report.add_notice('featureless', record.name)
        elif representatives[record.pixel_hash, record.split] is record:
            usable.append(record)
    for first, second, correlation in near_pairs(
            usable, threshold, within_splits):
        if first.pixel_hash != second.pixel_hash:
            _add_group(report, 'near_identical', [first, second],
                       f'correlation {correlation:.3f}')
    report.checked.append(
        f'{len(records)} images against each other: bytes, pixels, and '
        f'structure (correlation >= {threshold}, flips and quarter turns'
        + (')' if within_splits else '; across splits only)'))


def _add_identical(report: CheckReport,
                   records: Sequence[ImageRecord]) -> None:
    """Report groups of identical images."""
    groups = defaultdict(list)
    for record in records:
        groups[record.pixel_hash].append(record)
    for group in groups.values():
        if len(group) > 1:
            same_bytes = len({record.file_hash for record in group}) == 1
            _add_group(report, 'identical', group,
                       'same bytes' if same_bytes else 'same pixels')


def _add_group(report: CheckReport, kind: str,
               group: Sequence[ImageRecord], detail: str) -> None:
    names = [record.name for record in group]
    if len({record.split for record in group}) == 1:
        report.add_notice(f'{kind}_within_split', *names, detail=detail)
    else:
        report.add_problem(f'{kind}_across_splits', *names, detail=detail)


def near_pairs(
    records: Sequence[ImageRecord],
    threshold: float,
    within_splits: bool = True
) -> list[tuple[ImageRecord, ImageRecord, float]]:
    """List the pairs whose fingerprints correlate.

    Args:
        records: Images with fingerprints.
        threshold: Least correlation, the best of eight orientations.
        within_splits: Whether to compare images of one split too.

    Returns:
        Tuples of two records and their correlation, best first.
    """
    if not records:
        return []
    prints = np.stack([record.fingerprint for record in records])
    flat = prints.reshape(len(prints), -1)
    best: dict[tuple[int, int], float] = {}
    for rows, columns in _blocks(records, within_splits):
        for turned in _orientations(prints[columns]):
            correlation = flat[rows] @ turned.T
            for row, column in np.argwhere(correlation >= threshold):
                first, second = sorted((int(rows[row]), int(columns[column])))
                if first != second:
                    value = min(float(correlation[row, column]), 1.0)
                    best[first, second] = max(
                        value, best.get((first, second), -1.0))
    ordered = sorted(best.items(), key=lambda item: (-item[1], item[0]))
    return [(records[first], records[second], value)
            for (first, second), value in ordered]


def _orientations(prints: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the eight flips and turns, flat: (N, side * side) each."""
    for view in (prints, prints[:, :, ::-1]):
        for turns in range(4):
            yield np.rot90(view, turns, axes=(1, 2)).reshape(len(prints), -1)


def _blocks(
        records: Sequence[ImageRecord], within_splits: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of index arrays that cover all pairs to compare.

    Blocks, so that 100,000 tiles need no matrix of 40 GB.
    """
    splits = np.array([record.split for record in records])
    members = {split: np.flatnonzero(splits == split)
               for split in dict.fromkeys(splits.tolist())}
    names = list(members)
    for index, first in enumerate(names):
        for second in names[index if within_splits else index + 1:]:
            for top in range(0, len(members[first]), _BLOCK):
                # Within a split the matrix is symmetric.
                start = top if first == second else 0
                for left in range(start, len(members[second]), _BLOCK):
                    yield (members[first][top:top + _BLOCK],
                           members[second][left:left + _BLOCK])
