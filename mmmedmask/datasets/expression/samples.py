"""Which sample of a table belongs to which patient.

Of TCGA barcodes, ``TCGA-OR-A5L9-01A-11R-A29S-07``, the first three parts are
the patient, the next two digits the kind of sample. Primary tumours are 01,
and cancers of the blood 03 (from blood) and 09 (from bone marrow).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmmedmask.util.nearest import composed, shown

PRIMARY_TUMOURS = ('01', '03', '09')
_BARCODE = re.compile(
    r'(TCGA-[A-Z0-9]{2}-[A-Z0-9]{4})(?:-(\d{2})[A-Z]?(?:-.*)?)?$')


def tcga_case(name: str) -> str | None:
    """Read the patient from a TCGA barcode, else None.

    R's ``make.names`` writes dots for hyphens, other tools lower case.
    """
    match = _BARCODE.match(_spelled(name))
    return match.group(1) if match else None


def tcga_site(name: str) -> str | None:
    """Read the tissue source site from a TCGA barcode, else None."""
    case = tcga_case(name)
    return case and case.split('-')[1]


def check_one_patient(where: object, case: str, what: str,
                      name: str) -> None:
    """Refuse a name of a patient's file or sample that is of another."""
    if len({tcga_case(case), tcga_case(name)} - {None}) > 1:
        raise ValueError(f'{where}: {what} {name} is of another patient than '
                         f'case {case}')


def _spelled(name: str) -> str:
    return name.upper().replace('.', '-')


def match_samples(
        sample_ids: Sequence[str], wanted: Mapping[str, str | None],
        patients: Sequence[str] = ()) -> tuple[dict[str, int], list[str]]:
    """Find the row of each patient's sample, and note choices and gaps.

    ``wanted`` has for each patient the name of the sample, or None for the
    patient's own. A sample of exactly that name is taken, else one that a
    sample sheet gives to the patient (``patients``, see ``ExpressionTable``).
    Else names are read as TCGA barcodes: samples of the patient (or those that
    begin with the wanted barcode), of primary tumours unless the wanted name
    tells another type; the first by name if there are several.

    A ValueError if two patients get one sample: it would count twice, or be
    in two splits.
    """
    sample_ids, patients = ([composed(name) for name in names]
                            for names in (sample_ids, patients))
    rows = {sample: row for row, sample in enumerate(sample_ids)}
    of_sheet: dict[str, list[str]] = {}
    by_case: dict[str, list[str]] = {}
    for patient, sample in sorted(zip(
            patients or [''] * len(sample_ids), sample_ids, strict=True)):
        for case, known in ((patient, of_sheet), (tcga_case(sample), by_case)):
            if case:
                known.setdefault(case, []).append(sample)
    row_of, several, others, absent = {}, [], [], []
    for case, name in wanted.items():
        name = composed(name or case)
        if name in rows:
            row_of[case] = rows[name]
            continue
        known = by_case.get(tcga_case(name), [])
        usable = of_sheet.get(name) or [sample for sample in known if _fits(
            _spelled(sample), _spelled(name))]
        if usable:
            row_of[case] = rows[usable[0]]
            if len(usable) > 1:
                several.append(f'{case}: {usable[0]} of {len(usable)}')
        elif known:
            others.append(f'{case}: {known[0]}')
        else:
            absent.append(case)
    owner: dict[int, str] = {}
    for case, row in row_of.items():
        if owner.setdefault(row, case) != case:
            raise ValueError(
                f'the cases {owner[row]} and {case} share the sample '
                f'{sample_ids[row]}: each needs one of its own, name it by '
                'rna_id')
    notes = []
    for cases, what in (
        (several, 'cases have several samples, the first was taken'),
        (others, 'cases have samples, but none that was asked for (a '
         'primary tumour, unless a name tells another type)'),
        (absent, 'cases have no sample')):
        if cases:
            notes.append(f'{len(cases)} {what}: {shown(cases)}')
    return row_of, notes


def _fits(sample: str, name: str) -> bool:
    if tcga_case(name) != name:
        return sample.startswith(name)
    return _BARCODE.match(sample)[2] in (None, *PRIMARY_TUMOURS)


def check_files_differ(files: Mapping[str, Path], start: str = 'the samples ',
                       kind: str = 'file',
                       why: str = 'each needs one of its own') -> None:
    """Refuse one file under two names, by a link too; words of the error."""
    owner: dict[tuple[int, int], str] = {}
    for name, file in files.items():
        state = file.stat()
        other = owner.setdefault((state.st_dev, state.st_ino), name)
        if other != name:
            raise ValueError(f'{start}{other} and {name} share the {kind} '
                             f'{file}: {why}')


def check_different(sample_ids: Sequence[str], source: str) -> None:
    """Refuse samples that occur twice, by their names."""
    twice = [name for name, count in Counter(sample_ids).items() if count > 1]
    if twice:
        raise ValueError(f'{source} has {len(twice)} samples more than once: '
                         f'{shown(twice)}')
