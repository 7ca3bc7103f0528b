"""Shipped configs by their kind, and what users change in them."""

import copy

from shipped_configs import CONFIGS, read

from mmmedmask.shrinking.model_sizes import kind_of
from mmmedmask.util.nested import nested_dicts

#: Encoders of other libraries for three channels alone, or their decoders are.
RGB_ENCODERS = ('BEiTPretrainViT', 'MAEViT', 'SparseResNet')
#: Steps of other libraries that take RGB of 8 bits alone, and say so.
COLOR_STEPS = ('ColorJitter', 'RandomGrayscale')
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def families():
    """One config of each kind: model, encoder, head, data and metrics."""
    found = {}
    for path in sorted(CONFIGS.rglob('*.py')):
        if '_base_' in path.parts:
            continue
        cfg = read(path)
        model = cfg.model
        encoder = model.get('backbone') or model.get('aggregator')
        data = [kind_of(loader.dataset) for loader in loaders(cfg)]
        metrics = [kind_of(part) for part in
                   nested_dicts(cfg.get('val_evaluator'))]
        kind = (kind_of(model), kind_of(encoder), kind_of(model.get('head')),
                *data, *metrics)
        found.setdefault(kind, path.stem)
    return sorted(found.values())


def loaders(cfg):
    return [cfg[name] for name in LOADERS if cfg.get(name)]


def with_classes(cfg, count):
    """A copy for data with so many classes; None if a user cannot."""
    cfg = copy.deepcopy(cfg)
    names = [f'kind {number}' for number in range(count)]
    datasets = [loader.dataset for loader in loaders(cfg)]
    kinds = {kind_of(dataset) for dataset in datasets}
    heads = [node for node in nested_dicts(cfg.model)
             if node.get('num_classes')]
    if not heads or not kinds or kinds & {'NCTCRC', 'LesionSegmentation'}:
        return None
    for head in heads:
        head['num_classes'] = count
    if kinds != {'LabelledImages'}:
        for dataset in datasets:
            dataset['metainfo'] = dict(classes=names)
    return cfg


def with_pixels(cfg, channels, dtype):
    """A copy for images with other channels and bits; None if it has none."""
    cfg = copy.deepcopy(cfg)
    model = cfg.model
    if channels != 3 and kind_of(model.get('backbone')) in RGB_ENCODERS:
        return None
    preprocessors = [part for part in (
        model.get('data_preprocessor'), cfg.get('data_preprocessor'))
        if part and part.get('mean')]
    steps = list(nested_dicts([
        *[loader.dataset.get('pipeline') for loader in loaders(cfg)],
        cfg.get('default_hooks')]))
    loads = [step for step in steps if kind_of(step) == 'LoadTile']
    if not preprocessors or not loads or any(
            kind_of(step) in COLOR_STEPS or step.get('backend') == 'pillow'
            for step in steps):
        return None
    for step in loads:
        step.update(in_channels=channels, dtype=dtype)
        if channels != 3:
            step.update(gray_to_rgb=False, drop_alpha=False)
    scale = 1 if dtype == 'uint8' else 257
    for part in preprocessors:
        part['mean'] = [120. * scale] * channels
        part['std'] = [60. * scale] * channels
        if channels != 3 and part.get('color'):
            part['color'].update(saturation=0, hue=0, gray_prob=0)
    for part in nested_dicts(model.get('backbone')):
        if 'in_channels' in part:
            part['in_channels'] = channels
    if channels != 3:
        model.backbone['in_channels'] = channels
    return cfg
