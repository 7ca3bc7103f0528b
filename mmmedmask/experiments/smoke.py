"""Do the steps of scale smoke in this process, on drawn data.

Importing the libraries takes longer than the steps, so there is one process
for all of them. What differs from a real run is the size alone: weights are
carried on, checked on arrival and tested as at any other scale.
"""

import contextlib
import gc
import traceback
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from mmmedmask.apis.backbone_export import export_backbone
from mmmedmask.apis.runs import build_runner, prepare_test, set_resume
from mmmedmask.config_files import load_config
from mmmedmask.experiments.commands import Step
from mmmedmask.experiments.plan import SMOKE_ITERATIONS
from mmmedmask.experiments.run import Run
from mmmedmask.experiments.run_files import tail_of
from mmmedmask.experiments.run_job import TAIL_LINES, StepFailedError
from mmmedmask.shrinking.shrink import shrink_config


class SmokeSteps:
    """Does steps with shrunk configs, see :data:`~mmmedmask.experiments.\
run_job.StartStep`.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def __call__(self, run: Run, step: Step, environment: Mapping[str, str],
                 locks: Sequence[int]) -> None:
        """Do a step; what the libraries print goes to a file."""
        # A logger of MMEngine writes there even after its run.
        stream = (run.folder / f'{step.name}.log').open('a', encoding='utf-8')
        try:
            with contextlib.redirect_stdout(stream):
                self._do(run, step)
        except Exception as error:
            traceback.print_exc(file=stream)
            stream.flush()
            raise StepFailedError(
                f'{step.name} ended with {type(error).__name__}: {error}. '
                f'The end of {stream.name}:\n'
                f'{tail_of(Path(stream.name), TAIL_LINES)}') from error

    def _do(self, run: Run, step: Step) -> None:
        if step.kind == 'export':
            export_backbone(run.checkpoint(step.choice),
                            run.exported_file(step.choice))
            return
        config = smoke_config(run, self.data_dir)
        if step.kind == 'train':
            config.work_dir = str(run.folder)
            set_resume(config, 'auto')
            _fresh_runner(config).train()
        else:
            config.work_dir = str(run.test_folder(step.choice))
            prepare_test(config, run.last_name and run.checkpoint(step.choice))
            _fresh_runner(config).test()
        gc.collect()


def smoke_config(run: Run, data_dir: Path) -> Config:
    """Shrink the config of a run, and let it start from its sources."""
    config = shrink_config(
        load_config(run.config_file, run.options), run.folder, data_dir,
        sources={where: source.file()
                 for where, source in run.sources.items()},
        iterations=SMOKE_ITERATIONS)
    config.merge_from_dict({'randomness.seed': run.seed})
    # The load check writes to the log.
    config.log_level = 'INFO'
    return config


def _fresh_runner(config: Config) -> Runner:
    """Make a runner that shares nothing with those before."""
    name = f'{Path(config.work_dir).name}_{uuid.uuid4().hex[:8]}'
    # To format its code would take longer than training.
    plain = Config(config._cfg_dict, filename=config.filename,
                   format_python_code=False)
    plain.experiment_name = name
    if plain.get('visualizer'):
        plain.visualizer['name'] = name
    return build_runner(plain)
