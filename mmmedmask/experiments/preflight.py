"""Find what would stop a plan, before anything of it is started."""

from mmmedmask.experiments.fingerprints import DataFingerprints
from mmmedmask.experiments.manifest import load_checked_manifest
from mmmedmask.experiments.plan import Plan
from mmmedmask.experiments.run import Run
from mmmedmask.experiments.schema import DATA_PREFIX


def find_problems(plan: Plan) -> list[str]:
    """Find missing data and weights, and folders of other runs.

    Returns:
        A line for each, with where the data come from.
    """
    fingerprints = None if plan.scale == 'smoke' \
        else DataFingerprints(plan.data_root)
    problems = _missing_data(plan, fingerprints) if fingerprints else []
    if problems:
        fingerprints = None
    for run in plan.runs:
        try:
            load_checked_manifest(run, fingerprints)
        except ValueError as error:
            problems.append(str(error))
    return problems


def _missing_data(plan: Plan, fingerprints: DataFingerprints) -> list[str]:
    missing: dict[str, list[Run]] = {}
    for run in plan.runs:
        for path in fingerprints.missing(run):
            missing.setdefault(path, []).append(run)
    problems = []
    for path, runs in missing.items():
        more = f' and {len(runs) - 1} more' if len(runs) > 1 else ''
        problems.append(
            f'{fingerprints.locate(path)} is not there: needed by '
            f'{runs[0].name}{more}. It comes from {_origin(plan, path)}')
    return problems


def _origin(plan: Plan, path: str) -> str:
    """Where data come from, as the recipes say it."""
    inner = path.removeprefix(DATA_PREFIX)
    for recipe, rows in plan.tables:
        for row in rows:
            for weights in row.weights:
                if weights.path == path:
                    return weights.source
        for folder, source in recipe.data.get(plan.scale, {}).items():
            if inner == folder or inner.startswith(f'{folder}/'):
                return source
    return 'somewhere that the recipe does not say'
