"""Group the images of a data set that are copies of each other.

A data set may hold thousands of pairs of copies, so what is reported and
split are groups: two images are in one group if a chain of copies leads
from one to the other.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mmmedmask.datasets.conversion.duplicates import ImageRecord, near_pairs


@dataclass
class Copies:
    """The copies among the images of a data set.

    Attributes:
        threshold: Correlation from which on images are near copies.
        identical: Groups of names with the same pixels.
        same_bytes: Whether each of these groups has the same bytes too.
        near: Pairs of names of near copies and their correlation, best
            first. Of identical images only the first is compared.
        groups: All groups of copies, identical or near, with at least two
            names; sorted.
        featureless: Images with too little structure to be compared.
    """

    threshold: float
    identical: list[tuple[str, ...]] = field(default_factory=list)
    same_bytes: list[bool] = field(default_factory=list)
    near: list[tuple[str, str, float]] = field(default_factory=list)
    groups: list[tuple[str, ...]] = field(default_factory=list)
    featureless: list[str] = field(default_factory=list)

    def first_of(self) -> dict[str, str]:
        """Return, for each name in a group, the first name of its group."""
        return {name: group[0] for group in self.groups for name in group}


def find_copies(records: Sequence[ImageRecord], threshold: float) -> Copies:
    """Compare all images with all others.

    Args:
        records: The images; their names differ, their split is ignored.
        threshold: Least correlation of near copies, in (0, 1], see
            :mod:`mmmedmask.datasets.conversion.duplicates`.

    Returns:
        The groups.

    Raises:
        ValueError: If the threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f'threshold must be in (0, 1], got {threshold}')
    copies = Copies(threshold)
    same_pixels: dict[bytes, list[ImageRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.name):
        same_pixels[record.pixel_hash].append(record)
    for group in same_pixels.values():
        if len(group) > 1:
            copies.identical.append(tuple(record.name for record in group))
            copies.same_bytes.append(
                len({record.file_hash for record in group}) == 1)
        if group[0].fingerprint is None:
            copies.featureless += [record.name for record in group]
    representatives = [
        group[0] for group in same_pixels.values()
        if group[0].fingerprint is not None
    ]
    copies.near = [
        (first.name, second.name, correlation)
        for first, second, correlation in near_pairs(
            representatives, threshold)
    ]
    copies.groups = connected(
        [*copies.identical, *(pair[:2] for pair in copies.near)])
    return copies


def connected(groups: Iterable[Sequence[str]]) -> list[tuple[str, ...]]:
    """Join groups that share a name.

    Args:
        groups: Groups of names.

    Returns:
        Disjoint groups, each sorted, in the order of their first names.
    """
    parents: dict[str, str] = {}

    def root_of(name: str) -> str:
        parents.setdefault(name, name)
        while parents[name] != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    for group in groups:
        for name in group:
            first, second = sorted((root_of(group[0]), root_of(name)))
            parents[second] = first
    joined: dict[str, list[str]] = defaultdict(list)
    for name in sorted(parents):
        joined[root_of(name)].append(name)
    return [tuple(joined[name]) for name in sorted(joined)]
