"""Expression downloaded from the Genomic Data Commons: a file per sample.

Formats: HTSeq (GENCODE v22, retired 2022), two columns without header, and
STAR ``augmented_star_gene_counts`` (v36), a comment line, a header and nine
columns. A sample sheet tells which file is whose.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmmedmask.datasets.expression.gene_names import (
    is_ensembl,
    is_summary,
    shown,
)
from mmmedmask.datasets.expression.matrix import RawExpression, read_bytes
from mmmedmask.datasets.expression.units import unit_in_name
from mmmedmask.util.extras import late_module

pd = late_module('pandas', 'genes')

STAR_COLUMNS = {
    'counts': 'unstranded',
    'tpm': 'tpm_unstranded',
    'fpkm': 'fpkm_unstranded',
    'fpkm_uq': 'fpkm_uq_unstranded',
}
"""Column of STAR's files for each unit that they hold."""

_SHEET_COLUMNS = ('File ID', 'File Name', 'Case ID', 'Sample ID')
_NAME_COLUMNS = {'ensembl': 'gene_id', 'symbol': 'gene_name'}


def read_gdc_folder(
    folder: Path,
    unit: str | None,
    id_type: str | None,
    sample_sheet: str | Path | None,
    missing_files: str,
) -> RawExpression:
    """Read all files of a sample sheet; see ``load_expression``.

    Genes are put into the order of the first file, by name: not all files
    have the same order. All files must have the same genes.

    Returns:
        Names and numbers.
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
    return RawExpression(
        values, list(files), reader.genes, reader.unit_hint, notes)


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
        content = read_bytes(file)
        lines = content.split(b'\n', 2)
        if lines[0].startswith(b'# ') or lines[0].startswith(b'gene_id'):
            return self._parse_star(file, content)
        first = lines[0].decode(errors='replace').split('\t')
        if len(first) != 2 or not (is_ensembl(first[0])
                                   or is_summary(first[0])):
            raise ValueError(
                f'{file} is not a file of HTSeq or STAR: it begins with '
                f'{lines[0][:60]!r}')
        if self.id_type == 'symbol':
            raise ValueError(
                f"{file} has Ensembl ids only, got id_type='symbol'")
        frame = _parse_table(
            file, content, header=None, names=['gene', 'value'])
        # The unit of all files is asked of the first one's name.
        return (frame['gene'].tolist(),
                frame['value'].to_numpy(np.float32),
                unit_in_name(file.name) or '')

    def _parse_star(self, file: Path,
                    content: bytes) -> tuple[list[str], np.ndarray, str]:
        if self.unit not in STAR_COLUMNS:
            given = ('' if self.unit is None else f', got {self.unit!r}')
            raise ValueError(
                f'{file} of STAR holds several units: choose one by unit=, '
                f'of {tuple(STAR_COLUMNS)}{given}; convert= converts')
        names = _NAME_COLUMNS[self.id_type or 'ensembl']
        frame = _parse_table(file, content, comment='#')
        needed = ['gene_id', names, STAR_COLUMNS[self.unit]]
        missing = [name for name in needed if name not in frame]
        if missing:
            raise ValueError(
                f'{file} lacks the columns {missing}, it has '
                f'{list(frame)}')
        # Summary rows have no symbol: their id stands for it.
        genes = frame[names].fillna(frame['gene_id']).tolist()
        return (genes, frame[needed[2]].to_numpy(np.float32), self.unit)


def _parse_table(file: Path, content: bytes, **options) -> pd.DataFrame:
    try:
        return pd.read_csv(io.BytesIO(content), sep='\t', **options)
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f'Cannot read {file}: {error}') from error


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
    sheet = pd.read_csv(path, sep='\t', dtype=str, keep_default_na=False)
    missing = [name for name in _SHEET_COLUMNS if name not in sheet]
    if missing:
        raise ValueError(
            f'{path} lacks the columns {missing} of a sample sheet, it has '
            f'{list(sheet)}')
    notes = []
    if 'Data Type' in sheet:
        about = sheet['Data Type'] == 'Gene Expression Quantification'
        if not about.all():
            notes.append(f'left out {int((~about).sum())} files of the '
                         'sample sheet that are not gene expression')
        sheet = sheet[about]
    if sheet.empty:
        raise ValueError(f'{path} names no file of gene expression')
    sheet = sheet.sort_values(['Sample ID', 'File Name'], kind='stable')
    again = sheet['Sample ID'].duplicated()
    if again.any():
        samples = sheet['Sample ID'][again].unique().tolist()
        notes.append(f'{len(samples)} samples have several files, the first '
                     f'by name was taken: {shown(samples)}')
    return sheet[~again].to_dict('records'), notes


def _locate(folder: Path, row: Mapping[str, str]) -> Path | None:
    name = row['File Name']
    for place in (folder / row['File ID'], folder):
        for candidate in (name, name.removesuffix('.gz')):
            if (place / candidate).is_file():
                return place / candidate
    return None
