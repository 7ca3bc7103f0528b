"""Draw what a pre-trained model reconstructs from masked images.

    cd tools/visualizations
    python visualize_reconstruction.py CONFIG CHECKPOINT --out panel.png
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of the pre-training run')
    parser.add_argument('checkpoint', help='one of its checkpoints')
    parser.add_argument('--out', required=True, help='PNG file to write')
    parser.add_argument(
        '--num-samples',
        type=int,
        default=6,
        help='number of tiles, taken evenly from the training set')
    parser.add_argument(
        '--indices',
        type=int,
        nargs='+',
        help='tiles to show, by their position in the training set')
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of views and masks')
    parser.add_argument(
        '--channels',
        type=int,
        nargs='+',
        help='channels to show: one (gray) or three (red, green, blue); '
        'needed for images with neither one nor three')
    parser.add_argument(
        '--window',
        type=float,
        nargs=2,
        metavar=('BLACK', 'WHITE'),
        help='stored values shown black and white; default: the data range')
    parser.add_argument('--device', default='cpu', help='e.g. cuda:0')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings, e.g. another folder with '
        'train_dataloader.dataset.data_root=PATH')
    return parser.parse_args(argv)


def choose_indices(length: int, number: int,
                   indices: list[int] | None) -> list[int]:
    """Indices that were asked for, or ``number`` of them taken evenly."""
    if indices is None:
        if number < 1:
            raise ValueError(f'--num-samples must be at least 1, got {number}')
        return torch.linspace(
            0, length - 1, min(number, length)).round().int().tolist()
    wrong = [index for index in indices if not 0 <= index < length]
    if wrong:
        raise ValueError(f'--indices {wrong} are outside of 0 to '
                         f'{length - 1}')
    return indices


def draw(args: argparse.Namespace) -> Path:
    """Draw the panel and return its path."""
    from mmengine.dataset import pseudo_collate
    from mmengine.registry import DATASETS
    from PIL import Image

    from mmmedmask.apis import build_trained_model, load_config
    from mmmedmask.visualization import (
        PictureUnits,
        draw_reconstruction_panel,
        reconstruct,
    )

    config = load_config(args.config, args.cfg_options)
    model = build_trained_model(config, args.checkpoint, args.device)
    if not hasattr(model, 'reconstruct'):
        raise ValueError(f'{type(model).__name__} has no method '
                         'reconstruct(inputs), it is no masked model')
    model.data_preprocessor.seed = args.seed
    units = PictureUnits.from_preprocessor(model.data_preprocessor,
                                           args.channels, args.window)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    indices = choose_indices(len(dataset), args.num_samples, args.indices)
    batch = pseudo_collate([dataset[index] for index in indices])
    with torch.no_grad():
        inputs = model.data_preprocessor(batch, True)['inputs']
    pixels, weight = reconstruct(model, inputs)
    panel = draw_reconstruction_panel(
        inputs, pixels, weight, units, heading=Path(args.checkpoint).name)
    target = Path(args.out)
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(panel).save(target)
    return target


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)

    import mmmedmask  # noqa: F401  (mends gaps in what is imported next)

    try:
        target = draw(args)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'visualize_reconstruction.py: {error}') from None
    print(target)


if __name__ == '__main__':
    main()
