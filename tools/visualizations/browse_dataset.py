"""Show what a config's loader and data preprocessor deliver for training.

For masked pre-training: the tile as it is loaded, both views and the mask.
For detection with masks: the image after all transforms, with its instances.

    python tools/visualizations/browse_dataset.py CONFIG --out FOLDER
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from picture_tool import draw_or_exit, make_parser, save_picture

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


def fit_inside(picture: 'np.ndarray', size: tuple[int, int]) -> 'np.ndarray':
    """Bring a picture of any size to (h, w), with white bars if need be."""
    import cv2
    import numpy as np

    factor = min(size[0] / picture.shape[0], size[1] / picture.shape[1])
    height, width = (max(1, round(side * factor))
                     for side in picture.shape[:2])
    shrunk = cv2.resize(
        picture, (width, height),
        interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST)
    sheet = np.full((*size, 3), 255, np.uint8)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    sheet[top:top + height, left:left + width] = shrunk
    return sheet


def draw_views(sample: dict, inputs: dict, units) -> 'np.ndarray':
    """Tile, views and mask of one sample of masked pre-training."""
    import torch

    from mmmedmask.visualization import Column, draw_grid, view_columns

    columns = view_columns(inputs, units)
    tile = sample['inputs']
    if tile.dim() == 3:
        # The loader may also deliver two views, which are shown anyway.
        mean, std = (torch.tensor(values).view(-1, 1, 1)
                     for values in (units.mean, units.std))
        picture = units.to_pictures(((tile - mean) / std)[None])[0]
        title = ' x '.join(str(side) for side in tile.shape[:0:-1])
        size = columns[0].pictures[0].shape[:2]
        columns.insert(
            0,
            Column('Tile', f'{title} pixels, as loaded',
                   [fit_inside(picture, size)]))
    return draw_grid(columns, min_side=200)


def draw_targets(inputs: 'Tensor', data_sample, units) -> 'np.ndarray':
    """Image and instances of one sample of detection."""
    from mmmedmask.visualization import Column, draw_grid, draw_instances

    height, width = data_sample.img_shape[:2]
    image = units.to_pictures(inputs[None])[0, :height, :width]
    masks = data_sample.gt_instances.masks.to_ndarray().astype(bool)
    drawn = draw_instances(
        image, [mask[:height, :width] for mask in masks], scale=1)
    return draw_grid([
        Column('Image', f'{width} x {height} pixels, after all transforms',
               [image]),
        Column('Instances', f'{len(masks)} masks', [drawn]),
    ])


def browse(args: argparse.Namespace) -> list[Path]:
    """Draw the samples and return the files."""
    import numpy as np
    from mmengine.dataset import pseudo_collate
    from mmengine.registry import DATASETS, MODELS, init_default_scope

    from mmmedmask.apis import load_config
    from mmmedmask.engine.hooks.panel_hook import choose_positions
    from mmmedmask.visualization import PictureUnits

    config = load_config(args.config, args.cfg_options)
    init_default_scope(config.get('default_scope') or 'mmengine')
    dataset = DATASETS.build(config.train_dataloader.dataset)
    preprocessor = MODELS.build(config.model.data_preprocessor)
    is_masked = hasattr(preprocessor, 'mask_ratio')
    window = args.window
    if is_masked:
        preprocessor.seed = args.seed
    elif window is None:
        window = (0, 255)
    units = PictureUnits.from_preprocessor(preprocessor, args.channels, window)
    np.random.seed(args.seed)  # Transforms of the host libraries use it.
    files = []
    for index in choose_positions(len(dataset), args.num_samples):
        sample = dataset[index]
        batch = preprocessor(pseudo_collate([sample]), True)
        if is_masked:
            picture = draw_views(sample, batch['inputs'], units)
        elif 'gt_instances' in sample['data_samples']:
            picture = draw_targets(batch['inputs'][0],
                                   batch['data_samples'][0], units)
        else:
            raise ValueError(
                'shown are views of masked pre-training and instances of '
                f'detection, this config has a {type(preprocessor).__name__}')
        files.append(save_picture(picture, args.out / f'{index:06d}.png'))
    return files


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(
        __doc__, '--num-samples', '--seed', '--channels', '--window',
        checkpoint=False, out='folder for the PNG files, one per sample')
    parser.set_defaults(num_samples=8)
    args = parser.parse_args(argv)
    files = draw_or_exit('browse_dataset.py', browse, args)
    print(f'{len(files)} pictures in {args.out}, the first is {files[0]}')


if __name__ == '__main__':
    main()
