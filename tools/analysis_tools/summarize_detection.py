"""Tabulate detection runs: one row per folder, one run per seed below it.

    python tools/analysis_tools/summarize_detection.py work_dirs/mask-rcnn_*

Reads the last evaluation of every run from MMEngine's scalars.json and prints
a Markdown table: mean, sample standard deviation and number of runs, in AP
points.
"""

import argparse
import json
import statistics
from pathlib import Path

METRICS = {
    'coco/bbox_mAP': 'AP box',
    'coco/bbox_mAP_75': 'AP75 box',
    'coco/segm_mAP': 'AP mask',
    'coco/segm_mAP_75': 'AP75 mask'
}


def last_evaluation(path: Path) -> dict | None:
    """Find the last line of a log that holds an evaluation.

    Args:
        path: A scalars.json: one json object per line.

    Returns:
        The line's content, or None if the run was not evaluated.
    """
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    evaluations = [line for line in lines if METRICS.keys() <= line.keys()]
    return evaluations[-1] if evaluations else None


def collect(folder: Path) -> list[dict]:
    """Read the newest evaluated log of every run below a folder."""
    newest = {}
    for path in sorted(folder.rglob('scalars.json')):
        # RUN/TIMESTAMP/vis_data/scalars.json
        evaluation = last_evaluation(path)
        if evaluation is not None:
            newest[path.parents[2]] = evaluation
    return list(newest.values())


def cell(values: list[float]) -> str:
    """Mean and spread in AP points."""
    points = [100 * value for value in values]
    if len(points) == 1:
        return f'{points[0]:.1f}'
    return f'{statistics.mean(points):.1f} ± {statistics.stdev(points):.1f}'


def table(folders: list[Path]) -> str:
    """Make the Markdown table.

    Args:
        folders: One folder per row.

    Returns:
        The table.
    """
    rows = [['runs', 'n', *METRICS.values()]]
    for folder in folders:
        runs = collect(folder)
        if not runs:
            raise SystemExit(f'{folder} holds no scalars.json with '
                             f'{", ".join(METRICS)}; has a run finished?')
        rows.append([
            folder.name,
            str(len(runs)),
            *(cell([run[key] for run in runs]) for key in METRICS)
        ])
    rows.insert(1, ['---'] * len(rows[0]))
    return '\n'.join('| ' + ' | '.join(row) + ' |' for row in rows)


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folders', nargs='+', type=Path)
    args = parser.parse_args()
    print(table(args.folders))


if __name__ == '__main__':
    main()
