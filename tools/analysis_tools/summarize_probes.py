"""Compare the probes of a recipe's runs with those of one row, seed by seed.

    python tools/analysis_tools/summarize_probes.py \
        work_dirs/reproduce/small --recipe cmim_crc5 --against random \
        --out probes.csv --curves curves.csv --tiles 15000 \
        --figure probes.png

Reads the manifests of the runs whose test was mmmedmask.ProbeLoop, and prints
two Markdown tables: mean and deviation of each row, and its differences to
the row --against with the same seed, from two seeds on with the 95 % interval
of their mean (Student's t). Scores are in points of 100.

--out writes every score. --curves takes files that tools/probe.py --out wrote
for checkpoints on the way, with arms called ROW@TILES and a checkpoint per
seed; --figure draws their score against the tiles seen, with the same
intervals, the row --against at 0 tiles and the runs' ends at --tiles.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from markdown_tables import interval_of_mean, markdown, mean_and_spread

from mmmedmask.util.atomic_files import write_csv
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


def differences(rows: Mapping[int, Mapping[str, float]],
                others: Mapping[int, Mapping[str, float]],
                probe: str) -> list[float]:
    """Differences in points, over the seeds that both have."""
    return [100 * (rows[seed][probe] - others[seed][probe])
            for seed in sorted(set(rows) & set(others))]


def with_interval(values: Sequence[float]) -> str:
    """Mean with sign, and its interval; a dash for no values."""
    if not values:
        return '–'
    mean, low, high = interval_of_mean(values)
    text = f'{mean:+.1f}'
    return text if len(values) < 2 else f'{text} [{low:+.1f}, {high:+.1f}]'


def tables(scores: Scores, against: str) -> str:
    """Both Markdown tables."""
    probes = list(next(iter(scores[against].values())))
    means = [['row', 'n', *probes]]
    paired = [[f'row - {against}', 'n', *probes]]
    for row, seeds in scores.items():
        means.append([row, str(len(seeds)), *(
            mean_and_spread([seeds[seed][probe] for seed in sorted(seeds)])
            for probe in probes)])
        if row != against:
            columns = [differences(seeds, scores[against], probe)
                       for probe in probes]
            paired.append([row, str(len(columns[0])),
                           *map(with_interval, columns)])
    return f'{markdown(means)}\n\n{markdown(paired)}'


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
    """Print the tables, write the files that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', type=Path, help='folder of the runs')
    parser.add_argument('--recipe', required=True, help='name of the recipe')
    parser.add_argument('--against', default='random',
                        help='row to compare with (default: random)')
    parser.add_argument('--out', type=Path, metavar='CSV')
    parser.add_argument('--curves', type=Path, nargs='+', default=[],
                        metavar='CSV', help='files of tools/probe.py --out')
    parser.add_argument('--tiles', type=int, metavar='N',
                        help='tiles that each run has seen at its end')
    parser.add_argument('--figure', type=Path, metavar='PNG')
    args = parser.parse_args(argv)
    if not bool(args.curves) == bool(args.figure) == bool(args.tiles):
        parser.error('--curves, --tiles and --figure belong together')
    scores = collect(args.runs, args.recipe)
    if args.against not in scores:
        parser.error(f'no row {args.against!r} among {sorted(scores)}')
    print(tables(scores, args.against))
    if args.out:
        write_csv(args.out, ('row', 'seed', 'probe', 'score'), (
            (row, seed, probe, f'{value:.4f}')
            for row, seeds in scores.items() for seed in sorted(seeds)
            for probe, value in seeds[seed].items()))
    if args.figure:
        draw(read_curves(args.curves), scores, args.against, args.tiles,
             args.figure)


if __name__ == '__main__':
    main()
