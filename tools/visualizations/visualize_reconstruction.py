"""Draw what a pre-trained model reconstructs from masked images.

    cd tools/visualizations
    python visualize_reconstruction.py CONFIG CHECKPOINT --out panel.png

MSMAE's is the panel of visualize_attention.py.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import picture_tool
import visualize_attention

from mmmedmask.util.run_tool import run_tool


def draw(args: argparse.Namespace) -> list[Path]:
    import torch
    from mmengine.dataset import pseudo_collate

    from mmmedmask.apis import ReconstructionInferencer, load_config
    from mmmedmask.engine.hooks.panel_hook import choose_positions
    from mmmedmask.visualization import PictureUnits
    config = load_config(args.config, args.cfg_options)
    if config.get('model', {}).get('type') == 'mmmedmask.MSMAE':
        return visualize_attention.draw(args)
    infer = ReconstructionInferencer(config, args.checkpoint, args.device)
    preprocessor = infer.model.data_preprocessor
    preprocessor.seed = args.seed
    units = PictureUnits.from_preprocessor(
        preprocessor, args.channels, args.window, config)
    dataset = picture_tool.build_dataset(config, 'train', args.seed)
    picture_tool.check_samples(dataset, [args.out])
    positions = choose_positions(len(dataset), args.num_samples, args.indices)
    batch = pseudo_collate([dataset[position] for position in positions])
    with torch.inference_mode():
        results = infer.infer(batch, units)
    return [picture_tool.save_picture(
        infer.panel(results, Path(args.checkpoint).name), args.out)]


def main(argv: Sequence[str] | None = None) -> None:
    parser = picture_tool.make_parser(
        __doc__, '--num-samples', '--indices', '--seed', '--channels',
        '--window', '--device', config='config of the pre-training run')
    parser.set_defaults(split='train', images=None, random_masking=False)
    picture_tool.draw_or_exit('visualize_reconstruction.py', draw,
                              parser.parse_args(argv))


if __name__ == '__main__':
    run_tool(main)
