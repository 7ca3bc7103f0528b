"""Write down the commands of a run, so that each works by hand, too."""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmmedmask.experiments.run import Run

_SUBSTITUTION = re.compile(r'\$\(cat [^)]*\)')


@dataclass(frozen=True)
class Step:
    """One command of a run.

    Attributes:
        kind: ``'train'``, ``'export'`` or ``'test'``.
        choice: The checkpoint that it takes; of a training what it leaves.
    """

    kind: str
    choice: str
    command: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its kind, with the checkpoint if it is not the last one."""
        return self.kind if self.choice == 'last' \
            else f'{self.kind}_{self.choice}'


def run_steps(run: Run, tools: str | Path) -> list[Step]:
    """List the steps of a run in their order.

    Training if there is any, an export for each checkpoint that others start
    from, and a test for each that a table shows.
    """
    tools = Path(tools)
    options = [*run.settings, *(f'{".".join(where)}={source.file()}'
                                for where, source in run.sources.items())]
    config = _shown_path(run.config_file)
    scaling = ['--auto-scale-lr'] if run.scales_lr else []
    start = ['python', _shown_path(tools / 'train.py'), config]
    if run.gpus > 1:
        start = ['bash', _shown_path(tools / 'dist_train.sh'), config,
                 str(run.gpus)]
    steps = []
    if run.last_name is not None:
        steps.append(Step('train', 'last', (
            *start, '--work-dir', str(run.folder), '--resume', *scaling,
            '--cfg-options', *options)))
    for choice in run.exports:
        steps.append(Step('export', choice, (
            'python', _shown_path(
                tools / 'model_converters' / 'export_backbone.py'),
            run.checkpoint(choice), run.exported_file(choice), '--force')))
    for choice in run.tests:
        steps.append(Step('test', choice, (
            'python', _shown_path(tools / 'test.py'), config,
            *([run.checkpoint(choice)] if run.last_name else []), '--work-dir',
            str(run.test_folder(choice)), '--cfg-options', *options)))
    return steps


def list_commands(runs: Sequence[Run], tools: str | Path) -> list[str]:
    """List the commands of runs, as lines of a shell, with what they are for.
    """
    lines = [f'# {note}' for note in batch_notes(runs)]
    for number, run in enumerate(runs, 1):
        lines += [f'# [{number}/{len(runs)}] {run.title}',
                  *(f'#   for {user}' for user in run.users),
                  *(shell_line(step.command) for step in run_steps(run, tools))
                  ]
    return lines


def batch_notes(runs: Iterable[Run]) -> list[str]:
    """Say which runs of scale paper have not the batch of their configs."""
    configs: dict[tuple[int, int], dict[str, bool]] = {}
    for run in runs:
        planned = run.planned_gpus
        if run.scale == 'paper' and planned and planned != run.gpus:
            configs.setdefault((planned, run.gpus), {})[run.name] = \
                run.counts_iterations
    lines = []
    for (planned, gpus), names in configs.items():
        ratio = f'{gpus / planned:g} times'
        line = (f'Not the batch of the paper: made for {planned} processes '
                f'and trained with {gpus}, so with {ratio} the samples in a '
                f'step, are {", ".join(names)}')
        counting = [name for name, by_iter in names.items() if by_iter]
        if counting:
            which = 'all' if len(counting) == len(names) \
                else ', '.join(counting)
            line += (f'; {which} of these count iterations, and see {ratio} '
                     'the samples in all')
        lines.append(f'{line}.')
    return lines


def format_option(key: str, value: Any) -> str:
    """Write an option as ``--cfg-options`` takes it, for no shell.

    A ValueError if MMEngine would read something else from it.
    """
    from mmengine.config import DictAction
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
    """Write a command for a shell; what the shell has to find stays."""
    return ' '.join(f'"{part}"' if _SUBSTITUTION.search(part)
                    else shlex.quote(part) for part in command)


def _format(value: Any) -> str:
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, list | tuple):
        inner = ','.join(map(_format, value))
        return f'[{inner}]' if isinstance(value, list) else f'({inner})'
    return str(value)


def _shown_path(path: str | Path) -> str:
    """A path from the working folder, if it is below."""
    whole, here = Path(path).resolve(), Path.cwd()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else path)
