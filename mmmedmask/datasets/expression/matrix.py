"""One table with all samples: csv, tsv or parquet, plain or compressed.

Genes are in rows (matrices of Xena, cBioPortal and R packages) or in columns
(tables for learning); which of the two is seen from the names.
"""

import csv
import gzip
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mmmedmask.datasets.expression.gene_names import (
    ensembl_share,
    is_ensembl,
    is_summary,
    shown,
)
from mmmedmask.datasets.expression.samples import tcga_case

GENE_SUFFIX = '_rnaseq'
"""Ending of the genes' columns in tables of PORPOISE."""

# Columns beside the samples where genes are rows, in lower case.
_GENE_COLUMNS = ('gene_id', 'gene_name', 'gene_type', 'gene_symbol', 'gene',
                 'symbol', 'hugo_symbol', 'entrez_gene_id', 'ensembl_id',
                 'description', 'chr', 'chromosome', 'start', 'end', 'strand',
                 'length')
_SYMBOL_COLUMNS = ('gene_name', 'gene_symbol', 'symbol', 'hugo_symbol',
                   'gene')
# Columns beside the genes where samples are rows, in lower case.
_CASE_COLUMNS = ('case_id', 'slide_id', 'sample_id', 'sample', 'patient',
                 'patient_id', 'case', 'rna_id', 'label', 'split', 'site',
                 'age', 'sex', 'is_female', 'survival_months', 'censorship',
                 'oncotree_code', 'train', 'event', 'stage')
# Columns that name the samples, in the order of preference.
_ROW_COLUMNS = ('rna_id', 'sample_id', 'case_id')
_PARQUET_MAGIC = b'PAR1'


def read_matrix(
    path: Path, id_type: str | None, genes_in: str | None
) -> tuple[np.ndarray, list[str], list[str], list[str]]:
    """Read a table.

    Args:
        path: The file.
        id_type: Which names to take where genes have several.
        genes_in: ``'rows'``, ``'columns'`` or None.

    Returns:
        Values float32 (S, G), samples, genes, notes.

    Raises:
        ValueError: If the file is no table, or it is not clear where the
            genes are.
    """
    names, columns = _read_columns(path)
    if len(names) < 2 or not len(columns):
        raise ValueError(
            f'{path} has {len(names)} columns and {len(columns)} rows, which '
            'is no table of expression')
    names, columns, notes = _drop_numbering(names, columns)
    if any(name.endswith(GENE_SUFFIX) for name in names):
        if genes_in == 'rows':
            raise ValueError(
                f'{path} has columns that end with {GENE_SUFFIX}: its genes '
                "are in columns, got genes_in='rows'")
        return _read_porpoise(path, names, columns, notes)
    text = [place for place, kind in enumerate(columns.dtypes)
            if not pd.api.types.is_numeric_dtype(kind)]
    if genes_in is None:
        genes_in = _find_genes(path, names, columns, text)
    if genes_in == 'rows':
        return _genes_in_rows(path, names, columns, text, id_type, notes)
    return _genes_in_columns(path, names, columns, text, notes)


def _read_columns(path: Path) -> tuple[list[str], pd.DataFrame]:
    """Read names of columns, which may repeat, and what is below them."""
    content = read_bytes(path)
    try:
        if content.startswith(_PARQUET_MAGIC):
            frame = pd.read_parquet(io.BytesIO(content))
            if not isinstance(frame.index, pd.RangeIndex):
                frame = frame.reset_index()
            names = [str(name) for name in frame]
            return names, frame.set_axis(range(len(names)), axis=1)
        text = io.TextIOWrapper(io.BytesIO(content), encoding='utf-8-sig')
        line = text.readline()
        while line.startswith('#'):
            line = text.readline()
        separator = '\t' if '\t' in line else ','
        names = next(csv.reader([line], delimiter=separator), [])
        # pandas renames columns that occur twice, so it is kept from them.
        frame = pd.read_csv(
            text, sep=separator, header=None, low_memory=False)
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise ValueError(f'Cannot read {path} as a table: {error}') from error
    names = [name.strip() for name in names]
    if frame.shape[1] == len(names) + 1:
        # As write.table of R does: no name above the names of rows.
        names = ['', *names]
    if frame.shape[1] != len(names):
        raise ValueError(
            f'{path} has {len(names)} names above {frame.shape[1]} columns')
    return names, frame


def read_bytes(path: Path) -> bytes:
    """Read a file, or what is in it if it is gz or a zip of one file.

    Raises:
        ValueError: If it is damaged, or a zip of several files.
    """
    try:
        content = path.read_bytes()
        if content.startswith(b'\x1f\x8b'):
            return gzip.decompress(content)
        if not content.startswith(b'PK\x03\x04'):
            return content
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [name for name in archive.namelist() if not
                       name.endswith('/') and not name.startswith('__MACOSX/')]
            if len(members) != 1:
                raise ValueError(f'{path} must hold one file, it holds '
                                 f'{members[:5]}')
            return archive.read(members[0])
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f'{path} is truncated or damaged: {error}') from error


def _drop_numbering(
    names: list[str], columns: pd.DataFrame
) -> tuple[list[str], pd.DataFrame, list[str]]:
    """Leave out a first column without name that numbers the rows."""
    first = columns.iloc[:, 0]
    if names[0] not in ('', 'Unnamed: 0', 'index') or not (
            pd.api.types.is_integer_dtype(first.dtype)
            and np.array_equal(first, np.arange(len(first)) + first.iloc[0])):
        return names, columns, []
    return names[1:], columns.iloc[:, 1:], [
        'left out the first column, which numbers the rows']


def _find_genes(path: Path, names: Sequence[str], columns: pd.DataFrame,
                text: Sequence[int]) -> str:
    """Tell from names whether genes are in rows or in columns."""
    across = [name for place, name in enumerate(names) if place not in text]
    ensembl_across = ensembl_share(across) > 0.5
    samples_across = _tcga_share(across) > 0.5
    ensembl_down = samples_down = False
    for place in text:
        below = columns.iloc[:, place].astype(str).tolist()
        ensembl_down |= ensembl_share(below) > 0.5
        samples_down |= _tcga_share(below) > 0.5
    gene_column = any(
        names[place].lower() in _GENE_COLUMNS for place in text)
    case_column = any(name.lower() in _ROW_COLUMNS for name in names)
    rows = ensembl_down or samples_across or gene_column
    down = ensembl_across or samples_down or case_column
    if rows == down:
        raise ValueError(
            f'{path}: cannot tell whether genes are in rows or in columns; '
            f'columns are {shown(list(names))}: say genes_in=\'rows\' or '
            "'columns'")
    return 'rows' if rows else 'columns'


def _tcga_share(names: Sequence[str]) -> float:
    return sum(tcga_case(name) is not None
               for name in names) / max(len(names), 1)


def _genes_in_rows(
    path: Path, names: Sequence[str], columns: pd.DataFrame,
    text: Sequence[int], id_type: str | None, notes: list[str]
) -> tuple[np.ndarray, list[str], list[str], list[str]]:
    annotations = [place for place, name in enumerate(names)
                   if name.lower() in _GENE_COLUMNS or place == 0]
    odd = [names[place] for place in text if place not in annotations]
    if odd:
        raise ValueError(
            f'{path}: genes are in rows, but the columns {shown(odd)} hold '
            'text')
    gene_names = _choose_names(path, names, columns, annotations, id_type)
    samples = [place for place in range(len(names))
               if place not in annotations]
    # Rows that count reads have no symbol, so they are found by their id.
    values = columns.iloc[:, samples].to_numpy(np.float32).T
    left = [names[place] for place in annotations[1:]]
    if left:
        notes = [*notes, f'took no samples from the columns {shown(left)}']
    return values, [names[place] for place in samples], gene_names, notes


def _choose_names(path: Path, names: Sequence[str], columns: pd.DataFrame,
                  annotations: Sequence[int],
                  id_type: str | None) -> list[str]:
    """Choose the column that names the genes."""
    candidates = {
        place: columns.iloc[:, place].astype(str).tolist()
        for place in annotations
    }
    ensembl = [place for place, below in candidates.items()
               if ensembl_share(below) > 0.9]
    if id_type != 'symbol' and ensembl:
        return candidates[ensembl[0]]
    if id_type == 'ensembl':
        raise ValueError(f'{path} has no column of Ensembl ids')
    named = [place for place in annotations
             if names[place].lower() in _SYMBOL_COLUMNS]
    chosen = named[0] if named else annotations[0]
    if chosen in ensembl:
        raise ValueError(f'{path} has no column of symbols of genes')
    below = candidates[chosen]
    if ensembl:
        ids = candidates[ensembl[0]]
        below = [name if not is_summary(ids[row]) else ids[row]
                 for row, name in enumerate(below)]
    return below


def _genes_in_columns(
    path: Path, names: Sequence[str], columns: pd.DataFrame,
    text: Sequence[int], notes: list[str]
) -> tuple[np.ndarray, list[str], list[str], list[str]]:
    lower = [name.lower() for name in names]
    by_name = [lower.index(name) for name in _ROW_COLUMNS if name in lower]
    case = by_name[0] if by_name else (text[0] if text else 0)
    case_ids = columns.iloc[:, case].astype(str).tolist()
    others = [place for place in range(len(names)) if place != case]
    if ensembl_share([names[place] for place in others]) > 0.5:
        genes = [place for place in others
                 if is_ensembl(names[place]) or is_summary(names[place])]
    else:
        genes = [place for place in others if place not in text
                 and names[place].lower() not in _CASE_COLUMNS]
    left = [names[place] for place in others if place not in genes]
    if left:
        notes = [*notes,
                 f'took no genes from {len(left)} columns: {shown(left)}']
    return (_numbers(path, names, columns, genes), case_ids,
            [names[place] for place in genes], notes)


def _read_porpoise(
    path: Path, names: Sequence[str], columns: pd.DataFrame, notes: list[str]
) -> tuple[np.ndarray, list[str], list[str], list[str]]:
    """Read a row per slide, with equal genes in all rows of a case."""
    if names.count('case_id') != 1:
        raise ValueError(
            f'{path} has columns that end with {GENE_SUFFIX}, so it must '
            f'have one named case_id; it has {names.count("case_id")}')
    genes = [place for place, name in enumerate(names)
             if name.endswith(GENE_SUFFIX)]
    values = _numbers(path, names, columns, genes)
    cases = columns.iloc[:, names.index('case_id')].astype(str).tolist()
    first: dict[str, int] = {}
    for row, case in enumerate(cases):
        kept = first.setdefault(case, row)
        if kept != row and not np.array_equal(
                values[row], values[kept], equal_nan=True):
            raise ValueError(
                f'{path}: rows {kept + 2} and {row + 2} are of the case '
                f'{case}, but their genes differ')
    if len(first) < len(cases):
        notes = [*notes, f'{len(cases)} rows are of {len(first)} cases']
    notes = [*notes, f'took no genes from {len(names) - len(genes)} columns '
             f'that do not end with {GENE_SUFFIX}']
    return (values[list(first.values())], list(first),
            [names[place].removesuffix(GENE_SUFFIX) for place in genes],
            notes)


def _numbers(path: Path, names: Sequence[str], columns: pd.DataFrame,
             places: Sequence[int]) -> np.ndarray:
    odd = [names[place] for place in places
           if not pd.api.types.is_numeric_dtype(columns.dtypes.iloc[place])]
    if odd:
        raise ValueError(
            f'{path}: the genes {shown(odd)} hold text instead of numbers')
    return columns.iloc[:, list(places)].to_numpy(np.float32)
