"""One table with all samples: csv, tsv or parquet, plain or compressed.

Genes are in rows (matrices of Xena, cBioPortal and R packages) or in columns
(tables for learning); which of the two is seen from the names.
"""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmmedmask.datasets.expression.gene_names import (
    ensembl_share,
    is_ensembl,
    is_summary,
    shown,
)
from mmmedmask.datasets.expression.samples import tcga_case
from mmmedmask.util.extras import import_extra, late_module

pd = late_module('pandas', 'genes')

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


@dataclass
class RawExpression:
    """Names and numbers of a file, without judgement.

    Attributes:
        values: float32 of shape (S, G).
        case_ids: Names of the rows.
        gene_names: Names of the columns, as in the file.
        unit_hint: A name that may tell the unit.
        notes: What was left out.
    """

    values: np.ndarray
    case_ids: list[str]
    gene_names: list[str]
    unit_hint: str
    notes: list[str] = field(default_factory=list)


def read_matrix(path: Path, id_type: str | None,
                genes_in: str | None) -> RawExpression:
    """Read a table.

    Args:
        path: The file.
        id_type: Which names to take where genes have several.
        genes_in: ``'rows'``, ``'columns'`` or None.

    Returns:
        Names and numbers.

    Raises:
        ValueError: If the file is not a table, or it is not clear where the
            genes are.
    """
    table = _Table(path)
    if any(name.endswith(GENE_SUFFIX) for name in table.names):
        if genes_in == 'rows':
            raise ValueError(
                f'{path} has columns that end with {GENE_SUFFIX}: its genes '
                "are in columns, got genes_in='rows'")
        return table.porpoise()
    if (genes_in or table.find_genes()) == 'rows':
        return table.genes_in_rows(id_type)
    return table.genes_in_columns()


class _Table:
    """Names of columns, which may repeat, and what is below them.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names, self.columns = _read_columns(path)
        self.notes: list[str] = []
        if len(self.names) < 2 or not len(self.columns):
            raise ValueError(
                f'{path} has {len(self.names)} columns and '
                f'{len(self.columns)} rows, which is not a table of '
                'expression')
        first = self.columns.iloc[:, 0]
        if self.names[0] in ('', 'Unnamed: 0', 'index') and \
                pd.api.types.is_integer_dtype(first.dtype) and \
                np.array_equal(first, np.arange(len(first)) + first.iloc[0]):
            self.names, self.columns = self.names[1:], self.columns.iloc[:, 1:]
            self.notes.append(
                'left out the first column, which numbers the rows')
        self.lower = [name.lower() for name in self.names]
        # Places of the columns that hold text.
        self.text = [place for place, kind in enumerate(self.columns.dtypes)
                     if not pd.api.types.is_numeric_dtype(kind)]

    def below(self, place: int) -> list[str]:
        """What is below a name, as text."""
        return self.columns.iloc[:, place].astype(str).tolist()

    def find_genes(self) -> str:
        """Tell from names whether genes are in rows or in columns."""
        across = [name for place, name in enumerate(self.names)
                  if place not in self.text]
        down = [self.below(place) for place in self.text]
        rows = (any(ensembl_share(names) > 0.5 for names in down)
                or _tcga_share(across) > 0.5
                or any(self.lower[place] in _GENE_COLUMNS
                       for place in self.text))
        columns = (ensembl_share(across) > 0.5
                   or any(_tcga_share(names) > 0.5 for names in down)
                   or any(name in _ROW_COLUMNS for name in self.lower))
        if rows == columns:
            raise ValueError(
                f'{self.path}: cannot tell whether genes are in rows or in '
                f'columns; columns are {shown(self.names)}: say '
                "genes_in='rows' or 'columns'")
        return 'rows' if rows else 'columns'

    def genes_in_rows(self, id_type: str | None) -> RawExpression:
        """Read a table with a sample per column."""
        annotations = [place for place, name in enumerate(self.lower)
                       if name in _GENE_COLUMNS or place == 0]
        odd = [self.names[place] for place in self.text
               if place not in annotations]
        if odd:
            raise ValueError(
                f'{self.path}: genes are in rows, but the columns '
                f'{shown(odd)} hold text')
        if len(annotations) > 1:
            left = [self.names[place] for place in annotations[1:]]
            self.notes.append(
                f'took no samples from the columns {shown(left)}')
        samples = [place for place in range(len(self.names))
                   if place not in annotations]
        return RawExpression(
            self.columns.iloc[:, samples].to_numpy(np.float32).T,
            [self.names[place] for place in samples],
            self._choose_names(annotations, id_type), self.path.name,
            self.notes)

    def _choose_names(self, annotations: Sequence[int],
                      id_type: str | None) -> list[str]:
        """Choose the column that names the genes."""
        candidates = {place: self.below(place) for place in annotations}
        ensembl = [place for place, names in candidates.items()
                   if ensembl_share(names) > 0.9]
        if id_type != 'symbol' and ensembl:
            return candidates[ensembl[0]]
        if id_type == 'ensembl':
            raise ValueError(f'{self.path} has no column of Ensembl ids')
        chosen = next((place for place in annotations
                       if self.lower[place] in _SYMBOL_COLUMNS),
                      annotations[0])
        if chosen in ensembl:
            raise ValueError(f'{self.path} has no column of symbols of genes')
        if not ensembl:
            return candidates[chosen]
        # Rows that count reads have no symbol, so they are found by their id.
        return [gene_id if is_summary(gene_id) else symbol
                for symbol, gene_id in zip(
                    candidates[chosen], candidates[ensembl[0]], strict=True)]

    def genes_in_columns(self) -> RawExpression:
        """Read a table with a sample per row."""
        case = next((self.lower.index(name) for name in _ROW_COLUMNS
                     if name in self.lower), (*self.text, 0)[0])
        others = [place for place in range(len(self.names)) if place != case]
        if ensembl_share([self.names[place] for place in others]) > 0.5:
            genes = [place for place in others
                     if is_ensembl(self.names[place])
                     or is_summary(self.names[place])]
        else:
            genes = [place for place in others if place not in self.text
                     and self.lower[place] not in _CASE_COLUMNS]
        left = [self.names[place] for place in others if place not in genes]
        if left:
            self.notes.append(
                f'took no genes from {len(left)} columns: {shown(left)}')
        return RawExpression(
            self._numbers(genes), self.below(case),
            [self.names[place] for place in genes], self.path.name,
            self.notes)

    def porpoise(self) -> RawExpression:
        """Read a row per slide, with equal genes in all rows of a case."""
        if self.names.count('case_id') != 1:
            raise ValueError(
                f'{self.path} has columns that end with {GENE_SUFFIX}, so it '
                'must have one named case_id; it has '
                f'{self.names.count("case_id")}')
        genes = [place for place, name in enumerate(self.names)
                 if name.endswith(GENE_SUFFIX)]
        values = self._numbers(genes)
        cases = self.below(self.names.index('case_id'))
        first: dict[str, int] = {}
        for row, case in enumerate(cases):
            kept = first.setdefault(case, row)
            if kept != row and not np.array_equal(
                    values[row], values[kept], equal_nan=True):
                raise ValueError(
                    f'{self.path}: rows {kept + 2} and {row + 2} are of the '
                    f'case {case}, but their genes differ')
        if len(first) < len(cases):
            self.notes.append(f'{len(cases)} rows are of {len(first)} cases')
        self.notes.append(
            f'took no genes from {len(self.names) - len(genes)} columns that '
            f'do not end with {GENE_SUFFIX}')
        return RawExpression(
            values[list(first.values())], list(first),
            [self.names[place].removesuffix(GENE_SUFFIX) for place in genes],
            self.path.name, self.notes)

    def _numbers(self, genes: Sequence[int]) -> np.ndarray:
        odd = [self.names[place] for place in genes if place in self.text]
        if odd:
            raise ValueError(f'{self.path}: the genes {shown(odd)} hold text '
                             'instead of numbers')
        return self.columns.iloc[:, list(genes)].to_numpy(np.float32)


def _tcga_share(names: Sequence[str]) -> float:
    return sum(tcga_case(name) is not None
               for name in names) / max(len(names), 1)


def _read_columns(path: Path) -> tuple[list[str], pd.DataFrame]:
    """Read names of columns, which may repeat, and what is below them."""
    content = read_bytes(path)
    try:
        if content.startswith(_PARQUET_MAGIC):
            import_extra('pyarrow', 'genes', str(path))
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
