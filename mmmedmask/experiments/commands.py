"""Write down the commands of a run, so that each works by hand, too."""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from mmmedmask.config_files import planned_gpus
from mmmedmask.experiments.chain import find_data
from mmmedmask.experiments.plan import Run, rate_options
from mmmedmask.experiments.schema import DATA_PREFIX

_SUBSTITUTION = re.compile(r'\$\(ls -t [^)]*\)')


@dataclass(frozen=True)
class Step:
    """One command of a run.

    Attributes:
        name: ``'train'``, ``'export'`` or ``'test'``, the last two with the
            checkpoint if it is not the last one: ``'test_best'``.
        kind: ``'train'``, ``'export'`` or ``'test'``.
        choice: The checkpoint that it takes; of a training what it leaves.
        command: The program and its arguments.
    """

    name: str
    kind: str
    choice: str
    command: tuple[str, ...]


def run_steps(run: Run, data_root: str | Path,
              tools: str | Path) -> list[Step]:
    """List the steps of a run in their order.

    Args:
        run: The run.
        data_root: Folder in the place of ``data/``.
        tools: Folder of ``train.py`` and the others.

    Returns:
        Training, an export for each checkpoint that others start from, and a
        test for each that a table shows.

    Raises:
        ValueError: If an option cannot be written on a command line.
    """
    tools = Path(tools)
    options = [format_option(key, value) for key, value in run_options(
        run, data_root).items()]
    config = _shown_path(run.stage.path)
    scaling = ['--auto-scale-lr'] if scales_lr(run) else []
    start = ['python', _shown_path(tools / 'train.py'), config]
    if run.gpus > 1:
        start = ['bash', _shown_path(tools / 'dist_train.sh'), config,
                 str(run.gpus)]
    steps = [Step('train', 'train', 'last', (
        *start, '--work-dir', str(run.folder), '--resume', *scaling,
        '--cfg-options', *options))]
    for choice in run.exports:
        steps.append(Step(_step_name('export', choice), 'export', choice, (
            'python', _shown_path(
                tools / 'model_converters' / 'export_backbone.py'),
            run.checkpoint(choice), run.exported_file(choice), '--force')))
    for choice in run.tests:
        steps.append(Step(_step_name('test', choice), 'test', choice, (
            'python', _shown_path(tools / 'test.py'), config,
            run.checkpoint(choice), '--work-dir',
            str(run.test_folder(choice)), '--cfg-options', *options)))
    return steps


def run_options(run: Run, data_root: str | Path) -> dict[str, Any]:
    """Collect all that is set on the command line of a run.

    Args:
        run: The run.
        data_root: Folder in the place of ``data/``.

    Returns:
        Dotted key to value: the recipe's options, the moved data, the
        checkpoints it starts from and the seed.

    Raises:
        ValueError: If the data cannot be moved.
    """
    options = {key: _move(value, data_root)
               for key, value in run.stage.stage.options.items()}
    if not _is_default(data_root):
        for where, path in find_data(run.config).items():
            key, value = _moved_option(run.config, where, path, data_root)
            if not any(key == given or key.startswith(f'{given}.')
                       for given in options):
                options[key] = value
    options.update(rate_options(run.stage))
    options.update({'.'.join(where): source.file()
                    for where, source in run.sources.items()})
    options['randomness.seed'] = run.seed
    return options


def scales_lr(run: Run) -> bool:
    """Whether the learning rate has to be scaled to the samples per step.

    Args:
        run: The run.

    Returns:
        True if the config's rate is for another number of samples than all
        processes take together.
    """
    scaling = run.config.get('auto_scale_lr') or {}
    base = rate_options(run.stage).get('auto_scale_lr.base_batch_size',
                                       scaling.get('base_batch_size'))
    batch = run.config.train_dataloader.get('batch_size')
    return bool(base and batch and not scaling.get('enable')
                and base != batch * run.gpus)


def batch_notes(runs: Iterable[Run]) -> list[str]:
    """Say which runs of scale paper have not the batch of their configs.

    Args:
        runs: The runs.

    Returns:
        A line for each number of processes that configs are made for, if it
        is another one than that of the runs.
    """
    configs: dict[tuple[int, int], dict[str, bool]] = {}
    for run in runs:
        planned = planned_gpus(run.config)
        if run.scale == 'paper' and planned and planned[0] != run.gpus:
            configs.setdefault((planned[0], run.gpus), {})[
                run.stage.path.stem] = 'max_iters' in run.config.train_cfg
    lines = []
    for (planned_number, gpus), names in configs.items():
        ratio = f'{gpus / planned_number:g} times'
        line = (f'Not the batch of the paper: made for {planned_number} '
                f'processes and trained with {gpus}, so with {ratio} the '
                f'samples in a step, are {", ".join(names)}')
        counting = [name for name, by_iter in names.items() if by_iter]
        if counting:
            which = 'all' if len(counting) == len(names) \
                else ', '.join(counting)
            line += (f'; {which} of these count iterations, and see {ratio} '
                     'the samples in all')
        lines.append(f'{line}.')
    return lines


def format_option(key: str, value: Any) -> str:
    """Write an option as ``--cfg-options`` takes it.

    Args:
        key: Dotted key.
        value: A number, text, truth value, None, or a list of them.

    Returns:
        ``'key=value'``, without quotes for the shell.

    Raises:
        ValueError: If what MMEngine would read from it is something else,
            as for text with blanks, commas or brackets.
    """
    text = _format(value)
    # What the shell puts in is a path without such characters.
    plain = _SUBSTITUTION.sub('x', text)
    expected = value if plain == text else plain
    read = DictAction._parse_iterable(plain)
    if read != expected or type(read) is not type(expected):
        raise ValueError(
            f'the option {key} = {value!r} cannot be given on a command '
            f'line: MMEngine would read {read!r}. Paths must have no blanks, '
            'commas and brackets; set anything else in a config')
    return f'{key}={text}'


def shell_line(command: tuple[str, ...]) -> str:
    """Write a command for a shell.

    Args:
        command: The program and its arguments.

    Returns:
        The line, quoted where it has to be; what the shell has to find is
        left to it.
    """
    return ' '.join(
        f'"{part}"' if _SUBSTITUTION.search(part) else shlex.quote(part)
        for part in command)


def _format(value: Any) -> str:
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, list | tuple):
        inner = ','.join(map(_format, value))
        return f'[{inner}]' if isinstance(value, list) else f'({inner})'
    return str(value)


def _is_default(data_root: str | Path) -> bool:
    return Path(data_root) == Path(DATA_PREFIX)


def _move(value: Any, data_root: str | Path) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_move(one, data_root) for one in value)
    if isinstance(value, str) and value.startswith(DATA_PREFIX) \
            and not _is_default(data_root):
        # Configs may join strings, so a slash at the end stays.
        return f'{str(data_root).rstrip("/")}/' \
            f'{value.removeprefix(DATA_PREFIX)}'
    return value


def _moved_option(config: Config, where: tuple[str, ...], path: str,
                  data_root: str | Path) -> tuple[str, Any]:
    """The option that moves a path; in a tuple it sets the whole tuple."""
    node: Any = config
    for place, key in enumerate(where):
        if isinstance(node, tuple):
            if not all(isinstance(one, str | int | float) for one in node):
                raise ValueError(
                    f'{config.filename} has the path {path!r} inside of a '
                    f'tuple ({".".join(where)}), where the command line '
                    'cannot move it: make it a list')
            return '.'.join(where[:place]), _move(node, data_root)
        node = node[int(key) if isinstance(node, list) else key]
    return '.'.join(where), _move(path, data_root)


def _step_name(kind: str, choice: str) -> str:
    return kind if choice == 'last' else f'{kind}_{choice}'


def _shown_path(path: str | Path) -> str:
    """A path from the working folder, if it is below."""
    path = Path(path)
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
