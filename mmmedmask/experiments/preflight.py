"""Find what would stop a plan, before anything of it is started."""

from pathlib import Path

from mmmedmask.experiments.execute import load_checked_manifest
from mmmedmask.experiments.manifest import DataFingerprints
from mmmedmask.experiments.plan import Plan, Run
from mmmedmask.experiments.schema import DATA_PREFIX


def find_problems(plan: Plan, data_root: str | Path,
                  fingerprints: DataFingerprints | None) -> list[str]:
    """Find missing data and weights, and folders of other runs.

    Args:
        plan: The plan.
        data_root: Folder in the place of ``data/``.
        fingerprints: Of the data; None if they are drawn.

    Returns:
        A line for each, with where the data come from.
    """
    problems = []
    if fingerprints is not None:
        problems += _missing_data(plan, Path(data_root), fingerprints)
    for run in plan.runs:
        try:
            load_checked_manifest(run, None if problems else fingerprints)
        except ValueError as error:
            problems.append(str(error))
    return problems


def _missing_data(plan: Plan, data_root: Path,
                  fingerprints: DataFingerprints) -> list[str]:
    missing: dict[str, list[Run]] = {}
    for run in plan.runs:
        for path in fingerprints.missing(run):
            missing.setdefault(path, []).append(run)
    problems = []
    for path, runs in missing.items():
        above = [one for one in missing if path.startswith(f'{one}/')]
        if above:
            continue
        more = f' and {len(runs) - 1} more' if len(runs) > 1 else ''
        problems.append(
            f'{data_root / path} is not there: needed by '
            f'{runs[0].stage.path.stem}{more}. It comes from '
            f'{_origin(plan, path)}')
    return problems


def _origin(plan: Plan, path: str) -> str:
    """Where data come from, as the recipes say it."""
    for recipe, rows in plan.tables:
        for row in rows:
            for weights in row.weights:
                if weights.path == f'{DATA_PREFIX}{path}':
                    return weights.source
        for folder, source in recipe.data.get(plan.scale, {}).items():
            if path == folder or path.startswith(f'{folder}/'):
                return source
    return 'somewhere that the recipe does not say'
