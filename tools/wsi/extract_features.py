"""Turn whole slides into files of features, one per slide.

    python tools/wsi/extract_features.py SLIDES --out data/cohort \
        --encoder resnet50-block3 --tile-size 256 --mpp 0.5 --workers 4

writes OUT/h5_files/<slide>.h5 (features and coords as CLAM's), OUT/tiles
(pictures of the tiles that were kept: look at them), OUT/thumbnails and a
csv per run in OUT/manifests. A second call does what the first one left.
The exit status is 1 if a slide failed.

With --shards N the slides become N jobs of Snakemake, on this machine or, by
--executor, on a cluster; what stands behind -- goes to Snakemake. A job, or
you, extracts one of N shards with --shard I/N.
"""

import argparse
import contextlib
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from encoder_cli import add_encoder_arguments, build_encoder

from mmmedmask.experiments import tool_options
from mmmedmask.util.run_tool import run_tool

NAME = Path(__file__).name
# Arguments that do not decide about the features. The csv and the slides
# decide by what they list.
OTHER_ARGUMENTS = ('slides', 'csv', 'slide_mpp', 'out', 'workers', 'device',
                   'batch_size', 'overwrite', 'shard')


def parse_shard(text: str) -> tuple[int, int]:
    """Read ``I/N``, 1 <= I <= N."""
    number, slash, count = text.partition('/')
    if slash and number.isdigit() and count.isdigit() and \
            1 <= int(number) <= int(count):
        return int(number), int(count)
    raise argparse.ArgumentTypeError(
        f'expected I/N with I from 1 to N, such as 1/8, got {text!r}')


def parse_resource(text: str) -> tuple[str, int]:
    """Read ``NAME=NUMBER``."""
    name, _, number = text.partition('=')
    if name and number.isdigit():
        return name, int(number)
    raise argparse.ArgumentTypeError(
        f'expected NAME=NUMBER, such as gpus=8, got {text!r}')


def build_engine_parser() -> argparse.ArgumentParser:
    """Make the parser of the arguments that jobs do not get."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    tool_options.add_engine_options(
        parser, 'processes of all jobs; a job takes one, and one per worker '
        '(default: all cores that this process may use)')
    group = parser.add_argument_group('many jobs')
    group.add_argument('--shards', type=int, metavar='N',
                       help='split the slides into N jobs of Snakemake')
    group.add_argument(
        '--dry-run', action='store_true', help='list the jobs, run none')
    group.add_argument('--retry-failed', action='store_true',
                       help='try slides again that failed')
    group.add_argument(
        '--resources', type=parse_resource, action='append', default=[],
        metavar='NAME=N', help='limits, such as gpus=8: with --device cuda '
        'a job takes one GPU (default: those that are visible)')
    return parser


def engine_defaults() -> dict:
    """Arguments that jobs do not get, as they are if none is given."""
    return vars(build_engine_parser().parse_args([]))


def add_numbers(group, options: Sequence[tuple]) -> None:
    """Add options that are numbers, by name, default and meaning."""
    for name, default, text in options:
        group.add_argument(name, type=type(default), default=default,
                           help=f'{text} (default: %(default)s)')


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, parents=[build_engine_parser()],
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('slides', nargs='+', type=Path,
                        help='files, and folders that are searched for slides')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--csv', type=Path, help='take only the slides of its '
                        'column slide_id; its column mpp tells their '
                        'resolution where the files do not')
    parser.add_argument('--slide-mpp', type=float,
                        help='µm per pixel of the finest level, for slides '
                        'whose file does not tell')
    parser.add_argument('--trust-slide-mpp', action='store_true',
                        help='take --slide-mpp and the column mpp for slides '
                        'whose file tells another resolution, too, which '
                        'fail without')
    parser.add_argument(
        '--workers', type=int, default=2,
        help='processes that read slides (default: %(default)s; 0: none)')
    parser.add_argument('--overwrite', action='store_true', help='do slides '
                        'again that were done with other settings')
    parser.add_argument('--shard', type=parse_shard, metavar='I/N',
                        help='do shard I of N alone: the same slides give the '
                        'same shards, of about equal size on disk')
    group = parser.add_argument_group('tiles')
    add_numbers(group, (
        ('--tile-size', 256, 'side in pixels'),
        ('--mpp', .5, 'µm per pixel of a tile; 0.5 is about 20x'),
        ('--overlap', 0, 'of neighbours, in pixels'),
        ('--min-tissue', .5, 'share of a tile that has to be tissue')))
    group.add_argument('--allow-enlarging', action='store_true',
                       help='cut tiles that are finer than the slide')
    group = parser.add_argument_group(
        'tissue', 'what is more colourful than glass')
    add_numbers(group, (
        ('--tissue-mpp', 8.,
         'µm per pixel of the picture on which it is looked for'),
        ('--min-brightness', 40, 'darker pixels are pen or borders'),
        ('--median', 5, 'side of the median filter, odd'),
        ('--min-area', .02, 'smaller pieces are left out, in mm²'),
        ('--max-hole', .01, 'smaller holes are filled, in mm²'),
        ('--ink', 1.3, 'blue and green pen absorb so many times as much red '
         'as green; 0: they count as tissue, for trichrome and Alcian '
         'stains')))
    group.add_argument(
        '--saturation', type=int, help="threshold, 0 to 255 (default: Otsu's)")
    group.add_argument(
        '--saturation-limits', type=int, nargs=2, default=(10, 40),
        metavar=('LOW', 'HIGH'),
        help="what Otsu's threshold is kept within (default: 10 40)")
    add_encoder_arguments(parser)
    args = parser.parse_args(argv)
    if args.shard and args.shards:
        parser.error('--shards makes jobs, --shard is one: give one of them')
    given = [f'--{name}'.replace('_', '-') for name, default
             in engine_defaults().items()
             if getattr(args, name) != default]
    if given and args.shards is None:
        parser.error(f'--shards N makes jobs, which {", ".join(given)} needs')
    tool_options.check_engine_options(parser, args)
    if args.shards and args.device.startswith('cuda:'):
        parser.error(f'--device {args.device} would take all jobs to one GPU: '
                     '--device cuda gives each job one of its own')
    if args.trust_slide_mpp and args.slide_mpp is None and args.csv is None:
        parser.error('--trust-slide-mpp needs --slide-mpp, or --csv with a '
                     'column mpp')
    return args


def list_tasks(args: argparse.Namespace) -> list:
    from mmmedmask.datasets.slides.slide_list import list_slides
    tasks, notes = list_slides(args.slides, args.csv, args.slide_mpp)
    for note in notes:
        print(note)
    return tasks


def shard_reports(args: argparse.Namespace, tasks: Sequence, count: int):
    from mmmedmask.experiments.extraction import ShardReports
    engine = engine_defaults()
    settings = {name: str(value) for name, value in vars(args).items()
                if name not in OTHER_ARGUMENTS and name not in engine}
    return ShardReports(args.out, tasks, count, settings)


def report(result, finished: int, total: int) -> None:
    """Print a line about a slide."""
    detail = result.error or f'{result.num_tiles} tiles'
    if result.seconds is not None:
        detail += f', {result.seconds:.1f} s'
    print(f'{finished}/{total} {result.slide_id}: {result.status}, {detail}',
          flush=True)


def extract(args: argparse.Namespace) -> list:
    """Extract the features and return what became of each slide."""
    from mmmedmask.apis.slide_extraction import extract_slides
    from mmmedmask.datasets.slides.tile_stream import TilingOptions
    from mmmedmask.datasets.slides.tissue import TissueOptions
    from mmmedmask.experiments.engine import reserve_gpus
    tasks = list_tasks(args)
    if args.shard:
        number, count = args.shard
        reports = shard_reports(args, tasks, count)
        tasks = reports.shards[number - 1]
    tissue = TissueOptions(args.tissue_mpp, args.saturation,
                           tuple(args.saturation_limits), args.min_brightness,
                           args.median, args.min_area, args.max_hole, args.ink)
    tiling = TilingOptions(args.tile_size, args.mpp, args.overlap,
                           args.min_tissue, args.allow_enlarging, tissue,
                           args.trust_slide_mpp)
    with contextlib.ExitStack() as stack:
        if args.shard and args.device == 'cuda':
            variables, _ = stack.enter_context(
                reserve_gpus(1, reports.folder.parent))
            os.environ.update(variables)
        encoder = build_encoder(args)
        print(f'{len(tasks)} slides, encoder {encoder.name} '
              f'({encoder.weights_id}), {encoder.dims} features', flush=True)
        results = extract_slides(
            tasks, args.out, encoder, tiling, args.batch_size, args.workers,
            args.precision, args.overwrite, report)
    if args.shard:
        reports.write(number, results)
    return results


def run_jobs(args: argparse.Namespace, argv: Sequence[str],
             options: Sequence[str]) -> str:
    """Let Snakemake extract all shards; return what went wrong, or nothing."""
    from mmmedmask.apis.encoder_weights import weights_file
    from mmmedmask.experiments.engine import require_snakemake, visible_gpus
    from mmmedmask.experiments.environment import usable_cores
    require_snakemake()
    reports = shard_reports(args, list_tasks(args), args.shards)
    outdated = reports.list_outdated(args.overwrite, args.retry_failed)
    if not args.dry_run:
        reports.forget(outdated)
    resources = dict(args.resources)
    on_gpu = args.device.startswith('cuda')
    if on_gpu and args.executor is None:
        resources.setdefault('gpus', max(len(visible_gpus()), 1))
    if args.dry_run:
        forced = [str(reports.path(number)) for number in outdated]
        options = (*['--forcerun'] * bool(forced), *forced, '--dry-run',
                   *options)
    _, job = build_engine_parser().parse_known_args(argv)
    inputs = [Path(name) for name in (
        weights_file(args.encoder, args.weights), args.config)
        if name and Path(name).is_file()]
    status = reports.run(
        [sys.executable, str(Path(__file__).resolve()), *job], inputs,
        threads=1 + args.workers, on_gpu=on_gpu,
        cores=args.cores or usable_cores(), resources=resources,
        executor=args.executor, jobs=args.jobs, options=options)
    if status > 1:
        raise SystemExit(status)
    results, missing = [], []
    for number, shard in enumerate(reports.shards, start=1):
        done = reports.read(number)
        if args.dry_run or done is None:
            names = ', '.join(task.slide_id for task in shard)
            to_do = done is None or number in outdated
            print(f'shard {number}/{args.shards}, '
                  f'{"to do" if to_do else "done"}: {names}')
        if done is None:
            missing.append(f'shard {number}/{args.shards} did not end, see '
                           f'{reports.path(number, ".log")}')
        else:
            results += done
    if args.dry_run:
        raise SystemExit(status)
    missing.append(summarize(args, results))
    return '; '.join(filter(None, missing))


def summarize(args: argparse.Namespace, results: Sequence) -> str:
    """Print how many slides there are of each status; tell what went wrong."""
    counts = Counter(result.status for result in results)
    by_status = ', '.join(f'{number} {status}' for status, number
                          in sorted(counts.items()))
    tiles = sum(result.num_tiles or 0 for result in results)
    print(f'{len(results)} slides: {by_status}; {tiles} tiles in {args.out}')
    for status, reason in (('empty', 'no tile has enough tissue'),
                           ('too small', 'no tile fits')):
        names = [result.slide_id for result in results
                 if result.status == status]
        if names:
            print(f'{status.capitalize()}, {reason}: {", ".join(names)}')
    failed = [f'{result.slide_id}: {result.error}' for result in results
              if result.status == 'failed']
    if not failed:
        return ''
    if args.shards:
        # Jobs have printed into their logs.
        print('\n'.join(failed))
    return (f'{len(failed)} of {len(results)} slides failed, see the csv in '
            f'{args.out / "manifests"}')


def main(argv: Sequence[str] | None = None) -> None:
    argv, options = tool_options.split_arguments(
        sys.argv[1:] if argv is None else argv)
    args = parse_args(argv)
    if options and not args.shards:
        raise SystemExit(f'{NAME}: {options} are for Snakemake, which '
                         '--shards N starts')

    errors = (ValueError, FileNotFoundError, ModuleNotFoundError)
    try:
        if args.shards is None:
            wrong = summarize(args, extract(args))
        else:
            errors += (RuntimeError, )
            wrong = run_jobs(args, argv, options)
    except errors as error:
        wrong = str(error)
    if wrong:
        raise SystemExit(f'{NAME}: {wrong}')


if __name__ == '__main__':
    run_tool(main)
