"""Expression downloaded from the Genomic Data Commons: a file per sample.

HTSeq (GENCODE v22, retired 2022) has two columns without header, STAR's
``augmented_star_gene_counts`` (v36) a comment, a header and nine columns.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmmedmask.datasets.expression.gene_names import is_ensembl, is_summary
from mmmedmask.datasets.expression.matrix import RawExpression
from mmmedmask.datasets.expression.samples import check_files_differ
from mmmedmask.datasets.expression.units import UNITS, unit_in_name
from mmmedmask.util.file_walk import match_paths
from mmmedmask.util.nearest import shown
from mmmedmask.util.table_files import read_bytes, read_table

# Column of STAR's files for each unit that they hold.
_STAR_COLUMNS = {'counts': 'unstranded', 'tpm': 'tpm_unstranded',
                 'fpkm': 'fpkm_unstranded', 'fpkm_uq': 'fpkm_uq_unstranded'}
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
    """Read a sample sheet's files, genes by name; see ``load_expression``."""
    sheet_path = _find_sheet(folder, sample_sheet)
    sheet, notes = _read_sheet(sheet_path, unit)
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
    check_files_differ(files)
    first, *others = files.values()
    genes, row, unit_hint = _parse(first, unit, id_type)
    values = [row]
    for file in others:
        names, row, hint = _parse(file, unit, id_type)
        if hint != unit_hint:
            raise ValueError(f'{file} holds {hint or "an unnamed unit"}, but '
                             f'{first} holds {unit_hint or "an unnamed unit"}')
        if names != genes:
            row = _reordered(row, names, genes, f'{file} and {first}')
        values.append(row)
    patients = {row['Sample ID']: _patient(row) for row in sheet}
    return RawExpression(np.stack(values), list(files), genes, unit_hint,
                         notes, [patients[sample] for sample in files])


def _reordered(values: np.ndarray, names: list[str], genes: list[str],
               both: str) -> np.ndarray:
    """Bring the values of a file into the order of the first one's genes."""
    place = {name: row for row, name in enumerate(names)}
    differ = set(names) ^ set(genes)
    if differ or len(place) != len(genes):
        raise ValueError(
            f'{both} differ in the genes {shown(sorted(differ))}: they are '
            'of different releases or truncated')
    return values[[place[name] for name in genes]]


def _parse(file: Path, unit: str | None, id_type: str | None
           ) -> tuple[list[str], np.ndarray, str]:
    """Read names of genes, values float32 (G, ), and what tells the unit."""
    begin = read_bytes(file)[:60].split(b'\n')[0]
    if begin.startswith((b'# ', b'gene_id')):
        return _parse_star(file, unit, id_type)
    first = begin.decode(errors='replace').split('\t')
    if len(first) != 2 or not (is_ensembl(first[0]) or is_summary(first[0])):
        raise ValueError(f'{file} is not a file of HTSeq or STAR: it begins '
                         f'with {begin!r}')
    if id_type == 'symbol':
        raise ValueError(f"{file} has Ensembl ids only, got id_type='symbol'")
    named = unit_in_name(file.name) or ''
    if named in UNITS and unit not in (None, named):
        raise ValueError(f'{file} holds {named} by its name, got '
                         f'unit={unit!r}; convert= converts')
    table = read_table(file, header=False)
    return table.text(0), table.numbers([1])[:, 0], named


def _parse_star(file: Path, unit: str | None, id_type: str | None
                ) -> tuple[list[str], np.ndarray, str]:
    if unit not in _STAR_COLUMNS:
        given = '' if unit is None else f', got {unit!r}'
        raise ValueError(
            f'{file} of STAR holds several units: choose one by unit=, of '
            f'{tuple(_STAR_COLUMNS)}{given}; convert= converts')
    needed = ('gene_id', _NAME_COLUMNS[id_type or 'ensembl'],
              _STAR_COLUMNS[unit])
    table = read_table(file, needed, comment='#')
    ids, genes, values = map(table.names.index, needed)
    # Summary rows have no symbol: their id stands for it.
    names = [name or gene_id for name, gene_id in zip(
        *table.texts([genes, ids]), strict=True)]
    return names, table.numbers([values])[:, 0], unit


def _find_sheet(folder: Path, sample_sheet: str | Path | None) -> Path:
    if sample_sheet is not None:
        sheet = Path(sample_sheet)
        if not sheet.is_file():
            raise FileNotFoundError(f'The sample sheet {sheet} does not exist')
        return sheet
    sheets = match_paths(folder, 'gdc_sample_sheet*.tsv')
    if len(sheets) != 1:
        raise FileNotFoundError(
            f'{folder} has {len(sheets)} sample sheets '
            '(gdc_sample_sheet*.tsv), expected one: name it by sample_sheet=')
    return sheets[0]


def _read_sheet(path: Path, unit: str | None
                ) -> tuple[list[dict[str, str]], list[str]]:
    """Read the rows about expression, of a sample the first file by name.

    Those that are named by the ``unit`` go before others.
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
    for row in sorted(kept, key=lambda row: (
            row['Sample ID'], unit is not None and
            unit_in_name(row['File Name']) != unit, row['File Name'])):
        if first.setdefault(row['Sample ID'], row) is not row:
            samples.add(row['Sample ID'])
    if samples:
        of_unit = '' if unit is None else f', of {unit} if there is one,'
        notes.append(f'{len(samples)} samples have several files, the first '
                     f'by name{of_unit} was taken: {shown(sorted(samples))}')
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
    return next((place / file for place in (folder / row['File ID'], folder)
                 for file in (name, name.removesuffix('.gz'))
                 if (place / file).is_file()), None)
