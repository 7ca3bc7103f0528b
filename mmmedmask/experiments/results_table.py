"""Make a table of what runs gave: the paper's values, ours, differences."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from statistics import fmean

from mmmedmask.experiments.commands import batch_notes
from mmmedmask.experiments.fingerprints import DataFingerprints
from mmmedmask.experiments.manifest import read_quietly, results_of
from mmmedmask.experiments.plan import Axis, Cell, Plan
from mmmedmask.experiments.run import Run
from mmmedmask.experiments.schema import Recipe, Row, TableColumn
from mmmedmask.util import markdown_tables
from mmmedmask.util.atomic_files import atomic_path, write_csv, write_text
from mmmedmask.util.coco_scores import defined_score

#: What is said about each scale, wherever one of its numbers is.
SCALE_NOTES = {
    'paper': '', 'small': "small: not the paper's setting",
    'smoke': 'smoke: drawn data, two iterations; the numbers mean nothing'}
CSV_COLUMNS = ('table', 'row', 'title', 'column', 'paper', 'mean', 'sd', 'n',
               'asked', 'difference', 'values', 'state', 'scale')
# Characters of the rows' names in the name of a file.
_LONGEST_PART = 100


@dataclass(frozen=True)
class CellResult:
    """A cell of the table.

    Attributes:
        values: Value by seed and fold, in the paper's unit.
        asked: Number of seeds times folds.
        problems: What hinders the others, such as ``'failed'``.
    """

    row: Row
    column: TableColumn
    values: Mapping[Axis, float]
    asked: int
    problems: Mapping[Axis, str]
    has_stage: bool = True

    @property
    def paper(self) -> float | None:
        """The paper's value."""
        return (self.row.paper or {}).get(self.column.name)

    @property
    def mean(self) -> float | None:
        """Mean over seeds and folds."""
        return fmean(self.values.values()) if self.values else None

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over seeds and folds."""
        if len(self.values) < 2:
            return None
        # NumPy, which a table without runs does not need.
        from mmmedmask.evaluation.paired_tests import deviation
        return deviation(list(self.values.values()))

    def difference(self, scale: str) -> float | None:
        """Ours less the paper's; None where ours has other data."""
        if scale != 'paper' or self.mean is None or self.paper is None:
            return None
        return self.mean - self.paper


def collect_cells(plan: Plan, recipe: Recipe) -> list[CellResult]:
    """Collect the cells of a table from the manifests, row by row."""
    axes = plan.axes[recipe.name]
    fingerprints = plan.fingerprints
    left_out = {row for table, row in plan.left_out if table == recipe.name}
    cells = []
    for row in plan.rows(recipe.name):
        if row.name in left_out:
            continue
        for column in recipe.columns:
            places = {axis: (recipe.name, row.name, column.stage, axis)
                      for axis in axes}
            metric = row.metrics.get(column.name, column.metric)
            scores = {axis: _value(plan.cells[place], metric, fingerprints,
                                   column.logged)
                      for axis, place in places.items() if place in plan.cells}
            values = {axis: value * column.factor for axis, value
                      in scores.items() if not isinstance(value, str)}
            problems = {axis: value for axis, value in scores.items()
                        if isinstance(value, str)}
            cells.append(CellResult(row, column, values, len(axes), problems,
                                    column.stage in row.stages))
    return cells


def write_tables(plan: Plan, recipe: Recipe, command: str) -> str:
    """Write a table, see :func:`table_files`, and return its Markdown.

    If a row has several runs, a picture of all scores lies beside them.

    What is written follows from the results and from what they were made
    with, not from how long it took or how often it was interrupted.
    """
    cells = collect_cells(plan, recipe)
    text = markdown(plan, recipe, cells, command)
    page, sheet = table_files(plan, recipe)
    write_text(page, text)
    write_csv(sheet, CSV_COLUMNS,
              [_csv_row(plan, recipe, cell) for cell in cells])
    if any(cell.spread is not None for cell in cells):
        _draw(recipe, cells, page.with_suffix('.png'))
    return text


def _draw(recipe: Recipe, cells: Sequence[CellResult], file: Path) -> None:
    """Draw the scores of each row's runs, with lines for the floors."""
    from PIL import Image

    from mmmedmask.visualization.score_dots import draw_score_dots
    floors = [row.title for row in recipe.rows if row.name == recipe.against]
    # Rows that read metrics of another row's runs are floors.
    floors += [row.title for row in recipe.rows if row.metrics]
    picture = draw_score_dots(
        {column.title: {cell.row.title: independent_values(cell.values)
                        for cell in cells
                        if cell.column == column and cell.values}
         for column in recipe.columns}, floors)
    with atomic_path(file) as part:
        Image.fromarray(picture).save(part)


def table_files(plan: Plan, recipe: Recipe) -> tuple[Path, Path]:
    """Name the files of a table; some of its rows never replace all of them.

    ``TABLE.md`` and ``.csv``, or with some rows ``TABLE_ROW_ROW.md``.
    """
    rows = plan.rows(recipe.name)
    name = recipe.name
    if len(rows) < len(recipe.rows):
        part = '_'.join(row.name for row in rows)
        if len(part) > _LONGEST_PART:
            digest = hashlib.sha256(part.encode()).hexdigest()[:8]
            part = f'{part[:_LONGEST_PART]}_{digest}'
        name = f'{name}_{part}'
    return plan.folder / f'{name}.md', plan.folder / f'{name}.csv'


def markdown(plan: Plan, recipe: Recipe, cells: Sequence[CellResult],
             command: str) -> str:
    """Write a table for people, and where it comes from, as Markdown."""
    note = SCALE_NOTES[plan.scale]
    title = f'# {recipe.title}' + (f' ({note})' if note else '')
    lines = [['row', *(f'{column.title}<br>paper / ours / difference'
                       for column in recipe.columns), 'scale']]
    rows = {cell.row.name: cell.row for cell in cells}
    for row in rows.values():
        lines.append([row.title, *(
            _markdown_cell(cell, plan.scale, _digits(recipe, cell.column))
            for cell in cells if cell.row is row), note])
    if not note:
        lines = [line[:-1] for line in lines]
    axes = plan.axes[recipe.name]
    runs = f'Seeds {_listed(axis.seed for axis in axes)}'
    if axes[0].fold is not None:
        runs += f', folds {_listed(axis.fold for axis in axes)}'
    parts = [title, f'{recipe.paper}. {runs}; ours: mean ± sample '
             'standard deviation (number of runs).',
             markdown_tables.markdown(lines)]
    for table_name, row in plan.left_out:
        if table_name == recipe.name:
            parts.append(f'Row {row} has nothing at scale {plan.scale}.')
    parts += _differences(recipe, cells)
    remarks = [*recipe.notes, *(f'{row.title}: {row.note}'
                                for row in rows.values() if row.note)]
    if remarks:
        parts.append('\n'.join(f'- {remark}' for remark in remarks))
    parts += _folds_sections(plan, recipe)
    parts.append(_provenance(plan, recipe, command))
    return '\n\n'.join(parts) + '\n'


def _differences(recipe: Recipe, cells: Sequence[CellResult]) -> list[str]:
    """Compare each row with the row ``against``, run by run."""
    if recipe.against is None:
        return []
    others = {cell.column.name: cell.values for cell in cells
              if cell.row.name == recipe.against}
    title = recipe.row(recipe.against).title
    if not any(others.values()):
        reason = 'has no result' if others else 'is not among the rows'
        return [f'No differences to {title}: it {reason}.']
    lines = []
    for name in dict.fromkeys(cell.row.name for cell in cells):
        pairs = {cell.column: {
            axis: value - others[cell.column.name][axis] for axis, value
            in cell.values.items() if axis in others[cell.column.name]}
            for cell in cells if cell.row.name == name}
        if name != recipe.against and any(pairs.values()):
            lines.append([recipe.row(name).title, *(
                _with_interval(values, _digits(recipe, column))
                for column, values in pairs.items())])
    if not lines:
        return []
    return [f'## Less {title}, run by run',
            'Mean difference over the runs that both rows have, with its '
            '95 % interval (Student\'s t; number of runs).'
            + (' Seeds of a fold have the same patients: each fold counts '
               'once, with the mean of its seeds.'
               if any(axis.fold is not None for cell in cells
                      for axis in cell.values) else ''),
            markdown_tables.markdown([
                ['row', *(column.title for column in recipe.columns)],
                *lines])]


def _with_interval(values: Mapping[Axis, float], digits: int) -> str:
    from mmmedmask.evaluation.paired_tests import interval_of_mean
    if not values:
        return '–'
    independent = independent_values(values)
    mean, low, high = interval_of_mean(independent)
    text = f'{mean:+.{digits}f}'
    if len(independent) > 1:
        text += f' [{low:+.{digits}f}, {high:+.{digits}f}]'
    return f'{text} ({len(values)})'


def independent_values(values: Mapping[Axis, float]) -> list[float]:
    """Average the seeds of each fold, if there are several folds.

    They are tested on the same patients, so more seeds make no interval of
    the mean narrower than folds allow.
    """
    folds: dict[int | None, list[float]] = {}
    for axis, value in values.items():
        folds.setdefault(axis.fold, []).append(value)
    if len(folds) < 2:
        return list(values.values())
    return [fmean(seeds) for seeds in folds.values()]


def _folds_sections(plan: Plan, recipe: Recipe) -> list[str]:
    """Each fold and all patients of the rows whose folds are done."""
    if plan.axes[recipe.name][0].fold is None:
        return []
    # It imports the metrics.
    from mmmedmask.evaluation.fold_table import markdown_table
    from mmmedmask.experiments.cross_validation import fold_rows
    sections = []
    for row in plan.rows(recipe.name):
        if row.metrics:
            continue  # the folds are those of another row's runs
        for stage in dict.fromkeys(column.stage for column in recipe.columns):
            rows = fold_rows(plan, recipe, row, stage)
            if rows:
                sections += [f'## Folds of {row.title}, {stage}',
                             markdown_table(rows)]
    return sections


def _listed(values: Iterable, separator: str = ', ') -> str:
    """What is different, each once."""
    return separator.join(map(str, dict.fromkeys(values)))


def _value(cell: Cell, metric: str, fingerprints: DataFingerprints | None,
           logged: str | None = None) -> float | str:
    """A metric of a run, or why there is none."""
    results = results_of(cell.run, cell.choice, fingerprints, logged)
    if isinstance(results, str):
        return results
    if metric not in results:
        return (f'no metric {metric!r} among '
                f'{", ".join(sorted(results)) or "none"}')
    value = defined_score(metric, results[metric])
    return value if math.isfinite(value) else f'{metric} is {value}'


def _markdown_cell(cell: CellResult, scale: str, digits: int) -> str:
    if not cell.has_stage:
        return '–'
    paper = '–' if cell.paper is None else f'{cell.paper:.{digits}f}'
    problems = _listed(cell.problems.values(), '; ')
    if cell.mean is None:
        return f'{paper} / {problems or "missing"} / –'
    ours = f'{cell.mean:.{digits}f}'
    if cell.spread is not None:
        ours += f' ± {cell.spread:.{digits}f}'
    number = str(len(cell.values))
    if len(cell.values) < cell.asked:
        number += f' of {cell.asked}: {problems}'
    ours += f' ({number})'
    difference = cell.difference(scale)
    text = '–' if difference is None else f'{difference:+.{digits}f}'
    return f'{paper} / {ours} / {text}'


def _csv_row(plan: Plan, recipe: Recipe, cell: CellResult) -> list:
    def number(value: float | None) -> str:
        return '' if value is None else repr(round(value, 10))

    state = 'no stage' if not cell.has_stage else '; '.join(
        f'{axis}: {problem}' for axis, problem in cell.problems.items())
    return [recipe.name, cell.row.name, cell.row.title, cell.column.name,
            number(cell.paper), number(cell.mean), number(cell.spread),
            len(cell.values), cell.asked, number(cell.difference(plan.scale)),
            ' '.join(number(value) for value in cell.values.values()), state,
            SCALE_NOTES[plan.scale] or plan.scale]


def _digits(recipe: Recipe, column: TableColumn) -> int:
    """As many digits as the paper has, at least one."""
    values = [row.paper[column.name] for row in recipe.rows
              if column.name in (row.paper or ())]
    return max([1, *(-Decimal(repr(value)).as_tuple().exponent
                     for value in values)])


def _provenance(plan: Plan, recipe: Recipe, command: str) -> str:
    """Say what made the table: command, code, hardware."""
    runs = _runs_of(plan, recipe)
    manifests = {run: read_quietly(run) for run in runs}
    started = {run: manifest for run, manifest in manifests.items()
               if manifest}
    starts = [start for manifest in started.values()
              for start in manifest['starts']]
    lines = [f'Made by `{command}`.']
    if starts:
        lines += [f'Code: {_listed(map(_describe_code, starts), "; ")}.',
                  'Hardware: '
                  f'{_listed(map(_describe_hardware, starts), "; ")}.']
    lines.append(f'{len(started)} of {len(runs)} runs were started.')
    lines += _data_notes(started)
    if filled := [run.title for run, manifest in started.items()
                  if manifest['found_files']]:
        lines.append('Files, maybe weights of other settings, were there '
                     f'before the first start of {"; ".join(filled)}.')
    lines += batch_notes(started)
    unverified = [run.title for run, manifest in started.items() if run.sources
                  and manifest['steps'].get('train', {}).get('ended')
                  and not any(check.get('percent') == 100
                              for check in manifest['load_checks'])]
    if unverified:
        lines.append('No load check said that all weights arrived in '
                     f'{"; ".join(unverified)}.')
    return '\n'.join(f'- {line}' for line in lines)


def _data_notes(manifests: Mapping[Run, Mapping]) -> list[str]:
    """Say which data changed from one run to another."""
    titles: dict[tuple[str, str], dict[str | None, list[str]]] = {}
    for run, manifest in manifests.items():
        for name in run.data.keys() & manifest['data'].keys():
            titles.setdefault((name, str(run.data[name])), {}).setdefault(
                manifest['data'][name], []).append(run.title)
    return [f'Not the same data: {name} changed between the runs '
            f'{" and ".join(f"({_listed(runs)})" for runs in prints.values())}'
            '. Means and differences over both say nothing.'
            for (name, _), prints in sorted(titles.items())
            if len(prints) > 1]


def _runs_of(plan: Plan, recipe: Recipe) -> list[Run]:
    """The runs behind a table, and those that they start from."""
    wanted = {cell.run for (table, _, _, _), cell in plan.cells.items()
              if table == recipe.name}
    for run in reversed(plan.runs):
        if run in wanted:
            wanted.update(source.run for source in run.sources.values())
    return [run for run in plan.runs if run in wanted]


def _describe_code(start: Mapping) -> str:
    versions = start['versions']
    git = start['git']
    code = f'mmmedmask {versions["mmmedmask"]}'
    if git:
        code += f' at {git["commit"][:12]}' + (
            ' with changes' if git['dirty'] else '')
    return f'{code}, Python {versions["python"]}, ' \
        f'torch {versions.get("torch")}'


def _describe_hardware(start: Mapping) -> str:
    hardware = start['hardware']
    gpus = hardware['gpus']
    counted = [f'{gpus.count(name)} x {name}' for name in dict.fromkeys(gpus)]
    return ', '.join(
        [f'{hardware["cpu"]} ({hardware["cores"]} cores)', *counted])
