"""Whether the weights that a config starts from would arrive in its model."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from torch import nn

from mmmedmask.config_files import find_hooks
from mmmedmask.engine.checkpoint import matching, reading
from mmmedmask.engine.hooks import LoadCheckHook
from mmmedmask.inspection.findings import (
    Finding,
    describe_error,
    green,
    red,
    yellow,
)
from mmmedmask.registry import HOOKS
from mmmedmask.shrinking.model_sizes import kind_of


def check_starting_weights(model: nn.Module, config: Mapping | None = None
                           ) -> Iterator[Finding]:
    """Compare a model with the weights that it starts from, as the run does.

    They are the checkpoints that modules name in their ``init_cfg``, and
    ``load_from``. What a LoadCheckHook guards has to be there and to arrive
    whole in a training that is not resumed; of ``load_from`` a part is
    enough. Files that do not exist are left out, as :func:`~mmmedmask.\
inspection.paths.check_paths` finds them, and addresses, as nothing is
    downloaded. Gives a finding per checkpoint, and prefix in it.
    """
    config = config or {}
    load_from = config.get('load_from')
    resumed = bool(load_from and config.get('resume'))
    names = [name for name, module in model.named_modules()
             if matching.pretrained_source(module)]
    groups = []
    for place, guard in _find_guards(config):
        if resumed:
            continue
        try:
            sources, _ = guard.group_modules(model, load_from)
        except ValueError as error:
            yield red('weights', str(error), place, 'see the message')
            continue
        names = [name for name in names if name not in guard.modules]
        groups.append((sources, load_from and 'load_from', guard))
    groups += [(matching.group_by_checkpoint(model, [name])[0], None, None)
               for name in names]
    for sources, where, guard in groups:
        for (file, prefix), modules in sources.items():
            if _is_file(file):
                yield compare_weights(
                    modules.values(), file, prefix, where or ', '.join(
                        f'model.{name}.init_cfg' if name else
                        'model.init_cfg' for name in modules), guard)
    if load_from and _is_file(load_from):
        yield compare_weights([model], load_from, None, 'load_from',
                              complete=resumed, part=not resumed)


def _find_guards(config: Mapping) -> Iterator[tuple[str, LoadCheckHook]]:
    """Build the LoadCheckHooks of a training, with their places."""
    for place, settings in find_hooks(config).items():
        if kind_of(settings) == 'LoadCheckHook' and config.get('train_cfg'):
            with contextlib.suppress(Exception):
                # What is wrong is said where all hooks are built.
                yield place, HOOKS.build({
                    key: value for key, value in settings.items()
                    if key != 'priority'})


def _is_file(name: str) -> bool:
    return '://' not in name and Path(name).expanduser().is_file()


def compare_weights(modules: Iterable[nn.Module], checkpoint: str,
                    prefix: str | None, where: str,
                    guard: LoadCheckHook | None = None,
                    complete: bool = False, part: bool = False) -> Finding:
    """Compare modules with a checkpoint, by names and shapes.

    Where they do not agree, and need not, the weights are loaded into the
    modules, of which some rename or resize what they load.

    Args:
        prefix: Prefix of the modules' tensors in the file.
        where: What names the checkpoint, for the finding.
        guard: What compares them in the run; then everything has to agree.
        complete: Whether everything has to agree, and all be used.
        part: Whether some tensors are enough, as for ``load_from``: those
            are yellow, none is red.
    """
    modules = list(modules)
    try:
        content = reading.read_checkpoint(checkpoint)
        tensors = reading.get_state_dict(content)
    except Exception as error:  # whatever a broken file makes of itself
        return red(
            'weights', f'{checkpoint} cannot be read: {describe_error(error)}',
            where, 'get the file again')
    complete = complete or guard is not None
    try:
        report = (guard or LoadCheckHook()).compare(
            modules, checkpoint, content, prefix)
    except ValueError as error:
        return red('weights', str(error), where, 'see the message')
    under = f' under {prefix!r}' if prefix else ''
    text = (f'{checkpoint}{under}: {len(report.matched)} of '
            f'{report.expected} tensors fit ({100 * report.ratio:.1f} %)')
    if report.unused:
        text += f', {len(report.unused)} are used by nothing'
    if report.complete or report.ratio == 1 and not complete:
        return green('weights', text, where)
    if report.matched and not (complete or report.not_finite) \
            and matching.adapts(modules,
                                reading.select_prefix(tensors, prefix)):
        return green(
            'weights', f'{text}; the module adapts the rest while loading',
            where)
    status = yellow if part and report.matched and not report.not_finite \
        else red
    lines = [line.strip() for line in report.describe().splitlines()]
    return status('weights', f'{text}: {"; ".join(lines).replace(":;", ":")}',
                  where, report.advise())

