"""PORPOISE's tables of TCGA cohorts: slides, follow-up and expression."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmmedmask.datasets.conversion import omics
from mmmedmask.datasets.conversion.check_report import (
    CheckReport,
    ConversionError,
)
from mmmedmask.datasets.conversion.folders import all_files, index_files
from mmmedmask.datasets.expression.samples import tcga_site
from mmmedmask.datasets.expression.table import join_tables, load_expression
from mmmedmask.datasets.slides.feature_files import slide_name
from mmmedmask.util.table_files import read_table

Z_SCORE_NOTICE = (
    'these are z-scores, made within one cohort: they tell its patients '
    'apart, and nothing about the difference from another cohort')
MIXED_NOTICE = (
    'WARNING: {cohorts} were each turned into z-scores by themselves. A '
    'model tells them apart by traces of that scaling, not by biology; '
    'classes that lie in one cohort each (LUAD against LUSC) prove nothing. '
    'Use this for tests of files alone')

_PATTERN = 'tcga_*_all_clean.csv*'
_SOURCE_COLUMNS = ('case_id', 'slide_id', 'oncotree_code', 'survival_months',
                   'censorship')


def find_tables(source: Path, cohorts: Sequence[str] = ()) -> dict[str, Path]:
    """Find each cohort's csv or zip; all, if no ``cohorts`` are named."""
    paths = [source] if source.is_file() else [
        path for path in all_files(source) if path.match(_PATTERN)]
    tables = index_files(paths, key=lambda path: path.name.split('_')[
        1 if '_' in path.name else 0].lower())
    return omics.choose_files(
        tables, [name.lower() for name in cohorts], source, _PATTERN)


def convert(tables: dict[str, Path],
            classes: Sequence[str] | None = None) -> omics.OmicConversion:
    """Convert tables to one cohort with one set of genes.

    The class is the OncoTree code. The site is that of the barcode, if
    it is one: the tables' own column has lost leading zeros. Genes are those
    that all tables have. ``classes`` are those to keep; None keeps all.
    """
    lines, parts = [], []
    for cohort, path in tables.items():
        lines += _read_lines(cohort, path)
        parts.append(load_expression(path, unit='zscore'))
    table = join_tables(parts, allow_zscores=True)
    first = Z_SCORE_NOTICE if len(parts) == 1 else MIXED_NOTICE.format(
        cohorts=' and '.join(tables))
    conversion = omics.OmicConversion(tuple(lines), replace(table, notes=()),
                                (first, *table.notes))
    return conversion.of_classes(classes) if classes else conversion


def _read_lines(cohort: str, path: Path) -> list[dict]:
    table = read_table(path, _SOURCE_COLUMNS)
    rows = [row for _, row in table.rows(*_SOURCE_COLUMNS)]
    report, facts = CheckReport(), defaultdict(set)
    for row in rows:
        for name in _SOURCE_COLUMNS:
            facts[row['case_id'], name].add(row[name])
    for (case, name), values in facts.items():
        if name != 'slide_id' and len(values) > 1:
            report.add_problem(
                'contradiction', path.name, case,
                detail=f'{name} is {" and ".join(sorted(values))}')
    if report.problems:
        raise ConversionError(report)
    return [dict(zip(omics.COLUMNS, (
        row['case_id'], slide_name(row['slide_id']), row['oncotree_code'],
        tcga_site(row['case_id']) or '', row['survival_months'],
        row['censorship'].removesuffix('.0'), cohort), strict=True))
            for row in rows]
