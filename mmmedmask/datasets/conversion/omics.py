"""Patients with gene expression, converted to one cohort csv and one table."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmmedmask.datasets.conversion import Conversion, LayoutError
from mmmedmask.datasets.conversion.check_report import CheckReport
from mmmedmask.datasets.expression.table import (
    ExpressionTable,
    load_expression,
)
from mmmedmask.datasets.slides.cohort import read_cohort
from mmmedmask.util.atomic_files import write_csv, write_text

COHORT_NAME = 'cohort.csv'
EXPRESSION_NAME = 'expression.npz'
GENES_NAME = 'genes.txt'
COLUMNS = ('case_id', 'slide_id', 'label', 'site', 'survival_months',
           'censorship', 'cohort')

# Fewer cannot be split into training, validation and test.
_FEW_CASES = 3


def choose_files(files: Mapping[str, Path], wanted: Sequence[str],
                 source: Path, pattern: str) -> dict[str, Path]:
    """Choose the ``wanted`` files, or all; ``pattern`` found them."""
    if not files:
        raise LayoutError(f'{source} has no {pattern}')
    missing = [name for name in wanted if name not in files]
    if missing:
        raise LayoutError(f'{source} has no {pattern} of {missing}, it has '
                          f'those of {sorted(files)}')
    return {name: files[name] for name in wanted or files}


@dataclass(frozen=True, eq=False)
class OmicConversion(Conversion):
    """What a download becomes.

    Attributes:
        lines: Lines of the cohort csv with the keys ``COLUMNS``, one per
            slide, or per patient without slides.
        table: Expression; rows are named by patient.
    """

    lines: tuple[Mapping[str, str], ...]
    table: ExpressionTable
    notices: tuple[str, ...] = ()

    def of_classes(self, classes: Sequence[str]) -> 'OmicConversion':
        """Keep the patients of some classes; each must have some."""
        known = {line['label'] for line in self.lines}
        unknown = [name for name in classes if name not in known]
        if unknown:
            raise ValueError(f'there are no patients of {unknown}; the '
                             f'classes are {sorted(known)}')
        lines = tuple(line for line in self.lines if line['label'] in classes)
        cases = {line['case_id'] for line in lines}
        others = {line['case_id'] for line in self.lines} - cases
        table = self.table.select([
            row for row, case in enumerate(self.table.case_ids)
            if case in cases])
        notice = f'left out {len(others)} patients of other classes'
        return OmicConversion(lines, table, (*self.notices, notice))

    def describe(self) -> list[str]:
        """Say how many patients and genes there are, a line each."""
        labels = {line['case_id']: line['label'] for line in self.lines}
        counts = Counter(labels.values())
        return [
            f'{len(labels)} patients: '
            + ', '.join(f'{counts[name]} {name}' for name in sorted(counts)),
            f'{sum(bool(line["slide_id"]) for line in self.lines)} slides',
            f'{len(self.table.gene_ids)} genes ({self.table.unit}) of '
            f'{len(self.table.case_ids)} patients']

    def write(self, out: Path) -> list[str]:
        """Write ``cohort.csv``, ``expression.npz`` and ``genes.txt``."""
        write_csv(out / COHORT_NAME, COLUMNS,
                  [[line[name] for name in COLUMNS] for line in self.lines])
        write_text(out / GENES_NAME, ''.join(
            f'{gene}\n' for gene in self.table.gene_ids))
        self.table.save(out / EXPRESSION_NAME)
        return [f'{out}: {COHORT_NAME}, {EXPRESSION_NAME}, {GENES_NAME}',
                *self.describe()]

    def check(self, out: Path) -> CheckReport:
        """Read back what was written, look for what makes it useless."""
        report = CheckReport()
        path = out / COHORT_NAME
        cases = read_cohort(path)
        report.checked.append(f'{path}: {len(cases)} cases')
        written = {(case.case_id, case.label) for case in cases}
        meant = {(line['case_id'], line['label']) for line in self.lines}
        if written != meant:
            report.add_problem('written_mismatch', COHORT_NAME)
        table = load_expression(out / EXPRESSION_NAME)
        report.checked.append(
            f'{out / EXPRESSION_NAME}: {len(table.case_ids)} cases, '
            f'{len(table.gene_ids)} genes, unit {table.unit}')
        if (table.case_ids, table.gene_ids, table.unit) != (
                self.table.case_ids, self.table.gene_ids, self.table.unit) \
                or not np.array_equal(table.values, self.table.values,
                                      equal_nan=True):
            report.add_problem('written_mismatch', EXPRESSION_NAME)
        for notice in self.notices:
            report.add_notice('download', detail=notice)
        self._check_classes(report)
        self._check_values(report)
        return report

    def _check_classes(self, report: CheckReport) -> None:
        labels = {line['case_id']: line['label'] for line in self.lines}
        for label, count in sorted(Counter(labels.values()).items()):
            if count < _FEW_CASES:
                report.add_notice('few_cases', label, detail=f'{count} cases')
        for case in sorted(labels.keys() - set(self.table.case_ids)):
            report.add_notice('no_expression', case)
        if self.table.unit != 'zscore':
            return
        cohorts = defaultdict(set)
        for line in self.lines:
            cohorts[line['label']].add(line['cohort'])
        if len(set().union(*cohorts.values())) > 1:
            for label, names in sorted(cohorts.items()):
                if len(names) == 1:
                    report.add_problem('scaled_apart', label,
                                       detail=f'cohort {min(names)}')

    def _check_values(self, report: CheckReport) -> None:
        seen: dict[bytes, str] = {}
        for case, row in zip(self.table.case_ids, self.table.values,
                             strict=True):
            first = seen.setdefault(row.tobytes(), case)
            if first != case:
                report.add_problem('identical_expression', first, case)
        values = self.table.values
        missing = np.isnan(values).all(axis=0)
        constant = ~missing & (values == values[:1]).all(axis=0)
        for what, places in (('missing in all cases', missing),
                             ('the same in all cases', constant)):
            if places.any():
                report.add_notice(
                    'uninformative_genes',
                    *np.array(self.table.gene_ids)[places][:5].tolist(),
                    detail=f'{int(places.sum())} genes are {what}')
