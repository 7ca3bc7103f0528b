"""Check a config before a run: all checks of this package in their order."""

import dataclasses
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmedmask.config_files import (
    planned_gpus,
    runner_keys,
    training_length,
)
from mmmedmask.config_variables import unused_names
from mmmedmask.engine.batch_sizes import (
    MEND,
    batch_sizes,
    no_batch,
    unfit_batch,
)
from mmmedmask.inspection import costs, measuring, schedules, trial
from mmmedmask.inspection.agreement import check_agreement
from mmmedmask.inspection.building import Parts, build_parts, collate
from mmmedmask.inspection.findings import (
    Finding,
    describe_error,
    green,
    red,
    yellow,
)
from mmmedmask.inspection.paths import check_paths
from mmmedmask.inspection.unknown_keys import check_types
from mmmedmask.inspection.weights import (
    check_starting_weights,
    compare_weights,
)
from mmmedmask.shrinking.model_sizes import kind_of
from mmmedmask.util.checks import check_positive, check_range
from mmmedmask.util.silence import in_silence


@dataclass(frozen=True)
class CheckOptions:
    """What is checked, and how.

    Attributes:
        checkpoint: A file that has to fit the whole model.
        gpus: Number of GPUs; ``None`` takes that of the config's name.
        steps: Training steps of the trial, before it validates once.
        run_steps: Whether to train, validate and measure at all.
        full_size: Whether the trial takes the true model.
        tflops: What a GPU does, for the time of a run on it.
        time_limit: Seconds for the measurement, and for a full-size trial;
            0 means no limit.
    """

    checkpoint: str | None = None
    gpus: int | None = None
    steps: int = 2
    run_steps: bool = True
    full_size: bool = False
    tflops: float | None = None
    time_limit: float = 120

    def __post_init__(self) -> None:
        for name in ('gpus', 'steps', 'tflops'):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        check_range('time_limit', self.time_limit, 0)


@dataclass
class ConfigReport:
    """Lines, in the order of the checks, and measured numbers by name."""

    findings: list[Finding] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)


def check_static(config: Config) -> list[Finding]:
    """Check types, keys and variables of a config, and build nothing."""
    unused = unused_names(config.filename, runner_keys()) \
        if config.filename and Path(config.filename).is_file() else []
    return check_types(config) + [
        (red if name.key else yellow)(
            'variable', name.reason, name.place, name.mend) for name in unused]


def check_config(config: Config,
                 options: CheckOptions | None = None) -> ConfigReport:
    """Check a config, read from a file, as far as this machine allows."""
    options = options or CheckOptions()
    report = ConfigReport()
    report.findings += check_static(config) or [green(
        'keys', 'all types, keys and variables are known')]
    report.findings += check_paths(config)
    with in_silence():
        parts = build_parts(config)
    report.findings += parts.findings
    report.findings += _check_weights(config, parts, options)
    wrong = list(schedules.check_values(config))
    if wrong:
        # No rate, length or step can be computed from them.
        report.findings += wrong
        return report
    with in_silence():
        report.findings += check_agreement(config, parts)
    samples = costs.number_of_samples(
        config, parts.datasets.get('train_dataloader'))
    planned = planned_gpus(config)
    gpus = options.gpus or (planned[0] if planned else 1)
    if config.get('train_dataloader') and config.get('optim_wrapper'):
        epoch = costs.epoch_length(config, samples, gpus)
        report.findings += schedules.check_batch(config, options.gpus)
        report.findings += schedules.check_schedules(config, epoch or None)
        report.findings += _check_epochs(config, parts)
        if parts.model is not None and samples:
            report.findings += _check_batches(config, parts, gpus, samples)
    with tempfile.TemporaryDirectory() as folder:
        _run(config, parts, options, report, folder, gpus, samples)
    return report


def _check_epochs(config: Config, parts: Parts) -> Iterator[Finding]:
    """Find a warm-up of the model that lasts as long as the training."""
    length = training_length(config)
    if length is None or not hasattr(parts.model, 'check_epochs'):
        return
    try:
        # A loop of iterations counts as one epoch.
        parts.model.check_epochs(length[0] if length[1] else 1)
    except ValueError as error:
        yield red('warm-up', str(error), 'model.warm_up_epochs')


def _check_batches(config: Config, parts: Parts, gpus: int,
                   samples: int) -> Iterator[Finding]:
    """Find a batch that the model cannot train on."""
    loader = config.train_dataloader
    if loader.get('batch_sampler'):
        return
    size = loader.get('batch_size', 1)
    share = costs.share_of_samples(config, samples, gpus)
    if not costs.epoch_length(config, samples, gpus):
        reason, mend = no_batch(samples, share, gpus, size)
        yield red('batch', reason, 'train_dataloader', mend)
    even = loader.get('drop_last') or loader.get('num_batch_per_epoch') \
        or kind_of(loader.get('sampler') or {}) == 'InfiniteSampler'
    dataset = parts.datasets.get('train_dataloader')
    with in_silence():
        problem = unfit_batch(
            parts.model, batch_sizes(share, size, even), gpus,
            lambda: collate(loader, [dataset[0]]))
    if problem:
        yield red('batch', problem, 'train_dataloader', MEND)


def _check_weights(config: Config, parts: Parts,
                   options: CheckOptions) -> list[Finding]:
    if parts.model is None:
        return []
    with in_silence():
        findings = list(check_starting_weights(parts.model, config))
        if options.checkpoint:
            findings.append(compare_weights([parts.model], options.checkpoint,
                                            None, '--checkpoint'))
    return findings


def _run(config: Config, parts: Parts, options: CheckOptions,
         report: ConfigReport, folder: str, gpus: int,
         samples: int | None) -> None:
    if parts.model is None:
        return
    measured = None
    if options.run_steps and config.get('train_cfg'):
        report.findings.append(
            trial.run_full_size(config, Path(folder, 'full'), options.steps,
                          options.time_limit) if options.full_size else
            trial.run_reduced(config, Path(folder, 'reduced'), options.steps,
                        parts.datasets))
        measured = _measure(config, options, report, Path(folder, 'true'))
    fixed = measuring.fixed_memory(parts.model, parts.wrapper)
    report.numbers['memory'] = dataclasses.asdict(fixed)
    if not config.get('train_dataloader'):
        return
    batch = config.train_dataloader.get('batch_size', 1)
    report.findings += costs.report_memory(fixed, measured, batch)
    length = costs.run_length(config, samples, gpus)
    if length is not None:
        report.numbers['length'] = dataclasses.asdict(length)
    if measured is not None:
        report.numbers['step'] = dict(
            samples=measured.samples, seconds=measured.seconds,
            flops=measured.flops, source=measured.source,
            activations=measured.activations.scaling,
            activations_mixed=measured.mixed and measured.mixed.scaling)
        report.findings += costs.report_costs(
            measured, length, gpus, options.tflops)
    report.findings += costs.report_disk(
        config, fixed, costs.free_space(config),
        costs.epoch_length(config, samples, gpus))


def _measure(config: Config, options: CheckOptions, report: ConfigReport,
             folder: Path) -> measuring.StepMeasurement | None:
    """Measure a step of the true model; a failure becomes a finding."""
    status = yellow
    try:
        return measuring.measure_step(config, folder, options.time_limit)
    except trial.OutOfTimeError as error:
        why, mend = str(error), 'raise --time-limit'
    except ValueError as error:
        why, mend = str(error), 'get the data, or see the message'
    except Exception as error:  # any part may raise anything
        why, mend, status = describe_error(error), 'see the message', red
    report.findings.append(status(
        'measurement', 'no step of the true model, so activations and time '
        f'are not known: {why}', 'model', mend))
    return None
