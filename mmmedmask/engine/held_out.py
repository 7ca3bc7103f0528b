"""Samples that a run does not train on, the same ones each time."""

import copy
import inspect
import itertools
import os
import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import ConcatDataset
from mmengine.dist import get_rank, get_world_size
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch.utils.data import Dataset, Subset

from mmmedmask.engine.preserved_state import (
    at_iteration,
    evaluating,
    preserve_random_state,
    saved_model,
)
from mmmedmask.engine.wrapped_datasets import datasets_of, list_sources
from mmmedmask.util.file_walk import real_paths
from mmmedmask.util.nested import innermost_datasets


def build_changed(train: Mapping, change: Mapping) -> Dataset:
    """Build a data set anew, with a change in all that it wraps.

    Each sample is there once, where a wrapper repeats them.
    """
    configs: list[dict] = []
    for inner in innermost_datasets(train):
        config = copy.deepcopy(_changed(inner, change))
        if config not in configs:
            configs.append(config)
    built = [DATASETS.build(config) for config in configs]
    return built[0] if len(built) == 1 else ConcatDataset(built)


def _changed(config: Mapping, change: Mapping) -> dict:
    """Change a config, in which another folder has no list of this one."""
    changed = {**config, **change}
    root, listed = changed.get('data_root'), config.get('ann_file')
    if not listed or 'ann_file' in change or root == config.get('data_root'):
        return changed
    kind = config['type']
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    argument = inspect.signature(kind).parameters.get('ann_file')
    # Without its table a cohort is nothing. A list that is found as it stands
    # is not looked for in the folder.
    if (argument is None or argument.default is not argument.empty) and (
            not isinstance(root, str) or Path(listed).is_file()
            or not Path(root, listed).is_file()):
        del changed['ann_file']
    return changed


def _samples_of(config: Mapping) -> dict:
    """What of a data set's config says which samples it has.

    Folders and files are the same however their paths are written, through
    links, too; the pipeline makes no other samples.
    """
    roots = config.get('data_root')
    roots = [roots] if isinstance(roots, str | os.PathLike) else roots or []
    samples = {}
    for key, value in config.items():
        if key == 'data_root':
            samples[key] = sorted(map(os.path.realpath, roots))
        elif key == 'type' and isinstance(value, str):
            samples[key] = DATASETS.get(value) or value
        elif key != 'pipeline':
            places = [Path(value), *(Path(root, value) for root in roots)] \
                if isinstance(value, str) and value else []
            samples[key] = next((os.path.realpath(place) for place in places
                                 if place.exists()), value)
    return samples


def _is_rest(part: Mapping, whole: Mapping) -> bool:
    """Whether a share leaves out of one what it takes for the other."""
    share = whole.get('held_out_share')
    return bool(share) and share == part.get('held_out_share') and (
        bool(part.get('held_out')) != bool(whole.get('held_out')))


def _is_part(config: Mapping, train: Mapping) -> bool:
    """Whether a data set takes some of another's samples, by their configs.

    It says all that the other says, and more. What a share leaves out is no
    part of what it leaves; of folders in one another files are compared.
    """
    part, whole = _samples_of(config), _samples_of(train)
    kind = whole.get('type')
    if _is_rest(part, whole) or not isinstance(kind, type):
        return False
    for samples in (part, whole):
        samples.pop('held_out', None)
    whole.pop('held_out_share', None)
    for name, argument in inspect.signature(kind).parameters.items():
        if name in part and argument.default is not argument.empty:
            whole.setdefault(name, argument.default)
    roots, around = (samples.pop('data_root', ()) for samples in (part, whole))
    return set(roots) <= set(around) and all(
        part.get(key) == value for key, value in whole.items() if value)


def build_held_out(cfg: Mapping, change: Mapping) -> Dataset:
    """Build the training set with other samples, each once.

    Args:
        cfg: The run's config.
        change: What is changed in the config of the training set, or of
            all data sets that it wraps, such as ``dict(split='val')`` or
            ``dict(data_root='other')``; with ``type``, a config of its own.
            Another ``data_root`` leaves out an ``ann_file`` that is not
            below it and that the data set can do without.

    Raises:
        ValueError: If it is the training set itself, or a part of it, in
            another spelling or with another pipeline, too; or if folders
            that are, or lie in, one another share images.
    """
    train = (cfg.get('train_dataloader') or {}).get('dataset')
    if not isinstance(train, Mapping):
        # A run that was made of objects tells nothing of its training set.
        train = {}
    parts = list(innermost_datasets(train))
    # Indices of the training set are of no other split.
    train = [{key: value for key, value in inner.items() if key != 'indices'}
             for inner in parts]
    held_out = list(innermost_datasets(change)) if 'type' in change else [
        _changed(inner, change) for inner in train]
    trained, apart = (list(map(_samples_of, part))
                      for part in (train, held_out))
    if any(samples in trained for samples in apart) or any(
            _is_part(inner, other) for inner in held_out for other in parts):
        raise ValueError(
            f'held_out={dict(change)} names samples of the training set, so '
            "that nothing is held out: name other samples, such as "
            "dict(split='val') or dict(data_root='other')")
    dataset = DATASETS.build(dict(change)) if 'type' in change else \
        build_changed(dict(datasets=train), change)
    if any(os.path.commonpath([first, second]) in (first, second)
           for samples, others in itertools.product(apart, trained)
           if not _is_rest(samples, others)
           for first in samples.get('data_root', ())
           for second in others.get('data_root', ())) and (
               files := _files_of(dataset)):
        # Only then: a list of all that is trained on may be long.
        shared = files & _files_of(build_changed(dict(datasets=parts), {}))
        if shared:
            raise ValueError(
                f'held_out={dict(change)} has {len(shared)} images that are '
                f'trained on, such as {min(shared)}: name other folders, or '
                'lists of other files (ann_file)')
    return dataset


def _files_of(dataset: Dataset) -> set[str]:
    """The image files of a data set, none where it has others."""
    try:
        sources = list_sources(dataset)
    except ValueError:
        # A kind of its own, which cannot be listed.
        return set()
    files = {path for source in sources
             if (path := source.info.get('img_path'))}
    return set(real_paths(path for path in files if '://' not in path))


def own_held_out(cfg: Mapping) -> dict | None:
    """What gives the samples that the training set itself leaves out.

    None where it leaves out none, by a ``held_out_share``.
    """
    train = (cfg.get('train_dataloader') or {}).get('dataset')
    if not isinstance(train, Mapping):
        return None
    sides = {bool(inner.get('held_out')) if inner.get('held_out_share')
             else None for inner in innermost_datasets(train)}
    side = sides.pop() if len(sides) == 1 else None
    return None if side is None else dict(held_out=not side)


def with_slides(dataset: Dataset) -> Dataset:
    """Leave out patients without slides, of whom no patch can be masked.

    Data sets of something else stay as they are.
    """
    if not any(hasattr(part, 'get_num_patches')
               for part in datasets_of(dataset)):
        return dataset
    return Subset(dataset, [
        place for place, source in enumerate(list_sources(dataset))
        if source.info.get('num_patches', True)])


def shared_count(dataset: Dataset, number: int) -> int:
    """How many samples at most are taken if all ranks get as many."""
    number = min(number, len(dataset))
    return number - number % get_world_size()


def fixed_batches(runner: Runner, dataset: Dataset, number: int,
                  batch_size: int, shared: bool = False) -> Iterator[dict]:
    """Give samples, taken evenly, as :func:`saved_model` takes them.

    Views and masks are those of iteration 0 each time. This model is in
    evaluation mode and without gradients until the last batch is taken; the
    run's random state stays.

    Args:
        number: Samples at most.
        shared: Whether each rank gets its share of the samples, all of one
            size (:func:`shared_count`), for models whose loss gathers those
            of all ranks; else each gets all.
    """
    model = saved_model(runner)
    number = (shared_count(dataset, number) if shared
              else min(number, len(dataset)))
    indices = np.linspace(0, len(dataset) - 1, number).round().astype(int)
    if shared:
        indices = indices[get_rank()::get_world_size()]
    collate = runner.train_dataloader.collate_fn
    with preserve_random_state(), at_iteration(runner, 0), \
            evaluating(model), torch.no_grad():
        # Some draw their masks from the global generators.
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        for start in range(0, len(indices), batch_size):
            yield model.data_preprocessor(collate([
                dataset[int(index)]
                for index in indices[start:start + batch_size]]), True)
