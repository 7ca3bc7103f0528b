"""Tables of gene expression, aligned by the names of genes and samples."""

import itertools
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from mmmedmask.datasets.expression import units
from mmmedmask.datasets.expression.gene_names import (
    ID_TYPES,
    GeneNames,
    canonical_genes,
    names_hash,
    repeated,
)
from mmmedmask.datasets.expression.raw_files import read_expression_files
from mmmedmask.datasets.expression.samples import (
    check_different,
    match_samples,
)
from mmmedmask.functional.gene_scaling import gene_statistics, is_linear_unit
from mmmedmask.util.atomic_files import atomic_path
from mmmedmask.util.checks import (
    check_choice,
    check_positive,
    check_range,
    check_shape,
)
from mmmedmask.util.nearest import bare_name, shown
from mmmedmask.util.table_files import read_list_file

MAX_MISSING = 0.1
"""Largest share of genes that may be missing, unless told otherwise."""


@dataclass(frozen=True, eq=False)
class ExpressionTable:
    """Expression of genes in samples. Never changed in place.

    Attributes:
        values: float32 of shape (S, G), NaN where missing, read-only.
        case_ids: Rows as the file names them: patients, samples or aliquots.
        gene_ids: Ensembl ids without version, or symbols.
        unit: One of :data:`~mmmedmask.datasets.expression.units.UNITS`.
        log2_offset: What was added before the logarithm, if the unit is one.
        notes: What was left out, chosen or found missing on the way.
        patients: The patient of each row where a sample sheet tells and it
            is of a primary tumour, else ''; empty without a sheet.
    """

    values: np.ndarray
    case_ids: tuple[str, ...]
    gene_ids: tuple[str, ...]
    unit: str
    source: str
    log2_offset: float = 1.0
    notes: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_shape(f'{self.source}: values of all samples and genes',
                    self.values, (len(self.case_ids), len(self.gene_ids)))
        self.values.setflags(write=False)

    def __deepcopy__(self, memo: dict) -> 'ExpressionTable':
        # Data sets are copied to take subsets; one table does for all.
        return self

    @property
    def id_type(self) -> str:
        """Kind of the genes' names, ``'ensembl'`` or ``'symbol'``."""
        return GeneNames(self.gene_ids[:100], self.source).id_type

    def select(self, rows: Sequence[int],
               names: Sequence[str] | None = None) -> 'ExpressionTable':
        """Take rows, and name them anew if there are names."""
        if names is None:
            names = [self.case_ids[row] for row in rows]
        return replace(self, values=self.values[list(rows)],
                       case_ids=tuple(names), patients=())

    def for_cases(self, wanted: Mapping[str, str | None]) -> 'ExpressionTable':
        """Take the rows of patients with any value, by ``match_samples``."""
        rows, notes = match_samples(self.case_ids, wanted, self.patients)
        blank = [case for case, row in rows.items()
                 if np.isnan(self.values[row]).all()]
        if blank:
            notes.append(f'{len(blank)} cases have a sample without any '
                         f'value: {shown(blank)}')
            rows = {case: row for case, row in rows.items()
                    if case not in blank}
        table = self.select(list(rows.values()), list(rows))
        return replace(table, notes=(*self.notes, *notes))

    def samples_like(self, names: Iterable[str]) -> str:
        """Say which samples have almost such names, else which there are."""
        wanted = set(map(bare_name, names))
        near = [sample for sample in self.case_ids
                if bare_name(sample) in wanted]
        return (f'{self.source} has samples such as '
                f'{shown(near or self.case_ids)}')

    def align(self, gene_ids: Sequence[str],
              max_missing: float = MAX_MISSING) -> 'ExpressionTable':
        """Bring the genes into a given order.

        Genes that the table lacks become NaN, which becomes 0, the mean,
        when genes are scaled. Genes that the list lacks go. The table, and
        any row of it, may lack a share of ``max_missing``, in [0, 1).
        """
        check_range('max_missing', max_missing, 0, 1, open_high=True)
        gene_ids = canonical_genes(gene_ids, 'the gene list')
        column = {gene: place for place, gene in enumerate(self.gene_ids)}
        missing = [gene for gene in gene_ids if gene not in column]
        self._check_missing(gene_ids, missing, max_missing)
        values = np.take(self.values, [
            column.get(gene, 0) for gene in gene_ids], axis=1)
        values[:, [gene not in column for gene in gene_ids]] = np.nan
        share = np.isnan(values).mean(axis=1)
        if (share > max_missing).any():
            worst = int(share.argmax())
            raise ValueError(f'{self.source}: case {self.case_ids[worst]} '
                             f'lacks {share[worst]:.1%} of {len(gene_ids)} '
                             f'genes, more than max_missing={max_missing:g}')
        notes = list(self.notes)
        empty = np.argwhere(np.isnan(values) & ~np.isnan(values).all(axis=0))
        if len(empty):
            row, place = empty[0]
            notes.append(
                f'{len(empty)} values of {len(np.unique(empty[:, 0]))} cases '
                'are empty and get the training mean, the first is of '
                f'{self.case_ids[row]}, gene {gene_ids[place]}')
        if missing:
            notes.append(
                f'{len(missing)} of {len(gene_ids)} genes are missing and '
                f'get the training mean: {shown(missing)}')
        extra = len(self.gene_ids) - len(gene_ids) + len(missing)
        if extra:
            notes.append(f'left out {extra} genes that are not in the list')
        return replace(self, values=values, gene_ids=tuple(gene_ids),
                       notes=tuple(notes))

    def _check_missing(self, gene_ids: Sequence[str], missing: Sequence[str],
                       max_missing: float) -> None:
        if len(missing) <= max_missing * len(gene_ids):
            return
        wanted = GeneNames(gene_ids[:100], 'the gene list').id_type
        hint = ''
        if wanted != self.id_type:
            hint = (f'; the list has {wanted} names, the table '
                    f'{self.id_type} names')
        raise ValueError(
            f'{self.source} lacks {len(missing)} of {len(gene_ids)} genes '
            f'({len(missing) / len(gene_ids):.1%}), more than '
            f'max_missing={max_missing:g}: {shown(missing)}{hint}')

    def convert(self, unit: str) -> 'ExpressionTable':
        """Convert to another unit, see :func:`convert_unit`."""
        if (unit, 1.0) == (self.unit, self.log2_offset):
            return self
        values = units.convert_unit(self.values, self.unit, unit, self.source,
                              self.log2_offset)
        return replace(self, values=values, unit=unit, log2_offset=1.0,
                       notes=(*self.notes, f'converted {self.unit} to {unit}'))

    def fit_scale(self, clip: float = 10.0) -> dict:
        """Fit the scale of the genes to all rows: the training cases.

        Counts are refused, because they grow with the depth of sequencing.
        Scaled genes end at ``clip``, up and down.

        Returns:
            What :class:`~mmmedmask.models.slide_omic.GeneScale` takes:
            ``gene_ids``, ``mean`` and ``std`` float32 (G, ) after the
            logarithm if one is taken, ``unit``, ``log2_offset``, ``clip``,
            ``num_cases`` and ``cases_hash``. Nothing else of the cases.
        """
        check_positive('clip', clip)
        if not self.case_ids:
            raise ValueError(f'{self.source}: there is no case to fit to')
        if self.unit.endswith('counts'):
            raise ValueError(
                f'{self.source} holds {self.unit}, which depend on the depth '
                "of sequencing: convert='cpm' makes CPM of counts")
        mean, std = gene_statistics(
            torch.from_numpy(self.values.copy()), is_linear_unit(self.unit))
        return dict(gene_ids=list(self.gene_ids), mean=mean, std=std,
                    unit=self.unit, log2_offset=self.log2_offset, clip=clip,
                    num_cases=len(self.case_ids),
                    cases_hash=names_hash(sorted(self.case_ids)))

    def save(self, path: str | Path) -> None:
        """Write the table to one ``.npz``, whole or not at all.

        :func:`load_expression` reads it much faster than the original.
        """
        names = {name: np.array(getattr(self, name), dtype=str)
                 for name in ('case_ids', 'gene_ids', 'patients', 'unit')}
        with atomic_path(path) as temporary, temporary.open('wb') as stream:
            np.savez(stream, values=self.values,
                     log2_offset=self.log2_offset, **names)


def load_expression(
        path: str | Path | Sequence[str | Path], unit: str | None = None,
        convert: str | None = None, log2_offset: float | None = None,
        id_type: str | None = None, genes_in: str | None = None,
        duplicates: str = 'error', sample_sheet: str | Path | None = None,
        missing_files: str = 'raise', gene_list: str | Path | None = None,
        case_list: str | Path | None = None) -> ExpressionTable:
    """Read gene expression in any of the layouts that users have.

    - A **folder of the GDC**: a file per sample, as HTSeq (FPKM, FPKM-UQ or
      counts) or STAR wrote it, in the folder or in one folder each, and a
      sample sheet.
    - **One matrix** as csv, tsv, xlsx or parquet, also in gz or zip, with
      genes in rows or in columns. Columns count as genes by their names:
      Ensembl ids or symbols; names that a spreadsheet turned into dates are
      refused. Columns that end with ``_rnaseq`` are the genes if there are
      any (tables of PORPOISE), and rows of one ``case_id`` count once.
    - ``.npz`` that :meth:`ExpressionTable.save` wrote.
    - ``.pt`` or ``.npy`` with a matrix (cases, genes), or a folder of them
      with a vector per case, named by the case: only with a list of genes.

    What a file is, is seen from its content. Rows of HTSeq and STAR that
    count reads outside of genes and copies of genes on chromosome Y
    (``ENSGR...``, ``_PAR_Y``) are left out.

    Args:
        path: File or folder, or several, which are put one below the other,
            with the genes that all have.
        unit: One of :data:`~mmmedmask.datasets.expression.units.UNITS`.
            None lets the columns of the file, its name and its values tell,
            or is an error. STAR's files hold several: ``unit`` chooses.
        convert: Unit to convert to; None leaves it.
        log2_offset: What was added before the logarithm, for ``log2_...``;
            None takes 1, or what a saved table tells.
        id_type: ``'ensembl'`` or ``'symbol'``, for files with both; None
            takes Ensembl ids if there are any.
        genes_in: ``'rows'`` or ``'columns'``; None lets the names tell.
        duplicates: ``'error'``, or ``'mean'`` of all columns of a gene
            that have a value.
        sample_sheet: The GDC's sample sheet; None takes the only
            ``gdc_sample_sheet*.tsv`` in the folder.
        missing_files: What to do where the sample sheet names files that
            are not there: ``'raise'``, or ``'report'`` in the notes.
        gene_list: Text file with a gene per line: for ``.pt`` and ``.npy``
            the columns, else the genes to take, whatever they are called.
            Unit and conversion are of all genes of the file.
        case_list: The same of the cases of a ``.pt`` or ``.npy`` matrix.

    Raises:
        FileNotFoundError: If something that is named is not there.
        ValueError: If the file is not as described, a sample or a gene
            occurs twice, or the unit is not clear or contradicted; if
            several files differ in unit, share few genes, or hold z-scores,
            whose zeros differ from file to file.
    """
    if not isinstance(path, str | Path):
        if not path:
            raise ValueError('path must name a file, got an empty list')
        return join_tables(
            [load_expression(part, unit, convert, log2_offset, id_type,
                             genes_in, duplicates, sample_sheet, missing_files,
                             gene_list, case_list) for part in path])
    check_choice('id_type', id_type, (None, *ID_TYPES))
    check_choice('genes_in', genes_in, (None, 'rows', 'columns'))
    check_choice('duplicates', duplicates, ('error', 'mean'))
    check_choice('missing_files', missing_files, ('raise', 'report'))
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f'The expression {path} does not exist')
    asked = None if gene_list is None else GeneNames(
        read_list_file(gene_list), str(gene_list)).gene_ids
    table = _read_saved(path)
    if table is not None:
        if unit not in (None, table.unit):
            raise ValueError(f'{path} holds {table.unit}, got unit={unit!r}; '
                             'convert= converts')
        if log2_offset not in (None, table.log2_offset):
            raise ValueError(f'{path} has log2_offset {table.log2_offset:g}, '
                             f'got log2_offset={log2_offset:g}')
    else:
        log2_offset = 1.0 if log2_offset is None else log2_offset
        raw = read_expression_files(path, unit, id_type, genes_in,
                                    sample_sheet, missing_files, gene_list,
                                    case_list)
        check_different(raw.case_ids, str(path))
        values, names, notes = _choose_genes(raw.values, raw.gene_names,
                                             str(path), duplicates, asked)
        # Before means, as those of counts are no whole numbers.
        if unit is None:
            unit = units.find_unit(values, str(path), raw.unit_hint)
            notes.append(f'took the values to be {unit}')
        else:
            # Others may be numbers of any kind, if nothing is done to them.
            used = slice(None) if asked is None or convert else np.isin(
                names, asked)
            if values[:, used].size:
                units.check_unit(values[:, used], unit, str(path), log2_offset)
        values, genes, means = _take_means(values, names)
        offset = log2_offset if unit.startswith('log2_') else 1.0
        table = ExpressionTable(values, tuple(raw.case_ids), tuple(genes),
                                unit, str(path), offset,
                                (*raw.notes, *notes, *means),
                                tuple(raw.patients))
    if convert is not None:
        table = table.convert(convert)
    if asked is None:
        return table
    # Last, as CPM are of all genes.
    kept = np.isin(table.gene_ids, asked)
    if not kept.any():
        raise ValueError(f'{table.source} has no gene of {gene_list}, which '
                         f'names {shown(asked)}')
    note = f'left out {(~kept).sum()} genes that are not in gene_list'
    return replace(table, values=table.values[:, kept],
                   gene_ids=tuple(itertools.compress(table.gene_ids, kept)),
                   notes=(*table.notes, *([] if kept.all() else [note])))


def join_tables(tables: Sequence[ExpressionTable],
                allow_zscores: bool = False) -> ExpressionTable:
    """Put tables one below the other, with the genes that all have.

    Z-scores are refused unless allowed: differences between the tables are
    then what z-scoring has made of them.
    """
    if len(tables) == 1:
        return tables[0]
    first, source = tables[0], ' + '.join(table.source for table in tables)
    if first.unit == 'zscore' and not allow_zscores:
        raise ValueError(f'{source} were z-scored each by itself, so that '
                         'differences between them are lost and others '
                         'appear: join the tables before z-scores are taken')
    for table in tables[1:]:
        if (table.unit, table.log2_offset) != (first.unit, first.log2_offset):
            raise ValueError(
                f'{table.source} holds {table.unit} (log2_offset '
                f'{table.log2_offset:g}), {first.source} holds {first.unit} '
                f'(log2_offset {first.log2_offset:g})')
    shared = set(first.gene_ids).intersection(
        *(table.gene_ids for table in tables[1:]))
    sizes = [len(table.gene_ids) for table in tables]
    if len(shared) < (1 - MAX_MISSING) * min(sizes):
        raise ValueError(
            f'{source} have {sizes} genes and share {len(shared)}; at least '
            f'{1 - MAX_MISSING:.0%} of the smallest number are needed')
    genes = tuple(gene for gene in first.gene_ids if gene in shared)
    notes = [note for table in tables for note in table.notes]
    if len(shared) < max(sizes):
        notes.append(f'kept the {len(shared)} genes that all have, of {sizes}')
    values, cases, patients = [], [], []
    for table in tables:
        column = {gene: place for place, gene in enumerate(table.gene_ids)}
        values.append(table.values[:, [column[gene] for gene in genes]])
        cases += table.case_ids
        patients += table.patients or [''] * len(table.case_ids)
    check_different(cases, source)
    return replace(
        first, values=np.concatenate(values), case_ids=tuple(cases),
        gene_ids=genes, source=source, notes=tuple(dict.fromkeys(notes)),
        patients=tuple(patients) if any(patients) else ())


def _choose_genes(values: np.ndarray, names: Sequence[str], source: str,
                  duplicates: str, asked: Sequence[str] | None
                  ) -> tuple[np.ndarray, list[str], list[str]]:
    """Keep the columns that are genes, and return values, genes and notes.

    Genes that nobody ``asked`` for may occur twice.
    """
    genes = GeneNames(names, source)
    if not genes.gene_ids:
        raise ValueError(f'{source} has no gene')
    notes = list(genes.notes)
    expressed = np.nan_to_num(values[:, genes.par_rows]).any(axis=0).sum()
    if expressed:
        notes.append(f'{expressed} of the copies on chromosome Y were '
                     'expressed')
    if genes.rows != list(range(values.shape[1])):
        values = values[:, genes.rows]
    twice = [gene for gene in repeated(genes.gene_ids)
             if asked is None or gene in asked]
    if duplicates == 'error' and twice:
        raise ValueError(f'{source} has {len(twice)} genes more than once: '
                         f"{shown(twice)}; duplicates='mean' takes their mean")
    return values, genes.gene_ids, notes


def _take_means(values: np.ndarray, gene_ids: Sequence[str]
                ) -> tuple[np.ndarray, list[str], list[str]]:
    """Keep one column per gene, and return values, genes and notes."""
    twice, notes = repeated(gene_ids), []
    if twice:
        values = values.copy()
        for places in twice.values():
            known = ~np.isnan(values[:, places])
            # 0 / 0 is NaN: no column of the gene has a value.
            with np.errstate(invalid='ignore'):
                values[:, places[0]] = np.nansum(
                    values[:, places], axis=1) / known.sum(axis=1)
        later = {place for places in twice.values() for place in places[1:]}
        kept = [place for place in range(len(gene_ids)) if place not in later]
        values = values[:, kept]
        gene_ids = [gene_ids[place] for place in kept]
        notes.append(f'took the mean of {len(twice)} genes that occur more '
                     f'than once: {shown(list(twice))}')
    return np.ascontiguousarray(values, np.float32), list(gene_ids), notes


def _read_saved(path: Path) -> ExpressionTable | None:
    """Read what :meth:`ExpressionTable.save` wrote, None for other files."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        if 'values.npy' not in archive.namelist():
            return None
    try:
        with np.load(path, allow_pickle=False) as file:
            saved = dict(file)
        parts = (saved['values'], tuple(saved['case_ids'].tolist()),
                 tuple(saved['gene_ids'].tolist()), str(saved['unit']),
                 str(path), float(saved['log2_offset']))
    # It fails in many ways, among them a missing key.
    except Exception as error:
        raise ValueError(f'{path} is damaged, or was written by others: '
                         f'{error}') from error
    return ExpressionTable(*parts, patients=tuple(
        saved['patients'].tolist() if 'patients' in saved else ()))
