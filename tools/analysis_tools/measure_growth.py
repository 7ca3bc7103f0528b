"""Measure how the cost of a step grows with what it is given, and draw it.

    python tools/analysis_tools/measure_growth.py --out docs/results/growth

writes a picture per curve and growth.csv with all points, and prints how well
a straight line fits each curve, and an exponent. Times are of the processor,
one thread, and points take turns. Memory is what the forward pass keeps for
the backward pass, counted exactly. Takes about ten minutes on one core.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import benchmarking as bench

from mmmedmask.util.markdown_tables import markdown
from mmmedmask.util.run_tool import run_tool

TIME, MEMORY = 'processor time [s]', 'kept for backward [GB]'
COLUMNS = ('curve', 'of', 'x', 'value', 'low', 'high')


@dataclass
class Curve:
    """A cost against a size."""

    title: str
    x: str  # What the size is, with its unit.
    # What was measured, by name: a figure per size.
    costs: dict[str, dict[float, bench.Figure]]
    why: str = 'straight'  # Whether it should be a straight line, and why not.
    line: bool = True  # Whether to draw one.


class Case(NamedTuple):
    """A size: a step, and the model's forward pass to count memory in."""

    step: Callable[[], Any]
    forward: Callable[[], Any] | None = None
    model: Any = None


def measure(args: argparse.Namespace, cases: dict[float, Case]
            ) -> dict[str, dict[float, bench.Figure]]:
    """Time the steps in turns, and count what forward passes keep."""
    from mmmedmask.inspection.measuring import count_activations
    turns = bench.take_turns({x: case.step for x, case in cases.items()},
                             args.rounds, args.warmup, bench.make_clock())
    costs = {TIME: {x: bench.figure_of(str(x), turns.values(x))
                    for x in turns}}
    for x, case in cases.items():
        if case.forward is not None:
            with count_activations(case.model) as kept:
                result = case.forward()
            del result
            costs.setdefault(MEMORY, {})[x] = bench.figure_of(
                str(x), [(kept.scaling + kept.constant) / 1e9])
    return costs


def cmim_case(size: int, batch_size: int) -> Case:
    """A step of CMIM with a ResNet-18."""
    import benchmark_cmim as cmim
    model = cmim.build_models(size, False)['cmim']
    batch = cmim.make_batch('cmim', batch_size, size)
    return Case(
        cmim.make_step(model, batch, False, bench.Parts()), lambda: model(
            **model.data_preprocessor(batch, True), mode='loss'), model)


def build_msmae(arch: str | dict, size: int, **neck: int):
    """Build an MSMAE with patches of 16; ``neck`` are sizes of the decoder."""
    from mmpretrain.registry import MODELS
    return MODELS.build(dict(
        type='mmmedmask.MSMAE',
        backbone=dict(type='mmmedmask.MSMAEViT', arch=arch, img_size=size,
                      patch_size=16),
        neck=dict(type='mmmedmask.MSMAEDecoder', **neck),
        head=dict(type='mmmedmask.MSMAEHead', num_classes=2)))


def msmae_case(size: int, batch_size: int, depth: int = 12) -> Case:
    """Forward and backward of MSMAE, ViT of width 192 in patches of 16."""
    import torch
    from mmpretrain.structures import DataSample
    model = build_msmae(
        dict(embed_dims=192, num_layers=depth, num_heads=3,
             feedforward_channels=768),
        size, embed_dims=192, num_layers=4, num_heads=3)
    images = torch.randn(batch_size, 3, size, size)
    samples = [DataSample(metainfo=dict(
        img_path=f'{number}.png', sample_idx=number)).set_gt_label(number % 2)
        for number in range(batch_size)]

    def forward() -> torch.Tensor:
        losses = model.loss(images, samples)
        return sum(value for key, value in losses.items() if 'loss' in key)

    def step() -> None:
        model.zero_grad()
        forward().backward()

    return Case(step, forward, model)


def gimp_case(part: str, arguments: Sequence[int], shape: Sequence[int]
              ) -> Case:
    """Forward and backward of a part of GiMP."""
    import torch

    from mmmedmask.models import gimp
    model = getattr(gimp, part)(*arguments)
    inputs = torch.randn(shape)

    def forward() -> torch.Tensor:
        result = model(inputs)
        return (result[0] if isinstance(result, tuple) else result).sum()

    return Case(lambda: forward().backward(), forward, model)


def measure_rank(folder: Path, rank: int, world: int, rounds: int
                 ) -> list[float]:
    """Take steps as one of several processes; its seconds per step."""
    import benchmark_cmim as cmim
    import torch
    from mmengine.model import MMDistributedDataParallel
    from torch import distributed
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/{world}', rank=rank,
        world_size=world)
    model = MMDistributedDataParallel(cmim.build_models(64, False)['cmim'])
    step = cmim.make_step(model, cmim.make_batch('cmim', 16, 64), False,
                          bench.Parts())
    seconds = bench.take_turns(dict(step=step), rounds, 2).values('step')
    distributed.destroy_process_group()
    return seconds


def gloo_curve(args: argparse.Namespace, folder: Path) -> Curve:
    """Compare two processes with one; each has 16 tiles."""
    cost = {}
    for world in (1, 2):
        with ThreadPoolExecutor(world) as pool:
            ranks = pool.map(lambda rank, world=world: bench.in_fresh_process(
                measure_rank, folder, rank, world, args.rounds),
                             range(world))
            steps = [sum(step) for step in zip(*ranks, strict=True)]
        cost[world] = bench.figure_of(str(world), steps)
    return Curve('CMIM on gloo, 16 tiles of 64 px each', 'processes',
                 {TIME: cost},
                 'straight through 0 if exchanging gradients were free')


def tile_folder(folder: Path, count: int):
    """A data set of drawn JPEG tiles."""
    import benchmark_tile_loader as loader

    from mmmedmask.datasets import TileFolder
    return TileFolder(str(loader.draw_tiles(folder / str(count), 'jpg',
                                            count)), pipeline=loader.PIPELINE)


def workers_curve(args: argparse.Namespace, folder: Path) -> Curve:
    """Count the tiles per second that loaders with workers deliver."""
    from torch.utils.data import DataLoader

    from mmmedmask.datasets import collate_tiles
    tiles = tile_folder(folder, args.tiles)

    def read(workers: int) -> None:
        for _ in DataLoader(tiles, 32, num_workers=workers,
                            collate_fn=collate_tiles):
            pass

    turns = bench.take_turns({workers: lambda workers=workers: read(workers)
                              for workers in args.workers},
                             args.rounds, args.warmup)
    return Curve('Loader, JPEG tiles of 224 px', 'workers', {
        f'tiles per second of {words}': {
            workers: bench.figure_of(str(workers), turns.rates(
                workers, args.tiles, clock)) for workers in turns}
        for clock, words in (('busy', 'processor'), ('wall', 'wall time'))},
        'level by processor time from one worker on, to which tiles are '
        'handed over; by wall time it grows as far as there are free cores',
        False)


def refresh_curve(args: argparse.Namespace, folder: Path) -> Curve:
    """Make the attention maps of so many images, read from the disk."""
    from mmcv.transforms import Compose
    from mmengine.registry import init_default_scope

    from mmmedmask.engine.attention import whole_images
    init_default_scope('mmpretrain')
    model = build_msmae('deit-tiny', 224).eval()
    pipeline = Compose([dict(type='mmmedmask.LoadTile', in_channels=3),
                        dict(type='mmmedmask.ResizeImage', scale=224),
                        dict(type='mmmedmask.PackTile')])

    def case(images: int) -> Case:
        sources = whole_images.list_sources(tile_folder(folder, images))

        def compute(batch: dict):
            import torch
            with torch.inference_mode():
                return model.attention_maps(
                    model.data_preprocessor(batch, False)['inputs'].float())

        return Case(lambda: whole_images.run_whole_images(sources, pipeline,
                                                          compute, 16, 0))

    return Curve('Attention maps, ViT-Ti/16', 'images',
                 measure(args, {images: case(images)
                                for images in args.images}))


def curve_of(option: str, title: str, x: str, case: Callable[[int], Case],
             why: str, size: Callable[[int], float] = int) -> Callable:
    """Make a function that measures the step of a case of each value."""
    return lambda args, _: Curve(title, x, measure(args, {
        size(value): case(value) for value in getattr(args, option)}), why)


CURVES = dict(
    image_size=curve_of(
        'sizes', 'CMIM ResNet-18, 4 tiles', 'pixels of a tile [1000]',
        lambda side: cmim_case(side, 4),
        'straight, with an offset: weights are updated whatever the size',
        lambda side: side**2 / 1000),
    batch=curve_of(
        'batches', 'CMIM ResNet-18, tiles of 64 px', 'tiles in the batch',
        lambda batch: cmim_case(64, batch), 'straight, with the same offset'),
    tokens=curve_of(
        'grids', 'MSMAE, 12 layers of width 192, 4 images', 'tokens',
        lambda side: msmae_case(16 * side, 4),
        'time above straight: attention is quadratic in tokens; memory '
        'straight: no attention matrix is kept', lambda side: side**2),
    depth=curve_of(
        'depths', 'MSMAE, width 192, 4 images of 112 px', 'encoder layers',
        lambda depth: msmae_case(112, 4, depth),
        'straight, with an offset: embedding and decoder'),
    patches=curve_of(
        'patches', 'GiMP aggregator, 2 layers of width 256', 'patches',
        lambda patches: gimp_case('NystromAggregator', (512, 256),
                                  (1, patches, 512)),
        'straight, with an offset: the pseudo-inverse of 256 landmarks'),
    genes=curve_of(
        'genes', 'GroupMSA, width 128, 4 patients', 'genes',
        lambda genes: gimp_case('GroupMSA', (genes, 128), (4, genes)),
        'straight, with an offset: there are 960 tokens, whatever they hold'),
    refresh=refresh_curve, workers=workers_curve, processes=gloo_curve)


def fit_line(cost: dict[float, bench.Figure]) -> tuple[float, ...]:
    """Fit a straight line and a power: offset, slope, r², exponent of x."""
    import numpy as np
    x = np.array(list(cost), float)
    y = np.array([point.value for point in cost.values()])
    slope, offset = np.polyfit(x, y, 1)
    spread = ((y - y.mean())**2).sum()
    rest = ((y - offset - slope * x)**2).sum()
    exponent = np.nan
    if x.min() > 0 and y.min() > 0:
        exponent = np.polyfit(np.log(x), np.log(y), 1)[0]
    return offset, slope, 1 - rest / spread if spread else 1.0, exponent


def draw(curve: Curve, file: Path) -> None:
    """Draw a panel per cost, with the straight line behind the points."""
    import numpy as np
    from matplotlib.figure import Figure as Canvas

    from mmmedmask.visualization.curves import LINE_COLOR, REFERENCE_COLOR
    figure = Canvas((4.6 * len(curve.costs), 3.0), dpi=110)
    panels = figure.subplots(1, len(curve.costs), squeeze=False)[0]
    for panel, (name, cost) in zip(panels, curve.costs.items(), strict=True):
        x = np.array(list(cost), float)
        middle = np.array([point.value for point in cost.values()])
        offset, slope, share, _ = fit_line(cost)
        if curve.line and len(x) > 2:
            ends = np.array([x.min(), x.max()])
            panel.plot(ends, offset + slope * ends, color=REFERENCE_COLOR,
                       linestyle='--', linewidth=1.2,
                       label=f'straight line, r² {share:.3f}')
            panel.legend(fontsize=8, frameon=False)
        panel.errorbar(
            x, middle, [middle - [point.low for point in cost.values()],
                        [point.high for point in cost.values()] - middle],
            color=LINE_COLOR, marker='o', markersize=4, linewidth=1.8,
            capsize=2)
        panel.set_title(name, fontsize=10, loc='left')
        panel.set_xlabel(curve.x, fontsize=9)
        panel.tick_params(labelsize=8)
        panel.set_ylim(0, 1.1 * max(point.high for point in cost.values()))
        panel.set_xlim(left=0)
        panel.grid(alpha=0.25)
        panel.spines[['top', 'right']].set_visible(False)
        if len(x) <= 4 and (x == x.round()).all():
            panel.set_xticks(x)
    figure.suptitle(curve.title, fontsize=11, x=0.01, ha='left')
    figure.tight_layout()
    figure.savefig(file)


def table_of_curves(measured: Iterable[Curve]) -> str:
    """A line per cost: its ends, r², the exponent, what we expect."""
    rows = [['what', 'against', 'from', 'to', 'r² of a straight line',
             'exponent', 'expected']]
    for curve in measured:
        for name, cost in curve.costs.items():
            first, last = min(cost), max(cost)
            _, _, share, exponent = fit_line(cost)
            rows.append([
                f'{curve.title}: {name}', curve.x,
                f'{bench.format_number(cost[first].value)} at '
                f'{bench.format_number(first)}',
                f'{bench.format_number(cost[last].value)} at '
                f'{bench.format_number(last)}',
                f'{share:.3f}' if curve.line and len(cost) > 2 else '',
                '' if exponent != exponent else f'{exponent:.2f}',
                curve.why])
    return markdown(rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = bench.make_parser(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument('--out', type=Path, metavar='FOLDER', required=True)
    parser.add_argument('--curves', nargs='+', choices=CURVES,
                        default=list(CURVES), help='what to measure')
    for name, values, words in (
            ('--sizes', (64, 96, 128, 160, 192, 224), 'sides of tiles [px]'),
            ('--batches', (2, 4, 8, 12, 16), 'tiles of a batch'),
            ('--grids', (6, 10, 14, 18, 22, 26), 'tokens along a side'),
            ('--depths', (2, 4, 8, 12, 16), 'layers of the encoder'),
            ('--patches', (2_000, 4_000, 8_000, 16_000, 32_000), 'of a bag'),
            ('--genes', (4_000, 15_000, 30_000, 45_000, 60_000), 'genes'),
            ('--images', (16, 32, 64, 96, 128), 'images of a refresh'),
            ('--workers', (0, 1, 2, 4), 'workers of the loader')):
        parser.add_argument(name, type=int, nargs='+', default=values,
                            help=f'{words} (default: %(default)s)')
    parser.add_argument('--tiles', type=int, default=768,
                        help='tiles that loaders read')
    args = parser.parse_args(argv)
    machine = bench.set_up(args)
    from mmengine.registry import init_default_scope

    import mmmedmask.models  # noqa: F401
    from mmmedmask.util.atomic_files import write_csv
    init_default_scope('mmpretrain')
    args.out.mkdir(parents=True, exist_ok=True)
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.curves:
            print(name, file=sys.stderr, flush=True)
            measured[name] = CURVES[name](args, Path(folder))
            draw(measured[name], args.out / f'{name}.png')
    write_csv(args.out / 'growth.csv', COLUMNS, [
        (name, of, f'{x:g}', *(
            f'{value:.5g}' for value in (point.value, point.low, point.high)))
        for name, curve in measured.items()
        for of, cost in curve.costs.items() for x, point in cost.items()])
    print(f'{machine}\n\n{table_of_curves(measured.values())}')


if __name__ == '__main__':
    run_tool(main)
