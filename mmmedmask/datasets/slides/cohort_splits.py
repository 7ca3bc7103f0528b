"""Read splits of a cohort, and hold patients together.

Files are those of CLAM: ``splits_0.csv``, ``splits_1.csv``, ... with the
columns ``train``, ``val`` and ``test``, each a list of names.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mmmedmask.datasets.expression.gene_names import shown
from mmmedmask.datasets.slides.cohort import Case
from mmmedmask.datasets.slides.feature_lookup import slide_name

SPLITS = ('train', 'val', 'test')


def read_split(path: str | Path,
               cases: Sequence[Case]) -> tuple[dict[str, str], list[str]]:
    """Read a split file of CLAM, MCAT, PORPOISE or our own.

    Names may be those of patients or of slides; the columns hold names, or
    True and False for the names in the first column.

    Args:
        path: The csv.
        cases: The cohort.

    Returns:
        The split of each patient that it names, and notes: on names that
        are not in the cohort and patients that are in no split.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has none of the columns, or slides of one patient
            are in different splits.
    """
    path = Path(path)
    if not path.is_file():
        present = sorted(file.name for file in path.parent.glob('*.csv'))
        raise FileNotFoundError(
            f'The split file {path} does not exist; its folder has '
            f'{present[:10] or "no csv"}')
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    columns = [name for name in SPLITS if name in frame]
    if 'train' not in columns:
        raise ValueError(
            f'{path} must have the columns {SPLITS}, it has {list(frame)}')
    owner = {case.case_id: case.case_id for case in cases}
    for case in cases:
        owner.update({slide.slide_id: case.case_id for slide in case.slides})
    found: dict[str, str] = {}
    unknown = []
    for split in columns:
        for name in _names(path, frame, split):
            case = owner.get(name) or owner.get(slide_name(name))
            if case is None:
                unknown.append(name)
            elif found.setdefault(case, split) != split:
                raise ValueError(
                    f'{path}: case {case} is in {found[case]} and, by '
                    f'{name}, in {split}: a patient belongs to one split')
    if not found:
        raise ValueError(
            f'{path} names no case or slide of the cohort; it names '
            f'{shown(unknown)}')
    notes = []
    if unknown:
        notes.append(f'{len(unknown)} names of {path.name} are not in the '
                     f'cohort: {shown(unknown)}')
    left = [case.case_id for case in cases if case.case_id not in found]
    if left:
        notes.append(f'{len(left)} of {len(cases)} cases are in no split of '
                     f'{path.name}: {shown(left)}')
    return found, notes


def _names(path: Path, frame: pd.DataFrame, split: str) -> list[str]:
    cells = frame[split].str.strip()
    if not set(cells.str.lower()) <= {'true', 'false'}:
        return [name for name in cells if name]
    first = frame.columns[0]
    if first in SPLITS:
        raise ValueError(
            f'{path} has True and False but no column with names')
    return frame[first][cells.str.lower() == 'true'].tolist()
