"""Count the tiles per second that loaders read, and what shards cost.

    python tools/analysis_tools/benchmark_tile_loader.py

--parts chooses among: formats, tiles per second and core read, decoded,
packed and collated from JPEG, PNG and TIFF; index, what the index of a very
large set of shards (simulated, without pictures) costs a fresh process until
the first batch of numbers, and until one in the middle of an epoch; shards,
tiles per second of shards beside single files, in random order, with a cold
and a warm cache.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import benchmarking as bench

from mmmedmask.util.run_tool import run_tool

PIPELINE = [dict(type='mmmedmask.LoadTile', in_channels=3),
            dict(type='mmmedmask.PackTile')]
GOALS = dict(jpg=bench.Goal(3500, at_least=True),
             png=bench.Goal(2000, at_least=True), tif=None)
SIDE = 224
BATCH = 32
SHARD_SAMPLES = 10_000
TILE_BYTES = 20_000


def write_simulated_index(folder: Path, samples: int) -> None:
    """Write the index of shards that do not exist."""
    import numpy as np

    from mmmedmask.datasets.shards import ENTRIES_FILE, ENTRY, INDEX_FILE
    shards = -(-samples // SHARD_SAMPLES)
    counts = [min(SHARD_SAMPLES, samples - number * SHARD_SAMPLES)
              for number in range(shards)]
    with open(folder / ENTRIES_FILE, 'wb') as out:
        for number, count in enumerate(counts):
            rows = np.zeros(count, ENTRY)
            rows['offset'] = np.arange(count) * TILE_BYTES + 512
            rows['size'], rows['shard'], rows['label'] = 19_000, number, -1
            out.write(rows.tobytes())
    (folder / INDEX_FILE).write_text(json.dumps(dict(
        format=1, samples=samples, classes=[], shards=[
            dict(name=f'tiles-{number:06d}.tar', samples=count,
                 bytes=count * TILE_BYTES)
            for number, count in enumerate(counts)])))


def measure_start(folder: Path, ranks: int) -> list[bench.Figure]:
    """Open the index and begin epochs, in a fresh process."""
    from mmmedmask.datasets import ShardedTiles
    from mmmedmask.engine.samplers import BlockShuffleSampler
    imported = bench.held_bytes()
    opened = []
    turns = bench.take_turns(dict(index=lambda: opened.append(
        ShardedTiles(str(folder)))), 1, 0)
    dataset = opened[0]
    what = f'shards, {len(dataset):,} samples'
    figures = [bench.figure_of(f'{what}, index mapped', turns.values('index'),
                               unit='s')]

    def begin(rank: int, middle: bool) -> None:
        sampler = BlockShuffleSampler(dataset, seed=0)
        sampler.rank, sampler.world_size = rank, ranks
        sampler.num_samples = -(-len(dataset) // ranks)
        sampler.start = middle * (len(sampler) // 2)
        numbers = iter(sampler)
        for _ in range(256):
            dataset.get_data_info(next(numbers))

    for middle, words in enumerate(('first batch', 'middle of the epoch')):
        values = [value for rank in range(ranks) for value in bench.take_turns(
            dict(begin=lambda rank=rank, middle=middle: begin(rank, middle)),
            1, 0).values('begin')]
        figures.append(bench.figure_of(
            f'{what}, {words} of {ranks} ranks', values, unit='s'))
    figures.append(bench.figure_of(f'{what}, memory beside the libraries', [
        (bench.peak_bytes() - imported) / 1e6], unit='MB'))
    return figures


def check_ranks(samples: int, ranks: int) -> list[bench.Figure]:
    """Count how often an epoch of all ranks has each sample."""
    import numpy as np

    from mmmedmask.engine.samplers import BlockShuffleSampler
    seen = np.zeros(samples, np.uint8)

    def epoch() -> None:
        for rank in range(ranks):
            sampler = BlockShuffleSampler(range(samples), seed=0)
            sampler.rank, sampler.world_size = rank, ranks
            sampler.num_samples = -(-samples // ranks)
            for number in sampler:
                seen[number] += 1

    turns = bench.take_turns(dict(epoch=epoch), 1, 0)
    what = f'{ranks} ranks, {samples:,} samples'
    return [bench.figure_of(f'{what}: the rarest comes', [int(seen.min())],
                            bench.Goal(1, at_least=True), 'times'),
            bench.figure_of(f'{what}: drawn', turns.rates('epoch', samples),
                            unit='numbers/s')]


def measure_index(args: argparse.Namespace) -> list[bench.Figure]:
    """What the index of very many samples costs."""
    with tempfile.TemporaryDirectory() as folder:
        write_simulated_index(Path(folder), args.samples)
        figures = bench.in_fresh_process(
            measure_start, Path(folder), args.ranks)
    return figures + check_ranks(args.samples, args.ranks)


def draw_tiles(folder: Path, suffix: str, count: int) -> Path:
    """Draw tiles of smooth noise, which compress about as tissue does."""
    import cv2
    import numpy as np
    pixels = np.random.default_rng(0)
    folder.mkdir()
    # 1 means no compression, as NCT-CRC's tiles have.
    options = [cv2.IMWRITE_TIFF_COMPRESSION, 1] if suffix == 'tif' else []
    for number in range(count):
        tile = cv2.resize(pixels.integers(
            0, 256, (SIDE // 4, SIDE // 4, 3), dtype=np.uint8), (SIDE, SIDE))
        cv2.imwrite(str(folder / f'{number:06d}.{suffix}'), tile, options)
    return folder


def reader(dataset, order: Sequence[int]) -> Callable[[], None]:
    """Read, decode, pack and collate tiles, batch by batch."""
    from mmmedmask.datasets import collate_tiles

    def read() -> None:
        for start in range(0, len(order), BATCH):
            collate_tiles([dataset[index]
                           for index in order[start:start + BATCH]])

    return read


def measure_formats(args: argparse.Namespace) -> list[bench.Figure]:
    """Count the tiles per second and core of each format."""
    from mmmedmask.datasets import TileFolder
    with tempfile.TemporaryDirectory() as folder:
        turns = bench.take_turns({
            suffix: reader(
                TileFolder(str(draw_tiles(Path(folder) / suffix, suffix,
                                          args.tiles)), pipeline=PIPELINE),
                range(args.tiles)) for suffix in GOALS},
                                 args.rounds, args.warmup, bench.make_clock())
    return [bench.figure_of(f'loader, {suffix}', turns.rates(
        suffix, args.tiles), goal, 'tiles/s and core')
        for suffix, goal in GOALS.items()]


def drop_cache(paths: Sequence[Path]) -> None:
    """Forget the files' pages, so that they are read from the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def compare_shards(args: argparse.Namespace) -> list[bench.Figure]:
    """Compare shards with single files, from the disk and from memory."""
    import numpy as np

    from mmmedmask.datasets import ShardedTiles, TileFolder
    from mmmedmask.datasets.shards import pack_shards
    from mmmedmask.engine.samplers import BlockShuffleSampler
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        single = draw_tiles(root / 'single', 'jpg', args.tiles)
        packing = bench.take_turns(dict(pack=lambda: pack_shards(
            single, root / 'shards', 1e8)), 1, 0)
        sharded = ShardedTiles(str(root / 'shards'), pipeline=PIPELINE)
        order = np.random.default_rng(0).permutation(args.tiles).tolist()
        read = {'single files': reader(
            TileFolder(str(single), pipeline=PIPELINE),
            order), 'shards': reader(
                sharded, list(BlockShuffleSampler(sharded, seed=0)))}
        files = [path for path in root.rglob('*') if path.is_file()]

        def cold(run: Callable[[], None]) -> Callable[[], None]:
            def from_disk() -> None:
                drop_cache(files)
                run()
            return from_disk

        turns = bench.take_turns(
            {**read, **{f'{name}, cold': cold(run)
                        for name, run in read.items()}},
            args.rounds, args.warmup)
    figures = [
        bench.figure_of('tiles packed into shards', packing.rates(
            'pack', args.tiles), unit='tiles/s and core'),
        bench.figure_of('shards / single files, time, warm cache',
                        turns.ratios('shards', 'single files')),
        bench.figure_of('shards / single files, wall time, cold cache',
                        turns.ratios('shards, cold', 'single files, cold',
                                     'wall'))]
    return figures + [
        bench.figure_of(f'{name}, warm cache', turns.rates(name, args.tiles),
                        unit='tiles/s and core') for name in read]


def main(argv: Sequence[str] | None = None) -> None:
    measures = dict(formats=measure_formats, index=measure_index,
                    shards=compare_shards)
    parser = bench.make_parser(__doc__, parts=measures)
    parser.add_argument('--samples', type=int, default=10**8,
                        help='of the simulated index')
    parser.add_argument('--ranks', type=int, default=2)
    parser.add_argument('--tiles', type=int, default=512,
                        help='drawn, and read in each round')
    args = parser.parse_args(argv)
    machine = bench.set_up(args, f'{args.tiles} tiles of {SIDE} px')
    import cv2
    cv2.setNumThreads(1)
    bench.report(bench.measure_parts(measures, args), args, machine)


if __name__ == '__main__':
    run_tool(main)
