"""The patients of a cohort: slides, classes, follow-up and splits.

One csv, a superset of those of CLAM, MCAT and STAMP, with a line per slide.
Splits are files as CLAM's ``splits_0.csv``: lists of names below ``train``,
``val`` and ``test``.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmmedmask.datasets.expression.samples import (
    check_one_patient,
    tcga_case,
)
from mmmedmask.datasets.slides.feature_files import slide_name
from mmmedmask.util.checks import check_choice, check_positive, check_range
from mmmedmask.util.file_walk import match_paths
from mmmedmask.util.nearest import (
    bare_name,
    composed,
    nearest_names,
    shown,
)
from mmmedmask.util.table_files import (
    MISSING,
    Table,
    cell_number,
    check_cell,
    check_named,
    check_spelling,
    read_table,
)

SPLITS = ('train', 'val', 'test')
_TRUTHS = ('true', 'false')
_PER_CASE = ('split', 'site', 'survival_months', 'censorship', 'rna_id')
# Columns that a cohort csv may have; it may have others, too.
_OPTIONAL_COLUMNS = (*_PER_CASE, 'features_path', 'mpp')


@dataclass(frozen=True)
class Slide:
    """A slide of a patient, named without endings.

    ``mpp``, micrometres per pixel of the finest level, and the file of
    features are None if the csv does not tell.
    """

    slide_id: str
    features_path: str | None = None
    mpp: float | None = None


@dataclass(frozen=True)
class Case:
    """A patient, with what the csv tells, else None.

    Attributes:
        slides: The slides in the order of the csv, may be none.
        survival_months: Time to death or last contact.
        censorship: 1 if the patient was alive at that time, 0 if dead.
        rna_id: Name of the sample of expression.
    """

    case_id: str
    label: str
    slides: tuple[Slide, ...] = ()
    split: str | None = None
    site: str | None = None
    survival_months: float | None = None
    censorship: int | None = None
    rna_id: str | None = None


def read_cohort(path: str | Path, label_column: str = 'label') -> list[Case]:
    """Read a cohort csv, patients in the order of their first line.

    Required columns are ``case_id``, ``slide_id`` (may be empty: a patient
    without a slide) and ``label``. Optional ones are those of a case and of
    a slide: ``split``, ``site``, ``survival_months``, ``censorship`` (1 if
    death was not observed), ``rna_id``, ``features_path`` and ``mpp``.
    ``NA`` and the like are empty cells.

    Raises:
        ValueError: If a column or a required cell is missing, lines of a
            patient contradict each other, a slide occurs twice, or a TCGA
            barcode of a sample stands for a patient that has several, or
            one of another patient for a slide or the expression.
    """
    required = ('case_id', 'slide_id', label_column)
    table = read_table(path, required)
    kept = [name for name in table.names
            if name in required or name in _OPTIONAL_COLUMNS]
    table.log_unused(kept, _OPTIONAL_COLUMNS)
    cases: dict[str, Case] = {}
    slides: dict[str, list[Slide]] = {}
    seen: dict[tuple[str, str], str] = {}
    for where, cells in table.rows(*kept):
        line = {name: cell if name == 'features_path' else composed(cell)
                for name, cell in cells.items()}
        line |= {name: '' for name in (*_OPTIONAL_COLUMNS, 'slide_id')
                 if line.get(name) in MISSING}
        case = _read_case(where, line, label_column)
        for name in ('slide_id', 'rna_id'):
            check_one_patient(where, case.case_id, name, line.get(name, ''))
        first = cases.setdefault(case.case_id, case)
        for name in ('label', *_PER_CASE):
            if getattr(first, name) != getattr(case, name):
                raise ValueError(f'{where}: case {case.case_id} has {name} '
                                 f'{getattr(case, name)!r}, in a line before '
                                 f'{getattr(first, name)!r}')
        if first is case and case.rna_id:
            _check_new(where, 'rna_id', case.rna_id, seen)
        of_case = slides.setdefault(case.case_id, [])
        if not line['slide_id']:
            continue
        mpp = cell_number(where, 'mpp', line.get('mpp', ''))
        if mpp is not None:
            check_positive(f'{where}: mpp', mpp)
        slide = Slide(slide_name(line['slide_id']),
                      line.get('features_path') or None, mpp)
        _check_new(where, 'slide', slide.slide_id, seen)
        if slide.features_path:
            _check_new(where, 'features_path',
                       os.path.normpath(slide.features_path), seen)
        of_case.append(slide)
    for what, names in (
            (label_column, [case.label for case in cases.values()]),
            ('case_id', cases),
            ('site', [case.site or '' for case in cases.values()]),
            ('slide_id', [slide.slide_id for of_case in slides.values()
                          for slide in of_case])):
        check_spelling(path, what, names)
    patients: dict[str, str] = {}
    for name in cases:
        other = patients.setdefault(tcga_case(name) or name, name)
        # Tumour against normal: what a fold may hold is the user's to say.
        if other != name and cases[other].label == cases[name].label:
            raise ValueError(
                f'{path}: the cases {other} and {name} are one patient, '
                f'{tcga_case(name)}: write the patient in case_id, the '
                'sample in rna_id')
    return [replace(case, slides=tuple(slides[case.case_id]))
            for case in cases.values()]


def _check_new(where: str, what: str, name: str,
               seen: dict[tuple[str, str], str]) -> None:
    """Refuse what a line before has already: it would count twice."""
    before = seen.setdefault((what, name), where)
    if before != where:
        raise ValueError(f'{where}: {what} {name} is listed in '
                         f'{before.rpartition(", ")[2]} already')


def _read_case(where: str, line: Mapping[str, str], label_column: str) -> Case:
    check_named(where, line, ('case_id', ))
    # None may be a class.
    check_named(where, line, (label_column, ), known=('None', ))
    if line.get('split'):
        check_cell(where, 'split', line['split'], SPLITS)
    months = cell_number(where, 'survival_months',
                         line.get('survival_months', ''))
    if months is not None:
        check_range(f'{where}: survival_months', months, 0)
    censorship = cell_number(where, 'censorship', line.get('censorship', ''))
    check_choice(f'{where}: censorship', censorship, (None, 0, 1))
    return Case(case_id=line['case_id'], label=line[label_column],
                split=line.get('split') or None, site=line.get('site') or None,
                survival_months=months, censorship=None if censorship is None
                else int(censorship), rna_id=line.get('rna_id') or None)


def read_split(path: str | Path,
               cases: Sequence[Case]) -> tuple[dict[str, str], list[str]]:
    """Read a split file of CLAM, MCAT, PORPOISE or our own.

    Names may be those of patients or of slides; the columns hold names, or
    True and False for the names in the first column. Slides of one patient
    in different splits are an error, as are a name that is there twice, and
    one that differs from a patient's in case, blanks or signs alone. Where
    all names are patients of the cohort, none is looked up among the slides;
    else a patient's that is a slide of another one is an error.

    Gives the split of each patient that it names, and notes: on names that
    are not in the cohort, and columns of whole numbers as 2.0, which pandas
    makes of those with empty cells.
    """
    path = Path(path)
    if not path.is_file():
        present = [file.name for file in match_paths(path.parent, '*.csv')]
        raise FileNotFoundError(f'The split file {path} does not exist; its '
                                f'folder has {present[:10] or "no csv"}')
    table = read_table(path)
    columns = [name for name in SPLITS if name in table.names]
    if 'train' not in columns:
        raise ValueError(f'{path} must have the columns {SPLITS}, it has '
                         f'{list(table.names)}')
    for place, name in enumerate(table.names):
        if place or nearest_names(name, SPLITS):
            check_cell(str(path), 'the name of a column', name, SPLITS)
    names_of = {split: _names(table, split) for split in columns}
    ids = {case.case_id: case.case_id for case in cases}
    slides = {slide.slide_id: case.case_id for case in cases
              for slide in case.slides}
    notes = []
    for split, names in names_of.items():
        whole = [name.removesuffix('.0') for name in names]
        if all(re.fullmatch(r'\d+\.0', name) for name in names) \
                and not {*ids, *slides}.isdisjoint(whole) \
                and {*ids, *slides}.isdisjoint(names):
            names_of[split] = whole
            notes.append(f'{path.name} names cases as {names[0]} in {split}: '
                         f'taken as {whole[0]}')
    if set().union(*names_of.values()) <= set(ids):
        # Our own files name patients: a slide may be called as one of them.
        slides = {}
    spelled = {bare_name(name): name for name in (*slides, *ids)}
    split_of: dict[str, str] = {}
    unknown = []
    for split, names in names_of.items():
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(f'{path} has {len(twice)} names twice in '
                             f'{split}: {shown(twice)}')
        for name in names:
            by_slide = slides.get(name) or slides.get(slide_name(name))
            case = ids.get(name) or by_slide or ids.get(slide_name(name))
            if by_slide not in (None, case):
                raise ValueError(
                    f'{path}: {name} in {split} is the case {case} and a '
                    f'slide of the case {by_slide}: name cases alone, which '
                    'the cohort has')
            if case is None and bare_name(slide_name(name)) in spelled:
                raise ValueError(
                    f'{path}: {name} is in {split}, the cohort calls it '
                    f'{spelled[bare_name(slide_name(name))]}')
            if case is None:
                unknown.append(name)
            elif split_of.setdefault(case, split) != split:
                raise ValueError(
                    f'{path}: case {case} is in {split_of[case]} and, by '
                    f'{name}, in {split}: a patient belongs to one split')
    if not split_of:
        raise ValueError(f'{path} names no case or slide of the cohort; it '
                         f'names {shown(unknown)}')
    if unknown:
        notes.append(f'{len(unknown)} names of {path.name} are not in the '
                     f'cohort: {shown(unknown)}')
    return split_of, notes


def check_patients_apart(split_of: Mapping[str, str], source: object) -> None:
    """Refuse samples of a TCGA patient, as cases, in different splits."""
    first: dict[str, str] = {}
    for case, split in split_of.items():
        patient = tcga_case(case)
        other = first.setdefault(patient or case, case)
        if split_of[other] != split:
            raise ValueError(
                f'{source}: {patient} is in {split_of[other]} as {other} and '
                f'in {split} as {case}: a patient belongs to one split')


def _names(table: Table, split: str) -> list[str]:
    cells = table.text(table.names.index(split))
    if not {cell.lower() for cell in cells} & set(_TRUTHS):
        return [composed(name) for name in cells if name not in MISSING]
    if table.names[0] in SPLITS:
        raise ValueError(
            f'{table.path} has True and False but no column with names')
    for row, cell in enumerate(cells):
        check_cell(table.where(row), split, cell.lower(), _TRUTHS)
    names = map(composed, table.text(0))
    return [name for name, cell in zip(names, cells, strict=True)
            if cell.lower() == 'true']
