"""Options that let a config read its data from another folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmedmask.experiments.config_content import find_data
from mmmedmask.experiments.run import Where
from mmmedmask.experiments.schema import DATA_PREFIX


def run_options(config: Config, options: Mapping[str, Any],
                data_root: str | Path) -> dict[str, Any]:
    """Collect what is set on the command line of a run, but its sources.

    Returns:
        Dotted key to value: the recipe's options, and the moved data.

    Raises:
        ValueError: If the data cannot be moved.
    """
    moved = {key: _move(value, data_root) for key, value in options.items()}
    if Path(data_root) != Path(DATA_PREFIX):
        for where, path in find_data(config).items():
            key, value = _moved_option(config, where, path, data_root)
            if not any(key == given or key.startswith(f'{given}.')
                       for given in moved):
                moved[key] = value
    return moved


def _move(value: Any, data_root: str | Path) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_move(part, data_root) for part in value)
    if isinstance(value, str) and value.startswith(DATA_PREFIX) \
            and Path(data_root) != Path(DATA_PREFIX):
        # Configs may join strings, so a slash at the end stays.
        return f'{str(data_root).rstrip("/")}/' \
            f'{value.removeprefix(DATA_PREFIX)}'
    return value


def _moved_option(config: Config, where: Where, path: str,
                  data_root: str | Path) -> tuple[str, Any]:
    """The option that moves a path; in a tuple it sets the whole tuple."""
    node: Any = config
    for place, key in enumerate(where):
        if isinstance(node, tuple):
            if not all(isinstance(part, str | int | float) for part in node):
                raise ValueError(
                    f'{config.filename} has the path {path!r} inside of a '
                    f'tuple ({".".join(where)}), where the command line '
                    'cannot move it: make it a list')
            return '.'.join(where[:place]), _move(node, data_root)
        node = node[int(key) if isinstance(node, list) else key]
    return '.'.join(where), _move(path, data_root)
