"""Draw the probes of a recipe's rows against the tiles seen.

    python tools/analysis_tools/plot_probe_curves.py \
        work_dirs/reproduce/small --recipe cmim_crc5 --against random \
        --curves curves.csv --tiles 15000 --out probes.png

CSV files of --curves are those that tools/probe.py --out wrote for checkpoints
on the way, with arms called ROW@TILES and a checkpoint per seed. The row
--against stands at 0 tiles, the runs' ends, from their manifests, at --tiles.
Means over the seeds in points of 100, with their 95 % intervals (Student's t).
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmmedmask.util.table_files import read_table

# Row, seed and probe to score.
Scores = dict[str, dict[int, dict[str, float]]]


def collect(folder: Path, recipe: str) -> Scores:
    """Read the scores of all runs of a recipe below a folder."""
    scores: Scores = {}
    for path in sorted(folder.rglob('manifest.json')):
        manifest = json.loads(path.read_text('utf-8'))
        if manifest['status'] != 'done' or not manifest['results']:
            continue
        probes = {name.removeprefix('probe/'): value for name, value in
                  next(iter(manifest['results'].values())).items()
                  if name.startswith('probe/')}
        for user in manifest['users']:
            table, _, rest = user.partition(': ')
            if table == recipe and probes:
                row = rest.partition(',')[0]
                scores.setdefault(row, {})[manifest['seed']] = probes
    if not scores:
        raise SystemExit(f'{folder} has no finished run of {recipe} with '
                         'probes')
    return scores


def read_curves(files: Sequence[Path]) -> dict[str, dict[str, dict]]:
    """Scores in points by probe, row, tiles seen and seed."""
    curves: dict[str, dict[str, dict]] = {}
    for file in files:
        for _, line in read_table(file).rows(
                'encoder', 'place', 'probe', 'value'):
            row, _, tiles = line['encoder'].partition('@')
            if tiles:
                curves.setdefault(line['probe'], {}).setdefault(
                    row, {}).setdefault(int(tiles), {})[
                        int(line['place'])] = 100 * float(line['value'])
    return curves


def draw(curves: Mapping[str, Mapping[str, Mapping[int, Mapping]]],
         scores: Scores, against: str, end: int, file: Path) -> None:
    """Draw a panel for each probe that was asked on the way."""
    from matplotlib.figure import Figure

    from mmmedmask.evaluation.paired_tests import interval_of_mean
    figure = Figure((4.2 * len(curves), 3.4), dpi=110)
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for panel, (probe, rows) in zip(panels, curves.items(), strict=True):
        start, *ends = ([100 * seed[probe] for seed in scores[row].values()]
                        for row in (against, *rows))
        for shift, (row, points) in enumerate(rows.items()):
            values = [start, *(list(points[tiles].values())
                               for tiles in sorted(points)), ends[shift]]
            means, lows, highs = zip(*map(interval_of_mean, values),
                                     strict=True)
            # Beside one another, so that no interval hides another.
            tiles = [place * (1 + .02 * shift)
                     for place in (0, *sorted(points), end)]
            panel.errorbar(
                tiles, means,
                [[mean - low for mean, low in zip(means, lows, strict=True)],
                 [high - mean for mean, high in
                  zip(means, highs, strict=True)]],
                marker='o', markersize=3, capsize=2, linewidth=1.2,
                label=row)
        panel.axhline(statistics.mean(start), color='gray', linewidth=.8,
                      linestyle='--', label=against)
        panel.set_title(probe, fontsize=9)
        panel.set_xlabel('tiles seen', fontsize=9)
        panel.tick_params(labelsize=8)
        panel.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(file)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', type=Path, help='folder of the runs')
    parser.add_argument('--recipe', required=True, help='name of the recipe')
    parser.add_argument('--against', default='random',
                        help='row to compare with (default: random)')
    parser.add_argument('--curves', type=Path, nargs='+', required=True,
                        metavar='CSV', help='files of tools/probe.py --out')
    parser.add_argument('--tiles', type=int, metavar='N', required=True,
                        help='tiles that each run has seen at its end')
    parser.add_argument('--out', type=Path, metavar='PNG', required=True)
    args = parser.parse_args(argv)
    scores = collect(args.runs, args.recipe)
    if args.against not in scores:
        parser.error(f'no row {args.against!r} among {sorted(scores)}')
    draw(read_curves(args.curves), scores, args.against, args.tiles, args.out)


if __name__ == '__main__':
    main()
