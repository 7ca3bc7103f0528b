"""Probe finished checkpoints: what can be read off their frozen features?

    python tools/probe.py --config CONFIG --data path/to/labelled_tiles \
        --arm cmim seed0.pth seed1.pth seed2.pth \
        --arm mocov2 other0.pth other1.pth other2.pth
    python tools/probe.py --encoder resnet18 --data path/to/labelled_tiles \
        --dense path/to/glands --few 1 5 20 --arm supervised resnet18.pth

Nearest neighbours and logistic regression on whole images (balanced
accuracy), logistic regression on pixels of images with masks (area under the
ROC curve). Beside the checkpoints stand the same encoder at random weights, a
seed for each checkpoint of the first arm, the colour alone, and chance.
Prints Markdown tables: mean and deviation of each arm over its checkpoints,
and the differences to random weights, paired by place. With --out every score
with its bootstrap interval goes to a csv.
"""

import argparse
import sys
from collections.abc import Sequence

COLORS = ('rgb', 'gray', 'jitter', 'standardized')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--arm', nargs='+', action='append', required=True,
        metavar=('NAME', 'CHECKPOINT'),
        help='a name and its checkpoints, one per seed; may be repeated')
    parser.add_argument(
        '--config', help='config with the backbone, of ours or mmpretrain')
    parser.add_argument('--encoder',
                        help="in the place of a config: a classifier of "
                        "torchvision, 'resnet18', or 'timm:NAME'")
    parser.add_argument(
        '--data', metavar='FOLDER', help='labelled images, train and test')
    parser.add_argument('--dense', metavar='FOLDER', help='images with masks')
    parser.add_argument('--few', type=int, nargs='+', default=[1, 5, 20],
                        help='numbers of images with masks to fit on, besides '
                        'all (default: 1 5 20)')
    parser.add_argument(
        '--colors', nargs='+', choices=COLORS, default=['rgb'],
        help='versions of the whole images to probe (default: rgb)')
    parser.add_argument(
        '--size', type=int, help='side in pixels that images are resized to')
    parser.add_argument(
        '--dense-size', type=int,
        help='side in pixels that images with masks are resized to')
    parser.add_argument(
        '--max-images', type=int, help='images per split at most')
    parser.add_argument(
        '--split-folder', default='splits/paper',
        help='splits of a converted data set (default: %(default)s)')
    parser.add_argument('--device', default='cpu', help='e.g. cuda:0')
    parser.add_argument('--out', metavar='CSV', help='file for all scores')
    args = parser.parse_args(argv)
    if (args.config is None) == (args.encoder is None):
        parser.error('give either --config or --encoder')
    if args.data is None and args.dense is None:
        parser.error('give --data or --dense, or both')
    empty = [arm[0] for arm in args.arm if len(arm) < 2]
    if empty:
        parser.error(f'--arm {empty[0]} has no checkpoint')
    names = [arm[0] for arm in args.arm]
    if len(set(names)) < len(names) or 'random' in names:
        parser.error(f'the names of --arm must differ, and none may be '
                     f'random: {names}')
    return args


def measure(args: argparse.Namespace) -> tuple[dict, dict]:
    """Score all encoders.

    Returns:
        The scores of each arm, a dict of them by probe for each checkpoint,
        and those of the colour by probe.
    """
    from mmmedmask.engine.probing import build_probes, score_encoder
    probes = build_probes(args.data, args.dense, args.colors, args.size,
                          (*args.few, None), args.max_images,
                          args.split_folder, args.dense_size)
    arms = {'random': list(range(len(args.arm[0]) - 1)),
            **{arm[0]: arm[1:] for arm in args.arm}}
    scores = {arm: [score_encoder(*_build(args, arm, source), probes)
                    for source in sources] for arm, sources in arms.items()}
    color = {f'{prefix}/{score.name}': score
             for prefix, probe in probes.items()
             for score in probe.plain_floor()}
    return scores, color


def _build(args: argparse.Namespace, arm: str, source: int | str) -> tuple:
    """Build an encoder of an arm, and what has the units of its images."""
    from mmmedmask.apis.encoder_weights import (
        build_config_encoder,
        build_tile_encoder,
    )
    options = dict(random_seed=source) if arm == 'random' else dict(
        weights=source)
    if args.config:
        network, units = build_config_encoder(args.config, **options)
    else:
        units = build_tile_encoder(args.encoder, **options)
        network = units.network
    return network.to(args.device), units


def tables(scores: dict, color: dict) -> list[list[list[str]]]:
    """Arrange scores, and differences to random weights, in percent."""
    import statistics

    from mmmedmask.evaluation.probes import paired_difference
    names = list(color)
    header = ['encoder', 'n', *names]
    means, differences = [header], [header]
    for arm, rows in scores.items():
        values = {name: [100 * row[name].value for row in rows]
                  for name in names}
        means.append([arm, str(len(rows)), *(
            _spread(statistics.mean(column), statistics.stdev(column) if
                    len(column) > 1 else None) for column in values.values())])
        if arm == 'random':
            continue
        cells = []
        for name in names:
            mean, spread, count = paired_difference(
                dict(enumerate(values[name])),
                {seed: 100 * row[name].value
                 for seed, row in enumerate(scores['random'])})
            cells.append(_spread(mean, spread if count > 1 else None, '+'))
        differences.append([f'{arm} - random', str(count), *cells])
    means.append(['colour alone', '', *(f'{100 * color[name].value:.1f}'
                                        for name in names)])
    means.append(['chance', '', *(f'{100 * color[name].floor:.1f}'
                                  for name in names)])
    return [means, differences]


def _spread(mean: float, deviation: float | None, sign: str = '') -> str:
    text = f'{mean:{sign}.1f}'
    return text if deviation is None else f'{text} ± {deviation:.1f}'


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    from mmmedmask.util.atomic_files import write_csv
    try:
        scores, color = measure(args)
    except (ValueError, FileNotFoundError) as error:
        print(f'probe.py: {error}', file=sys.stderr)
        return 1
    for rows in tables(scores, color):
        rows.insert(1, ['---'] * len(rows[0]))
        print('\n'.join(f'| {" | ".join(row)} |' for row in rows) + '\n')
    if args.out:
        write_csv(args.out,
                  ('encoder', 'place', 'probe', 'value', 'low', 'high'),
                  ((arm, place, name, score.value, score.low, score.high)
                   for arm, rows in {**scores, 'color': [color]}.items()
                   for place, row in enumerate(rows)
                   for name, score in row.items()))
    return 0


if __name__ == '__main__':
    sys.exit(main())
