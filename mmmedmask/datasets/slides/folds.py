"""Folds of a cohort: drawn by patient or by site, written as split files."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from mmmedmask.datasets.expression.samples import tcga_case, tcga_site
from mmmedmask.datasets.slides.cohort import SPLITS, Case
from mmmedmask.util.atomic_files import csv_text, write_text
from mmmedmask.util.checks import check_integer
from mmmedmask.util.file_walk import match_paths
from mmmedmask.util.nearest import shown

# File beside the splits that tells how they were drawn.
_MANIFEST = 'folds.json'


def draw_folds(cases: Sequence[Case], num_folds: int = 5, seed: int = 0,
               by_site: bool = False,
               validate: bool = True) -> list[dict[str, str]]:
    """Draw folds by patient, with equal shares of the classes.

    Cases that are TCGA samples of one patient, tumour and normal, stay
    together.

    Fold k tests on part k, validates on the next part and trains on the
    others: with 5 folds 60, 20 and 20 percent, as GiMP's paper.

    Args:
        num_folds: Number of folds, at least 3, or 2 if no part validates.
        by_site: Whether all patients of a site go into the same part, so
            that a site's stain cannot be learned for its classes (Howard et
            al. 2021). Sites are those of the csv, else the tissue source
            site of TCGA barcodes, whose cases must all be in the column or
            none. Sites that share a patient, whose samples
            are of several, go into the same part, too.
        validate: Whether a part validates; if not, it trains as well.
    """
    check_integer('num_folds', num_folds)
    uses = ['train on', *(['validate on'] if validate else []), 'test on']
    if num_folds < len(uses):
        raise ValueError(
            f'{num_folds} folds are too few: there must be a part each to '
            f'{", to ".join(uses)}, so draw at least {len(uses)}')
    labels = [case.label for case in cases]
    patients = [tcga_case(case.case_id) or case.case_id for case in cases]
    groups = _joined(_sites(cases), patients) if by_site else patients
    kind = 'sites' if by_site else 'patients'
    _check_counts(Counter(labels), 'has {} cases', num_folds)
    pairs = set(zip(labels, groups, strict=True))
    _check_counts(Counter(label for label, _ in pairs),
                  f'comes from {{}} {kind}, which stay together', num_folds)
    if not by_site and len(set(groups)) == len(cases):
        groups = None
    part = _draw_parts(labels, groups, kind, num_folds, seed)
    folds = []
    for fold in range(num_folds):
        names = {(fold + 1) % num_folds: 'val'} if validate else {}
        names[fold] = 'test'
        folds.append({case.case_id: names.get(part[place], 'train')
                      for place, case in enumerate(cases)})
    return folds


def _check_counts(counts: Counter, text: str, num_folds: int) -> None:
    for label, count in sorted(counts.items()):
        if count < num_folds:
            raise ValueError(f'class {label!r} {text.format(count)}: '
                             f'{num_folds} folds need at least {num_folds}; '
                             'merge it, leave it out or ask for fewer folds')


def _draw_parts(labels: Sequence[str], groups: Sequence[str] | None,
                kind: str, num_folds: int, seed: int) -> np.ndarray:
    """Draw the part of every case, with every class in every part."""
    # A second to import, which reading a cohort need not wait for.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
    splitter_type = (StratifiedKFold if groups is None
                     else StratifiedGroupKFold)
    # Groups differ in size, so that a draw may leave a class out of a part.
    for attempt in range(20):
        state = np.random.SeedSequence([seed, attempt]).generate_state(1)[0]
        splitter = splitter_type(num_folds, shuffle=True,
                                 random_state=int(state))
        part = np.empty(len(labels), np.int64)
        for number, (_, inside) in enumerate(
                splitter.split(labels, labels, groups)):
            part[inside] = number
        pairs = set(zip(part.tolist(), labels, strict=True))
        if len(pairs) == num_folds * len(set(labels)):
            return part
    raise ValueError(f'found no {num_folds} folds that keep {kind} together '
                     'and have every class in every part: ask for fewer folds')


def _sites(cases: Sequence[Case]) -> list[str]:
    sites, of_barcode = [], {}
    for case in cases:
        barcode = tcga_site(case.case_id)
        site = case.site or barcode
        if site is None:
            raise ValueError(f'case {case.case_id} has no site: add the column'
                             ' site (TCGA barcodes tell it by themselves)')
        # Tables of numbers lose leading zeros.
        sites.append(barcode if site.zfill(2) == barcode else site)
        of_barcode.setdefault(barcode, set()).add(sites[-1])
    for barcode, names in of_barcode.items():
        if len(names) > 1 and barcode in names:
            raise ValueError(
                f'cases of the site {barcode} by their barcodes have the '
                f'sites {shown(sorted(names))}: fill the column site for all '
                'of them or for none')
    return sites


def _joined(sites: Sequence[str], patients: Sequence[str]) -> list[str]:
    """Name the site of each case, those that share a patient by one."""
    joined = DisjointSet(sites)
    first: dict[str, str] = {}
    for site, patient in zip(sites, patients, strict=True):
        joined.merge(first.setdefault(patient, site), site)
    return [joined[site] for site in sites]


def write_folds(folder: str | Path, folds: Sequence[Mapping[str, str]],
                how: Mapping[str, object]) -> None:
    """Write folds as ``splits_k.csv``, and how they were drawn.

    ``how`` is for ``folds.json``: the seed and so on. Splits there that differ
    are a FileExistsError: results with them could not be understood any more.
    """
    folder = Path(folder)
    files = {f'splits_{number}.csv': _as_csv(fold)
             for number, fold in enumerate(folds)}
    manifest = {'num_folds': len(folds), **how, 'cases': {
        split: [list(fold.values()).count(split) for fold in folds]
        for split in SPLITS}}
    files[_MANIFEST] = json.dumps(manifest, indent=2) + '\n'
    others = [path.name for path in match_paths(folder, 'splits_*.csv')
              if path.name not in files]
    changed = [name for name, text in files.items()
               if (folder / name).is_file() and name != _MANIFEST
               and (folder / name).read_text(encoding='utf-8') != text]
    if others or changed:
        raise FileExistsError(
            f'{folder} has other splits already '
            f'({shown(others + changed)}): choose another folder')
    for name, text in files.items():
        write_text(folder / name, text)


def _as_csv(fold: Mapping[str, str]) -> str:
    lists = [sorted(case for case, place in fold.items() if place == split)
             for split in SPLITS]
    return csv_text([['', *SPLITS], *(
        [row, *names] for row, names in enumerate(
            zip_longest(*lists, fillvalue='')))])
