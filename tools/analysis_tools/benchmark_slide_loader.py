"""Count the runs of patches per second that GiMP's pre-training can read.

    python tools/analysis_tools/benchmark_slide_loader.py --workers 0 2

Draws slides in the layouts of CLAM, TRIDENT and others, and reads runs of L
patches at random places in one process: from the files as they are and from
the copy in fp16 that ``cache_dir`` makes. Beside it stands the time of a
whole slide, of which a run should take its share. Then the pipeline of
pre-training, genes included, in a loader with workers.

Files were just written, so that they are read from memory: a disk adds to
this what it takes to read so many bytes.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

LAYOUTS = ('clam-h5', 'trident-h5', 'clam-pt', 'npy')


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of this tool's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--layouts', nargs='+', default=list(LAYOUTS),
                        choices=LAYOUTS, help='files to read')
    parser.add_argument('--slides', type=int, default=2,
                        help='slides of each layout')
    parser.add_argument('--slide-patches', type=int, default=15_000,
                        help='patches of a slide')
    parser.add_argument('--length', type=int, default=6_000,
                        help='patches of a run, L')
    parser.add_argument('--in-dims', type=int, default=1024)
    parser.add_argument('--genes', type=int, default=60_480)
    parser.add_argument('--reads', type=int, default=40,
                        help='runs to read for each line')
    parser.add_argument('--workers', type=int, nargs='+', default=[0, 2],
                        help='workers of the loaders')
    parser.add_argument('--folder', type=Path,
                        help='where the slides are drawn (default: a folder '
                        'for temporary files, removed at the end)')
    return parser


def time_reads(path: Path, length: int, reads: int,
               cache_dir: str | None = None) -> dict[str, float]:
    """Read runs at random places, and the whole slide.

    Returns:
        Median seconds of a ``run`` and of the ``whole`` slide, and ``bytes``
        of a run.
    """
    import numpy as np

    from mmmedmask.datasets.slides.slide_features import SlideFeatures
    places = np.random.default_rng(0)
    times: dict[str, list[float]] = {'run': [], 'whole': []}
    with SlideFeatures(path, cache_dir=cache_dir) as slide:
        count = min(length, len(slide))
        slide.read(0, 1)  # Makes the copy.
        for number in range(reads):
            start = int(places.integers(0, len(slide) - count + 1))
            ends = {'run': (start, start + count)}
            if number % 4 == 0:
                ends['whole'] = (0, len(slide))
            for what, (first, last) in ends.items():
                began = time.perf_counter()
                slide.read(first, last)
                times[what].append(time.perf_counter() - began)
        size = 4 * count * slide.dims
    return {'bytes': size, **{what: statistics.median(seconds)
                              for what, seconds in times.items()}}


def time_loader(root: Path, args: argparse.Namespace, workers: int,
                cache_dir: str | None = None) -> float:
    """Run the pipeline of pre-training in a loader."""
    from mmengine.dataset import pseudo_collate
    from torch.utils.data import DataLoader, RandomSampler

    from mmmedmask.datasets import SlideOmicDataset
    dataset = SlideOmicDataset(
        'cohort.csv', str(root), feature_root='features',
        cache_dir=cache_dir,
        expression=dict(path='expression.tsv', unit='fpkm'),
        pipeline=[
            dict(type='mmmedmask.LoadSlideFeatures'),
            dict(type='mmmedmask.ContiguousSubsequence', length=args.length),
            dict(type='mmmedmask.GenerateSequenceMask'),
            dict(type='mmmedmask.LoadExpression'),
            dict(type='mmmedmask.PackSlideOmicInputs')])
    batch = 2
    loader = DataLoader(
        dataset, batch, num_workers=workers, collate_fn=pseudo_collate,
        sampler=RandomSampler(dataset, replacement=True,
                              num_samples=args.reads + batch))
    began = None
    seen = 0
    for data in loader:
        if began is None:
            # Workers have started and files are open.
            began = time.perf_counter()
        else:
            seen += len(data['inputs']['patches'])
    return seen / (time.perf_counter() - began)


def measure_layout(layout: str, root: Path, args: argparse.Namespace) -> dict:
    """Draw slides in one layout and read them.

    Returns:
        ``files`` and ``copies`` as :func:`time_reads` gives them, and runs
        per second of ``loaders``, by number of workers.
    """
    from mmmedmask.phantoms.slide_omic_cohort import write_slide_omic_cohort
    write_slide_omic_cohort(root, max(2, args.slides), dims=args.in_dims,
                            patches=(args.slide_patches, args.slide_patches),
                            num_genes=args.genes, layout=layout)
    path = sorted((root / 'features').iterdir())[0]
    cache = str(root / 'cache')
    return dict(
        files=time_reads(path, args.length, args.reads),
        copies=time_reads(path, args.length, args.reads, cache),
        loaders={workers: time_loader(root, args, workers)
                 for workers in args.workers})


def report(args: argparse.Namespace) -> str:
    """Measure all layouts, in text."""
    from mmengine.logging import MMLogger
    MMLogger.get_current_instance().setLevel('ERROR')
    lines = [f'runs of {args.length} of {args.slide_patches} patches of '
             f'{args.in_dims}, read from memory']
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        for layout in args.layouts:
            measured = measure_layout(layout, folder / layout, args)
            for what in ('files', 'copies'):
                times = measured[what]
                name = layout if what == 'files' else '  as fp16 copy'
                lines.append(
                    f'  {name:15s} {1e3 * times["run"]:7.1f} ms a run, '
                    f'{1 / times["run"]:6.1f} runs/s, '
                    f'{times["bytes"] / times["run"] / 1e9:.2f} GB/s; '
                    f'{times["run"] / times["whole"]:.2f} of the time of the '
                    'whole slide')
            lines.append('  ' + ' ' * 16 + 'pipeline: ' + ', '.join(
                f'{rate:.1f} runs/s with {workers} workers'
                for workers, rate in measured['loaders'].items()))
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, measure and print."""
    print(report(build_parser().parse_args(argv)))


if __name__ == '__main__':
    main()
