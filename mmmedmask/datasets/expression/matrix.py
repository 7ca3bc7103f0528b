"""One table with all samples: csv, tsv, xlsx or parquet, also compressed.

Genes are in rows (matrices of Xena, cBioPortal and R packages) or in columns
(tables for learning); which of the two is seen from the names.
"""

import itertools
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmmedmask.datasets.expression.gene_names import (
    check_no_dates,
    ensembl_share,
    gene_places,
    is_clinical,
    is_ensembl,
    is_summary,
    plain_name,
    unlike_genes,
)
from mmmedmask.datasets.expression.samples import tcga_case
from mmmedmask.util.nearest import shown
from mmmedmask.util.table_files import read_table

# Ending of the genes' columns in tables of PORPOISE.
_GENE_SUFFIX = '_rnaseq'
# Columns beside the samples where genes are rows, in lower case.
_GENE_COLUMNS = ('gene_id', 'gene_name', 'gene_type', 'gene_symbol', 'gene',
                 'symbol', 'hugo_symbol', 'entrez_gene_id', 'ensembl_id',
                 'description', 'chr', 'chromosome', 'start', 'end', 'strand',
                 'length', 'width', 'gene_length', 'gene_biotype',
                 'gc_content', 'percentage_gene_gc_content', 'seqnames',
                 'entrezgene_id', 'entrez_id', 'entrezid', 'ensembl_gene_id',
                 'hgnc_id', 'hgnc_symbol', 'chromosome_name',
                 'start_position', 'end_position')
_SYMBOL_COLUMNS = ('gene_name', 'gene_symbol', 'symbol', 'hugo_symbol',
                   'hgnc_symbol', 'gene')
# Columns that name the samples, in the order of preference; the others may
# be above genes in rows, too.
_ROW_COLUMNS = ('rna_id', 'sample_id', 'case_id')
_SAMPLE_COLUMNS = (*_ROW_COLUMNS, 'sample', 'patient_id', 'patient', 'case')
# Columns beside the genes where samples are rows, in lower case.
_CASE_COLUMNS = (*_SAMPLE_COLUMNS, 'slide_id', 'label', 'split', 'site',
                 'age', 'sex', 'is_female', 'survival_months', 'censorship',
                 'oncotree_code', 'train', 'event', 'stage')


@dataclass
class RawExpression:
    """Names and numbers of a file, without judgement.

    ``values`` are float32 (S, G), samples by genes named as in the file;
    ``unit_hint`` is a name that may tell the unit; ``patients`` are those of
    :class:`~mmmedmask.datasets.expression.table.ExpressionTable`.
    """

    values: np.ndarray
    case_ids: list[str]
    gene_names: list[str]
    unit_hint: str
    notes: list[str] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)


def read_matrix(path: Path, id_type: str | None, genes_in: str | None,
                asked: Collection[str] = ()) -> RawExpression:
    """Read all genes of a table; names that are ``asked`` for count, too."""
    table = _Matrix(path)
    if any(name.endswith(_GENE_SUFFIX) for name in table.names):
        if genes_in == 'rows':
            raise ValueError(
                f'{path} has columns that end with {_GENE_SUFFIX}: its genes '
                "are in columns, got genes_in='rows'")
        raw = table.porpoise()
    elif (genes_in or table.find_genes()) == 'rows':
        raw = table.genes_in_rows(id_type)
    else:
        raw = table.genes_in_columns(asked)
    odd = set(filter(is_clinical, raw.gene_names))
    if asked:
        odd.update(unlike_genes(raw.gene_names))
    left = [name for name in raw.gene_names
            if name in odd and plain_name(name) not in asked]
    if left:
        kept = ~np.isin(raw.gene_names, left)
        raw.values = raw.values[:, kept]
        raw.gene_names = list(itertools.compress(raw.gene_names, kept))
        raw.notes.append(f'left out {len(left)} names that are not genes: '
                         f'{shown(left)}')
    return raw


class _Matrix:
    """Names of columns, which may repeat, and what is below them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = read_table(path, comment='#', row_names=True,
                                repeated=True)
        self.names = list(self.table.names)
        self.notes = list(self.table.notes)
        if len(self.names) < 2:
            raise ValueError(f'{path} has {len(self.names)} columns, which '
                             'is not a table of expression')
        self.first = 0
        self.lower = [name.lower() for name in self.names]
        # Places of the columns that hold text.
        self.text = [place for place in range(len(self.names))
                     if not self.table.is_numeric(place)]
        if self._numbers_the_rows():
            self.first = 1
            self.notes.append(
                'left out the first column, which numbers the rows')
        self.places = range(self.first, len(self.names))

    def _numbers_the_rows(self) -> bool:
        """Whether the first column counts, and another has the names."""
        if self.names[0] not in ('', 'Unnamed: 0', 'index'):
            return False
        cells = self.table.text(0)
        start = int(cells[0]) if cells[0].isdigit() else 0
        named = set(self.lower) & {*_SAMPLE_COLUMNS, *_GENE_COLUMNS}
        # Without other names these numbers are those of patients.
        return bool(self.text or named) and cells == [
            str(start + row) for row in range(len(cells))]

    def find_genes(self) -> str:
        """Tell from names whether genes are in rows or in columns."""
        across = self._named(_but(self.places, self.text))
        down = self.table.texts(self.text)
        rows = (any(ensembl_share(names) > 0.5 for names in down)
                or _tcga_share(across) > 0.5 or any(
                    self.lower[place] in _GENE_COLUMNS for place in self.text))
        columns = (ensembl_share(across) > 0.5
                   or any(_tcga_share(names) > 0.5 for names in down)
                   or any(self.lower[place] in _ROW_COLUMNS
                          for place in self.places))
        if rows == columns:
            raise ValueError(
                f'{self.path}: cannot tell whether genes are in rows or in '
                f'columns; columns are {shown(self.names)}: say '
                "genes_in='rows' or 'columns'")
        return 'rows' if rows else 'columns'

    def genes_in_rows(self, id_type: str | None) -> RawExpression:
        """Read a table with a sample per column."""
        annotations = [place for place in self.places
                       if self.lower[place] in _GENE_COLUMNS
                       or place == self.first]
        if _tcga_share(self._named(_but(self.places, annotations))) > 0.5:
            # Others without a digit, such as gc, are no samples; those of
            # GTEx may be.
            annotations = [place for place, name in enumerate(self.names)
                           if place in annotations or place in self.places
                           and tcga_case(name) is None
                           and not re.search(r'\d', name)]
        odd = _but(self.text, annotations)
        if odd:
            self._refuse_spoiled(odd)
            raise ValueError(f'{self.path}: genes are in rows, but the '
                             f'columns {shown(self._named(odd))} hold text')
        if len(annotations) > 1:
            self.notes.append('took no samples from the columns '
                              f'{shown(self._named(annotations[1:]))}')
        samples = _but(self.places, annotations)
        return RawExpression(self.table.numbers(samples).T,
                             self._named(samples),
                             self._choose_names(annotations, id_type),
                             self.path.name, self.notes)

    def _named(self, places: Iterable[int]) -> list[str]:
        return [self.names[place] for place in places]

    def _refuse_spoiled(self, places: Sequence[int]) -> None:
        """Name the cell that is text in a column of numbers, if any is."""
        for place, cells in zip(places, self.table.texts(places), strict=True):
            digits = sum(cell[-1:].isdigit() for cell in cells)
            if digits > len(cells) / 2:
                self.table.numbers([place])

    def _choose_names(self, annotations: Sequence[int],
                      id_type: str | None) -> list[str]:
        """Choose the column that names the genes."""
        candidates = dict(zip(
            annotations, self.table.texts(annotations), strict=True))
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

    def genes_in_columns(self, asked: Collection[str] = ()) -> RawExpression:
        """Read a table with a sample per row."""
        case = next((self.lower.index(name) for name in _SAMPLE_COLUMNS
                     if name in self.lower), (*self.text, self.first)[0])
        name = self.names[case]
        if (case not in self.text and self.lower[case] not in _SAMPLE_COLUMNS
                and (plain_name(name) in asked or gene_places([name]))
                and (self.table.numbers([case]) % 1 > 0).any()):
            raise ValueError(f'{self.path}: no column names the samples; the '
                             f'first, {name}, has expression of a gene')
        others = _but(self.places, [case])
        names = self._named(others)
        listed = {place for place in others
                  if plain_name(self.names[place]) in asked}
        if ensembl_share(names) > 0.5:
            genes = {place for place in others if is_ensembl(self.names[place])
                     or is_summary(self.names[place])}
        else:
            if not asked:
                check_no_dates(names, str(self.path))
            genes = {others[place] for place in gene_places(names)
                     if self.lower[others[place]] not in _CASE_COLUMNS}
            text = genes & set(self.text) - listed
            if not asked:
                self._refuse_spoiled(sorted(text))
            genes -= text
            numbers = _but(others, self.text)
            if not asked and len(genes) < len(numbers) / 2:
                odd = self._named(_but(numbers, genes))
                raise ValueError(
                    f'{self.path}: {len(genes)} of {len(numbers)} columns '
                    'have the name of a gene (an Ensembl id, or a symbol '
                    f'such as TP53), not {shown(odd)}: list the genes to '
                    'take in gene_list')
        genes = sorted(genes | listed)
        left = self._named(_but(others, genes))
        if left:
            self.notes.append(
                f'took no genes from {len(left)} columns: {shown(left)}')
        return RawExpression(self.table.numbers(genes), self.table.text(case),
                             self._named(genes), self.path.name, self.notes)

    def porpoise(self) -> RawExpression:
        """Read a row per slide, with equal genes in all rows of a case."""
        if self.names.count('case_id') != 1:
            raise ValueError(f'{self.path} has columns that end with '
                             f'{_GENE_SUFFIX}, so it must have one named '
                             f'case_id; it has {self.names.count("case_id")}')
        genes = [place for place, name in enumerate(self.names)
                 if name.endswith(_GENE_SUFFIX)]
        values = self.table.numbers(genes)
        cases = self.table.text(self.names.index('case_id'))
        first: dict[str, int] = {}
        for row, case in enumerate(cases):
            kept = first.setdefault(case, row)
            if kept != row and not np.array_equal(
                    values[row], values[kept], equal_nan=True):
                raise ValueError(
                    f'{self.table.where(row)} and row {kept + 1} are of '
                    f'the case {case}, but their genes differ')
        if len(first) < len(cases):
            self.notes.append(f'{len(cases)} rows are of {len(first)} cases')
        self.notes.append(f'took no genes from {len(self.names) - len(genes)} '
                          f'columns that do not end with {_GENE_SUFFIX}')
        return RawExpression(values[list(first.values())], list(first),
                             [self.names[place].removesuffix(_GENE_SUFFIX)
                              for place in genes], self.path.name, self.notes)


def _but(places: Iterable[int], left_out: Iterable[int]) -> list[int]:
    """Places in their order, but for those that are left out."""
    left_out = set(left_out)
    return [place for place in places if place not in left_out]


def _tcga_share(names: Sequence[str]) -> float:
    return sum(tcga_case(name) is not None
               for name in names) / max(len(names), 1)
