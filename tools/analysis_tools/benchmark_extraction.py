"""Measure how fast slides become features, beside OpenSlide alone.

    python tools/analysis_tools/benchmark_extraction.py

A drawn slide (TIFF, deflate) is cut into tiles of 224 pixels, encoded by a
random ResNet-18 and written to h5. Figures are tiles per second and core of
the whole, of our reader and of OpenSlide alone; how the time is shared
(pictures are made once per slide); and whether reading and encoding overlap:
how long the encoder waits for tiles after the first ones, by wall clock, with
a process that reads over without.
"""

import argparse
import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import benchmarking as bench

from mmmedmask.util.run_tool import run_tool

MPP = 0.5
# An encoder that waits as long with a reader beside it gains nothing.
GOAL_OVERLAP = bench.Goal(0.8)


def openslide_reads(path: Path, coords: Sequence, size: int
                    ) -> Callable[[], None]:
    """Read all tiles with OpenSlide, as RGB."""
    import openslide

    def read() -> None:
        with openslide.OpenSlide(path) as slide:
            for x, y in coords:
                slide.read_region((int(x), int(y)), 0, (size, size)).convert(
                    'RGB')

    return read


def measure(args: argparse.Namespace, folder: Path) -> list[bench.Figure]:
    """Draw a slide, and read, encode and extract it."""
    from mmmedmask.apis import slide_extraction
    from mmmedmask.apis.encoder_weights import build_tile_encoder
    from mmmedmask.datasets.slides.slide_list import list_slides
    from mmmedmask.datasets.slides.tile_stream import SlideTiles, TilingOptions
    from mmmedmask.phantoms.whole_slides import draw_slide, write_slide
    side = args.side * args.tile_size
    write_slide(folder / 'slides/a.tif', draw_slide(
        (side, side), [(0, 0, side, side)]), MPP, levels=1)
    tasks, _ = list_slides([folder / 'slides'])
    tiling = TilingOptions(args.tile_size, MPP)
    encoder = build_tile_encoder('resnet18', random_seed=0).to(args.device)
    count = args.side**2
    coords = [(x * args.tile_size, y * args.tile_size) for y, x in
              itertools.product(range(args.side), repeat=2)]
    parts = bench.Parts(bench.make_clock(args.device))
    run = slide_extraction.ExtractionRun
    writer = slide_extraction.FeatureWriter
    originals = run.handle, writer.write, slide_extraction.encode_tiles
    waits = [], []

    def extract(workers: int) -> None:
        times = []

        def handle(self, event) -> None:
            times.append(time.perf_counter())
            originals[0](self, event)
            times.append(time.perf_counter())

        run.handle = handle
        if not workers:
            parts.mark(run, 'handle', 'pictures')
            parts.mark(writer, 'write', 'writing')
            parts.mark(slide_extraction, 'encode_tiles', 'encoding')
        try:
            slide_extraction.extract_slides(tasks, folder / 'out', encoder,
                                            tiling, args.batch_size, workers)
        finally:
            run.handle, writer.write, slide_extraction.encode_tiles = originals
            shutil.rmtree(folder / 'out')
        # From the second batch on.
        waits[workers].append(sum(begin - end for end, begin in zip(
            times[3::2], times[4::2], strict=False)))

    turns = bench.take_turns(
        dict(openslide=openslide_reads(tasks[0].path, coords, args.tile_size),
             reader=lambda: list(SlideTiles(tasks, tiling, args.batch_size)),
             extraction=parts.around(lambda: extract(0)),
             beside=lambda: extract(1)),
        args.rounds, args.warmup, bench.make_clock(args.device))
    # Pictures cost as much for a small slide as for a large one.
    whole = f'slide of {count} tiles to h5'
    figures = [
        bench.figure_of(words, turns.rates(name, count),
                        unit='tiles/s and core') for name, words in (
                      ('extraction', whole), ('reader', 'our slide reader'),
                      ('openslide', 'OpenSlide alone'))]
    return figures + [
        bench.figure_of(f'{whole} / OpenSlide alone, time',
                        turns.ratios('extraction', 'openslide')),
        bench.figure_of('our slide reader / OpenSlide alone, time',
                        turns.ratios('reader', 'openslide')),
        bench.figure_of('encoder waits for tiles, one reader / none', [
            beside / alone
            for alone, beside in zip(
                *(seconds[-args.rounds:] for seconds in waits),
                strict=True)], GOAL_OVERLAP),
        *(bench.figure_of(f'share of {"reading" if name == "rest" else name} '
                          f'in {whole}', [100 * value for value in values],
                          unit='%')
          for name, values in parts.shares(args.rounds).items())]


def main(argv: Sequence[str] | None = None) -> None:
    parser = bench.make_parser(__doc__)
    parser.add_argument('--side', type=int, default=10,
                        help='tiles along a side of the drawn slide')
    parser.add_argument('--tile-size', type=int, default=224)
    parser.add_argument('--batch-size', type=int, default=16)
    args = parser.parse_args(argv)
    machine = bench.set_up(args, f'ResNet-18 at {args.tile_size} px',
                     f'{args.side**2} tiles')
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(args, Path(folder))
    bench.report(figures, args, machine)


if __name__ == '__main__':
    run_tool(main)
