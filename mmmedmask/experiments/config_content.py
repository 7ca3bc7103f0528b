"""What a config starts from, reads and leaves behind: searched, not built."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmedmask.config_files import MODEL_FILES, runner_keys
from mmmedmask.experiments.run import Where
from mmmedmask.experiments.schema import DATA_PREFIX
from mmmedmask.util.nested import node_at, walk_nested

#: Class of the data sets that have folds.
SLIDE_OMIC_DATASET = 'SlideOmicDataset'
#: What BestCheckpointHook calls a run's best checkpoint.
BEST_NAME = 'best.pth'


def find_data(config: Config) -> dict[Where, str]:
    """Find the paths ``data/...`` of a config, by their keys from the top."""
    return {where: node for where, node in _walk(config)
            if isinstance(node, str) and node.startswith(DATA_PREFIX)}


def required_data(config: Config) -> dict[Where, str]:
    """Find the paths below the data root without which a config cannot run.

    A part with ``optional=True``, such as the images of a probe, is none.
    """
    optional = [where for where, node in _walk(config)
                if isinstance(node, Mapping) and node.get('optional') is True]
    return {where: path for where, path in find_data(config).items()
            if not any(where[:len(part)] == part for part in optional)}


def move_data(value: Any, data_root: str | Path) -> Any:
    """Replace ``data/`` at the beginning of a path, or of those in a list."""
    if isinstance(value, list | tuple):
        return type(value)(move_data(part, data_root) for part in value)
    if isinstance(value, str) and value.startswith(DATA_PREFIX) \
            and Path(data_root) != Path(DATA_PREFIX):
        # Configs may join strings, so a slash at the end stays.
        return f'{str(data_root).rstrip("/")}/' \
            f'{value.removeprefix(DATA_PREFIX)}'
    return value


def find_datasets(config: Config) -> list[tuple[Where, dict]]:
    """Find the slide-omic data sets of a config, by keys from the top."""
    return _find_type(config, SLIDE_OMIC_DATASET)


def find_gene_files(config: Config) -> list[tuple[dict, str]]:
    """Find where the model names files of genes: dict and key."""
    return [(node, key) for where, node in _walk(config)
            if where[:1] == ('model', ) and isinstance(node, Mapping)
            for key in MODEL_FILES
            if isinstance(node.get(key), str) and node[key]]


def find_checkpoints(config: Config) -> dict[Where, str]:
    """Find the checkpoints that a config starts from.

    Of every ``init_cfg`` of type ``Pretrained``, and of ``load_from``, these
    are the keys from the top and the file, '' where it is left out.
    """
    checkpoints = {(*where, 'checkpoint'): str(node.get('checkpoint') or '')
                   for where, node in _find_type(config, 'Pretrained')}
    if config.get('load_from') is not None:
        checkpoints['load_from', ] = str(config.load_from)
    return checkpoints


def set_checkpoints(config: Config, files: Mapping[Where, str]) -> None:
    """Set the checkpoints of :func:`find_checkpoints` in a config."""
    for where, file in files.items():
        node_at(config, where[:-1])[where[-1]] = file


def last_checkpoint_name(config: Config) -> str | None:
    """Say how the last checkpoint of a run will be called, if it trains."""
    loop = config.get('train_cfg')
    if loop is None:
        return None
    for unit in ('epoch', 'iter'):
        length = loop.get(f'max_{unit}s')
        if length is not None:
            return f'{unit}_{length}.pth'
    raise ValueError(f'{config.filename} has neither train_cfg.max_epochs nor '
                     f'train_cfg.max_iters, train_cfg is {loop}')


def _walk(config: Config) -> Iterator[tuple[Where, Any]]:
    """Everything that a runner reads, without plain variables."""
    keys = runner_keys()
    for where, node in walk_nested(
            {key: value for key, value in config.items() if key in keys}):
        yield tuple(map(str, where)), node


def _find_type(config: Config, kind: str) -> list[tuple[Where, Any]]:
    """All dicts of a type, with or without a scope, and where they are."""
    return [(where, node) for where, node in _walk(config)
            if isinstance(node, Mapping)
            and str(node.get('type')).rpartition('.')[2] == kind]
