"""Draw where a model looks, and what masking by its attention hides.

    cd tools/visualizations
    python visualize_attention.py CONFIG CHECKPOINT --out panel.png
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import picture_tool

from mmmedmask.util.run_tool import run_tool


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = picture_tool.make_parser(
        __doc__, '--num-samples', '--indices', '--split', '--seed',
        '--channels', '--window', '--device',
        config='config of a run with mmmedmask.MSMAE, or of a fine-tuning run '
        'with mmmedmask.MSMAEClassifier')
    parser.set_defaults(split='train')
    parser.add_argument(
        '--images', nargs='+', metavar='FILE',
        help='image files to look at, in place of those of the data set')
    parser.add_argument(
        '--random-masking', action='store_true',
        help='mask by chance, as before the first attention maps')
    return parser.parse_args(argv)


class Files(list):
    """Images without a data set, described as one does."""

    def get_data_info(self, index: int) -> dict:
        """Describe one image."""
        return dict(self[index])


def list_images(args: argparse.Namespace, config) -> tuple[list, list[int]]:
    """Find where the images to show are described, and their numbers."""
    from mmmedmask.apis.inferencers import describe
    from mmmedmask.engine.hooks.panel_hook import choose_positions
    from mmmedmask.engine.wrapped_datasets import ImageSource, list_sources
    if args.images:
        files = Files(describe(Path(path), place)
                      for place, path in enumerate(args.images))
        positions = list(range(len(files)))
        return [ImageSource(files, place) for place in positions], positions
    dataset = picture_tool.build_dataset(config, args.split)
    picture_tool.check_samples(dataset, [args.out])
    positions = choose_positions(len(dataset), args.num_samples, args.indices)
    sources = list_sources(dataset)
    return [sources[position] for position in positions], positions


def draw(args: argparse.Namespace) -> list[Path]:
    from mmmedmask.apis import AttentionInferencer, load_config
    from mmmedmask.engine.attention.attention_panel_hook import (
        check_model,
        draw_panel,
        load_panel,
    )
    from mmmedmask.visualization import PictureUnits
    config = load_config(args.config, args.cfg_options)
    inferencer = AttentionInferencer(config, args.checkpoint, args.device)
    model = inferencer.model
    check_model(model)
    model.seed = args.seed
    if args.random_masking and hasattr(model, 'masking'):
        model.masking = 'random'
    units = PictureUnits.from_preprocessor(model.data_preprocessor,
                                           args.channels, args.window, config)
    sources, positions = list_images(args, config)
    panel = load_panel(sources, positions, inferencer.pipeline(),
                       not args.random_masking)
    picture = draw_panel(
        model, panel, units, heading=Path(args.checkpoint).name)
    return [picture_tool.save_picture(picture, args.out)]


def main(argv: Sequence[str] | None = None) -> None:
    picture_tool.draw_or_exit('visualize_attention.py', draw, parse_args(argv))


if __name__ == '__main__':
    run_tool(main)
