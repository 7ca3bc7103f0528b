"""Cross-validate configs: an ad-hoc recipe with folds, and their table."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmedmask.config_files import best_pointers
from mmmedmask.evaluation import fold_table
from mmmedmask.evaluation.patient_tables import (
    HIDDEN,
    PATIENTS_FILE,
    RISKS_FILE,
    hidden_file,
    join_patients,
    read_patients,
    read_risks,
    write_patients,
)
from mmmedmask.experiments import schema
from mmmedmask.experiments.chain import load_stage_config
from mmmedmask.experiments.config_content import BEST_NAME, find_checkpoints
from mmmedmask.experiments.fingerprints import DataFingerprints
from mmmedmask.experiments.manifest import results_of
from mmmedmask.experiments.plan import Axis, Cell, Plan
from mmmedmask.util.atomic_files import write_text


def ad_hoc_recipe(configs: Sequence[str | Path],
                  options: Mapping[str, Any] | None = None,
                  checkpoint: str = 'best',
                  pretrained: Collection[str] = ()) -> schema.Recipe:
    """Make a recipe of one row from configs.

    Args:
        configs: Config files, one per stage in their order. The last one is
            tested.
        options: Dotted key to value, as ``--cfg-options`` gives them; a key
            that begins with ``2:`` is for the second stage alone.
        checkpoint: ``'best'`` tests the last stage's best checkpoint if its
            config has ``save_best``, else, as with ``'last'``, the last one.
            Earlier stages hand on what later configs name, as outside of a
            cross-validation: their best for ``work_dirs/NAME/best.pth``, and
            else their last.
        pretrained: Checkpoints, as the configs name them, that stages may
            start from although no stage makes them.
    """
    shared, own = {}, {number: {} for number in range(1, len(configs) + 1)}
    for key, value in (options or {}).items():
        number, colon, rest = key.partition(':')
        if not colon:
            shared[key] = value
        elif number.isdigit() and int(number) in own:
            own[int(number)][rest] = value
        else:
            raise ValueError(f'the option {key!r} is for stage {number!r}, '
                             f'stages are 1 to {len(configs)}')
    loaded: dict[str, tuple[Path, dict, Config]] = {}
    named: set[str] = set()
    for number, path in enumerate(map(Path, configs), 1):
        chosen = shared | own[number]
        name = path.stem if path.stem not in loaded \
            else f'{path.stem}_{number}'
        config = load_stage_config(path, chosen)
        named.update(find_checkpoints(config).values())
        loaded[name] = path, chosen, config
    bests = {Path(file).parent.name for file in named
             if Path(file).name == BEST_NAME}
    stages = {}
    for key, (path, chosen, config) in loaded.items():
        wanted = checkpoint == 'best' if key == name else path.stem in bests
        best = wanted and best_pointers(config)
        stages[key] = schema.Stage(str(path), 'best' if best else 'last',
                                   chosen)
    unused = sorted(set(pretrained) - named)
    if unused:
        raise ValueError(f'pretrained={unused} is what no stage starts from; '
                         f'they start from {sorted(named)}')
    title = Path(configs[-1]).stem
    row = schema.Row('folds', title, stages, small=None, weights=tuple(
        schema.Weights(file, 'whoever gave --pretrained')
        for file in pretrained))
    return schema.Recipe(
        path=Path('recipe.yml'), name=f'{title}_folds', title=title,
        paper='none', seeds=(0, ), rows=(row, ), ad_hoc=True,
        columns=(schema.TableColumn('scores', 'Scores', name, ''), ))


def fold_rows(plan: Plan, recipe: schema.Recipe, row: schema.Row,
              stage: str) -> list[fold_table.FoldRow]:
    """Collect what all folds of a row gave, their spread, and all patients.

    Empty if a fold is not done yet. Where tests left no predictions of
    patients, there are no pooled scores.
    """
    cells = _cells_of(plan, recipe, row, stage)
    if not cells:
        return []
    for file, read, tabulate in (
            (PATIENTS_FILE, read_patients, fold_table.classification_rows),
            (RISKS_FILE, read_risks, fold_table.survival_rows)):
        runs = _read_all(cells, file, read)
        if not runs:
            continue
        rows = tabulate(runs)
        for key in HIDDEN:
            runs = _read_all(cells, hidden_file(file, key), read)
            rows = fold_table.add_hidden(rows, key,
                                         tabulate(runs) if runs else ())
        return rows
    rows = [fold_table.FoldRow(axis.seed, f'fold {axis.fold}', None,
                               _results(cell, None))
            for axis, cell in cells.items()]
    return rows + fold_table.spread_rows(rows)


def write_folds_table(plan: Plan, recipe: schema.Recipe) -> str:
    """Write the table of an ad-hoc recipe: ``results.md`` and ``.csv``.

    Predictions of all folds are in ``patients.csv``, with several seeds in
    ``seed_S/patients.csv``, if every patient is tested once; those of an
    earlier cross-validation are removed.
    """
    row, stage = recipe.rows[0], recipe.columns[0].stage
    rows = fold_rows(plan, recipe, row, stage)
    table = fold_table.markdown_table(rows)
    write_text(plan.folder / 'results.md', f'{table}\n')
    fold_table.write_rows(plan.folder / 'results.csv', rows)
    cells = _cells_of(plan, recipe, row, stage)
    seeds = {axis.seed for axis in cells}
    stale = {*plan.folder.glob(PATIENTS_FILE),
             *plan.folder.glob(f'seed_*/{PATIENTS_FILE}')}
    for seed in seeds:
        tables = [*_read_all({axis: cell for axis, cell in cells.items()
                              if axis.seed == seed}, PATIENTS_FILE,
                             read_patients).values()]
        cases = [case for patients in tables
                 for case in patients.case_ids]
        if cases and len(set(cases)) == len(cases):
            folder = plan.folder if len(seeds) == 1 \
                else plan.folder / f'seed_{seed}'
            folder.mkdir(parents=True, exist_ok=True)
            write_patients(folder / PATIENTS_FILE,
                           join_patients(tables, folder))
            stale.discard(folder / PATIENTS_FILE)
    for file in stale:
        file.unlink(missing_ok=True)
    return table


def _read_all(cells: Mapping[Axis, Cell], name: str, read: Callable) -> dict:
    """Read a file of the last tests of all cells; empty if one lacks it."""
    files = {(axis.seed, axis.fold): sorted(
        cell.run.test_folder(cell.choice).glob(f'*/{name}'))
             for axis, cell in cells.items()}
    return {axis: read(paths[-1]) for axis, paths in files.items()} \
        if all(files.values()) else {}


def _cells_of(plan: Plan, recipe: schema.Recipe, row: schema.Row,
              stage: str) -> dict[Axis, Cell]:
    """Cells of all folds; empty unless the results of all of them count."""
    cells = {axis: plan.cells[recipe.name, row.name, stage, axis]
             for axis in plan.axes[recipe.name]
             if (recipe.name, row.name, stage, axis) in plan.cells}
    fingerprints = plan.fingerprints
    return cells if all(_results(cell, fingerprints)
                        for cell in cells.values()) else {}


def _results(cell: Cell, fingerprints: DataFingerprints | None
             ) -> dict[str, float]:
    results = results_of(cell.run, cell.choice, fingerprints)
    return {} if isinstance(results, str) else {
        name: value for name, value in results.items()
        if isinstance(value, float)}
