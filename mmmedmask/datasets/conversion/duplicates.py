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
copies turned by other angles, and fields of view that only overlap.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mmmedmask.datasets.conversion.report import CheckReport

NEAR_THRESHOLD = 0.6
_SIDE = 32
_COARSE = 3.0
# Deviation of a fingerprint, in parts of full brightness, below which there
# is only noise to compare.
_MIN_CONTRAST = 0.004
_CHUNK = 4096


@dataclass
class ImageRecord:
    """What is kept of an image to compare it with others.

    Attributes:
        name: How to name it in a report.
        split: The split that it belongs to.
        file_hash: Of the bytes.
        pixel_hash: Of the decoded pixels and their shape.
        fingerprint: float32 of shape (32, 32), or None if the image shows
            too little structure.
    """

    name: str
    split: str
    file_hash: bytes
    pixel_hash: bytes
    fingerprint: np.ndarray | None


def make_record(name: str, split: str, encoded: bytes,
                image: np.ndarray) -> ImageRecord:
    """Summarise an image.

    Args:
        name: How to name it in a report.
        split: The split that it belongs to.
        encoded: The file's bytes.
        image: Its pixels, shape (H, W, C), uint8 or uint16.

    Returns:
        The record.
    """
    pixels = hashlib.sha256(
        f'{image.shape}{image.dtype}'.encode()
        + np.ascontiguousarray(image).data.tobytes())
    return ImageRecord(
        name, split,
        hashlib.sha256(encoded).digest(), pixels.digest(),
        fingerprint(image))


def fingerprint(image: np.ndarray) -> np.ndarray | None:
    """Reduce an image to its structure.

    Args:
        image: Array of shape (H, W, C), uint8 or uint16.

    Returns:
        float32 array of shape (32, 32), mean 0 and length 1, or None if
        there is almost no structure.
    """
    gray = image.astype(np.float32).mean(axis=2) / np.iinfo(image.dtype).max
    small = cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    fine = small - cv2.GaussianBlur(small, (0, 0), _COARSE)
    fine -= fine.mean()
    if fine.std() < _MIN_CONTRAST:
        return None
    return fine / np.linalg.norm(fine)


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
    known = _add_identical(report, records)
    usable = []
    for record in records:
        if record.fingerprint is None:
            report.add_notice('featureless', record.name)
        else:
            usable.append(record)
    for first, second, correlation in near_pairs(
            usable, threshold, within_splits):
        if frozenset((first.name, second.name)) in known:
            continue
        _add_pair(report, 'near_identical', first, second,
                  f'correlation {correlation:.3f}')
    report.checked.append(
        f'{len(records)} images against each other: bytes, pixels, and '
        f'structure (correlation >= {threshold}, flips and quarter turns'
        + (')' if within_splits else '; across splits only)'))


def _add_identical(report: CheckReport,
                   records: Sequence[ImageRecord]) -> set[frozenset]:
    """Report identical images; return the pairs of names."""
    known = set()
    for attribute, detail in (('file_hash', 'same bytes'),
                              ('pixel_hash', 'same pixels')):
        groups = defaultdict(list)
        for record in records:
            groups[getattr(record, attribute)].append(record)
        for group in groups.values():
            for index, second in enumerate(group):
                for first in group[:index]:
                    pair = frozenset((first.name, second.name))
                    if pair not in known:
                        known.add(pair)
                        _add_pair(
                            report, 'identical', first, second, detail)
    return known


def _add_pair(report: CheckReport, kind: str, first: ImageRecord,
              second: ImageRecord, detail: str) -> None:
    if first.split == second.split:
        report.add_notice(
            f'{kind}_within_split', first.name, second.name, detail=detail)
    else:
        report.add_problem(
            f'{kind}_across_splits', first.name, second.name, detail=detail)


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
    found = {}
    if not records:
        return []
    prints = np.stack([record.fingerprint for record in records])
    splits = np.array([record.split for record in records])
    flat = prints.reshape(len(prints), -1)
    for turns in range(8):
        turned = prints[:, :, ::-1] if turns >= 4 else prints
        turned = np.rot90(turned, turns % 4, axes=(1, 2)).reshape(
            len(prints), -1)
        # In pieces, so that 100,000 tiles need no 40 GB.
        for start in range(0, len(flat), _CHUNK):
            correlation = flat[start:start + _CHUNK] @ turned[start:].T
            for row, column in zip(
                    *np.nonzero(correlation >= threshold), strict=True):
                first, second = start + row, start + column
                if second <= first or (
                        not within_splits
                        and splits[first] == splits[second]):
                    continue
                value = float(correlation[row, column])
                found[first, second] = max(
                    value, found.get((first, second), -1.0))
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [(records[first], records[second], min(value, 1.0))
            for (first, second), value in ordered]
