"""Compare modules with the checkpoints that their weights come from."""

import fnmatch
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmmedmask.engine.checkpoint.reading import (
    LISTED_NAMES,
    listing,
    normalize_prefix,
    select_prefix,
    strip_wrappers,
)
from mmmedmask.util.nearest import nearest_names
from mmmedmask.util.nested import split_init

#: BatchNorm's counter, which files from before PyTorch 0.4.1 do not have and
#: which changes no output.
ALLOWED_MISSING = ('*num_batches_tracked', )


@dataclass(frozen=True)
class MatchReport:
    """What became of a module's tensors, by name.

    Attributes:
        matched: Shape, and value where compared, agree.
        shapes: ``(name, shape wanted, shape given)`` where they differ.
        differing: They have the right shape but other values.
        not_finite: The tensor in the checkpoint is NaN or infinite.
        unused: In the checkpoint, and nothing asked for them.
        nearest: For a missing name, names in the checkpoint like it.
        elsewhere: The prefix under which most of the names are in the
            checkpoint, and how many.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    differing: tuple[str, ...]
    not_finite: tuple[str, ...]
    unused: tuple[str, ...]
    nearest: Mapping[str, Sequence[str]]
    elsewhere: tuple[str, int]

    @property
    def expected(self) -> int:
        """Number of tensors that should match."""
        return (len(self.matched) + len(self.missing) + len(self.shapes) +
                len(self.differing) + len(self.not_finite))

    @property
    def ratio(self) -> float:
        """Share of the expected tensors that match, in [0, 1]."""
        return len(self.matched) / self.expected if self.expected else 0.0

    @property
    def complete(self) -> bool:
        """Whether all expected tensors match, and nothing is left over."""
        return self.ratio == 1 and not self.unused

    def describe(self) -> str:
        """Say in a few lines what does not match."""
        lines = []
        if self.missing:
            lines.append(f'  {len(self.missing)} are not in the checkpoint:')
            for name in self.missing[:LISTED_NAMES]:
                near = ', '.join(self.nearest[name]) or 'none'
                lines.append(f'    {name} (similar names there: {near})')
            lines += _rest(self.missing)
        if self.shapes:
            lines.append(f'  {len(self.shapes)} have another shape:')
            lines += [f'    {name}: {given} in the checkpoint, {wanted} in '
                      'the model'
                      for name, wanted, given in self.shapes[:LISTED_NAMES]]
            lines += _rest(self.shapes)
        for names, what in (
                (self.differing, 'have other values'),
                (self.not_finite, 'are not finite'),
                (self.unused, 'in the checkpoint are used by nothing')):
            if names:
                lines.append(f'  {len(names)} {what}: {listing(names)}')
        return '\n'.join(lines)

    def advise(self) -> str:
        """Say in a sentence what to do about what does not match."""
        prefix, explained = self.elsewhere
        if self.not_finite:
            return ('The run that made the file had diverged: take an '
                    'earlier one.')
        if explained > self.expected - len(self.missing):
            return (f'{explained} of the names are in the checkpoint under '
                    f'the prefix {prefix!r}: set it in init_cfg.')
        if self.differing:
            return ('The file fits, but something has overwritten the '
                    'weights after they were loaded.')
        if self.shapes:
            return ('The file is of a network of another size or depth: name '
                    'the right one.')
        if self.unused and not self.missing:
            return ('Everything arrived, but the checkpoint holds more: is it '
                    'of a deeper network? Name what may be left over in '
                    'allowed_unused.')
        return ('The checkpoint is of another architecture, or named as in '
                'another library (tools/model_converters/export_backbone.py '
                'renames).')


def _rest(items: Sequence) -> list[str]:
    more = len(items) - LISTED_NAMES
    return [f'    ... and {more} more'] if more > 0 else []


def compare_modules(modules: Iterable[nn.Module],
                    tensors: Mapping[str, Tensor],
                    prefix: str | None = None, *, compare_values: bool = False,
                    allowed_missing: Sequence[str] = ALLOWED_MISSING,
                    allowed_unused: Sequence[str] = ()) -> MatchReport:
    """Compare modules with the checkpoint that they share.

    By name, shape and, with ``compare_values``, value, exactly and in the
    module's dtype, on any device. ``tensors`` are the checkpoint's, without
    traces of wrappers, ``prefix`` that of the modules in it. The shell
    patterns name what the checkpoint may lack, and what nothing has to ask
    for.
    """
    # Pairs: two modules may have tensors of one name.
    expected = [(strip_wrappers(name), value) for module in modules
                for name, value in module.state_dict().items()]
    names = {name for name, _ in expected}
    given = select_prefix(tensors, prefix)
    groups: dict[str, list] = {key: [] for key in (
        'matched', 'missing', 'shapes', 'differing', 'not_finite')}
    for name, wanted in expected:
        if name not in given:
            if not matches_any(name, allowed_missing):
                groups['missing'].append(name)
            continue
        value = given[name]
        if value.shape != wanted.shape:
            groups['shapes'].append(
                (name, tuple(wanted.shape), tuple(value.shape)))
        elif value.is_floating_point() and not torch.isfinite(value).all():
            groups['not_finite'].append(name)
        elif compare_values and not torch.equal(wanted.detach().cpu(),
                                                value.cpu().to(wanted.dtype)):
            groups['differing'].append(name)
        else:
            groups['matched'].append(name)
    return MatchReport(
        unused=tuple(name for name in given if name not in names
                     and not matches_any(name, allowed_unused)),
        nearest={name: nearest_names(name, given, count=2, cutoff=.7)
                 for name in groups['missing'][:LISTED_NAMES]},
        elsewhere=suggest_prefix(names, tensors),
        **{key: tuple(names) for key, names in groups.items()})


def adapts(modules: Iterable[nn.Module],
           given: Mapping[str, Tensor]) -> bool:
    """Load tensors into modules; tell whether all their own were there.

    Some modules rename or resize what they load.
    """
    try:
        missing = [name for module in modules for name in
                   module.load_state_dict(given, strict=False).missing_keys]
    # torchvision's MNASNet raises a ValueError.
    except (RuntimeError, ValueError):
        return False
    return all(matches_any(name, ALLOWED_MISSING) for name in missing)


def matches_any(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether a name fits one of some shell patterns (``layer4.*``)."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def pretrained_source(module: nn.Module) -> tuple[str, str] | None:
    """Find file (or address) and prefix that a module's ``init_cfg`` names."""
    loaded, _ = split_init(getattr(module, 'init_cfg', None))
    for entry in loaded:
        return str(entry['checkpoint']), normalize_prefix(entry.get('prefix'))
    return None


def group_by_checkpoint(
    model: nn.Module, names: Iterable[str], load_from: str | None = None
) -> tuple[dict[tuple[str, str], dict[str, nn.Module]], list[str]]:
    """Find the checkpoints of modules, of which several may share one.

    ``load_from`` is that of the whole model, instead of those that the
    modules name. Returns, for each checkpoint and prefix, the modules by
    name, and the names of those without. No such module is a ValueError.
    """
    groups: dict[tuple[str, str], dict[str, nn.Module]] = {}
    without = []
    for name in names:
        try:
            module = model.get_submodule(name)
        except AttributeError as error:
            children = [child for child, _ in model.named_children()]
            raise ValueError(
                f'load check: {type(model).__name__} has no module {name!r}, '
                f'its parts are {children}') from error
        source = (load_from, f'{name}.') if load_from \
            else pretrained_source(module)
        if source is None:
            without.append(name)
        else:
            groups.setdefault(source, {})[name] = module
    return groups, without


def suggest_prefix(expected: Container[str],
                   given: Iterable[str]) -> tuple[str, int]:
    """Find the prefix under which most expected names are, and how many."""
    counts = Counter()
    for name in given:
        segments = name.split('.')
        for start in range(len(segments)):
            if '.'.join(segments[start:]) in expected:
                counts[''.join(f'{s}.' for s in segments[:start])] += 1
    return max(counts.items(), default=('', 0),
               key=lambda item: (item[1], -len(item[0])))
