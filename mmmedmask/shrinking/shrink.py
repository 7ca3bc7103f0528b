"""Shrink shipped configs, so that a test can take a training step."""

import copy
import os
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config

from mmmedmask.config_files import (
    find_hooks,
    late_schedule,
    length_for,
    schedulers_of,
    training_length,
)
from mmmedmask.phantoms.lesions import SPLIT_FOLDER, write_lesion_dataset
from mmmedmask.shrinking import drawn_data
from mmmedmask.shrinking.model_sizes import kind_of, shrink_model
from mmmedmask.util.nested import nested_dicts, node_at

#: Images with masks that ProbeLoop fits on if a config does not say it.
FEW = (1, 5, 20, None)
DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def shrink_config(cfg: Config, work_dir: str | Path,
                  data_dir: str | Path | None = None,
                  sources: Mapping[tuple, str | Path] | None = None,
                  iterations: int = drawn_data.ITERATIONS) -> Config:
    """Return a copy of a config that trains within a second on a CPU.

    Handled are the pre-training of CMIM, MSMAE and GiMP, MSMAE's classifier
    and that of slides and genes, ConCL, mmpretrain's masked image modelling
    and classifiers, detection with mmdet and SETR with mmseg.
    Data sets are drawn at the relative paths that the config names, with the
    classes, channels and bits that it asks for.

    Args:
        data_dir: Folder for the drawn data. What is there is used again, so
            several configs can share it. ``None`` means ``work_dir/data``.
        sources: Keys of a checkpoint that the config names, such as
            ``('model', 'backbone', 'init_cfg', 'checkpoint')`` or
            ``('load_from', )``, to the file that a shrunk run has left. Where
            all have one, the load check is as strict as in a full run.
        iterations: Of a run that counts them; else an epoch has two.

    Raises:
        ValueError: If the config has a data set which cannot be drawn.
    """
    original, cfg = cfg, copy.deepcopy(cfg)
    work_dir = Path(work_dir)
    data_dir = work_dir / 'data' if data_dir is None else Path(data_dir)
    cfg.work_dir = str(work_dir / 'run')
    cfg.log_level = 'WARNING'
    _shrink_loops(cfg, iterations)
    roots, model = {}, dict(cfg.model)
    model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    for name in DATALOADERS:
        # That of probes is empty.
        if cfg.get(name):
            old = cfg[name].dataset.get('data_root')
            cfg[name].pop('prefetch_factor', None)
            cfg[name].update(
                batch_size=min(drawn_data.BATCH_SIZE, cfg[name]['batch_size']),
                num_workers=0, persistent_workers=False, pin_memory=False)
            new = drawn_data.draw_dataset(
                cfg[name].dataset, data_dir,
                drawn_data.DrawnKind.wanted_by(cfg[name].dataset, model))
            if isinstance(old, str):
                roots[old] = new
    if kind_of(cfg.get('test_cfg')) == 'ProbeLoop':
        _shrink_probes(cfg.test_cfg, data_dir)
    for hook in find_hooks(cfg).values():
        if kind_of(hook) == 'LossFloorsHook' and hook.get('held_out'):
            # Other splits are drawn, other folders are not.
            hook['held_out'].pop('data_root', None)
            hook['held_out'] = hook['held_out'] or None
            hook.update(num_fit=drawn_data.BATCH_SIZE,
                        num_held_out=drawn_data.BATCH_SIZE)
        if kind_of(hook) == 'ProbeHook' and not hook.get('bags'):
            _shrink_probes(hook, data_dir)
            hook['few'] = [None]
    shrink_model(cfg)
    drawn_data.draw_teachers(cfg.model, data_dir / 'teachers')
    drawn_data.draw_gene_sets(cfg.model, data_dir / 'gene_sets')
    for name in ('val_evaluator', 'test_evaluator'):
        for evaluator in nested_dicts(cfg.get(name)):
            if evaluator.get('ann_file'):
                evaluator['ann_file'] = _move(evaluator['ann_file'], roots)
    _set_sources(cfg, original, sources or {})
    return cfg


def _shrink_loops(cfg: Config, iterations: int) -> None:
    if cfg.get('train_cfg') is None:
        return
    if 'max_iters' in cfg.train_cfg:
        cfg.train_cfg.update(max_iters=iterations, val_interval=iterations)
    else:
        cfg.train_cfg.max_epochs = 1
        if cfg.model.get('all_token_epochs'):
            # Behind one epoch there is no last one without masks.
            cfg.model.all_token_epochs = 0
    drop_late_schedules(cfg, drawn_data.ITERATIONS)
    cfg.load_from = None
    without_mixed_precision(cfg.optim_wrapper)
    cfg.pop('compile', None)


def drop_late_schedules(cfg: Config, epoch_length: int) -> None:
    """Drop warm-ups that a shortened training does not get to the end of,
    and what begins behind it.
    """
    length = training_length(cfg)
    if schedulers := schedulers_of(cfg):
        cfg.param_scheduler = [
            scheduler for scheduler in schedulers if not late_schedule(
                scheduler, length_for(scheduler, length, epoch_length))]


def without_mixed_precision(wrapper: dict) -> dict:
    """Let a wrapper's config run on a CPU, where AmpOptimWrapper refuses."""
    if kind_of(wrapper) == 'AmpOptimWrapper':
        wrapper['type'] = 'OptimWrapper'
        for key in ('dtype', 'loss_scale', 'use_fsdp'):
            wrapper.pop(key, None)
    return wrapper


def _shrink_probes(probes: dict, data_dir: Path) -> None:
    """Let probes read drawn lesions, as many as they fit on."""
    folder = data_dir / 'probes'
    most = max(count or 0 for count in probes.get('few', FEW))
    drawn_data.draw_once(
        folder, write_lesion_dataset,
        num_train=max(most, drawn_data.BATCH_SIZE),
        num_val=drawn_data.BATCH_SIZE, size=(32, 32))
    probes.update(split_folder=SPLIT_FOLDER, **{
        key: str(folder) for key in ('data', 'dense') if probes.get(key)})


def _move(path: str, roots: Mapping[str, str]) -> str:
    for old, new in roots.items():
        if old and path.startswith(old):
            return os.path.join(new, os.path.relpath(path, old))
    raise ValueError(
        f'{path!r} lies below none of the data roots {list(roots)}')


def _set_sources(cfg: Config, original: Config,
                 sources: Mapping[tuple, str | Path]) -> None:
    """Put checkpoints back that shrinking has taken out."""
    places = sum(node.get('type') == 'Pretrained'
                 for node in nested_dicts(original.model))
    places += original.get('load_from') is not None
    for place, file in sources.items():
        if place == ('load_from', ):
            cfg.load_from = str(file)
            continue
        *above, last, key = place
        node = node_at(cfg, above)
        last = int(last) if isinstance(node, list) else last
        node[last] = dict(node_at(original, place[:-1]), **{key: str(file)})
    if sources and len(sources) == places:
        for hook in find_hooks(cfg).values():
            if kind_of(hook) == 'LoadCheckHook':
                hook['allow_scratch'] = False
