"""Show what a config's loader and data preprocessor deliver for training.

For masked pre-training: the tile as it is loaded, both views and the mask.
For all others: the image, or its views, after all transforms, with its class,
its instances or its lesion.

    python tools/visualizations/browse_dataset.py CONFIG --out FOLDER
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import picture_tool

from mmmedmask.util.run_tool import run_tool

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
    shrunk = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA
                        if factor < 1 else cv2.INTER_NEAREST)
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
        columns.insert(0, Column('Tile', f'{title} pixels, as loaded',
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
    return draw_grid(
        [Column('Image', f'{width} x {height} pixels, after all transforms',
                [image]), Column('Instances', f'{len(masks)} masks', [drawn])])


def draw_labelled(views: 'Sequence[Tensor]', data_sample, metainfo: dict,
                  units) -> 'np.ndarray':
    """Image, or views of one, with the class or the pixels' classes."""
    from mmmedmask.visualization import (
        Column,
        draw_grid,
        segmentation_visualizer,
    )
    classes = metainfo.get('classes')
    pictures = [units.to_pictures(view[None])[0] for view in views]
    text = '{1} x {0} pixels, after all transforms'
    columns = [Column('Image' if len(views) == 1 else f'View {number}',
                      text.format(*picture.shape),
                      [segmentation_visualizer.framed(picture)])
               for number, picture in enumerate(pictures, start=1)]
    heading = Path(data_sample.get('img_path') or '').name
    label = data_sample.get('gt_label')
    if label is not None:
        # Those of data sets for segmentation are the classes of pixels.
        names = metainfo.get('image_classes') or classes
        heading += f': {names[int(label)] if names else int(label)}'
    if data_sample.get('gt_sem_seg') is not None:
        columns.append(segmentation_visualizer.labels_column(
            'Truth', pictures[0], data_sample.gt_sem_seg.data[0].numpy(),
            classes))
    return draw_grid(columns, heading=heading)


def browse(args: argparse.Namespace) -> list[str]:
    """Draw the samples; say where they are."""
    from mmengine.registry import FUNCTIONS, MODELS
    from mmengine.runner import set_random_seed

    from mmmedmask.apis import load_config
    from mmmedmask.config_files import need_keys
    from mmmedmask.engine.hooks.panel_hook import choose_positions
    from mmmedmask.visualization import PictureUnits
    config = load_config(args.config, args.cfg_options)
    need_keys(config, 'model')
    dataset = picture_tool.build_dataset(config, 'train', args.seed)
    # mmpretrain's classifiers need not name theirs.
    preprocessor = MODELS.build(dict(type='ClsDataPreprocessor') | dict(
        config.model.get('data_preprocessor') or config.data_preprocessor))
    is_masked = hasattr(preprocessor, 'mask_ratio')
    if is_masked:
        preprocessor.seed = args.seed
    collate = FUNCTIONS.get((config.train_dataloader.get(
        'collate_fn') or dict(type='pseudo_collate'))['type'])
    # Transforms of the host libraries ask NumPy, Python and torch.
    set_random_seed(args.seed)
    files = {index: args.out / f'{index:06d}.png' for index in
             choose_positions(len(dataset), args.num_samples)}
    picture_tool.check_samples(dataset, files.values())
    for index, file in files.items():
        sample = dataset[index]
        if isinstance(sample['inputs'], dict):
            raise ValueError('shown are images, and this config has bags of '
                             'patches or genes')
        units = PictureUnits.from_preprocessor(
            preprocessor, args.channels, args.window, config)
        batch = preprocessor(collate([sample]), True)
        if is_masked:
            picture = draw_views(sample, batch['inputs'], units)
        elif 'gt_instances' in sample['data_samples']:
            picture = draw_targets(batch['inputs'][0],
                                   batch['data_samples'][0], units)
        else:
            views = batch['inputs'] if isinstance(
                batch['inputs'], list) else [batch['inputs']]
            picture = draw_labelled(
                [view[0] for view in views], batch['data_samples'][0],
                dataset.metainfo, units)
        picture_tool.save_picture(picture, file)
    first = next(iter(files.values()))
    return [f'{len(files)} pictures in {args.out}, the first is {first}']


def main(argv: Sequence[str] | None = None) -> None:
    parser = picture_tool.make_parser(
        __doc__, '--num-samples', '--seed', '--channels', '--window',
        checkpoint=False, folder='folder for the PNG files, one per sample')
    parser.set_defaults(num_samples=8)
    args = parser.parse_args(argv)
    picture_tool.draw_or_exit('browse_dataset.py', browse, args)


if __name__ == '__main__':
    run_tool(main)
