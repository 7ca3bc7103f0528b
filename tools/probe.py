"""Probe finished checkpoints: what can be read off their frozen features?

    python tools/probe.py --config CONFIG --data path/to/labelled_tiles \
        --arm cmim seed0.pth seed1.pth seed2.pth \
        --arm mocov2 other0.pth other1.pth other2.pth
    python tools/probe.py --data tiles.csv --dense path/to/glands --few 1 5 \
        --config CONFIG --arm cmim seed0.pth \
        --encoder resnet18 --arm imagenet resnet18.pth

Nearest neighbours and logistic regression on whole images (balanced
accuracy), logistic regression on pixels of images with masks (area under the
ROC curve). An arm is of the --config or --encoder before it. Beside the arms
stand each encoder at random weights, as often as an arm of it has checkpoints,
the colour alone, and chance.
Prints Markdown tables, in percent: an arm's mean and deviation over its
checkpoints; the differences to random weights, and of each further arm to the
first, paired by place (checkpoints of one seed stand at one place), with their
95 % interval (Student's t). For a single checkpoint the intervals are
bootstrap ones by image, or by group. With --out every score with its bootstrap
interval goes to a csv.
"""

import argparse
import os
from collections.abc import Sequence

from mmmedmask.util.command_line import (
    DEVICE,
    check_overwrites,
    output_file,
)
from mmmedmask.util.run_tool import run_tool

COLORS = ('rgb', 'gray', 'jitter', 'standardized')
FEW = (1, 5, 20)


class _Arm(argparse.Action):
    """Keep an arm with what stands before it."""

    def __call__(self, parser, args, values, option_string=None):
        args.arm = [*(args.arm or ()), (*values[:1], values[1:],
                                        (args.encoders or [None])[-1])]


class _Encoder(argparse.Action):
    """Keep encoders in their order, with the option that names them."""

    def __call__(self, parser, args, values, option_string=None):
        args.encoders = [*(args.encoders or ()),
                         (option_string.lstrip('-'), values)]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--arm', nargs='+', action=_Arm, required=True,
        metavar=('NAME', 'CHECKPOINT'),
        help='a name and its checkpoints, one per seed; may be repeated')
    parser.add_argument(
        '--config', action=_Encoder, dest='encoders',
        help='config with the backbone of the arms that follow, of ours or '
        'mmpretrain; may be repeated')
    parser.add_argument(
        '--encoder', action=_Encoder, dest='encoders', metavar='ENCODER',
        help="instead of a config: a classifier of torchvision, "
        "'resnet18', 'timm:NAME', or 'timm:local-dir:FOLDER' for a folder of "
        "timm's with its units")
    parser.add_argument(
        '--data', metavar='FOLDER_OR_CSV',
        help='labelled images, train and test; a csv has the columns path, '
        'split (train or test), label and perhaps group')
    parser.add_argument('--dense', metavar='FOLDER_OR_CSV',
                        help='images with masks; a csv has a column mask')
    parser.add_argument('--few', type=int, nargs='+',
                        help='numbers of images with masks to fit on, besides '
                        'all (default: those of 1 5 20 that there are)')
    parser.add_argument(
        '--colors', nargs='+', choices=COLORS,
        help='versions of the whole images to probe (default: rgb)')
    parser.add_argument(
        '--size', type=int, help='side in pixels that images are resized to')
    parser.add_argument(
        '--dense-size', type=int,
        help='side in pixels that images with masks are resized to')
    parser.add_argument(
        '--max-images', type=int, help='images per split at most')
    parser.add_argument(
        '--split-folder',
        help='split of a converted data set (default: that of a --config '
        'that trains on it, else one that leaks nothing)')
    parser.add_argument(
        '--file-statistics', action='store_true',
        help='keep the BatchNorm statistics of the checkpoints, instead of '
        'measuring them again on images of each probe')
    parser.add_argument('--device', **DEVICE)
    parser.add_argument('--out', metavar='CSV', type=output_file,
                        help='file for all scores')
    args = parser.parse_args(argv)
    if not args.encoders:
        parser.error('give --config or --encoder')
    if args.data is None and args.dense is None:
        parser.error('give --data or --dense, or both')
    for option, source in (('colors', 'data'), ('size', 'data'),
                           ('few', 'dense'), ('dense_size', 'dense')):
        if getattr(args, option) is not None and getattr(args, source) is None:
            parser.error(f'--{option.replace("_", "-")} is an option of '
                         f'--{source}, which is missing')
    names = [name for name, _, _ in args.arm]
    if len(set(names)) < len(names) or not all(map(str.strip, names)) or any(
            name.split()[0] in ('random', 'color') for name in names):
        parser.error('the names of --arm must differ, and none may be empty '
                     f'or begin with random or color: {names}')
    arms = {}
    for name, checkpoints, encoder in args.arm:
        if not checkpoints:
            parser.error(f'--arm {name} has no checkpoint')
        if encoder is None and len(args.encoders) > 1:
            parser.error(f'--arm {name} stands before all of {args.encoders}: '
                         'it is of the --config or --encoder before it')
        arms[name] = encoder or args.encoders[0], checkpoints
    unused = [encoder for encoder in args.encoders
              if encoder not in [used for used, _ in arms.values()]]
    if unused:
        parser.error('no --arm stands behind '
                     f'--{" and --".join(map(" ".join, unused))}')
    args.arm = arms
    return args


def measure(args: argparse.Namespace) -> tuple[dict, dict, dict]:
    """Score all encoders.

    Returns:
        The scores of each arm, a dict of them by probe for each checkpoint;
        the arm with the same encoder at random weights; and the scores of
        the colour by probe.
    """
    from mmmedmask.config_files import load_config
    from mmmedmask.engine.probing import (
        build_probes,
        score_encoder,
        trained_splits,
    )
    trained = {}
    for kind, name in args.encoders:
        if kind == 'config':
            trained |= trained_splits(load_config(name))
    probes = build_probes(args.data, args.dense, args.colors or ['rgb'],
                          args.size, (*(args.few or FEW), None),
                          args.max_images, args.split_folder, args.dense_size,
                          trained=trained)
    color = {f'{prefix}/{score.name}': score
             for prefix, probe in probes.items()
             for score in probe.plain_floor()}
    for count in args.few or ():
        if f'pixels/dense_{count}' not in color:
            raise ValueError(f'--few {count}: fewer training images than '
                             'these have pixels of both labels')
    counts = {}
    for encoder, checkpoints in args.arm.values():
        counts[encoder] = max(counts.get(encoder, 0), len(checkpoints))
    files = [os.path.basename(name) for _, name in counts]
    # Two configs in different folders can have one file name.
    random = {encoder: 'random' if len(counts) == 1 else 'random ' + (
                  file if files.count(file) == 1 else ' '.join(encoder))
              for encoder, file in zip(counts, files, strict=True)}
    sources = {random[encoder]: (encoder, range(count))
               for encoder, count in counts.items()} | args.arm
    scores = {
        arm: [score_encoder(*_build(encoder, source, args.device), probes,
                            not args.file_statistics) for source in places]
        for arm, (encoder, places) in sources.items()}
    return scores, {arm: random[encoder]
                    for arm, (encoder, _) in args.arm.items()}, color


def _build(encoder: tuple[str, str], source: int | str, device: str) -> tuple:
    """Build an encoder, and what has the units of its images.

    ``source`` is a checkpoint, or the seed of random weights.
    """
    from mmmedmask.apis.encoder_weights import (
        build_config_encoder,
        build_tile_encoder,
    )
    options = dict(random_seed=source) if isinstance(source, int) else dict(
        weights=source)
    kind, name = encoder
    if kind == 'config':
        network, units = build_config_encoder(name, **options)
    else:
        units = build_tile_encoder(name, **options)
        network = units.network
    return network.to(device), units


def tables(scores: dict, random: dict, color: dict) -> list[list[list[str]]]:
    """Arrange scores and paired differences, in percent.

    The second table has those of the arms to random weights, the third, of
    two arms or more, those of the further ones to the first.
    """
    from statistics import fmean

    from mmmedmask.evaluation.paired_tests import deviation, interval_of_mean
    names = list(color)
    header = ['encoder', 'n', *names]
    means = [header]
    for arm, rows in scores.items():
        if len(rows) == 1:
            cells = [_score(rows[0][name]) for name in names]
        else:
            columns = [[100 * row[name].value for row in rows]
                       for name in names]
            cells = [f'{fmean(column):.1f} ± {deviation(column):.1f}'
                     for column in columns]
        means.append([arm, str(len(rows)), *cells])

    def subtract(arm: str, other: str) -> list[str]:
        pairs = list(zip(scores[arm], scores[other], strict=False))
        cells = [_interval(*pairs[0][0][name].less(pairs[0][1][name]))
                 if len(pairs) == 1 else _interval(*interval_of_mean([
                     ours[name].value - theirs[name].value
                     for ours, theirs in pairs])) for name in names]
        return [f'{arm} - {other}', str(len(pairs)), *cells]

    means.append(['colour alone', '', *map(_score, color.values())])
    means.append(['chance', '', *(f'{100 * score.floor:.1f}'
                                  for score in color.values())])
    arranged = [means, [header, *(subtract(*pair) for pair in random.items())]]
    first, *others = random
    if others:
        arranged.append([header, *(subtract(arm, first) for arm in others)])
    return arranged


def _score(score) -> str:
    return _interval(score.value, score.low, score.high, '')


def _interval(value: float, low: float, high: float, sign: str = '+') -> str:
    value, low, high = (f'{100 * number:{sign}.1f}'
                        for number in (value, low, high))
    return f'{value} [{low}, {high}]'


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    from mmmedmask.datasets.image_io import ImageFileError
    from mmmedmask.util.atomic_files import write_csv
    from mmmedmask.util.markdown_tables import markdown
    try:
        check_overwrites(args, ['out'])
        scores, random, color = measure(args)
    except (ValueError, FileNotFoundError, ImageFileError) as error:
        raise SystemExit(f'probe.py: {error}') from None
    for rows in tables(scores, random, color):
        print(markdown(rows) + '\n')
    if args.out:
        write_csv(args.out,
                  ('encoder', 'place', 'probe', 'value', 'low', 'high'),
                  ((arm, place, name, score.value, score.low, score.high)
                   for arm, rows in {**scores, 'color': [color]}.items()
                   for place, row in enumerate(rows)
                   for name, score in row.items()))


if __name__ == '__main__':
    run_tool(main)
