"""Show whether a trained model's answers rest on a place in the file.

    python tools/analysis_tools/exchange_patches.py RUN... --out exchange.png

For each RUN, a folder of tools/train.py or tools/reproduce.py with its config
and a checkpoint, or one of the checkpoints in it, blocks of patches are
exchanged with those of a patient of another class, at several places of the
file. Writes the curves and a csv beside the picture. A model that looks at
patches answers alike wherever the block lay; one that dips at a place
memorises patients by it. Training patients show this best. Runs with one
name, such as the seeds of a model, are drawn and tabulated by their mean.
"""

import argparse
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from mmmedmask.util.command_line import (
    DEVICE,
    PICTURES,
    add_config_options,
    file_ending,
)
from mmmedmask.util.markdown_tables import markdown
from mmmedmask.util.run_tool import run_tool

COLUMNS = ('run', 'number', 'place', 'change', 'auc', 'untouched_auc')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'runs', nargs='+', type=Path, metavar='RUN',
        help='of a folder the last state counts, else its best weights')
    parser.add_argument('--names', nargs='+',
                        help='of the runs, one for each; several may have one')
    parser.add_argument('--out', required=True, type=file_ending(*PICTURES),
                        help='PNG to write')
    parser.add_argument('--split', choices=('train', 'val', 'test'),
                        default='train', help='(default: %(default)s)')
    parser.add_argument('--block', type=int, default=16,
                        help='patches exchanged together')
    parser.add_argument('--places', type=int, default=13)
    parser.add_argument('--device', **DEVICE)
    add_config_options(parser, 'override settings of all configs')
    return parser.parse_args(argv)


def find_files(run: Path) -> tuple[Path, Path]:
    """Find the config and the checkpoint of a run."""
    from mmmedmask.config_files import find_config
    from mmmedmask.engine.checkpoint.run_folder import find_checkpoint
    config = find_config(run if run.is_dir() else run.parent)
    return config, find_checkpoint(run)


def name_runs(runs: Sequence[Path]) -> list[str]:
    """Name runs by their folders, the seeds of a recipe's run by its name."""
    folders = [run.parent if re.fullmatch(r'seed\d+', run.name)
               else run if run.is_dir() else run.parent / run.stem
               for run in map(Path.absolute, runs)]
    names = [folder.name if run.is_dir()
             else f'{folder.parent.name}/{folder.name}'
             for folder, run in zip(folders, runs, strict=True)]
    if len(set(names)) != len(set(folders)):
        raise ValueError('runs in different folders have one name, got '
                         f'{names}: give --names')
    return names


def measure(args: argparse.Namespace) -> dict[str, list]:
    """Make the curves of the runs, by their name."""
    from mmengine.registry import init_default_scope

    from mmmedmask.apis import get_model, load_config
    from mmmedmask.apis.patch_exchange import exchange_patches
    from mmmedmask.engine.held_out import build_changed
    from mmmedmask.engine.hooks.probe_hook import BAG_PIPELINE
    if len({run.resolve() for run in args.runs}) < len(args.runs):
        raise ValueError('each run must be given once, got '
                         f'{", ".join(map(str, args.runs))}')
    names = args.names or name_runs(args.runs)
    if len(names) != len(args.runs):
        raise ValueError(f'--names must be {len(args.runs)} names, got '
                         f'{names}')
    curves = {}
    for name, run in zip(names, args.runs, strict=True):
        path, checkpoint = find_files(run)
        config = load_config(path, args.cfg_options)
        init_default_scope(config.get('default_scope') or 'mmengine')
        model = get_model(config, str(checkpoint), args.device)
        loader = config.get(f'{args.split}_dataloader')
        if loader is None:
            raise ValueError(f'{path} has no {args.split}_dataloader')
        # Whole files, though the run may train on some of their patches.
        bags = build_changed(loader.dataset, dict(pipeline=BAG_PIPELINE))
        curves.setdefault(name, []).append(
            exchange_patches(model, bags, args.block, args.places))
    return curves


def draw(curves: dict[str, list], block: int, path: Path) -> None:
    """Draw AUC over the place in the file."""
    import numpy as np
    from matplotlib.figure import Figure
    figure = Figure(figsize=(7, 3.6), layout='constrained')
    axes = figure.subplots()
    for number, (name, runs) in enumerate(curves.items()):
        axes.plot(100 * runs[0].places, np.mean([run.auc for run in runs], 0),
                  f'C{number % 10}{"os^"[number // 10 % 3]}-', markersize=3,
                  linewidth=1.2, label=name)
    axes.axhline(0.5, color='0.6', linewidth=0.8, linestyle=':')
    axes.set(xlabel='place of the exchanged patches in the file, percent',
             ylabel='AUC for the own class', ylim=(-0.03, 1.03),
             title=f'{block} patches exchanged with a patient of the other '
             'class')
    axes.title.set_fontsize(10)
    figure.legend(loc='outside right upper', frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)

    from mmmedmask.util.atomic_files import atomic_path, write_csv
    from mmmedmask.util.checks import check_own_table
    table = args.out.with_suffix('.csv')
    try:
        check_own_table(table, COLUMNS)
        curves = measure(args)
    except (OSError, ValueError) as error:
        raise SystemExit(f'exchange_patches.py: {error}') from None
    write_csv(table, COLUMNS, [
        (name, number, *(round(float(value), 4) for value in row),
         round(curve.untouched_auc, 4))
        for name, runs in curves.items() for number, curve in enumerate(runs)
        for row in zip(curve.places, curve.change, curve.auc, strict=True)])
    with atomic_path(args.out) as picture:
        draw(curves, args.block, picture)
    rows = [['run', 'n', 'AUC untouched', 'first patches', 'median of places',
             'lowest', 'where']]
    rows += [[name, str(len(runs)), *(
        ', '.join(f'{value(run):.3f}' for run in runs)
        for value in (lambda run: run.untouched_auc, lambda run: run.auc[0],
                      lambda run: statistics.median(run.auc),
                      lambda run: run.auc.min())),
        ', '.join(f'{100 * run.places[run.auc.argmin()]:.0f} %'
                  for run in runs)] for name, runs in curves.items()]
    print(markdown(rows))


if __name__ == '__main__':
    run_tool(main)
