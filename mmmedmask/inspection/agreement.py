"""Whether data, model, metrics and hooks of a config fit each other."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from mmmedmask.config_files import LOADERS, find_hooks, training_length
from mmmedmask.datasets.lesion_masks import read_lesion_mask
from mmmedmask.engine.held_out import build_held_out, own_held_out
from mmmedmask.engine.hooks.class_names import has_classes, names_in, names_of
from mmmedmask.evaluation.base_metric import undefined_scores
from mmmedmask.inspection.building import Parts
from mmmedmask.inspection.findings import (
    Finding,
    describe_error,
    red,
    suggest,
    yellow,
)
from mmmedmask.shrinking.model_sizes import kind_of
from mmmedmask.util.input_units import units_of_config
from mmmedmask.util.nested import (
    as_list,
    dotted,
    innermost_datasets,
    nested_dicts,
    walk_nested,
)

#: Hooks that do nothing before an epoch ``begin``, and its default.
BEGINNING = {'AttentionMaskHook': 40, 'ContrastiveCropHook': None}
#: Metrics that end where a model predicts more classes than the data have.
PER_CLASS_METRICS = ('CocoMetric', 'DiseaseClassification',
                     'SlideClassification')


def check_agreement(config: Config, parts: Parts) -> list[Finding]:
    """Compare the parts of a config with each other.

    Yellow are only scores that will be NaN, and a hook that rests.
    """
    findings = []
    for check in (_check_names, _check_categories, _check_classes,
                  _check_widths, _check_annotations, _check_scores,
                  _check_begin, _check_held_out, _check_lesions, _check_range):
        try:
            findings += check(config, parts)
        except Exception as error:  # a file may be broken in any way
            findings.append(red(
                'data', describe_error(error), '', 'see the message'))
    return findings


def _datasets(config: Config) -> Iterator[tuple[str, Mapping]]:
    """Innermost data sets of all loaders, with their loader's name."""
    for name in LOADERS:
        dataset = (config.get(name) or {}).get('dataset')
        if isinstance(dataset, Mapping):
            for inner in innermost_datasets(dataset):
                yield name, inner


def _dicts(node: Any, key: str) -> Iterator[tuple[tuple, Mapping]]:
    """All dictionaries below a key of a config, and the keys of each."""
    return ((path, part) for path, part in walk_nested(node, (key, ))
            if isinstance(part, Mapping))


def _annotation_file(dataset: Mapping) -> Path | None:
    """The COCO file of a data set, whether it is there or not."""
    if kind_of(dataset) != 'CocoDataset' or not dataset.get('ann_file'):
        return None
    return Path(dataset.get('data_root') or '', dataset['ann_file'])


def _read_coco(file: Path) -> dict[str, Any] | None:
    try:
        return json.loads(file.read_text('utf-8'))
    except (OSError, ValueError):
        # What reads it by itself says so.
        return None


def _check_names(config: Config, parts: Parts) -> Iterator[Finding]:
    """Compare names and order of classes, as ClassNamesHook does in a run."""
    known = {}
    for name, settings in _datasets(config):
        classes = names_of(settings.get('metainfo')) or names_in(
            parts.datasets.get(name))
        if not classes or parts.model and not has_classes(parts.model):
            continue
        first = next(iter(known), name)
        if classes != known.setdefault(first, classes):
            yield red('classes', f'{name} has the classes {classes}, '
                      f'{first} has {known[first]}: a label means two things',
                      f'{name}.dataset.metainfo.classes',
                      f'classes={tuple(known[first])}')


def _check_categories(config: Config, parts: Parts) -> Iterator[Finding]:
    """Compare classes of COCO data sets with their files."""
    for name, dataset in _datasets(config):
        file = _annotation_file(dataset)
        content = _read_coco(file) if file else None
        wanted = names_of(dataset.get('metainfo'))
        if content is None or wanted is None:
            continue
        there = [category['name'] for category in content['categories']]
        for class_name in wanted:
            if class_name not in there:
                yield red('classes',
                          f'{file} has no category {class_name!r}',
                          f'{name}.dataset.metainfo.classes',
                          suggest(class_name, there))


def _check_classes(config: Config, parts: Parts) -> Iterator[Finding]:
    """Compare the number of classes of data and of the model's heads."""
    for name, settings in _datasets(config):
        dataset = parts.datasets.get(name)
        classes = names_of(settings.get('metainfo')) if dataset is None \
            else names_in(dataset)
        # Tiles may be read with their classes, or without.
        if not classes or settings.get('with_labels') is False:
            continue
        strict = any(kind_of(part) in PER_CLASS_METRICS for part in
                     nested_dicts(config.get('val_evaluator')))
        for path, part in _dicts(config.model, 'model'):
            count = part.get('num_classes')
            # A head of one class tells it from the background.
            if not isinstance(count, int) or count == len(classes) or (
                    count == 1 and 'decode_head' in path):
                continue
            status = red if count < len(classes) or strict else yellow
            yield status(
                'classes', f'the model has {count} classes, the '
                f'{name.split("_")[0]} data have {len(classes)}: '
                f'{", ".join(classes)}',
                dotted((*path, 'num_classes')), f'num_classes={len(classes)}')


def _check_widths(config: Config, parts: Parts) -> Iterator[Finding]:
    """Compare features and genes of slides with what the model takes."""
    for name, settings in _datasets(config):
        dataset = parts.datasets.get(name)
        if dataset is None or kind_of(settings) != 'SlideOmicDataset':
            continue
        widths = (dataset.get_data_info(place).get('dims')
                  for place in range(len(dataset)))
        sizes = dict(in_dims=next(filter(None, widths), None),
                     num_genes=len(dataset.gene_ids) or None)
        for path, part in _dicts(config.model, 'model'):
            # The heads take what the aggregator gives.
            keys = sizes if path[-1] == 'aggregator' else ('num_genes', )
            for key in keys:
                if key in part and sizes[key] not in (None, part[key]):
                    yield red('features' if key == 'in_dims' else 'genes',
                              f'the model takes {part[key]}, the '
                              f'{name.split("_")[0]} data have {sizes[key]}',
                              dotted((*path, key)), f'{key}={sizes[key]}')


def _check_annotations(config: Config, parts: Parts) -> Iterator[Finding]:
    """Compare the COCO file of a metric with that of the data it scores."""
    files = {name: _annotation_file(dataset)
             for name, dataset in _datasets(config)}
    for name in LOADERS[1:]:
        evaluator = name.replace('dataloader', 'evaluator')
        for path, part in _dicts(config.get(evaluator), evaluator):
            if not part.get('ann_file') or not files.get(name):
                continue
            own, data = Path(part['ann_file']), files[name]
            if own.resolve() == data.resolve() or _same_images(own, data):
                continue
            yield red('metric', f'the metric reads {own}, and what it scores '
                      f'are predictions on {data}',
                      dotted((*path, 'ann_file')), f'ann_file={str(data)!r}')


def _same_images(first: Path, second: Path) -> bool:
    """Whether two COCO files number the same images alike."""
    contents = [_read_coco(file) for file in (first, second)]
    if None in contents:
        return False
    images = [{(image['id'], image['file_name'])
               for image in content['images']} for content in contents]
    return images[0] == images[1]


def _check_scores(config: Config, parts: Parts) -> Iterator[Finding]:
    """Find scores that will be NaN, and a best checkpoint by one."""
    dataset = parts.datasets.get('val_dataloader')
    if dataset is None:
        return
    checkpoint = (config.get('default_hooks') or {}).get('checkpoint') or {}
    best = as_list(checkpoint.get('save_best') or [])
    for name, reason in undefined_scores(
            parts.metrics.get('val_evaluator', ()), dataset).items():
        text = f'{name} will be NaN in every validation: {reason}'
        if name in best:
            yield red(
                'metric', f'{text}, and the best checkpoint is chosen by it',
                'default_hooks.checkpoint.save_best',
                'choose another score, or save_best=None')
        else:
            yield yellow('metric', text, 'val_dataloader.dataset')


def _check_begin(config: Config, parts: Parts) -> Iterator[Finding]:
    """Find hooks that begin when training is over."""
    length = training_length(config)
    if length is None or not length[1]:
        return
    for where, hook in find_hooks(config).items():
        if kind_of(hook) not in BEGINNING:
            continue
        begin = hook.get('begin', BEGINNING[kind_of(hook)])
        if isinstance(begin, int) and begin >= length[0]:
            yield red('hook', f'{kind_of(hook)} begins before epoch {begin}, '
                      f'counted from 0, and training ends after {length[0]}: '
                      'it never does anything', f'{where}.begin',
                      f'begin={length[0] // 2}, or train longer, or '
                      f'{where.split(".")[-1]}=None to switch it off')


def _check_held_out(config: Config, parts: Parts) -> Iterator[Finding]:
    """Build the samples that hooks hold out of the training set."""
    for where, hook in find_hooks(config).items():
        change = hook.get('held_out')
        if change is None and kind_of(hook) == 'LossFloorsHook':
            change = own_held_out(config)
        if change is None or 'train_dataloader' not in parts.datasets:
            continue
        try:
            build_held_out(config, change)
        except Exception as error:  # any data set may raise anything
            rests = isinstance(error, FileNotFoundError) and (
                hook.get('optional') or hook.get('held_out') is None)
            yield (yellow if rests else red)(
                'hook', f'{kind_of(hook)} gets no held-out samples: '
                f'{describe_error(error)}', f'{where}.held_out',
                'name samples that are there')


def _check_lesions(config: Config, parts: Parts) -> Iterator[Finding]:
    """Find a hook that measures lesions on images without any."""
    for where, hook in find_hooks(config).items():
        if kind_of(hook) != 'LesionCoverageHook':
            continue
        dataset = parts.datasets.get('train_dataloader')
        if hook.get('dataset') is not None:
            # Without its pipeline, of which there may be none.
            dataset = DATASETS.build(hook['dataset'])
        if dataset is None:
            continue
        infos = map(dataset.get_data_info, range(len(dataset)))
        if not any(read_lesion_mask(info['lesion_path']).any()
                   for info in infos if info.get('lesion_path')):
            yield yellow(
                'hook', 'no image has a lesion mask: LesionCoverageHook '
                'warns, rests and measures nothing', where,
                f'{where.split(".")[-1]}=None switches it off; dataset=... '
                'names images with masks')


def _check_range(config: Config, parts: Parts) -> Iterator[Finding]:
    """Find colours that are drawn on another range than that of the tiles."""
    where = 'model.data_preprocessor.data_range'
    try:
        known = units_of_config(config).data_range
    except ValueError as error:
        yield red('model', str(error), where, 'name one range in both')
        return
    preprocessor = getattr(parts.model, 'data_preprocessor', None)
    if getattr(preprocessor, 'color', None) is not None and \
            preprocessor.data_range is None and known not in (255, 65535):
        yield red('model', 'colours are drawn on tiles whose largest value '
                  'their type does not say, and the data preprocessor has no '
                  'data_range', where,
                  f'data_range={known or "the largest stored value"}')
