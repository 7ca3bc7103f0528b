"""Show whether a trained model's answers rest on a place in the file.

    python tools/analysis_tools/exchange_patches.py RUN... --out exchange.png

For each RUN, a folder of tools/train.py or tools/reproduce.py with its config
and a checkpoint, or one of the checkpoints in it, blocks of patches are
exchanged with those of a patient of another class, at several places of the
file. Writes the curves and a csv beside the picture. A model that looks at
patches answers alike wherever the block lay; one that dips at a place
memorises patients by it. Training patients show this best.
"""

import argparse
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

COLUMNS = ('run', 'place', 'change', 'auc', 'untouched_auc')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'runs', nargs='+', type=Path, metavar='RUN',
        help='of a folder the last state counts, else its best weights')
    parser.add_argument('--names', nargs='+', help='of the runs')
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


def measure(args: argparse.Namespace) -> dict:
    """Make the curve of each run, by its name."""
    from mmengine.registry import init_default_scope

    from mmmedmask.apis import get_model, load_config
    from mmmedmask.apis.patch_exchange import exchange_patches
    from mmmedmask.engine.held_out import build_changed
    from mmmedmask.engine.hooks.probe_hook import BAG_PIPELINE
    names = args.names or [
        run.name if run.is_dir() else f'{run.parent.name}/{run.stem}'
        for run in args.runs]
    if len(set(names)) != len(args.runs):
        raise ValueError(f'--names must be {len(args.runs)} different names, '
                         f'got {names}')
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
        curves[name] = exchange_patches(model, bags, args.block, args.places)
    return curves


def draw(curves: dict, block: int, path: Path) -> None:
    """Draw AUC over the place in the file."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(7, 3.6), layout='constrained')
    axes = figure.subplots()
    for number, (name, curve) in enumerate(curves.items()):
        axes.plot(100 * curve.places, curve.auc, f'C{number}o-',
                  markersize=3, linewidth=1.2, label=name)
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
        (name, *(round(float(value), 4) for value in row),
         round(curve.untouched_auc, 4))
        for name, curve in curves.items()
        for row in zip(curve.places, curve.change, curve.auc, strict=True)])
    with atomic_path(args.out) as picture:
        draw(curves, args.block, picture)
    rows = [['run', 'AUC untouched', 'first patches', 'median of places',
             'lowest']]
    rows += [[name, f'{curve.untouched_auc:.3f}', f'{curve.auc[0]:.3f}',
              f'{statistics.median(curve.auc):.3f}', f'{curve.auc.min():.3f} '
              f'at {100 * curve.places[curve.auc.argmin()]:.0f} %']
             for name, curve in curves.items()]
    print(markdown(rows))


if __name__ == '__main__':
    main()
