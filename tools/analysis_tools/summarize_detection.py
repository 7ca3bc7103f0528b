"""Tabulate detection runs: one row per folder, one run per seed below it.

    python tools/analysis_tools/summarize_detection.py work_dirs/mask-rcnn_*
    python tools/analysis_tools/summarize_detection.py work_dirs/setr-* \
        --metrics lesion/iou lesion/dice

Reads the last evaluation of every run from MMEngine's scalars.json and prints
a Markdown table: mean, sample standard deviation and number of runs, in AP
points, or in points of 100 of any other scalars that a run logs together. A
score that some runs lack (pycocotools: -1) has its own number of runs behind;
an AP that none has, as of masks of a RetinaNet, is a dash.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmmedmask.util.file_walk import find_files
from mmmedmask.util.markdown_tables import markdown, mean_and_spread
from mmmedmask.util.run_tool import run_tool
from mmmedmask.util.scalar_logs import read_scalar_log

METRICS = {'coco/bbox_mAP': 'AP box', 'coco/bbox_mAP_75': 'AP75 box',
           'coco/segm_mAP': 'AP mask', 'coco/segm_mAP_75': 'AP75 mask'}


def last_evaluation(path: Path, metrics: Mapping[str, str],
                    some: bool = False) -> dict | None:
    """Find the last line of a scalars.json that holds all metrics, if any.

    With ``some`` it holds at least one; None stands for the others.
    """
    from mmmedmask.util.coco_scores import defined_score
    enough = any if some else all
    evaluations = [line for line in read_scalar_log(path)
                   if enough(key in line for key in metrics)]
    if not evaluations:
        return None
    return {key: defined_score(key, evaluations[-1][key])
            if key in evaluations[-1] else None for key in metrics}


def collect(folder: Path, metrics: Mapping[str, str],
            some: bool = False) -> list[dict]:
    """Read the newest evaluated log of every run below a folder."""
    newest = {}
    for path in find_files(folder, 'scalars.json'):
        # RUN/TIMESTAMP/vis_data/scalars.json
        evaluation = last_evaluation(path, metrics, some)
        if evaluation is not None:
            newest[path.parents[2]] = evaluation
    return list(newest.values())


def table(folders: list[Path], metrics: Mapping[str, str],
          some: bool = False) -> str:
    """Make the Markdown table of metrics, with one folder per row."""
    rows = [['runs', 'n', *metrics.values()]]
    for folder in folders:
        runs = collect(folder, metrics, some)
        if not runs:
            raise SystemExit(f'{folder} holds no scalars.json with '
                             f'{(" or " if some else ", ").join(metrics)}; '
                             'has a run finished?')
        rows.append([
            folder.name, str(len(runs)),
            *(mean_and_spread([run[key] for run in runs]) for key in metrics)])
    return markdown(rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folders', nargs='+', type=Path)
    parser.add_argument(
        '--metrics', nargs='+', metavar='NAME',
        help='shares to tabulate in place of the APs, as the log names them')
    args = parser.parse_args(argv)
    metrics = {name: name for name in args.metrics} if args.metrics \
        else METRICS
    try:
        print(table(args.folders, metrics, some=not args.metrics))
    except ValueError as error:
        raise SystemExit(f'summarize_detection.py: {error}') from None


if __name__ == '__main__':
    run_tool(main)
