"""Stop a run whose pre-trained weights did not arrive.

``init_cfg`` loads with ``strict=False``: a wrong prefix or other names leave
a model that trains from scratch (mmdetection#4304, mmselfsup#74).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from mmpretrain.models.utils import to_2tuple
from torch import nn

from mmmedmask.engine.checkpoint import matching
from mmmedmask.engine.checkpoint.model_card import read_config_text
from mmmedmask.engine.checkpoint.reading import get_state_dict, read_checkpoint
from mmmedmask.engine.preserved_state import unwrap
from mmmedmask.registry import HOOKS


@HOOKS.register_module()
class LoadCheckHook(Hook):
    """Compare a model's pre-trained modules with their checkpoint by value.

    Each module's checkpoint is what its ``init_cfg`` of type ``Pretrained``
    names, or ``load_from``. Before the weights are initialised its names and
    shapes are compared, before the first iteration the values. Both say what
    does not fit and end the run. A resumed run is not compared, as its
    weights have moved on. Position embeddings of another grid are refused
    where the checkpoint has its config, even if there are as many.

    Args:
        modules: Dotted names of the modules that must come from a
            checkpoint. Several modules may share one checkpoint, as backbone
            and RoI head of a C4 detector do.
        allow_scratch: Let modules without a checkpoint through, with a line
            in the log. For baselines that start from nothing.
        allowed_missing: Shell patterns of names that the checkpoint may
            lack; the default is BatchNorm's counter.
        allowed_unused: Shell patterns of names under the prefix that no
            module has to use, e.g. ``'fc.*'``. All others must be used: the
            weights of a ResNet-34 contain all names of a ResNet-18.

    Raises:
        ValueError: If an argument is invalid, in training if the model has no
            such module, or if not everything arrived.
    """

    priority = 'VERY_HIGH'

    def __init__(self, modules: str | Sequence[str] = 'backbone',
                 allow_scratch: bool = False,
                 allowed_missing: Sequence[str] = matching.ALLOWED_MISSING,
                 allowed_unused: Sequence[str] = ()) -> None:
        modules = (modules, ) if isinstance(modules, str) else tuple(modules)
        if not modules or not all(modules):
            raise ValueError(
                f"modules must name at least one module, e.g. 'backbone', "
                f'got {modules!r}')
        for name, patterns in (('allowed_missing', allowed_missing),
                               ('allowed_unused', allowed_unused)):
            if isinstance(patterns, str):
                raise ValueError(f'{name} must be a list of patterns, got the '
                                 f'string {patterns!r}')
        self.modules = modules
        self.allow_scratch = allow_scratch
        self.allowed_missing = tuple(allowed_missing)
        self.allowed_unused = tuple(allowed_unused)

    def before_run(self, runner: Runner) -> None:
        """Compare names and shapes, before MMEngine loads anything."""
        if isinstance(runner._train_loop, BaseLoop) and not runner._resume:
            self._check(runner, compare_values=False)

    def before_train(self, runner: Runner) -> None:
        """Compare the values that are in the model now."""
        if runner._resume and runner.iter > 0:
            runner.logger.info('Load check skipped: the run was resumed at '
                               f'iteration {runner.iter}, its weights are not '
                               'those of the pre-trained checkpoint any more.')
            return
        self._check(runner, compare_values=True)

    def group_modules(
        self, model: nn.Module, load_from: str | None = None
    ) -> tuple[dict[tuple[str, str], dict[str, nn.Module]], list[str]]:
        """Find the checkpoints of the modules, and the modules without one.

        See :func:`~mmmedmask.engine.checkpoint.matching.group_by_checkpoint`.
        A module without a checkpoint that may not be trained from scratch is
        a ValueError, too.
        """
        groups, without = matching.group_by_checkpoint(
            model, self.modules, load_from)
        if without and not self.allow_scratch:
            raise ValueError(
                f'load check: {without[0]} has no checkpoint (its init_cfg is '
                "not of type 'Pretrained'), it would be trained from "
                'scratch. Set allow_scratch=True in LoadCheckHook if it '
                'is meant to')
        return groups, without

    def compare(self, modules: Iterable[nn.Module], checkpoint: str,
                content: Mapping, prefix: str | None,
                compare_values: bool = False) -> matching.MatchReport:
        """Compare modules with the content of the checkpoint they share.

        Position embeddings of another grid are a ValueError.
        """
        modules = list(modules)
        for module in modules if prefix == 'backbone.' else ():
            _refuse_other_grid(module, checkpoint, content)
        return matching.compare_modules(
            modules, get_state_dict(content), prefix,
            compare_values=compare_values,
            allowed_missing=self.allowed_missing,
            allowed_unused=self.allowed_unused)

    def _check(self, runner: Runner, compare_values: bool) -> None:
        # A resume that found nothing to resume starts like a fresh run.
        load_from = None if runner._resume else runner._load_from
        groups, without = self.group_modules(unwrap(runner.model), load_from)
        for name in without:
            if compare_values:
                runner.logger.info(f'Load check: {name} is trained from '
                                   'scratch, as allowed.')
        for (checkpoint, prefix), modules in groups.items():
            report = self.compare(
                modules.values(), checkpoint, _read_once(checkpoint), prefix,
                compare_values)
            compared = 'tensors are equal' if compare_values \
                else 'names and shapes fit'
            summary = (
                f'Load check of {", ".join(modules)} against {checkpoint!r} '
                f'under {prefix!r}: {len(report.matched)} of '
                f'{report.expected} {compared} ({100 * report.ratio:.1f} %)')
            if not report.complete:
                raise ValueError(f'{summary}, 100 % are needed.\n'
                                 f'{report.describe()}\n{report.advise()}')
            if compare_values:
                runner.logger.info(f'{summary}.')


def _refuse_other_grid(module: nn.Module, checkpoint: str,
                       content: Mapping) -> None:
    """Refuse position embeddings of another grid than they are loaded into.

    mmpretrain takes as many as the model has for those of its grid, and any
    other number for a square. The config in a checkpoint knows the grid.
    """
    grid = getattr(module, 'patch_resolution', None)
    if grid is None or getattr(module, 'pos_embed', None) is None:
        return
    given = _grid_in(content)
    if given is None or given == tuple(grid):
        return
    if given[0] != given[1] or math.prod(given) == math.prod(grid):
        raise ValueError(
            f'load check: the position embeddings of {checkpoint!r} are of '
            f'{given[0]} x {given[1]} patches, by the config in it, and the '
            f'model has {grid[0]} x {grid[1]}: pre-train with the img_size of '
            'the model, or interpolate them (mmpretrain.models.utils.'
            'resize_pos_embed)')


def _grid_in(content: Mapping) -> tuple[int, int] | None:
    """Rows and columns of patches by the config in a checkpoint, or None.

    A side that the patches do not divide is padded.
    """
    # The text may be anything: what cannot be read says nothing.
    with suppress(ArithmeticError, AttributeError, LookupError, TypeError,
                  ValueError):
        backbone = read_config_text(content['meta']['cfg']).model.backbone
        rows, columns = (math.ceil(side / step) for side, step in zip(
            to_2tuple(backbone['img_size']),
            to_2tuple(backbone.get('patch_size', 16)), strict=True))
        return None if 'patch_cfg' in backbone else (rows, columns)
    return None


def _read_once(checkpoint: str) -> dict:
    """Read a checkpoint; one process downloads it for all."""
    download = '://' in checkpoint
    if download and not is_main_process():
        barrier()
    content = read_checkpoint(checkpoint)
    if download and is_main_process():
        barrier()
    return content
