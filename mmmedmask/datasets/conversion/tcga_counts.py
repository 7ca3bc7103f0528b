"""Raw RNA-seq counts of TCGA's tumour types, a file per type (RNAsum.data)."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmmedmask.datasets.conversion.folders import all_files, index_files
from mmmedmask.datasets.conversion.omics import (
    COLUMNS,
    OmicConversion,
    choose_files,
)
from mmmedmask.datasets.expression.samples import (
    PRIMARY_TUMOURS,
    match_samples,
    tcga_case,
    tcga_site,
)
from mmmedmask.datasets.expression.table import join_tables, load_expression
from mmmedmask.util.nearest import shown

_NAME = re.compile(r'TCGA_([A-Z0-9]+)_Counts\.exp(\.gz)?$')


def find_types(source: Path, types: Sequence[str] = ()) -> dict[str, Path]:
    """Find the file of each tumour type.

    ``types`` are those to take, such as ``'ACC'``; none takes all but
    ``TEST``, whose 20 samples are of another set of genes.
    """
    files = index_files(
        filter(lambda path: _NAME.match(path.name), all_files(source)),
        key=lambda path: _NAME.match(path.name)[1])
    chosen = choose_files(files, types, source, 'TCGA_<type>_Counts.exp.gz')
    if not types:
        chosen.pop('TEST', None)
    return chosen


def convert(files: dict[str, Path], unit: str = 'cpm') -> OmicConversion:
    """Convert counts to one cohort, whose classes are the tumour types.

    Every patient gets one primary tumour, the first by barcode, and no
    slides. Counts depend on the depth of sequencing, so they become counts
    per million: ``unit`` is ``'cpm'`` or ``'log2_cpm'``.
    """
    lines, notices, tables = [], [], []
    for name, path in files.items():
        table = load_expression(path, unit='counts')
        cases = {sample: tcga_case(sample) for sample in table.case_ids}
        unknown = [sample for sample, case in cases.items() if case is None]
        if unknown:
            raise ValueError(
                f'{path}: these are not TCGA barcodes: {unknown[:3]}')
        rows, notes = match_samples(
            table.case_ids, dict.fromkeys(cases.values()))
        if not rows:
            raise ValueError(
                f'{path}: no sample is of a primary tumour, whose barcodes go '
                f'on with one of {PRIMARY_TUMOURS} behind the patient; it has '
                f'{shown(table.case_ids)}')
        notices += [f'{path.name}: {note}' for note in (*table.notes, *notes)]
        # As CPM are of all genes of a file, not of those that all files have.
        tables.append(table.select(list(rows.values()), list(rows)).convert(
            unit))
        lines += [dict(zip(COLUMNS, (case, '', name, tcga_site(case), '', '',
                                     name), strict=True)) for case in rows]
    table = join_tables(tables)
    return OmicConversion(tuple(lines), replace(table, notes=()),
                          (*notices, *table.notes))
