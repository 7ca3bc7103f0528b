"""Draw what ProbeHook saw while a recipe's rows were trained.

    python tools/analysis_tools/plot_probe_curves.py \
        work_dirs/reproduce/paper --recipe cmim_crc5 --rows cmim mocov2 \
        --probes gray/logistic pixels/dense_5 --out probes.png

A panel for each probe: the mean over a row's seeds against the tiles seen, in
points of 100, with its 95 % interval (Student's t); dashed in the row's colour
its own encoder at random weights, dotted the colour alone. Rows that read
metrics of another row's runs have no curve. The values go to a csv beside the
picture.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmmedmask.util.command_line import PICTURES, file_ending
from mmmedmask.util.file_walk import find_files
from mmmedmask.util.run_tool import run_tool
from mmmedmask.util.table_files import read_table

# Probe, row, epoch and seed to score; the last two have a row's seeds.
Curves = dict[str, dict[str, dict[int, dict[int, float]]]]
# Probe and row to the scores of random weights, one per run.
Floors = dict[str, dict[str, list[float]]]

COLUMNS = ('probe', 'row', 'epoch', 'seed', 'score')


def choose_rows(name: str, wanted: Sequence[str] | None
                ) -> tuple[str, list[str]]:
    """Read a recipe; give its name and those of the rows to draw.

    A ValueError if a wanted row is not there, or has no run of its own.
    """
    from mmmedmask.experiments.schema import locate_recipe, read_recipe
    recipe = read_recipe(locate_recipe(name))
    rows = [recipe.row(row) for row in wanted] if wanted else recipe.rows
    if wanted and (floors := [row.name for row in rows if row.metrics]):
        raise ValueError(f'{floors} have metrics of other rows\' runs, and no '
                         'curve of their own')
    return recipe.name, [row.name for row in rows if not row.metrics]


def collect(folders: Sequence[Path], recipe: str, rows: Sequence[str],
            probes: Sequence[str]
            ) -> tuple[Curves, dict[str, int], Floors, dict]:
    """Read the tables of all finished runs of a recipe's rows below folders.

    Returns:
        Curves in points, tiles per epoch of each row, the floors of random
        weights, and by probe those of the colour, one per run.
    """
    from mmmedmask.experiments.manifest import MANIFEST_FILE, read_manifest
    curves: Curves = {probe: {} for probe in probes}
    random: Floors = {probe: {} for probe in probes}
    plain: dict[str, list[float]] = {probe: [] for probe in probes}
    tiles: dict[str, int] = {}
    drawn: dict[tuple[str, int], Path] = {}
    for path in sorted({path.resolve() for folder in folders
                        for path in find_files(folder, MANIFEST_FILE)}):
        run, table = path.parent, path.with_name('probe.csv')
        # Stages behind the one that is probed have no table.
        if not table.is_file():
            continue
        manifest = read_manifest(run)
        named = {user.partition(': ')[2].partition(',')[0]
                 for user in manifest['users']
                 if user.partition(': ')[0] == recipe}
        if manifest['status'] != 'done' or named.isdisjoint(rows):
            continue
        lines = [line for _, line in read_table(table, (
            'epoch', 'probe', 'value', 'random', 'plain')).rows()]
        count = tiles_per_epoch(run, manifest['gpus'], max(
            int(line['epoch']) for line in lines))
        for row in filter(named.__contains__, rows):
            other = drawn.setdefault((row, manifest['seed']), run)
            if other != run:
                raise ValueError(
                    f'row {row!r} has two runs of seed {manifest["seed"]}, '
                    f'{other} and {run}: name the folders of one each')
            if tiles.setdefault(row, count) != count:
                raise ValueError(
                    f'an epoch of row {row!r} has {count} tiles in {run}, and '
                    f'{tiles[row]} in another run')
            for line in lines:
                probe, epoch = line['probe'], int(line['epoch'])
                if probe not in curves:
                    continue
                curves[probe].setdefault(row, {}).setdefault(epoch, {})[
                    manifest['seed']] = 100 * float(line['value'])
                if epoch == 0:
                    random[probe].setdefault(row, []).append(
                        100 * float(line['random']))
                    plain[probe].append(100 * float(line['plain']))
    empty = [probe for probe, by_row in curves.items() if not by_row]
    if empty:
        raise ValueError(f'no finished run of {recipe} below '
                         f'{list(map(str, folders))} has the probes {empty}')
    tiles = {row: tiles[row] for row in rows if row in tiles}
    return curves, tiles, random, plain


def tiles_per_epoch(run: Path, gpus: int, epochs: int) -> int:
    """Count the tiles of an epoch, by the config and the log of a run.

    ProbeHook logs the scores of the last epoch with the iteration.
    """
    from mmengine.config import Config

    from mmmedmask.config_files import find_config, samples_per_step
    from mmmedmask.util.scalar_logs import read_scalar_log
    path = find_config(run)
    lines = [line for file in run.glob('*/vis_data/scalars.json')
             for line in read_scalar_log(file)]
    steps = [line['step'] for line in lines
             if any(key.startswith('probe/') for key in line)]
    if not steps or not epochs:
        raise ValueError(f'{run} does not tell how many tiles it has seen: it '
                         'needs an epoch in probe.csv and in '
                         'vis_data/scalars.json of its log folder')
    config = Config.fromfile(path, import_custom_modules=False)
    return max(steps) * samples_per_step(config, gpus)[0] // epochs


def draw(curves: Curves, tiles: Mapping[str, int], random: Floors,
         plain: Mapping, file: Path) -> None:
    """Draw the panels; ``tiles`` are those of an epoch of each row."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from mmmedmask.evaluation.paired_tests import interval_of_mean
    from mmmedmask.visualization.pictures import legend_beside
    figure = Figure((4.2 * len(curves), 3.4), dpi=110, layout='constrained')
    end = max(tiles[row] * max(epochs) for rows in curves.values()
              for row, epochs in rows.items())
    handles = {}
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for panel, (probe, rows) in zip(panels, curves.items(), strict=True):
        for place, row in enumerate(tiles):
            epochs = rows.get(row)
            if epochs is None:
                continue
            values = [interval_of_mean(list(epochs[epoch].values()))
                      for epoch in sorted(epochs)]
            # Beside one another, so that no interval hides another.
            seen = [epoch * tiles[row] + .01 * end * place
                    for epoch in sorted(epochs)]
            handles[row] = panel.errorbar(
                seen, [mean for mean, _, _ in values],
                [[mean - low for mean, low, _ in values],
                 [high - mean for mean, _, high in values]],
                color=f'C{place}', marker='o', markersize=3, capsize=2,
                linewidth=1.2)
            if row in random[probe]:
                panel.axhline(statistics.fmean(random[probe][row]),
                              color=f'C{place}', linewidth=.8, linestyle='--')
        if plain[probe]:
            panel.axhline(statistics.fmean(plain[probe]), color='gray',
                          linewidth=.8, linestyle=':')
        panel.set_title(probe, fontsize=9)
        panel.set_xlabel('tiles seen', fontsize=9)
        panel.tick_params(labelsize=8)
    handles |= {name: Line2D([], [], color='gray', linewidth=.8,
                             linestyle=style) for name, style in (
        ('random weights', '--'), ('colour alone', ':'))}
    panels[0].set_ylabel('score in points of 100', fontsize=9)
    legend_beside(figure, handles, 8)
    figure.savefig(file)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', type=Path, nargs='+',
                        help='folders of the runs')
    parser.add_argument('--recipe', required=True,
                        help='name of the recipe, or its path')
    parser.add_argument('--rows', nargs='+', metavar='ROW',
                        help='these rows alone')
    parser.add_argument('--probes', nargs='+', required=True,
                        metavar='PROBE', help='such as gray/logistic')
    parser.add_argument('--out', type=file_ending(*PICTURES), metavar='PNG',
                        required=True)
    args = parser.parse_args(argv)
    from mmmedmask.util.atomic_files import atomic_path, write_csv
    from mmmedmask.util.checks import check_not_read, check_own_table
    table = args.out.with_suffix('.csv')
    try:
        check_not_read([table], (file for folder in args.runs
                                 for file in folder.rglob('probe.csv')))
        check_own_table(table, COLUMNS)
        recipe, rows = choose_rows(args.recipe, args.rows)
        curves, tiles, random, plain = collect(args.runs, recipe, rows,
                                               args.probes)
    except (OSError, ValueError) as error:
        raise SystemExit(f'plot_probe_curves.py: {error}') from None
    with atomic_path(args.out) as picture:
        draw(curves, tiles, random, plain, picture)
    write_csv(table, COLUMNS,
              ((probe, row, epoch, seed, f'{score:.2f}')
               for probe, rows in curves.items()
               for row, epochs in rows.items()
               for epoch, seeds in epochs.items()
               for seed, score in seeds.items()))


if __name__ == '__main__':
    run_tool(main)
