"""Whether the weights that a config starts from would arrive in its model."""

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from mmmedmask.engine.checkpoint.reading import (
    MatchReport,
    get_state_dict,
    match_state_dicts,
    normalize_prefix,
    read_checkpoint,
    select_prefix,
    suggest_prefix,
)
from mmmedmask.inspection.findings import (
    GREEN,
    RED,
    YELLOW,
    Finding,
    describe_error,
)

#: BatchNorm's counter, which older files do not have.
ALLOWED_MISSING = ('*num_batches_tracked', )
#: Share of a model that ``load_from`` may fill to be called intended.
MEANT = .5


def check_module_weights(model: nn.Module) -> list[Finding]:
    """Compare modules with the checkpoints of their own ``init_cfg``.

    Files that do not exist and addresses are left out: the first are found
    by :func:`mmmedmask.inspection.paths.check_paths`, and nothing is
    downloaded.

    Args:
        model: The model, built and not initialised.

    Returns:
        A finding per module with ``init_cfg`` of type ``Pretrained``.
    """
    findings = []
    for name, module in model.named_modules():
        entries = getattr(module, 'init_cfg', None) or []
        for entry in [entries] if isinstance(entries, Mapping) else entries:
            if entry.get('type') != 'Pretrained':
                continue
            file = str(entry['checkpoint'])
            if '://' not in file and Path(file).expanduser().is_file():
                findings.append(compare_weights(
                    module, file, entry.get('prefix'),
                    f'model.{name}.init_cfg' if name else 'model.init_cfg'))
    return findings


def check_whole_model(model: nn.Module, checkpoint: str, where: str,
                      complete: bool) -> Finding:
    """Compare a whole model with a checkpoint.

    Args:
        model: The model.
        checkpoint: The file.
        where: What names it, for the finding.
        complete: Whether every tensor has to arrive, as for testing. If
            not, as for ``load_from``, a part is yellow, and less than half
            of the model is red.

    Returns:
        The finding.
    """
    return compare_weights(model, checkpoint, None, where,
                           red_below=1.0 if complete else MEANT)


def compare_weights(module: nn.Module,
                    checkpoint: str,
                    prefix: str | None,
                    where: str,
                    red_below: float = 1.0) -> Finding:
    """Compare a module with a checkpoint, by names and shapes.

    Where they do not agree the weights are loaded into the module, for some
    modules rename or resize what they load.

    Args:
        module: The module; it may have other weights afterwards.
        checkpoint: The file, read without running code in it.
        prefix: Prefix of the module's tensors in the file.
        where: Dotted key of the place that names the file.
        red_below: Share of the tensors below which it is red; else a part
            is yellow.

    Returns:
        The finding, with the share that fits and what does not.
    """
    try:
        tensors = get_state_dict(read_checkpoint(checkpoint))
    except Exception as error:  # whatever a broken file makes of itself
        return Finding(
            RED, 'weights', f'{checkpoint} cannot be read: '
            f'{describe_error(error)}', where, 'get the file again')
    expected = module.state_dict()
    given = select_prefix(tensors, prefix)
    report = match_state_dicts(
        expected, given, compare_values=False,
        allowed_missing=ALLOWED_MISSING)
    under = f' under {normalize_prefix(prefix)!r}' if prefix else ''
    text = (f'{checkpoint}{under}: {len(report.matched)} of '
            f'{report.expected} tensors fit ({100 * report.ratio:.1f} %)')
    if report.unused:
        text += f', {len(report.unused)} are used by nothing'
    if report.ratio == 1:
        return Finding(GREEN, 'weights', text, where)
    if report.matched and not report.not_finite and _adapts(module, given):
        return Finding(
            GREEN, 'weights', f'{text}; the module adapts the rest while '
            'loading', where)
    status = RED if report.ratio < red_below else YELLOW
    return Finding(
        status, 'weights', f'{text}: {_one_line(report)}', where,
        _advise(report, tensors, expected))


def _adapts(module: nn.Module, given: Mapping) -> bool:
    try:
        result = module.load_state_dict(dict(given), strict=False)
    except RuntimeError:
        return False
    return all(name.endswith('num_batches_tracked')
               for name in result.missing_keys)


def _one_line(report: MatchReport) -> str:
    lines = [line.strip() for line in report.describe().splitlines()]
    return '; '.join(lines).replace(':;', ':')


def _advise(report: MatchReport, tensors: Mapping,
            expected: Mapping) -> str:
    if report.not_finite:
        return 'the run that made the file had diverged: take an earlier one'
    prefix, explained = suggest_prefix(expected, tensors)
    if explained > len(report.matched) + len(report.shapes):
        return (f'{explained} of the names are in the file under the prefix '
                f'{prefix!r}: set it in init_cfg')
    if report.shapes:
        return 'the file is of another size or depth: name the right one'
    return ('the file is of another architecture, or named as in another '
            'library (tools/model_converters/export_backbone.py renames)')
