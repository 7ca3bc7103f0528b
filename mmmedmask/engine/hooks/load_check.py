"""Stop a run whose pre-trained weights did not arrive.

``init_cfg=dict(type='Pretrained', ...)`` loads with ``strict=False``: a wrong
prefix, another depth or other names leave a model that trains from scratch
and says so in a warning at most (mmdetection#4304, mmselfsup#74).
"""

from collections.abc import Sequence

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop
from torch import Tensor, nn

from mmmedmask.engine.checkpoint.reading import (
    MatchReport,
    get_state_dict,
    match_state_dicts,
    normalize_prefix,
    read_checkpoint,
    select_prefix,
    strip_wrappers,
    suggest_prefix,
)
from mmmedmask.registry import HOOKS


@HOOKS.register_module()
class LoadCheckHook(Hook):
    """Compare a model's pre-trained modules with their checkpoint by value.

    Before the weights are initialised the checkpoint is read safely
    (``weights_only=True``) and its names and shapes are compared; before the
    first iteration the values are. Both say what does not fit and end the
    run. A resumed run is not compared, its weights have moved on. With
    ``load_from`` and no resume, the modules are compared with that file.

    Args:
        modules: Dotted names of the modules that must come from a
            checkpoint. Several modules may share one checkpoint, as backbone
            and RoI head of a C4 detector do.
        checkpoint: The checkpoint. ``None`` takes what each module's own
            ``init_cfg`` of type ``Pretrained`` says, so that a child config
            changes the path in one place.
        prefix: Prefix of the modules' tensors in ``checkpoint``; only
            together with it.
        allow_scratch: Let modules without a checkpoint through, with a line
            in the log. For baselines that start from nothing.
        allowed_missing: Shell patterns of names that the checkpoint may
            lack. The default is BatchNorm's counter, which files from before
            PyTorch 0.4.1 do not have and which changes no output.
        allowed_unused: Shell patterns of names under the prefix that no
            module has to use, e.g. ``'fc.*'``. All others must be used: the
            weights of a ResNet-34 contain all names of a ResNet-18.
        min_match: Share of the expected tensors that must match, in (0, 1].
            Below 1, unused tensors are reported but do not end the run.

    Raises:
        ValueError: If an argument is invalid, in training if the model has no
            such module, or if less than ``min_match`` arrived.
    """

    priority = 'VERY_HIGH'

    def __init__(self,
                 modules: str | Sequence[str] = 'backbone',
                 checkpoint: str | None = None,
                 prefix: str | None = None,
                 allow_scratch: bool = False,
                 allowed_missing: Sequence[str] = ('*num_batches_tracked', ),
                 allowed_unused: Sequence[str] = (),
                 min_match: float = 1.0) -> None:
        modules = (modules, ) if isinstance(modules, str) else tuple(modules)
        if not modules or not all(modules):
            raise ValueError(
                f"modules must name at least one module, e.g. 'backbone', "
                f'got {modules!r}')
        if prefix is not None and checkpoint is None:
            raise ValueError(
                f'prefix {prefix!r} needs a checkpoint; without one both are '
                "taken from the modules' init_cfg")
        for name, patterns in (('allowed_missing', allowed_missing),
                               ('allowed_unused', allowed_unused)):
            if isinstance(patterns, str):
                raise ValueError(f'{name} must be a list of patterns, got the '
                                 f'string {patterns!r}')
        if not 0 < min_match <= 1:
            raise ValueError(f'min_match must be in (0, 1], got {min_match}')
        self.modules = modules
        self.checkpoint = checkpoint
        self.prefix = prefix
        self.allow_scratch = allow_scratch
        self.allowed_missing = tuple(allowed_missing)
        self.allowed_unused = tuple(allowed_unused)
        self.min_match = min_match

    def before_run(self, runner) -> None:
        """Read the checkpoints and compare names and shapes.

        MMEngine has not loaded them yet, so a file that would need full
        unpickling is refused before anything in it can run.
        """
        training = isinstance(runner._train_loop, BaseLoop)
        if training and not runner._resume:
            self._check(runner, compare_values=False)

    def before_train(self, runner) -> None:
        """Compare the values that are in the model now."""
        if runner._resume and runner.iter > 0:
            runner.logger.info(
                'Load check skipped: the run was resumed at iteration '
                f'{runner.iter}, its weights are not those of the '
                'pre-trained checkpoint any more.')
            return
        self._check(runner, compare_values=True)

    def _check(self, runner, compare_values: bool) -> None:
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        # A resume that found nothing to resume starts like a fresh run.
        load_from = None if runner._resume else runner._load_from
        groups: dict[tuple[str, str], dict[str, nn.Module]] = {}
        for name in self.modules:
            module = _get_module(model, name)
            source = (load_from, f'{name}.') if load_from \
                else self._source(module)
            if source is None:
                self._scratch(runner, name, compare_values)
            else:
                groups.setdefault(source, {})[name] = module
        for (checkpoint, prefix), modules in groups.items():
            expected = {}
            for module in modules.values():
                expected.update({
                    strip_wrappers(key): value
                    for key, value in module.state_dict().items()
                })
            tensors = _read_tensors(checkpoint)
            report = match_state_dicts(
                expected,
                select_prefix(tensors, prefix),
                compare_values=compare_values,
                allowed_missing=self.allowed_missing,
                allowed_unused=self.allowed_unused)
            title = (f'{", ".join(modules)} against {checkpoint!r} under '
                     f'{prefix!r}')
            self._judge(runner, title, report, tensors, expected,
                        compare_values)

    def _source(self, module: nn.Module) -> tuple[str, str] | None:
        if self.checkpoint is not None:
            return self.checkpoint, normalize_prefix(self.prefix)
        init_cfg = getattr(module, 'init_cfg', None) or []
        for entry in [init_cfg] if isinstance(init_cfg, dict) else init_cfg:
            if entry['type'] == 'Pretrained':
                return entry['checkpoint'], normalize_prefix(
                    entry.get('prefix'))
        return None

    def _scratch(self, runner, name: str, log: bool) -> None:
        if not self.allow_scratch:
            raise ValueError(
                f'load check: {name} has no checkpoint (its init_cfg is not '
                "of type 'Pretrained'), it would be trained from scratch. "
                'Set allow_scratch=True in LoadCheckHook if it is meant to')
        if log:
            runner.logger.info(
                f'Load check: {name} is trained from scratch, as allowed.')

    def _judge(self, runner, title: str, report: MatchReport, tensors: dict,
               expected: dict, compare_values: bool) -> None:
        matched = f'{len(report.matched)} of {report.expected}'
        compared = 'tensors are equal' if compare_values \
            else 'names and shapes fit'
        summary = (f'Load check of {title}: {matched} {compared} '
                   f'({100 * report.ratio:.1f} %)')
        details = report.describe()
        whole = self.min_match == 1 and bool(report.unused)
        if report.ratio < self.min_match or whole:
            raise ValueError(
                f'{summary}, {100 * self.min_match:g} % are needed.\n'
                f'{details}\n{self._advice(report, tensors, expected)}')
        if compare_values:
            runner.logger.info(summary + '.' + (f'\n{details}' if details else
                                                ''))

    def _advice(self, report: MatchReport, tensors: dict,
                expected: dict) -> str:
        prefix, explained = suggest_prefix(expected, tensors)
        if explained > len(report.matched) + len(report.shapes) + len(
                report.differing):
            return (f'{explained} of the names are in the checkpoint under '
                    f'the prefix {prefix!r}: set it in init_cfg.')
        if report.differing:
            return ('The file fits, but something has overwritten the '
                    'weights after they were loaded.')
        if report.unused and not report.missing and not report.shapes:
            return ('Everything arrived, but the checkpoint holds more: is it '
                    'of a deeper network? Name what may be left over in '
                    'allowed_unused.')
        return ('The checkpoint is of another architecture, or named as in '
                'another library (tools/model_converters/export_backbone.py '
                'renames).')


def _read_tensors(checkpoint: str) -> dict[str, Tensor]:
    """Read a checkpoint; one process downloads it for all."""
    waits = '://' in checkpoint and not is_main_process()
    if waits:
        barrier()
    tensors = get_state_dict(read_checkpoint(checkpoint))
    if '://' in checkpoint and not waits:
        barrier()
    return tensors


def _get_module(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        children = [child for child, _ in model.named_children()]
        raise ValueError(
            f'load check: {type(model).__name__} has no module {name!r}, its '
            f'parts are {children}') from error
