"""Count the runs of patches per second that GiMP's pre-training can read.

    python tools/analysis_tools/benchmark_slide_loader.py --workers 0 2

Draws slides in the layouts of CLAM, TRIDENT and others, and reads runs of L
patches at random places: from the files as they are, from the copy in fp16
that ``cache_dir`` makes, and through the pipeline of pre-training, genes
included, in a loader with workers. Beside them stands the whole slide, of
whose time a run should take its share.

Files were just written, so that they are read from memory: a disk adds to
this what it takes to read so many bytes.
"""

import argparse
import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import benchmarking as bench

from mmmedmask.util.run_tool import run_tool

LAYOUTS = ('clam-h5', 'trident-h5', 'clam-pt', 'npy')


def reads(slide, args: argparse.Namespace) -> Callable[[], None]:
    """Read runs at random places of a slide."""
    import numpy as np
    places = np.random.default_rng(0)
    count = min(args.length, len(slide))

    def read() -> None:
        for start in places.integers(
                0, len(slide) - count + 1, args.reads).tolist():
            slide.read(start, start + count)

    return read


def loader_reads(root: Path, args: argparse.Namespace, workers: int
                 ) -> Callable[[], None]:
    """Run the pipeline of pre-training in a loader."""
    from mmengine.dataset import pseudo_collate
    from torch.utils.data import DataLoader, RandomSampler

    from mmmedmask.datasets import SlideOmicDataset
    dataset = SlideOmicDataset(
        'cohort.csv', str(root), feature_root='features',
        expression=dict(path='expression.tsv', unit='fpkm'),
        pipeline=[
            dict(type='mmmedmask.LoadSlideFeatures'),
            dict(type='mmmedmask.ContiguousSubsequence', length=args.length),
            dict(type='mmmedmask.GenerateSequenceMask'),
            dict(type='mmmedmask.LoadExpression'),
            dict(type='mmmedmask.PackSlideOmicInputs')])
    def read() -> None:
        for _ in DataLoader(
                dataset, 2, num_workers=workers, collate_fn=pseudo_collate,
                sampler=RandomSampler(dataset, replacement=True,
                                      num_samples=args.reads)):
            pass

    return read


def measure_layout(layout: str, root: Path, args: argparse.Namespace
                   ) -> list[bench.Figure]:
    """Draw slides in one layout and read them."""
    from mmmedmask.datasets.slides.slide_features import SlideFeatures
    from mmmedmask.phantoms.slide_omic_cohort import write_slide_omic_cohort
    write_slide_omic_cohort(root, max(2, args.slides), dims=args.in_dims,
                            patches=(args.slide_patches, args.slide_patches),
                            num_genes=args.genes, layout=layout)
    path = sorted((root / 'features').iterdir())[0]
    with contextlib.ExitStack() as stack:
        files, copies = (
            stack.enter_context(SlideFeatures(path, cache_dir=folder))
            for folder in (None, str(root / 'cache')))
        copies.read(0, 1)  # Makes the copy.
        steps = {
            'files': reads(files, args), 'fp16 copies': reads(copies, args),
            'whole': lambda: files.read(0, len(files)),
            **{f'pipeline with {workers} workers': loader_reads(
                root, args, workers) for workers in args.workers}}
        turns = bench.take_turns(steps, args.rounds, args.warmup)
    figures = [bench.figure_of(f'{layout}, {name}', turns.rates(
        name, args.reads), unit='runs/s') for name in steps if name != 'whole']
    return [*figures,
            bench.figure_of(f'{layout}, a run / the whole slide, time',
                            [ratio / args.reads
                             for ratio in turns.ratios('files', 'whole')])]


def main(argv: Sequence[str] | None = None) -> None:
    parser = bench.make_parser(__doc__)
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
    parser.add_argument('--reads', type=int, default=20,
                        help='runs to read in each round')
    parser.add_argument('--workers', type=int, nargs='+', default=[0, 2],
                        help='workers of the loaders')
    parser.add_argument('--folder', type=Path,
                        help='where the slides are drawn (default: a folder '
                        'for temporary files, removed at the end)')
    args = parser.parse_args(argv)
    machine = bench.set_up(args,
                           f'runs of {args.length} of {args.slide_patches} '
                           f'patches of {args.in_dims}, read from memory')
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        bench.report([figure for layout in args.layouts for figure in
                measure_layout(layout, folder / layout, args)], args, machine)


if __name__ == '__main__':
    run_tool(main)
