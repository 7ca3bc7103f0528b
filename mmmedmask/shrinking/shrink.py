"""Shrink shipped configs, so that a test can take a training step.

A shrunk config has the same parts in the same places, with less of
everything: drawn images of about 100 pixels, batches of two, two
iterations, no worker processes and no weights to load.
"""

import copy
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from mmengine.config import Config

from mmmedmask.phantoms.lesions import SPLIT_FOLDER, write_lesion_dataset
from mmmedmask.phantoms.tiny_datasets import (
    write_gland_dataset,
    write_nct_dataset,
    write_tile_folder,
)
from mmmedmask.shrinking.concl import CONCL, shrink_concl
from mmmedmask.shrinking.convolutional import (
    draw_class_folders,
    shrink_convolutional,
)
from mmmedmask.shrinking.labelled_baselines import (
    shrink_labelled_baseline,
)
from mmmedmask.shrinking.slide_omic import (
    SLIDE_OMIC_MODELS,
    draw_cohort,
    shrink_slide_omic,
)
from mmmedmask.shrinking.transformers import shrink_transformer
from mmmedmask.util.nested import nested_dicts

BATCH_SIZE = 2
ITERATIONS = 2
#: Side of CMIM's views: a multiple of the strides (32) and of the patches
#: (16 or 32), with enough patches that every masking ratio masks some.
VIEW_SIZE = 96
#: Scale (w, h) of resized images, as OpenMMLab writes it.
RESIZE_SCALE = (128, 96)
RANDOM_SCALES = [(128, 64), (128, 96)]
DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
#: Widths and counts of detectors; where a config has the key it gets the
#: value, so the number of RoIs and of values in linear layers stays small.
DETECTOR_SIZES = dict(
    fc_out_channels=32, nms_pre=50, max_per_img=50)
#: Width of SETR's transformer and heads.
SETR_DIMS = 32
SETR_CHANNELS = 8
#: Width of MSMAE's encoder and decoder, and patches along a side of an image.
MSMAE_DIMS = 16
MSMAE_GRID = 4
MSMAE_MODELS = ('mmmedmask.MSMAE', 'mmmedmask.MSMAEClassifier')


def shrink_config(cfg: Config,
                  work_dir: str | Path,
                  data_dir: str | Path | None = None) -> Config:
    """Return a copy of a config that trains within a second on a CPU.

    Handled are the pre-training of CMIM, MSMAE and GiMP, MSMAE's classifier
    and that of slides and genes, ConCL, mmpretrain's masked image modelling
    and classifiers, detection with mmdet and SETR with mmseg.
    Data sets are drawn at the relative paths that the config names.

    Args:
        cfg: A shipped config.
        work_dir: Folder of the run.
        data_dir: Folder for the drawn data. What is there is used again, so
            several configs can share it. ``None`` means ``work_dir/data``.

    Returns:
        The shrunk copy.

    Raises:
        ValueError: If the config has a data set which cannot be drawn.
    """
    cfg = copy.deepcopy(cfg)
    work_dir = Path(work_dir)
    data_dir = work_dir / 'data' if data_dir is None else Path(data_dir)
    cfg.work_dir = str(work_dir / 'run')
    _shrink_model(cfg.model)
    if cfg.model.type == 'EncoderDecoder':
        _shrink_setr(cfg.model)
    if cfg.model.type in MSMAE_MODELS:
        _shrink_msmae(cfg)
    shrink_transformer(cfg, data_dir)
    shrink_convolutional(cfg)
    shrink_labelled_baseline(cfg)
    _shrink_loops(cfg)
    _shrink_hooks(cfg)
    for node in nested_dicts([cfg.model, *map(cfg.get, DATALOADERS)]):
        _shrink_sizes(node)
    roots = [
        _shrink_loader(cfg[name], data_dir) for name in DATALOADERS
        if cfg.get(name) is not None
    ]
    if cfg.model.type == CONCL:
        shrink_concl(cfg)
    if cfg.model.type in SLIDE_OMIC_MODELS:
        shrink_slide_omic(cfg)
    for name in ('val_evaluator', 'test_evaluator'):
        for evaluator in nested_dicts(cfg.get(name)):
            if evaluator.get('ann_file'):
                evaluator['ann_file'] = _move(evaluator['ann_file'], roots)
    cfg.log_level = 'WARNING'
    return cfg


def _shrink_model(model: dict) -> None:
    for node in nested_dicts(model):
        if node.get('type') == 'SyncBN':
            node['type'] = 'BN'
        init_cfg = node.get('init_cfg')
        if isinstance(init_cfg, Mapping) \
                and init_cfg.get('type') == 'Pretrained':
            node['init_cfg'] = None
        if node.get('pretrained') is not None:
            node['pretrained'] = None
        if node.get('compile_encoder'):
            node['compile_encoder'] = False


def _shrink_setr(model: dict) -> None:
    """Make a segmentor of mmseg narrow, as deep as it is."""
    arch = model['backbone']['arch']
    model['backbone']['arch'] = dict(
        embed_dims=SETR_DIMS,
        num_layers=12 if isinstance(arch, str) else arch['num_layers'],
        num_heads=2,
        feedforward_channels=2 * SETR_DIMS)
    for head in nested_dicts(
            [model['decode_head'], model.get('auxiliary_head')]):
        if 'in_channels' in head:
            head.update(in_channels=SETR_DIMS, channels=SETR_CHANNELS)


def _shrink_msmae(cfg: Config) -> None:
    """Make MSMAE narrow and shallow, with maps from the first epoch on."""
    model = cfg.model
    side = MSMAE_GRID * model.backbone.patch_size
    model.backbone.update(
        img_size=side,
        arch=dict(
            embed_dims=MSMAE_DIMS,
            num_layers=2,
            num_heads=2,
            feedforward_channels=2 * MSMAE_DIMS))
    if model.get('neck') is not None:
        model.neck.update(embed_dims=MSMAE_DIMS, num_layers=1, num_heads=2)
    if 'in_channels' in model.head:
        model.head.in_channels = MSMAE_DIMS
    hooks = [cfg.get('default_hooks'), cfg.get('custom_hooks')]
    for node in nested_dicts([*map(cfg.get, DATALOADERS), *hooks]):
        if node.get('type') in ('mmmedmask.RandomResizedCrop',
                                'mmmedmask.ResizeImage'):
            node['scale'] = side
        if node.get('type') == 'mmmedmask.AttentionMaskHook':
            node.update(begin=0, num_workers=0)
        if node.get('type') == 'mmmedmask.LesionCoverageHook':
            node.update(num_images=2, num_draws=1)
        if node.get('type') == 'mmmedmask.AttentionPanelHook':
            node.update(num_samples=1, min_side=side)


def _shrink_sizes(node: dict) -> None:
    for key, value in DETECTOR_SIZES.items():
        if key in node:
            node[key] = value
    if 'view_size' in node:
        node['view_size'] = VIEW_SIZE
    if node.get('type') == 'RandomSampler' and 'num' in node:
        node['num'] = 16
    if node.get('type') == 'Resize':
        node['scale'] = RESIZE_SCALE
    if node.get('type') == 'RandomResize':
        node['scale'] = RANDOM_SCALES


def _shrink_loops(cfg: Config) -> None:
    if 'max_iters' in cfg.train_cfg:
        cfg.train_cfg.update(max_iters=ITERATIONS, val_interval=ITERATIONS)
    else:
        cfg.train_cfg.max_epochs = 1
        # A warm-up may be longer; what follows it has no end then.
        cfg.param_scheduler = [
            scheduler for scheduler in cfg.param_scheduler
            if scheduler.get('begin', 0) == 0
        ]
    cfg.load_from = None
    if cfg.optim_wrapper.get('type') == 'AmpOptimWrapper':
        # It refuses to run on a CPU.
        cfg.optim_wrapper.type = 'OptimWrapper'
        cfg.optim_wrapper.pop('dtype', None)
        cfg.optim_wrapper.pop('loss_scale', None)
    cfg.pop('compile', None)


def _shrink_hooks(cfg: Config) -> None:
    for hook in nested_dicts(
            [cfg.get('default_hooks'), cfg.get('custom_hooks')]):
        if hook.get('type') == 'mmmedmask.LoadCheckHook':
            hook['allow_scratch'] = True
        if hook.get('type') == 'mmmedmask.PreciseBNHook':
            hook['num_batches'] = 2


def _shrink_loader(loader: dict, folder: Path) -> tuple[str, str]:
    """Shrink a loader and draw its data; return the old and the new root."""
    loader.update(
        batch_size=min(BATCH_SIZE, loader['batch_size']),
        num_workers=0,
        persistent_workers=False,
        pin_memory=False)
    loader.pop('prefetch_factor', None)
    dataset = loader['dataset']
    kind = dataset['type']
    if kind not in DRAWN:
        raise ValueError(
            f'no data can be drawn for {kind!r}, valid are {sorted(DRAWN)}; '
            'add a function to mmmedmask/shrinking/shrink.py')
    old_root = dataset.get('data_root')
    # One folder for each data set that the configs tell apart.
    folder_name = re.sub(r'\W+', '_', f'{kind}_{old_root}')
    root = folder / folder_name
    # Serializing collects garbage, which takes longer than a step.
    dataset.update(data_root=str(root), serialize_data=False)
    DRAWN[kind](dataset, root)
    return old_root if isinstance(old_root, str) else '', str(root)


def _move(path: str, roots: list[tuple[str, str]]) -> str:
    for old, new in roots:
        if old and path.startswith(old):
            return os.path.join(new, os.path.relpath(path, old))
    raise ValueError(
        f'{path!r} lies below none of the data roots '
        f'{[old for old, _ in roots]}')


def _draw_glands(dataset: dict, root: Path) -> None:
    if (root / dataset['ann_file']).exists():
        return
    classes = dataset.get('metainfo', {}).get('classes', ('gland', ))
    write_gland_dataset(
        root / dataset.get('data_prefix', {}).get('img', ''),
        root / dataset['ann_file'],
        num_images=4,
        size=(96, 128),
        category=classes[0])


def _draw_tiles(dataset: dict, root: Path) -> None:
    dataset['ann_file'] = ''
    if not root.exists():
        write_tile_folder(root, num_tiles=ITERATIONS * BATCH_SIZE)


def _draw_nct(dataset: dict, root: Path) -> None:
    # A tile per class, of which two batches are an epoch.
    dataset['indices'] = ITERATIONS * BATCH_SIZE
    if not root.exists():
        write_nct_dataset(root, tiles_per_class=1)


def _draw_lesions(dataset: dict, root: Path) -> None:
    dataset['split_folder'] = SPLIT_FOLDER
    if not root.exists():
        write_lesion_dataset(
            root,
            num_train=ITERATIONS * BATCH_SIZE,
            num_val=BATCH_SIZE,
            size=(96, 112),
            normal=True)


def _draw_labelled(dataset: dict, root: Path) -> None:
    # Three classes, so that the labels fit any data set of ours.
    dataset['split_folder'] = SPLIT_FOLDER
    if not root.exists():
        write_lesion_dataset(
            root,
            num_train=ITERATIONS * BATCH_SIZE,
            num_val=BATCH_SIZE,
            size=(48, 56))


DRAWN: dict[str, Callable[[dict, Path], None]] = {
    'CocoDataset': _draw_glands,
    'CustomDataset': draw_class_folders,
    'mmmedmask.LabelledImages': _draw_labelled,
    'mmmedmask.LesionSegmentation': _draw_lesions,
    'mmmedmask.NCTCRC': _draw_nct,
    'mmmedmask.SlideOmicDataset': draw_cohort,
    'mmmedmask.TileFolder': _draw_tiles,
}
