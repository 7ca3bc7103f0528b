"""Find images that occur twice: same bytes, same pixels, nearly the same.

Nearly the same is decided on fingerprints: gray, 32 x 32, with the coarse
brightness removed. The correlation of two fingerprints, the best of the eight
flips and quarter turns, is compared with a threshold. Measured on public data:

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

Images that a chain of copies connects are one group.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, combinations_with_replacement

import cv2
import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from mmmedmask.datasets.conversion.check_report import CheckReport
from mmmedmask.util.checks import check_range

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
# Part of a scan that must differ from its surroundings. Slices of air and the
# table have 0.17, slices of a brain at least 0.32.
_MIN_CONTENT = 0.25
_AIR = -1000  # In the units of CT.
_BLOCK = 4096

Fingerprint = Callable[[np.ndarray], np.ndarray | None]


@dataclass
class ImageRecord:
    """What is kept of an image to compare it with others.

    ``pixel_hash`` is of the decoded pixels and their shape; ``fingerprint``
    is None if the image shows too little structure.
    """

    name: str
    split: str
    file_hash: bytes
    pixel_hash: bytes
    fingerprint: np.ndarray | None


def fingerprint(image: np.ndarray) -> np.ndarray | None:
    """Reduce (H, W, C) to structure: float32 (32, 32), length 1, or None."""
    return _normalise(_fine_structure(image, _SIDE, _COARSE))


def local_fingerprint(image: np.ndarray) -> np.ndarray | None:
    """Reduce an image to its finer structure, without its local contrast.

    What was brightened or sharpened keeps this fingerprint, and slices of
    the same anatomy differ in it. As :func:`fingerprint`, but (64, 64).
    Scans, in more than 8 bits, that hold little but air have none: a table
    is the same in all patients.
    """
    fine = _fine_structure(image, _LOCAL_SIDE, _LOCAL_COARSE)
    if fine is None:
        return None
    power = cv2.GaussianBlur(fine**2, (0, 0), _LOCAL_COARSE)
    if image.dtype != np.uint8 and (
            power >= _LOCAL_NOISE**2).mean() < _MIN_CONTENT:
        return None
    return _normalise(fine / np.sqrt(power + _LOCAL_NOISE**2))


def _fine_structure(image: np.ndarray, side: int,
                    coarse: float) -> np.ndarray | None:
    """Shrink an image to gray and remove its coarse brightness."""
    gray = image.astype(np.float32).mean(axis=2)
    if image.dtype.kind == 'f':
        # Below air is padding, whose edge is the same in all patients.
        gray = gray.clip(_AIR)
    # Scans have no full brightness but their own: 16 bits often hold 12, of
    # which a picture uses a part.
    gray /= (255 if image.dtype == np.uint8
             else max(float(np.ptp(gray)), 1e-9))
    small = cv2.resize(gray, (side, side), interpolation=cv2.INTER_AREA)
    fine = small - cv2.GaussianBlur(small, (0, 0), coarse)
    return fine if fine.std() >= _MIN_CONTRAST else None


def _normalise(fine: np.ndarray | None) -> np.ndarray | None:
    """Give a fingerprint mean 0 and length 1."""
    if fine is None:
        return None
    fine = fine - fine.mean()
    return fine / np.linalg.norm(fine)


def make_record(name: str, split: str, encoded: bytes, image: np.ndarray,
                fingerprint_of: Fingerprint = fingerprint) -> ImageRecord:
    """Summarise an image, (H, W, C) uint8 or uint16, and its file's bytes."""
    pixels = hashlib.sha256(f'{image.shape}{image.dtype}'.encode()
                            + np.ascontiguousarray(image).data.tobytes())
    return ImageRecord(name, split, hashlib.sha256(encoded).digest(),
                       pixels.digest(), fingerprint_of(image))


@dataclass
class Copies:
    """The copies among the images of a data set.

    Attributes:
        identical: Groups of records with the same pixels.
        near: Pairs of records of near copies and their correlation, best
            first; of images that are identical within a split the first one.
        groups: All groups of names of copies, identical or near; sorted.
        featureless: Names of images with too little structure.
        comparison: What was compared with what, for a report.
    """

    identical: list[list[ImageRecord]] = field(default_factory=list)
    near: list[tuple[ImageRecord, ImageRecord, float]] = field(
        default_factory=list)
    groups: list[tuple[str, ...]] = field(default_factory=list)
    featureless: list[str] = field(default_factory=list)
    comparison: str = ''

    def first_of(self) -> dict[str, str]:
        """Return, for each name in a group, the first name of its group."""
        return {name: group[0] for group in self.groups for name in group}


def find_copies(records: Sequence[ImageRecord], threshold: float,
                within_splits: bool = True) -> Copies:
    """Compare all images with all others.

    Args:
        records: The images; their names differ within a split.
        threshold: Least correlation of near copies, in (0, 1].
        within_splits: Whether to look for near copies within a split too.
    """
    check_range('threshold', threshold, 0, 1, open_low=True)
    same_pixels: dict[bytes, list[ImageRecord]] = defaultdict(list)
    # One image stands for all that are identical to it in its split.
    compared: dict[tuple[bytes, str], ImageRecord] = {}
    featureless = []
    for record in records:
        same_pixels[record.pixel_hash].append(record)
        if record.fingerprint is None:
            featureless.append(record.name)
        else:
            compared.setdefault((record.pixel_hash, record.split), record)
    identical = [group for group in same_pixels.values() if len(group) > 1]
    near = [pair for pair in near_pairs(
        list(compared.values()), threshold, within_splits)
        if pair[0].pixel_hash != pair[1].pixel_hash]
    return Copies(
        identical, near, connected(
            [[record.name for record in group] for group in identical]
            + [[first.name, second.name] for first, second, _ in near]),
        featureless,
        f'{len(records)} images against each other: bytes, pixels, and '
        f'structure (correlation >= {threshold}, flips and quarter turns'
        + (')' if within_splits else '; across splits only)'))


def same_what(group: Sequence[ImageRecord]) -> str:
    """Say in what identical images agree: ``same bytes`` or pixels alone."""
    return ('same bytes' if len({record.file_hash for record in group}) == 1
            else 'same pixels')


def report_copies(report: CheckReport, records: Sequence[ImageRecord],
                  threshold: float = NEAR_THRESHOLD,
                  within_splits: bool = True) -> None:
    """Report copies: in different splits problems, within one notices."""
    copies = find_copies(records, threshold, within_splits)
    groups = [('identical', group, same_what(group))
              for group in copies.identical]
    groups += [('near_identical', [first, second], f'correlation {value:.3f}')
               for first, second, value in copies.near]
    for name in copies.featureless:
        report.add_notice('featureless', name)
    for kind, group, detail in groups:
        names = [record.name for record in group]
        if len({record.split for record in group}) == 1:
            report.add_notice(f'{kind}_within_split', *names, detail=detail)
        else:
            report.add_problem(f'{kind}_across_splits', *names, detail=detail)
    report.checked.append(copies.comparison)


def near_pairs(
    records: Sequence[ImageRecord],
    threshold: float,
    within_splits: bool = True
) -> list[tuple[ImageRecord, ImageRecord, float]]:
    """List the pairs that correlate in any orientation, best first."""
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


def _blocks(records: Sequence[ImageRecord],
            within_splits: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of index arrays that cover all pairs to compare."""
    # In blocks, so that 100,000 tiles need no matrix of 40 GB.
    splits = np.array([record.split for record in records])
    members = {split: np.flatnonzero(splits == split)
               for split in dict.fromkeys(splits.tolist())}
    pairs = combinations_with_replacement if within_splits else combinations
    for first, second in pairs(members.values(), 2):
        for top in range(0, len(first), _BLOCK):
            # Within a split the matrix is symmetric.
            start = top if first is second else 0
            for left in range(start, len(second), _BLOCK):
                yield first[top:top + _BLOCK], second[left:left + _BLOCK]


def connected(groups: Iterable[Sequence[str]]) -> list[tuple[str, ...]]:
    """Join groups that share a name; all is sorted."""
    joined = DisjointSet()
    for group in groups:
        for name in group:
            joined.add(name)
            joined.merge(group[0], name)
    return sorted(tuple(sorted(names)) for names in joined.subsets())
