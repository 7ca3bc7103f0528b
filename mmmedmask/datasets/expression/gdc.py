"""Expression downloaded from the Genomic Data Commons: a file per sample.

Formats: HTSeq (GENCODE v22, retired 2022), two columns without header, and
STAR ``augmented_star_gene_counts`` (v36), a comment line, a header and nine
columns. A sample sheet tells which file is whose.
"""

from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path

import numpy as np

from mmmedmask.datasets.expression.gene_names import (
    is_ensembl,
    is_summary,
    shown,
)
from mmmedmask.datasets.expression.matrix import RawExpression
from mmmedmask.datasets.expression.units import unit_in_name
from mmmedmask.util.table_files import read_bytes, read_table

STAR_COLUMNS = {
    'counts': 'unstranded',
    'tpm': 'tpm_unstranded',
    'fpkm': 'fpkm_unstranded',
    'fpkm_uq': 'fpkm_uq_unstranded',
}
"""Column of STAR's files for each unit that they hold."""

_SHEET_COLUMNS = ('File ID', 'File Name', 'Case ID', 'Sample ID')
_EXPRESSION = 'Gene Expression Quantification'
# Older sheets have the first, newer ones the others.
_KIND_COLUMNS = ('Sample Type', 'Tissue Type', 'Tumor Descriptor')
_NOT_PRIMARY = ('normal', 'metasta', 'recurr', 'progress', 'xenograft',
                'cell line', 'new primary')
_NAME_COLUMNS = {'ensembl': 'gene_id', 'symbol': 'gene_name'}


def read_gdc_folder(folder: Path, unit: str | None, id_type: str | None,
                    sample_sheet: str | Path | None,
                    missing_files: str) -> RawExpression:
    """Read all files of a sample sheet; see ``load_expression``.

    Genes are put into the order of the first file, by name: not all files
    have the same order. All files must have the same genes.
    """
    sheet_path = _find_sheet(folder, sample_sheet)
    sheet, notes = _read_sheet(sheet_path)
    files = {row['Sample ID']: _locate(folder, row) for row in sheet}
    absent = [sample for sample, file in files.items() if file is None]
    if absent:
        note = (f'{len(absent)} of {len(files)} files of {sheet_path} are '
                f'not in {folder}, of the samples: {shown(absent)}')
        if missing_files == 'raise' or len(absent) == len(files):
            raise FileNotFoundError(
                f"{note}; missing_files='report' goes on without them")
        notes.append(note)
        files = {sample: file for sample, file in files.items()
                 if file is not None}
    reader = _FileReader(unit, id_type)
    values = np.stack([reader.read(file) for file in files.values()])
    patients = {row['Sample ID']: _patient(row) for row in sheet}
    return RawExpression(values, list(files), reader.genes, reader.unit_hint,
                         notes, [patients[sample] for sample in files])


class _FileReader:
    """Reads one file after the other into the genes of the first."""

    def __init__(self, unit: str | None, id_type: str | None) -> None:
        self.unit = unit
        self.id_type = id_type
        self.genes: list[str] = []
        self.unit_hint = ''
        self._first: Path | None = None

    def read(self, file: Path) -> np.ndarray:
        """Read one file, float32 of shape (G, )."""
        names, values, hint = self._parse(file)
        if self._first is None:
            self._first, self.genes, self.unit_hint = file, names, hint
            return values
        if hint != self.unit_hint:
            raise ValueError(
                f'{file} holds {hint or "an unnamed unit"}, but '
                f'{self._first} holds {self.unit_hint or "an unnamed unit"}')
        if names == self.genes:
            return values
        place = {name: row for row, name in enumerate(names)}
        differ = set(names) ^ set(self.genes)
        if differ or len(place) != len(self.genes):
            raise ValueError(
                f'{file} and {self._first} differ in the genes '
                f'{shown(sorted(differ))}: they are of different releases '
                'or truncated')
        return values[[place[name] for name in self.genes]]

    def _parse(self, file: Path) -> tuple[list[str], np.ndarray, str]:
        begin = read_bytes(file)[:60].split(b'\n')[0]
        if begin.startswith((b'# ', b'gene_id')):
            return self._parse_star(file)
        first = begin.decode(errors='replace').split('\t')
        if len(first) != 2 or not (is_ensembl(first[0])
                                   or is_summary(first[0])):
            raise ValueError(f'{file} is not a file of HTSeq or STAR: it '
                             f'begins with {begin!r}')
        if self.id_type == 'symbol':
            raise ValueError(
                f"{file} has Ensembl ids only, got id_type='symbol'")
        table = read_table(file, header=False)
        # The unit of all files is asked of the first one's name.
        return (table.text(0), table.numbers([1])[:, 0],
                unit_in_name(file.name) or '')

    def _parse_star(self, file: Path) -> tuple[list[str], np.ndarray, str]:
        if self.unit not in STAR_COLUMNS:
            given = ('' if self.unit is None else f', got {self.unit!r}')
            raise ValueError(
                f'{file} of STAR holds several units: choose one by unit=, '
                f'of {tuple(STAR_COLUMNS)}{given}; convert= converts')
        names = _NAME_COLUMNS[self.id_type or 'ensembl']
        needed = 'gene_id', names, STAR_COLUMNS[self.unit]
        table = read_table(file, needed, comment='#')
        ids, genes, values = map(table.names.index, needed)
        # Summary rows have no symbol: their id stands for it.
        return ([name or gene_id for name, gene_id in zip(
            *table.texts([genes, ids]), strict=True)],
            table.numbers([values])[:, 0], self.unit)


def _find_sheet(folder: Path, sample_sheet: str | Path | None) -> Path:
    if sample_sheet is not None:
        sheet = Path(sample_sheet)
        if not sheet.is_file():
            raise FileNotFoundError(f'The sample sheet {sheet} does not exist')
        return sheet
    sheets = sorted(folder.glob('gdc_sample_sheet*.tsv'))
    if len(sheets) != 1:
        raise FileNotFoundError(
            f'{folder} has {len(sheets)} sample sheets '
            '(gdc_sample_sheet*.tsv), expected one: name it by sample_sheet=')
    return sheets[0]


def _read_sheet(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Read the rows of a sample sheet that are about expression.

    Of several files of one sample the first by name is taken.
    """
    sheet = [row for _, row in read_table(path, _SHEET_COLUMNS).rows()]
    kept = [row for row in sheet if row.get('Data Type', _EXPRESSION)
            == _EXPRESSION]
    notes = []
    if len(kept) < len(sheet):
        notes.append(f'left out {len(sheet) - len(kept)} files of the '
                     'sample sheet that are not gene expression')
    if not kept:
        raise ValueError(f'{path} names no file of gene expression')
    first: dict[str, dict[str, str]] = {}
    samples = set()
    for row in sorted(kept, key=itemgetter('Sample ID', 'File Name')):
        if first.setdefault(row['Sample ID'], row) is not row:
            samples.add(row['Sample ID'])
    if samples:
        notes.append(f'{len(samples)} samples have several files, the first '
                     f'by name was taken: {shown(sorted(samples))}')
    return list(first.values()), notes


def _patient(row: Mapping[str, str]) -> str:
    """Patient of a primary tumour in a sample sheet, else ''."""
    kind = ' '.join(row.get(name, '') for name in _KIND_COLUMNS).lower()
    # Files of several samples repeat the patient.
    patients = {name.strip() for name in row['Case ID'].split(',')}
    return (patients.pop() if len(patients) == 1
            and not any(word in kind for word in _NOT_PRIMARY) else '')


def _locate(folder: Path, row: Mapping[str, str]) -> Path | None:
    name = row['File Name']
    for place in (folder / row['File ID'], folder):
        for candidate in (name, name.removesuffix('.gz')):
            if (place / candidate).is_file():
                return place / candidate
    return None
