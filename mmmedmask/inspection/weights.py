"""Whether the weights that a config starts from would arrive in its model."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from torch import nn

from mmmedmask.config_files import find_hooks
from mmmedmask.engine.checkpoint import matching, reading
from mmmedmask.inspection.findings import (
    Finding,
    describe_error,
    green,
    red,
    yellow,
)
from mmmedmask.shrinking.model_sizes import kind_of

#: Share of a model that ``load_from`` may fill to be called intended.
MEANT = .5


def check_module_weights(model: nn.Module,
                         config: Mapping | None = None) -> Iterator[Finding]:
    """Compare modules with the checkpoints of their own ``init_cfg``.

    Modules that the config's LoadCheckHook guards are compared as it does.
    Files that do not exist are left out, as :func:`~mmmedmask.inspection.\
paths.check_paths` finds them, and addresses, as nothing is downloaded.
    Gives a finding per checkpoint, and prefix in it, that modules name.
    """
    names = [name for name, module in model.named_modules()
             if matching.pretrained_source(module)]
    groups = []
    for hook in find_hooks(config or {}).values():
        if kind_of(hook) != 'LoadCheckHook':
            continue
        wanted = hook.get('modules', 'backbone')
        wanted = [wanted] if isinstance(wanted, str) else wanted
        allowed = {key: hook[key] for key in
                   ('allowed_missing', 'allowed_unused') if key in hook}
        groups.append(([name for name in names if name in wanted],
                       dict(allowed, complete=True)))
        names = [name for name in names if name not in wanted]
    groups += [([name], {}) for name in names]
    for guarded, options in groups:
        sources, _ = matching.group_by_checkpoint(model, guarded)
        for (file, prefix), modules in sources.items():
            if '://' not in file and Path(file).expanduser().is_file():
                where = ', '.join(f'model.{name}.init_cfg' if name else
                                  'model.init_cfg' for name in modules)
                yield compare_weights(
                    modules.values(), file, prefix, where, **options)


def check_whole_model(model: nn.Module, checkpoint: str, where: str,
                      complete: bool) -> Finding:
    """Compare a whole model with a checkpoint.

    Args:
        where: What names it, for the finding.
        complete: Whether every tensor has to arrive, as for testing. If
            not, as for ``load_from``, a part is yellow, and less than half
            of the model is red.
    """
    return compare_weights([model], checkpoint, None, where,
                           red_below=1.0 if complete else MEANT)


def compare_weights(modules: Iterable[nn.Module], checkpoint: str,
                    prefix: str | None, where: str, red_below: float = 1.0,
                    complete: bool = False,
                    **allowed: Iterable[str]) -> Finding:
    """Compare modules with a checkpoint, by names and shapes.

    Where they do not agree, and need not, the weights are loaded into the
    modules, of which some rename or resize what they load.

    Args:
        prefix: Prefix of the modules' tensors in the file.
        red_below: Share of the tensors below which it is red, else yellow.
        complete: Whether everything has to agree, and all be used.
        allowed: ``allowed_missing`` and ``allowed_unused``, see
            :func:`~mmmedmask.engine.checkpoint.matching.compare_modules`.
    """
    modules = list(modules)
    try:
        tensors = reading.get_state_dict(reading.read_checkpoint(checkpoint))
    except Exception as error:  # whatever a broken file makes of itself
        return red(
            'weights', f'{checkpoint} cannot be read: {describe_error(error)}',
            where, 'get the file again')
    report = matching.compare_modules(modules, tensors, prefix, **allowed)
    under = f' under {prefix!r}' if prefix else ''
    text = (f'{checkpoint}{under}: {len(report.matched)} of '
            f'{report.expected} tensors fit ({100 * report.ratio:.1f} %)')
    if report.unused:
        text += f', {len(report.unused)} are used by nothing'
    if report.ratio == 1 and not (complete and report.unused):
        return green('weights', text, where)
    if report.matched and not (complete or report.not_finite) \
            and matching.adapts(modules,
                                reading.select_prefix(tensors, prefix)):
        return green(
            'weights', f'{text}; the module adapts the rest while loading',
            where)
    status = red if complete or report.ratio < red_below else yellow
    lines = [line.strip() for line in report.describe().splitlines()]
    return status('weights', f'{text}: {"; ".join(lines).replace(":;", ":")}',
                  where, report.advise())

