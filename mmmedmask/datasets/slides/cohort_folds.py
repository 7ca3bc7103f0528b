"""Draw folds of a cohort by patient, and write them to disk.

Files are those of CLAM, see :mod:`mmmedmask.datasets.slides.cohort_splits`.
"""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from mmmedmask.datasets.expression.gene_names import shown
from mmmedmask.datasets.expression.samples import tcga_case
from mmmedmask.datasets.slides.cohort import Case
from mmmedmask.datasets.slides.cohort_splits import SPLITS

MANIFEST = 'folds.json'
"""File beside the splits that tells how they were drawn."""


def draw_folds(cases: Sequence[Case],
               num_folds: int = 5,
               seed: int = 0,
               by_site: bool = False) -> list[dict[str, str]]:
    """Draw folds by patient, with equal shares of the classes.

    Fold k tests on part k, validates on the next part and trains on the
    others: with 5 folds 60, 20 and 20 percent, as GiMP's paper.

    Args:
        cases: The cohort.
        num_folds: Number of folds, at least 3.
        seed: Seed.
        by_site: Whether all patients of a site go into the same part, so
            that a site's stain cannot be learned for its classes (Howard et
            al. 2021). Sites are those of the csv, else the tissue source
            site of TCGA barcodes.

    Returns:
        For each fold the split of each patient.

    Raises:
        ValueError: If a class has fewer patients, or with ``by_site`` fewer
            sites, than there are folds, or a patient has no site.
    """
    if num_folds < 3:
        raise ValueError(f'num_folds must be at least 3, got {num_folds}')
    labels = [case.label for case in cases]
    for label, count in sorted(Counter(labels).items()):
        if count < num_folds:
            raise ValueError(
                f'class {label!r} has {count} cases, {num_folds} folds need '
                f'at least {num_folds}: merge it, leave it out or ask for '
                'fewer folds')
    sites = [_site(case) for case in cases] if by_site else None
    if by_site:
        for label in sorted(set(labels)):
            count = len({
                site for site, other in zip(sites, labels, strict=True)
                if other == label
            })
            if count < num_folds:
                raise ValueError(
                    f'class {label!r} comes from {count} sites, {num_folds} '
                    'folds that keep sites together need at least '
                    f'{num_folds}')
    part = _draw_parts(labels, sites, num_folds, seed)
    folds = []
    for fold in range(num_folds):
        names = {fold: 'test', (fold + 1) % num_folds: 'val'}
        folds.append({case.case_id: names.get(part[place], 'train')
                      for place, case in enumerate(cases)})
    return folds


def _draw_parts(labels: Sequence[str], sites: Sequence[str] | None,
                num_folds: int, seed: int) -> np.ndarray:
    """Draw the part of every case, with every class in every part."""
    kind = StratifiedKFold if sites is None else StratifiedGroupKFold
    # Sites differ in size, so that a draw may leave a class out of a part.
    for attempt in range(20):
        state = np.random.SeedSequence([seed, attempt]).generate_state(1)[0]
        splitter = kind(num_folds, shuffle=True, random_state=int(state))
        part = np.empty(len(labels), np.int64)
        for number, (_, inside) in enumerate(
                splitter.split(labels, labels, sites)):
            part[inside] = number
        pairs = set(zip(part.tolist(), labels, strict=True))
        if len(pairs) == num_folds * len(set(labels)):
            return part
    raise ValueError(
        f'found no {num_folds} folds that keep sites together and have every '
        'class in every part: ask for fewer folds')


def _site(case: Case) -> str:
    if case.site is not None:
        return case.site
    name = tcga_case(case.case_id)
    if name is None:
        raise ValueError(
            f'case {case.case_id} has no site: add the column site (TCGA '
            'barcodes tell it by themselves)')
    return name.split('-')[1]


def write_folds(folder: str | Path,
                folds: Sequence[Mapping[str, str]],
                how: Mapping[str, object]) -> None:
    """Write folds as ``splits_k.csv``, and how they were drawn.

    Args:
        folder: Where to.
        folds: For each fold the split of each patient.
        how: How they were drawn, for ``folds.json``: the seed and so on.

    Raises:
        FileExistsError: If the folder has splits that differ: results that
            were made with them could not be understood any more.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = {f'splits_{number}.csv': _as_csv(fold)
             for number, fold in enumerate(folds)}
    manifest = {'num_folds': len(folds), **how, 'cases': {
        split: [list(fold.values()).count(split) for fold in folds]
        for split in SPLITS}}
    files[MANIFEST] = json.dumps(manifest, indent=2) + '\n'
    others = sorted(path.name for path in folder.glob('splits_*.csv')
                    if path.name not in files)
    changed = [name for name, text in files.items()
               if (folder / name).is_file() and name != MANIFEST
               and (folder / name).read_text(encoding='utf-8') != text]
    if others or changed:
        raise FileExistsError(
            f'{folder} has other splits already '
            f'({shown(others + changed)}): choose another folder')
    for name, text in files.items():
        partial = folder / f'.{name}.{os.getpid()}.part'
        partial.write_text(text, encoding='utf-8')
        os.replace(partial, folder / name)


def _as_csv(fold: Mapping[str, str]) -> str:
    lists = {split: sorted(case for case, place in fold.items()
                           if place == split) for split in SPLITS}
    longest = max(map(len, lists.values()))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['', *SPLITS])
    for row in range(longest):
        writer.writerow([row, *(names[row] if row < len(names) else ''
                                for names in lists.values())])
    return text.getvalue()
