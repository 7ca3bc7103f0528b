"""Measure ShardedTiles: start, memory, speed, resume and two ranks.

    python tools/analysis_tools/benchmark_shards.py --samples 100000000

Writes an index of simulated samples, without pictures, and measures in a
fresh process the time and memory until the first batch of numbers, and until
one in the middle of an epoch; then packs drawn tiles and compares the tiles
per second with single files, in random order, with a cold and a warm cache.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

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


def peak() -> float:
    """Largest memory of this process so far, in MB, and what it shares."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_start(folder: Path, ranks: int) -> None:
    """Print, of a fresh process, what the start costs."""
    from mmmedmask.datasets import ShardedTiles
    from mmmedmask.engine.samplers import BlockShuffleSampler
    imported = peak()
    start = time.perf_counter()
    dataset = ShardedTiles(str(folder))
    print(f'  {len(dataset):,} samples mapped after '
          f'{time.perf_counter() - start:.2f} s')
    for rank in range(ranks):
        sampler = BlockShuffleSampler(dataset, seed=0)
        sampler.rank, sampler.world_size = rank, ranks
        sampler.num_samples = -(-len(dataset) // ranks)
        for name, place in (('the first batch', 0),
                            ('the middle of the epoch', len(sampler) // 2)):
            sampler.start = place
            begin = time.perf_counter()
            numbers = iter(sampler)
            for _ in range(256):
                dataset.get_data_info(next(numbers))
            print(f'  rank {rank} of {ranks}, {name}: '
                  f'{time.perf_counter() - begin:.2f} s')
    print(f'  peak {peak():,.0f} MB, {imported:,.0f} MB of it libraries')


def check_ranks(samples: int, ranks: int) -> None:
    """Print how often an epoch of all ranks has each sample."""
    import numpy as np

    from mmmedmask.engine.samplers import BlockShuffleSampler
    seen = np.zeros(samples, np.uint8)
    begin = time.perf_counter()
    for rank in range(ranks):
        sampler = BlockShuffleSampler(range(samples), seed=0)
        sampler.rank, sampler.world_size = rank, ranks
        sampler.num_samples = -(-samples // ranks)
        for number in sampler:
            seen[number] += 1
    took = time.perf_counter() - begin
    print(f'{ranks} ranks, {samples:,} samples: each comes {seen.min()} to '
          f'{seen.max()} times; {samples / took:,.0f} numbers per second')


def drop_cache(paths: Sequence[Path]) -> None:
    """Forget the files' pages, so that they are read from the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def compare_speed(tiles: int) -> None:
    """Print the tiles per second of shards and of single files."""
    import cv2
    import numpy as np

    from mmmedmask.datasets import ShardedTiles, TileFolder
    from mmmedmask.datasets.shards import pack_shards
    from mmmedmask.engine.samplers import BlockShuffleSampler
    pipeline = [dict(type='mmmedmask.LoadTile'),
                dict(type='mmmedmask.PackTile')]
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        single, shards = Path(folder) / 'single', Path(folder) / 'shards'
        single.mkdir()
        for number in range(tiles):
            tile = cv2.resize(random.integers(
                0, 256, (56, 56, 3), dtype=np.uint8), (224, 224))
            cv2.imwrite(str(single / f'{number:06d}.jpg'), tile)
        begin = time.perf_counter()
        pack_shards(single, shards, 1e8)
        print(f'packed {tiles / (time.perf_counter() - begin):,.0f} tiles per '
              'second')
        for name, dataset, order in (
            ('single files', TileFolder(str(single), pipeline=pipeline),
             random.permutation(tiles).tolist()),
            ('shards', ShardedTiles(str(shards), pipeline=pipeline), None)):
            files = [path for path in Path(folder).rglob('*')
                     if path.is_file()]
            order = order or list(BlockShuffleSampler(dataset, seed=0))
            for cache in ('cold', 'warm'):
                if cache == 'cold':
                    drop_cache(files)
                begin, busy = time.perf_counter(), time.process_time()
                for index in order:
                    dataset[index]
                took = time.perf_counter() - begin
                busy = time.process_time() - busy
                print(f'{name}, {cache} cache: {tiles / took:,.0f} tiles per '
                      f'second, {tiles / busy:,.0f} per second of processor')


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--samples', type=int, default=10**8)
    parser.add_argument('--ranks', type=int, default=2)
    parser.add_argument('--tiles', type=int, default=5000,
                        help='drawn for the speed')
    parser.add_argument('--index', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.index:
        measure_start(args.index, args.ranks)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_simulated_index(Path(folder), args.samples)
        print(f'{args.samples:,} simulated samples, in a fresh process:',
              flush=True)
        subprocess.run([sys.executable, __file__, '--index', folder,
                        '--ranks', str(args.ranks)], check=True)
    check_ranks(args.samples, args.ranks)
    compare_speed(args.tiles)


if __name__ == '__main__':
    main()
