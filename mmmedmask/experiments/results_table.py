"""Make a table of what runs gave: the paper's values, ours, differences."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from mmmedmask.experiments.commands import batch_notes
from mmmedmask.experiments.manifest import read_manifest, run_key
from mmmedmask.experiments.plan import Plan, Run
from mmmedmask.experiments.progress import duration
from mmmedmask.experiments.run_files import is_number
from mmmedmask.experiments.schema import Column, Recipe, Row
from mmmedmask.util.atomic_files import write_csv

#: What is said about each scale, wherever one of its numbers is.
SCALE_NOTES = {
    'paper': '',
    'small': "small: not the paper's setting",
    'smoke': 'smoke: drawn data, two iterations; the numbers mean nothing',
}
CSV_COLUMNS = ('table', 'row', 'title', 'column', 'paper', 'mean', 'sd', 'n',
               'asked', 'difference', 'values', 'state', 'scale')
# Characters of the rows' names in the name of a file.
_LONGEST_PART = 100


@dataclass(frozen=True)
class CellResult:
    """A cell of the table.

    Attributes:
        row: Its row.
        column: Its column.
        values: Value by seed, in the paper's unit.
        asked: Number of seeds.
        problems: What hinders the other seeds: ``'failed'``, ``'missing'``
            and so on, by seed.
        has_stage: Whether the row has the stage of the column.
    """

    row: Row
    column: Column
    values: Mapping[int, float]
    asked: int
    problems: Mapping[int, str]
    has_stage: bool = True

    @property
    def paper(self) -> float | None:
        """The paper's value."""
        return self.row.paper.get(self.column.name)

    @property
    def mean(self) -> float | None:
        """Mean over seeds."""
        return fmean(self.values.values()) if self.values else None

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over seeds."""
        return stdev(self.values.values()) if len(self.values) > 1 else None

    def difference(self, scale: str) -> float | None:
        """Ours less the paper's; None where ours has other data."""
        if scale != 'paper' or self.mean is None or self.paper is None:
            return None
        return self.mean - self.paper


def collect_cells(plan: Plan, recipe: Recipe,
                  failures: Mapping[Run, str]) -> list[CellResult]:
    """Collect the cells of a table from the manifests.

    Args:
        plan: The plan.
        recipe: One of its tables.
        failures: What failed in this call, by run.

    Returns:
        The cells, row by row.
    """
    rows = next(rows for table, rows in plan.tables
                if table.name == recipe.name)
    seeds = plan.seeds[recipe.name]
    left_out = {row for table, row in plan.left_out if table == recipe.name}
    cells = []
    for row in rows:
        if row.name in left_out:
            continue
        for column in recipe.columns:
            values: dict[int, float] = {}
            problems: dict[int, str] = {}
            for seed in seeds:
                cell = plan.cells.get(
                    (recipe.name, row.name, column.stage, seed))
                if cell is None:
                    continue
                value = _value(cell.run, cell.choice, column, failures)
                if isinstance(value, str):
                    problems[seed] = value
                else:
                    values[seed] = value * column.factor
            cells.append(CellResult(row, column, values, len(seeds), problems,
                                    column.stage in row.stages))
    return cells


def write_tables(plan: Plan, recipe: Recipe, folder: str | Path,
                 failures: Mapping[Run, str], command: str) -> str:
    """Write a table as Markdown and as csv.

    Args:
        plan: The plan.
        recipe: One of its tables.
        folder: Folder of the files, see :func:`table_files`.
        failures: What failed in this call, by run.
        command: The command that made it.

    Returns:
        The table as Markdown.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    cells = collect_cells(plan, recipe, failures)
    text = markdown(plan, recipe, cells, command)
    page, sheet = table_files(plan, recipe, folder)
    partial = page.with_name(f'{page.name}.part')
    partial.write_text(text, encoding='utf-8')
    os.replace(partial, page)
    write_csv(sheet, CSV_COLUMNS,
                [_csv_row(plan, recipe, cell) for cell in cells])
    return text


def table_files(plan: Plan, recipe: Recipe,
                folder: str | Path) -> tuple[Path, Path]:
    """Name the files of a table; some of its rows never replace all of them.

    Args:
        plan: The plan.
        recipe: One of its tables.
        folder: Folder of the files.

    Returns:
        ``TABLE.md`` and ``TABLE.csv``, or ``TABLE_ROW_ROW.md`` and ``.csv``
        if the plan has some of the rows alone.
    """
    rows = next(rows for one, rows in plan.tables if one.name == recipe.name)
    name = recipe.name
    if len(rows) < len(recipe.rows):
        part = '_'.join(row.name for row in rows)
        if len(part) > _LONGEST_PART:
            digest = hashlib.sha256(part.encode()).hexdigest()[:8]
            part = f'{part[:_LONGEST_PART]}_{digest}'
        name = f'{name}_{part}'
    return Path(folder, f'{name}.md'), Path(folder, f'{name}.csv')


def markdown(plan: Plan, recipe: Recipe, cells: Sequence[CellResult],
             command: str) -> str:
    """Write a table for people.

    Args:
        plan: The plan.
        recipe: One of its tables.
        cells: Its cells.
        command: The command that made it.

    Returns:
        Markdown with a title, the table, and where it comes from.
    """
    note = SCALE_NOTES[plan.scale]
    title = f'# {recipe.title}' + (f' ({note})' if note else '')
    head = ['row', *(f'{one.title}<br>paper / ours / difference'
                     for one in recipe.columns)]
    if note:
        head.append('scale')
    lines = [head, ['---'] * len(head)]
    rows = list(dict.fromkeys(cell.row.name for cell in cells))
    for name in rows:
        mine = {cell.column.name: cell for cell in cells
                if cell.row.name == name}
        lines.append([
            next(iter(mine.values())).row.title,
            *(_markdown_cell(mine[column.name], plan.scale,
                             _digits(recipe, column))
              for column in recipe.columns),
            *([note] if note else [])])
    table = '\n'.join('| ' + ' | '.join(
        part.replace('|', r'\|') for part in line) + ' |' for line in lines)
    seeds = ', '.join(map(str, plan.seeds[recipe.name]))
    parts = [title, f'{recipe.paper}. Seeds {seeds}; ours: mean ± sample '
             'standard deviation (number of runs).', table]
    for table_name, row in plan.left_out:
        if table_name == recipe.name:
            parts.append(f'Row {row} has nothing at scale {plan.scale}.')
    remarks = [*recipe.notes]
    for name in rows:
        row = recipe.row(name)
        if row.note:
            remarks.append(f'{row.title}: {row.note}')
    if remarks:
        parts.append('\n'.join(f'- {remark}' for remark in remarks))
    parts.append(_provenance(plan, recipe, command))
    return '\n\n'.join(parts) + '\n'


def _value(run: Run, choice: str, column: Column,
           failures: Mapping[Run, str]) -> float | str:
    """A metric of a run, or why there is none."""
    try:
        manifest = read_manifest(run.folder)
    except ValueError:
        return 'not readable'
    if manifest is None:
        return 'failed' if run in failures else 'missing'
    if manifest['digest'] != run.digest:
        return 'other settings'
    remade = _remade_source(run)
    if remade is not None:
        return f'of an earlier run of {run_key(remade)}, since made anew'
    results = manifest['results'].get(choice)
    if results is None:
        failed = run in failures or manifest['status'] == 'failed'
        return 'failed' if failed else 'missing'
    if column.metric not in results:
        return (f'no metric {column.metric!r} among '
                f'{", ".join(sorted(results))}')
    if not is_number(results[column.metric]):
        return f'{column.metric} is {results[column.metric]}'
    return results[column.metric]


def _remade_source(run: Run) -> Run | None:
    """Find a run that was made anew after ``run`` had started from it."""
    used = {one['run']: one['id']
            for one in (_read_quietly(run) or {}).get('sources') or []}
    for source in run.sources.values():
        now = _read_quietly(source.run)
        if now is not None and used.get(run_key(source.run),
                                        now['id']) != now['id']:
            return source.run
        above = _remade_source(source.run)
        if above is not None:
            return above
    return None


def _markdown_cell(cell: CellResult, scale: str, digits: int) -> str:
    paper = '–' if cell.paper is None else f'{cell.paper:.{digits}f}'
    if not cell.has_stage:
        return '–'
    if cell.mean is None:
        ours = '; '.join(dict.fromkeys(cell.problems.values())) or 'missing'
        return f'{paper} / {ours} / –'
    ours = f'{cell.mean:.{digits}f}'
    if cell.spread is not None:
        ours += f' ± {cell.spread:.{digits}f}'
    missing = cell.asked - len(cell.values)
    ours += f' ({len(cell.values)} of {cell.asked}: ' + '; '.join(
        dict.fromkeys(cell.problems.values())) + ')' if missing \
        else f' ({len(cell.values)})'
    difference = cell.difference(scale)
    text = '–' if difference is None else f'{difference:+.{digits}f}'
    return f'{paper} / {ours} / {text}'


def _csv_row(plan: Plan, recipe: Recipe, cell: CellResult) -> list:
    def number(value: float | None) -> str:
        return '' if value is None else repr(round(value, 10))

    state = 'no stage' if not cell.has_stage else '; '.join(
        f'seed {seed}: {problem}' for seed, problem in cell.problems.items())
    return [
        recipe.name, cell.row.name, cell.row.title, cell.column.name,
        number(cell.paper), number(cell.mean), number(cell.spread),
        len(cell.values), cell.asked, number(cell.difference(plan.scale)),
        ' '.join(number(value) for value in cell.values.values()),
        state, SCALE_NOTES[plan.scale] or plan.scale]


def _digits(recipe: Recipe, column: Column) -> int:
    """As many digits as the paper has, at least one."""
    values = [row.paper[column.name] for row in recipe.rows
              if column.name in row.paper]
    return max([1, *(len(repr(value).partition('.')[2])
                     for value in values)])


def _provenance(plan: Plan, recipe: Recipe, command: str) -> str:
    """Say what made the table: command, code, hardware, time."""
    runs = _runs_of(plan, recipe)
    manifests = [one for one in map(_read_quietly, runs) if one]
    starts = [start for one in manifests for start in one['starts']]
    lines = [f'Made by `{command}`.']
    for title, texts in (
            ('Code', [_describe_code(one) for one in starts]),
            ('Hardware', [_describe_hardware(one) for one in starts])):
        different = list(dict.fromkeys(texts))
        if different:
            lines.append(f'{title}: {"; ".join(different)}.')
    seconds = sum(one['seconds'] for one in manifests)
    lines.append(f'{len(manifests)} of {len(runs)} runs were started, with '
                 f'{duration(seconds)} of computing in all.')
    lines += batch_notes([
        run for run in runs if _read_quietly(run) is not None])
    unverified = [
        run.title for run, one in zip(runs, map(_read_quietly, runs),
                                      strict=True)
        if one and run.sources and one['steps'].get('train', {}).get('ended')
        and not any(check.get('percent') == 100
                    for check in one['load_checks'])]
    if unverified:
        lines.append('No load check said that all weights arrived in '
                     f'{"; ".join(unverified)}.')
    return '\n'.join(f'- {line}' for line in lines)


def _runs_of(plan: Plan, recipe: Recipe) -> list[Run]:
    """The runs behind a table, and those that they start from."""
    wanted = {id(cell.run) for (table, _, _, _), cell in plan.cells.items()
              if table == recipe.name}
    for run in reversed(plan.runs):
        if id(run) in wanted:
            wanted.update(id(one.run) for one in run.sources.values())
    return [run for run in plan.runs if id(run) in wanted]


def _read_quietly(run: Run) -> dict | None:
    try:
        return read_manifest(run.folder)
    except ValueError:
        return None


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
    return ', '.join([f'{hardware["cpu"]} ({hardware["cores"]} cores)',
                      *counted])
