"""What the stages of a fold start from, and what their results depend on."""

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmedmask.config_files import runner_keys
from mmmedmask.datasets.slides.feature_files import FEATURE_SUFFIXES

DATASET = 'SlideOmicDataset'
# Key paths of a checkpoint in a config.
Where = tuple[str, ...]
# What a run is called and where it is does not change its result.
_NAMES = ('work_dir', 'experiment_name', 'launcher')
# Keys of SlideOmicDataset and of its ``expression`` that name files.
_DATASET_FILES = ('ann_file', 'feature_root', 'gene_list')
_EXPRESSION_FILES = ('path', 'sample_sheet', 'gene_list', 'case_list')


def find_datasets(config: Config) -> list[tuple[Where, dict]]:
    """Find the slide-omic data sets of a config.

    Args:
        config: The config.

    Returns:
        Of each its keys from the top, and itself, to be changed in place.
    """
    return list(_find(_read(config), DATASET))


def find_checkpoints(config: Config) -> dict[Where, str]:
    """Find the checkpoints that a config starts from.

    Args:
        config: The config.

    Returns:
        Of every ``init_cfg`` of type ``Pretrained``, and of ``load_from``,
        the keys from the top and the file, '' where it is left out.
    """
    found = {(*where, 'checkpoint'): str(node.get('checkpoint') or '')
             for where, node in _find(_read(config), 'Pretrained')}
    if config.get('load_from') is not None:
        found['load_from', ] = str(config.load_from)
    return found


def plan_sources(configs: Sequence[Config],
                 pretrained: Sequence[str] = ()) -> list[dict[Where, int]]:
    """Find the stage that makes each checkpoint which a stage starts from.

    A checkpoint ``work_dirs/NAME/epoch_9.pth`` is that of the earlier config
    ``NAME.py``. If none has the name of the folder, it is that of the stage
    right before, provided that this is clear: the config names one such
    folder, and nothing else in it is of that stage.

    Args:
        configs: The configs of the stages in their order.
        pretrained: Checkpoints, as the configs name them, that stages may
            start from although no stage makes them.

    Returns:
        Of each stage the keys of its checkpoints (of every ``init_cfg`` of
        type ``Pretrained`` and of ``load_from``), and the place in
        ``configs`` of the stage that makes them; without those of
        ``pretrained``.

    Raises:
        ValueError: If a stage starts from a file that no stage makes and
            that is not in ``pretrained``: it may have been trained on
            patients of a fold's test split. If no later stage starts from
            what a stage makes, or ``pretrained`` has a file that no config
            names.
    """
    numbers: dict[str, int] = {}
    plans = []
    named = set()
    for number, config in enumerate(configs):
        plan: dict[Where, int] = {}
        others: dict[Where, str] = {}
        for where, path in find_checkpoints(config).items():
            named.add(path)
            if path in pretrained:
                continue
            makers = [numbers[folder] for folder in Path(path).parent.parts
                      if folder in numbers]
            if makers:
                plan[where] = makers[-1]
            elif path or number:
                others[where] = path
        before = number - 1
        folders = {str(Path(path).parent) for path in others.values() if path}
        if others and (number == 0 or len(folders) > 1
                       or before in plan.values()):
            raise ValueError(_unknown_source(config, others))
        plan.update(dict.fromkeys(others, before))
        plans.append(plan)
        numbers[Path(config.filename).stem] = number
    for number, config in enumerate(configs[:-1]):
        if not any(number in plan.values() for plan in plans[number + 1:]):
            raise ValueError(
                f'no later stage starts from what {config.filename} makes: '
                f'{configs[number + 1].filename} takes no checkpoint of it. '
                "It needs an init_cfg=dict(type='Pretrained', ...) in its "
                'model, or load_from')
    unused = sorted(set(pretrained) - named)
    if unused:
        raise ValueError(
            f'pretrained={unused} is what no stage starts from; they start '
            f'from {sorted(named)}')
    return plans


def set_sources(config: Config, files: Mapping[Where, str]) -> None:
    """Set the checkpoints that a config starts from.

    Args:
        config: The config, changed in place.
        files: Keys of a checkpoint, see :func:`plan_sources`, to the file.
    """
    for where, file in files.items():
        node: Any = config
        for key in where[:-1]:
            node = node[int(key) if isinstance(node, list | tuple) else key]
        node[where[-1]] = file


def stage_settings(config: Config, split_file: Path,
                   before: Mapping[str, str], choice: str) -> dict:
    """Collect what a stage's result depends on.

    Of files it is their content, of folders the names and sizes of what is
    in them, so that a project can be moved.

    Args:
        config: The complete config; the checkpoints that stages make have
            the names of the stages.
        split_file: The fold's split file.
        before: Digest of each stage that it starts from, by name.
        choice: Which checkpoint counts.

    Returns:
        A dict of plain data with a ``digest`` of all of it.
    """
    content = json.loads(json.dumps(
        {key: value for key, value in _read(config).items()
         if key not in _NAMES}, default=repr))
    for _, dataset in _find(content, DATASET):
        _replace_files(dataset)
    settings = dict(
        config=content,
        split=content_digest(split_file),
        before=dict(before),
        pretrained={
            path: content_digest(Path(path))
            for path in find_checkpoints(config).values()
            if path and path not in before},
        checkpoint=choice)
    text = json.dumps(settings, sort_keys=True)
    settings['digest'] = hashlib.sha256(text.encode()).hexdigest()
    return settings


def content_digest(path: Path, endings: tuple[str, ...] = ('', )
                   ) -> str | None:
    """Digest of a file's content, or of what a folder has.

    Args:
        path: The file or folder.
        endings: Endings of the files in a folder that count, lower case.

    Returns:
        SHA-256; of a folder, of the names and sizes of the files in it that
        are not hidden. None if there is nothing.
    """
    if path.is_file():
        stat = path.stat()
        return _file_digest(str(path.resolve()), stat.st_size,
                            stat.st_mtime_ns)
    if not path.is_dir():
        return None
    lines = sorted(
        f'{file.relative_to(path).as_posix()} {file.stat().st_size}'
        for file in path.rglob('*')
        if file.name.lower().endswith(endings) and file.is_file()
        and not any(part.startswith('.')
                    for part in file.relative_to(path).parts))
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()


# All loaders of all stages and folds read the same tables.
@functools.lru_cache(maxsize=256)
def _file_digest(path: str, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _replace_files(dataset: dict) -> None:
    """Put digests in the place of the files that a data set reads."""
    root = Path(dataset.pop('data_root', None) or '')
    # Its content counts by itself.
    dataset.pop('split_file', None)
    expression = dataset.get('expression') or {}
    for node, keys in ((dataset, _DATASET_FILES),
                       (expression, _EXPRESSION_FILES)):
        for key in keys:
            endings = FEATURE_SUFFIXES if key == 'feature_root' else ('', )
            if isinstance(node.get(key), str):
                node[key] = content_digest(
                    root / node[key], endings) or node[key]
            elif key == 'path' and isinstance(node.get(key), list):
                node[key] = [content_digest(root / str(one)) or one
                             for one in node[key]]


def _read(config: Config) -> dict:
    """What a runner reads of a config, without plain variables."""
    keys = runner_keys()
    return {key: value for key, value in config.items() if key in keys}


def _unknown_source(config: Config, others: Mapping[Where, str]) -> str:
    files = sorted(set(others.values()))
    return (
        f'{config.filename} starts from {" and ".join(map(repr, files))} '
        f'({", ".join(".".join(where) for where in others)}), which no '
        'earlier stage makes: if it has learned from this cohort, patients '
        "of a fold's test split were among those, and the scores are too "
        'good. Give the config that makes it, NAME.py for work_dirs/NAME/, '
        'as an earlier stage; a checkpoint of other data can be allowed: '
        f'--pretrained {" ".join(files)}')


def _find(node: Any, kind: str, where: Where = ()
          ) -> Iterator[tuple[Where, Any]]:
    """All dicts of a type, with or without a scope, and where they are."""
    if isinstance(node, Mapping):
        if str(node.get('type')).rpartition('.')[2] == kind:
            yield where, node
        for key, value in node.items():
            yield from _find(value, kind, (*where, str(key)))
    elif isinstance(node, list | tuple):
        for place, value in enumerate(node):
            yield from _find(value, kind, (*where, str(place)))
