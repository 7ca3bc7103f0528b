"""Draw what ProbeHook saw while a recipe's rows were trained.

    python tools/analysis_tools/plot_probe_curves.py \
        work_dirs/reproduce/paper --recipe cmim_crc5 --tiles 100000 \
        --probes gray/logistic pixels/dense_5 --out probes.png

A panel for each probe: the mean over a row's seeds against the tiles seen, in
points of 100, with its 95 % interval (Student's t); dashed the same encoders
at random weights, dotted the colour alone. The values go to a csv beside the
picture.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmmedmask.util.table_files import read_table

# Probe, row, epoch and seed to score; the last two have a row's seeds.
Curves = dict[str, dict[str, dict[int, dict[int, float]]]]


def collect(folders: Sequence[Path], recipe: str,
            probes: Sequence[str]) -> tuple[Curves, dict, dict]:
    """Read the tables of all finished runs of a recipe below folders.

    Returns:
        Curves in points, and by probe those of random weights and of the
        colour, one per run.
    """
    curves: Curves = {probe: {} for probe in probes}
    random, plain = ({probe: [] for probe in probes} for _ in range(2))
    paths = sorted(path for folder in folders
                   for path in folder.rglob('manifest.json'))
    for path in paths:
        manifest = json.loads(path.read_text('utf-8'))
        rows = [user.partition(': ')[2].partition(',')[0]
                for user in manifest['users']
                if user.partition(': ')[0] == recipe]
        if manifest['status'] != 'done' or not rows:
            continue
        for _, line in read_table(path.with_name('probe.csv')).rows():
            if line['probe'] not in curves:
                continue
            for row in rows:
                curves[line['probe']].setdefault(row, {}).setdefault(
                    int(line['epoch']), {})[
                        manifest['seed']] = 100 * float(line['value'])
            if line['epoch'] == '0':
                random[line['probe']].append(100 * float(line['random']))
                plain[line['probe']].append(100 * float(line['plain']))
    empty = [probe for probe, rows in curves.items() if not rows]
    if empty:
        raise SystemExit(f'no finished run of {recipe} below '
                         f'{list(map(str, folders))} has the probes {empty}')
    return curves, random, plain


def draw(curves: Curves, random: Mapping, plain: Mapping, end: int,
         file: Path) -> None:
    """Draw the panels; the last epoch stands at ``end`` tiles."""
    from matplotlib.figure import Figure

    from mmmedmask.evaluation.paired_tests import interval_of_mean
    from mmmedmask.visualization.pictures import legend_beside
    figure = Figure((4.2 * len(curves), 3.4), dpi=110, layout='constrained')
    names = list(dict.fromkeys(
        row for rows in curves.values() for row in rows))
    handles = {}
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for panel, (probe, rows) in zip(panels, curves.items(), strict=True):
        for row, epochs in rows.items():
            place = names.index(row)
            values = [interval_of_mean(list(epochs[epoch].values()))
                      for epoch in sorted(epochs)]
            # Beside one another, so that no interval hides another.
            tiles = [epoch * end / max(epochs) + .01 * end * place
                     for epoch in sorted(epochs)]
            handles[row] = panel.errorbar(
                tiles, [mean for mean, _, _ in values],
                [[mean - low for mean, low, _ in values],
                 [high - mean for mean, _, high in values]],
                color=f'C{place}', marker='o', markersize=3, capsize=2,
                linewidth=1.2)
        for style, name, scores in (('--', 'random weights', random),
                                    (':', 'colour alone', plain)):
            handles[name] = panel.axhline(
                statistics.fmean(scores[probe]), color='gray', linewidth=.8,
                linestyle=style)
        panel.set_title(probe, fontsize=9)
        panel.set_xlabel('tiles seen', fontsize=9)
        panel.tick_params(labelsize=8)
    panels[0].set_ylabel('score in points of 100', fontsize=9)
    legend_beside(figure, handles, 8)
    figure.savefig(file)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', type=Path, nargs='+',
                        help='folders of the runs')
    parser.add_argument('--recipe', required=True, help='name of the recipe')
    parser.add_argument('--probes', nargs='+', required=True,
                        metavar='PROBE', help='such as gray/logistic')
    parser.add_argument('--tiles', type=int, metavar='N', required=True,
                        help='tiles that each run has seen at its end')
    parser.add_argument('--out', type=Path, metavar='PNG', required=True)
    args = parser.parse_args(argv)
    from mmmedmask.util.atomic_files import write_csv
    curves, random, plain = collect(args.runs, args.recipe, args.probes)
    draw(curves, random, plain, args.tiles, args.out)
    write_csv(args.out.with_suffix('.csv'),
              ('probe', 'row', 'epoch', 'seed', 'score'),
              ((probe, row, epoch, seed, f'{score:.2f}')
               for probe, rows in curves.items()
               for row, epochs in rows.items()
               for epoch, seeds in epochs.items()
               for seed, score in seeds.items()))


if __name__ == '__main__':
    main()
