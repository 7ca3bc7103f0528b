"""Train and test on every fold of a cohort, in one stage or in several.

Each fold has a folder of its own, with one folder per stage. What is finished
is not done again, and what was interrupted goes on.
"""

import gc
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from mmmedmask.apis.fold_stages import (
    DATASET,
    find_datasets,
    plan_sources,
    set_sources,
    stage_settings,
)
from mmmedmask.apis.runs import (
    build_runner,
    prepare_test,
    set_resume,
)
from mmmedmask.config_files import load_config

#: Files of a fold: what a stage was made with, and what testing gave.
STAGE_FILE = 'stage.json'
SCORES_FILE = 'scores.json'
CHECKPOINT_CHOICES = ('best', 'last')
# Split that the data set of each loader must read.
_LOADER_SPLITS = {
    'train_dataloader': 'train',
    'val_dataloader': 'val',
    'test_dataloader': 'test',
}


@dataclass(frozen=True)
class CrossValidation:
    """What to train and to test on every fold.

    Attributes:
        configs: Config files, one per stage in their order. A stage starts
            from checkpoints that earlier ones have made on the same fold,
            see :func:`~mmmedmask.apis.fold_stages.plan_sources`; the last
            one is tested.
        folds: Split file of each fold by its number.
        work_dir: Folder of everything: ``fold_K/STAGE/`` are the work dirs,
            below ``seed_S/`` if there are several seeds.
        seeds: Seeds of the runs; None is the configs' own.
        options: Dotted key to value, as ``--cfg-options`` gives them; a key
            that begins with ``2:`` is for the second stage alone.
        checkpoint: ``'best'`` tests the last stage's best checkpoint on the
            fold's validation patients if its config has ``save_best``,
            else, as with ``'last'``, the last one. Earlier stages hand on
            their last one, as the configs do outside a cross-validation.
        pretrained: Checkpoints that stages may start from although no stage
            makes them, as the configs name them: of other data, or the
            folds' test patients are no longer unseen.
    """

    configs: Sequence[str | Path]
    folds: Mapping[int, Path]
    work_dir: Path
    seeds: Sequence[int | None] = (None, )
    options: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str = 'best'
    pretrained: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.configs:
            raise ValueError('name at least one config')
        if not self.folds:
            raise ValueError('there is no fold to run')
        if self.checkpoint not in CHECKPOINT_CHOICES:
            raise ValueError(f'checkpoint must be one of '
                             f'{CHECKPOINT_CHOICES}, got {self.checkpoint!r}')
        for key in self.options:
            number, colon, _ = key.partition(':')
            if colon and not (number.isdigit()
                              and 1 <= int(number) <= len(self.configs)):
                raise ValueError(
                    f'the option {key!r} is for stage {number!r}, stages are '
                    f'1 to {len(self.configs)}')

    def fold_dir(self, seed: int | None, fold: int) -> Path:
        """Folder of a fold."""
        root = Path(self.work_dir)
        if len(self.seeds) > 1:
            root = root / f'seed_{seed}'
        return root / f'fold_{fold}'

    def test_dir(self, seed: int | None, fold: int) -> Path:
        """Folder of a fold's predictions on its test patients."""
        return self.fold_dir(seed, fold) / 'test'

    def runs(self) -> list[tuple[int | None, int]]:
        """Seed and fold of all runs, in their order."""
        return [(seed, fold) for seed in self.seeds for fold in self.folds]

    def stage_configs(self, seed: int | None, fold: int) -> list[Config]:
        """Load the configs of a fold's stages.

        Args:
            seed: The seed.
            fold: The fold.

        Returns:
            Configs with the fold's split, options, seed and work dir.

        Raises:
            FileNotFoundError: If a config is missing.
            ValueError: If an option has no effect, or a data set would read
                patients that it must not.
        """
        names: set[str] = set()
        loaded = []
        for number, path in enumerate(self.configs, 1):
            config = load_config(path, _stage_options(self.options, number))
            set_fold(config, self.folds[fold])
            if seed is not None:
                config.merge_from_dict({'randomness.seed': seed})
            name = Path(path).stem
            if name in names:
                name = f'{name}_{number}'
            names.add(name)
            config.work_dir = str(self.fold_dir(seed, fold) / name)
            loaded.append(config)
        return loaded

    def run_fold(self, seed: int | None, fold: int) -> dict[str, float]:
        """Train all stages on a fold and test the last one.

        Args:
            seed: The seed.
            fold: The fold.

        Returns:
            What the evaluators say on the fold's test patients.

        Raises:
            ValueError: If the folder has a fold that was made with other
                settings, or it is not clear which stage makes a checkpoint
                that a stage starts from.
        """
        configs = self.stage_configs(seed, fold)
        plans = plan_sources(configs, self.pretrained)
        check_testable(configs[-1])
        test_dir = self.test_dir(seed, fold)
        scores = test_dir / SCORES_FILE
        made: list[Path] = []
        digests: list[str] = []
        trained: set[int] = set()
        for number, (config, plan) in enumerate(
                zip(configs, plans, strict=True)):
            folder = Path(config.work_dir)
            for source in sorted(trained & set(plan.values())):
                if (folder / STAGE_FILE).is_file():
                    raise ValueError(
                        f'{folder} was made from an earlier run of '
                        f'{configs[source].work_dir}, which has just been '
                        'trained anew: delete it')
            names = {source: Path(configs[source].work_dir).name
                     for source in plan.values()}
            set_sources(config, {where: names[source]
                                 for where, source in plan.items()})
            last = number == len(configs) - 1
            choice = self.checkpoint if last else 'last'
            settings = stage_settings(
                config, self.folds[fold],
                {name: digests[source] for source, name in names.items()},
                choice)
            done = check_stage(folder, settings)
            if done is None:
                if scores.is_file():
                    scores.unlink()
                set_sources(config, {where: str(made[source])
                                     for where, source in plan.items()})
                train_stage(config)
                trained.add(number)
                done = finish_stage(folder, settings,
                                    chosen_checkpoint(config, choice))
            made.append(folder / done)
            digests.append(settings['digest'])
        if not scores.is_file():
            values = run_test(configs[-1], str(made[-1]), test_dir)
            _write_json(scores, values)
        return json.loads(scores.read_text(encoding='utf-8'))


def find_folds(folder: str | Path) -> dict[int, Path]:
    """Find the split files of a folder.

    Args:
        folder: Folder with ``splits_0.csv`` and so on.

    Returns:
        Absolute path of each, by its number.

    Raises:
        FileNotFoundError: If there is none.
    """
    folder = Path(folder)
    found = {}
    for path in folder.glob('splits_*.csv'):
        number = path.stem.removeprefix('splits_')
        if number.isdigit():
            found[int(number)] = path.resolve()
    if not found:
        raise FileNotFoundError(
            f'{folder} has no splits_0.csv, splits_1.csv, ...: draw folds, '
            'or name the folder that has them')
    return dict(sorted(found.items()))


def set_fold(config: Config, split_file: str | Path) -> None:
    """Let all data sets of a config read the split of a fold.

    Args:
        config: The config, changed in place.
        split_file: The fold's split file.

    Raises:
        ValueError: If there is no slide-omic data set, or if one would read
            other patients than its loader is for: those of the fold's test
            split are for testing alone.
    """
    places = find_datasets(config)
    if not places:
        raise ValueError(
            f'{config.filename} has no {DATASET}: folds are split files of '
            'cohorts')
    for where, dataset in places:
        wanted = _LOADER_SPLITS.get(where[0])
        split = dataset.get('split')
        if wanted is not None and split != wanted:
            raise ValueError(
                f'{".".join(where)} of {config.filename} must have split='
                f'{wanted!r} in a cross-validation, got {split!r}')
        if wanted is None and split not in ('train', 'val'):
            raise ValueError(
                f"{'.'.join(where)} of {config.filename} must have split="
                f"'train' or 'val', got {split!r}: test patients are for "
                'testing alone')
        dataset['split_file'] = str(split_file)


def check_testable(config: Config) -> None:
    """Refuse a last stage that has no test loop.

    Args:
        config: The config.

    Raises:
        ValueError: If it has none.
    """
    missing = [key for key in ('test_cfg', 'test_dataloader',
                               'test_evaluator') if config.get(key) is None]
    if missing:
        raise ValueError(
            f'{config.filename} is the last stage and has nothing to test: '
            f'it lacks {", ".join(missing)}')


def check_stage(folder: Path, settings: Mapping) -> str | None:
    """See whether a stage is finished; note what it is made with.

    Args:
        folder: Its work dir.
        settings: See :func:`stage_settings`.

    Returns:
        Name of its checkpoint, None if it is not finished.

    Raises:
        ValueError: If the folder has a stage that was made with other
            settings.
    """
    file = folder / STAGE_FILE
    if not file.is_file():
        _write_json(file, dict(settings=settings, finished=None))
        return None
    stage = json.loads(file.read_text(encoding='utf-8'))
    if stage['settings']['digest'] != settings['digest']:
        changed = _differences(stage['settings'], settings)
        raise ValueError(
            f'{folder} was made with other settings '
            f'({", ".join(changed[:5])}): choose another work dir, or delete '
            'it')
    return stage['finished']


def finish_stage(folder: Path, settings: Mapping, checkpoint: Path) -> str:
    """Note that a stage is finished.

    Args:
        folder: Its work dir.
        settings: See :func:`stage_settings`.
        checkpoint: The checkpoint that counts, in ``folder``.

    Returns:
        The checkpoint's name.
    """
    _write_json(folder / STAGE_FILE,
                dict(settings=settings, finished=checkpoint.name))
    return checkpoint.name


def train_stage(config: Config) -> None:
    """Train a stage, or go on where it was interrupted."""
    set_resume(config, 'auto')
    _name_run(config)
    runner = build_runner(config)
    runner.train()
    del runner
    _free()


def chosen_checkpoint(config: Config, choice: str) -> Path:
    """Find the checkpoint of a trained stage that counts.

    Args:
        config: Its config.
        choice: See :class:`CrossValidation`.

    Returns:
        The file.

    Raises:
        FileNotFoundError: If the run has left no checkpoint.
    """
    folder = Path(config.work_dir)
    hook = (config.get('default_hooks') or {}).get('checkpoint') or {}
    if choice == 'best' and hook.get('save_best'):
        name = hook['save_best']
        name = name if isinstance(name, str) else name[0]
        name = '' if name == 'auto' else name.replace('/', '_')
        best = sorted(folder.glob(f'best_{name}*.pth'),
                      key=lambda path: path.stat().st_mtime)
        if best:
            return best[-1]
    last = find_latest_checkpoint(str(folder))
    path = folder / Path(last or 'none').name
    if not path.is_file():
        raise FileNotFoundError(
            f'the run in {folder} has left no checkpoint: its config needs '
            'default_hooks.checkpoint')
    return path


def run_test(config: Config, checkpoint: str,
             folder: Path) -> dict[str, float]:
    """Test a checkpoint on a fold.

    Args:
        config: The config of the last stage.
        checkpoint: The file.
        folder: Folder for the files of the evaluators that have ``out_dir``.

    Returns:
        The scores.
    """
    prepare_test(config, checkpoint)
    evaluators = config.test_evaluator
    for evaluator in (evaluators if isinstance(evaluators, list | tuple)
                      else [evaluators]):
        if str(evaluator['type']).startswith('mmmedmask.'):
            evaluator['out_dir'] = str(folder)
    _name_run(config)
    runner = build_runner(config)
    values = runner.test()
    del runner
    _free()
    return {name: float(value) for name, value in values.items()}


def _name_run(config: Config) -> None:
    """Give a run names of its own.

    MMEngine's runs of one process share what has the same name: a
    visualizer would go on writing into the folder of the first.
    """
    name = f'{Path(config.work_dir).name}_{uuid.uuid4().hex[:8]}'
    config.experiment_name = name
    if config.get('visualizer'):
        config.visualizer['name'] = name


def _stage_options(options: Mapping[str, Any], stage: int) -> dict[str, Any]:
    """Options of a stage: those for all, and those for it alone."""
    chosen = {key: value for key, value in options.items() if ':' not in key}
    prefix = f'{stage}:'
    chosen.update({key.removeprefix(prefix): value
                   for key, value in options.items()
                   if key.startswith(prefix)})
    return chosen


def _differences(old: Any, new: Any, where: str = '') -> list[str]:
    """Dotted keys whose values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            name for key in sorted({*old, *new} - {'digest'})
            for name in _differences(old.get(key), new.get(key),
                                     f'{where}.{key}' if where else key)
        ]
    return [] if old == new else [where]


def _write_json(file: Path, content: Mapping) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + '.part')
    partial.write_text(json.dumps(content, indent=1), encoding='utf-8')
    os.replace(partial, file)


def _free() -> None:
    """Give back the memory of the last run."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
