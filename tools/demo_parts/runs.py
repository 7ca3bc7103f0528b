"""What the parts of the demo share: folders, training runs, results."""

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from demo_parts.stage import Stage, Step
from mmmedmask import apis
from mmmedmask.config_files import runner_keys
from mmmedmask.datasets.image_io import write_image
from mmmedmask.shrinking.shrink import drop_late_schedules
from mmmedmask.util.nested import dotted, walk_nested
from mmmedmask.visualization.html_report import Section

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
# Where the configs of the demo have their files.
DEFAULT_OUT = 'demo_output/'


@dataclass
class PartResult:
    """What a part of the demo hands to the report.

    ``overview`` is a uint8 RGB picture that shows the part at a glance,
    ``commands`` do the same by hand.
    """

    sections: list[Section]
    overview: np.ndarray
    commands: list[str]


class ProgressHook(Hook):
    """Tell a step how far a training run is."""

    def __init__(self, step: Step) -> None:
        self.step = step

    def after_train_iter(self, runner, batch_idx: int, data_batch=None,
                         outputs=None) -> None:
        self.step.update(runner.iter + 1, runner.max_iters,
                         f'loss {outputs["loss"].item():.3f}')


class Part:
    """A part of the demo: its folders, its runs, the commands for them."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage = stage
        self.folder = stage.out / name
        self.commands: list[str] = []

    def data(self, name: str) -> Path:
        return self.stage.out / 'data' / name

    def train(self, step: Step, run: str, config: str, comment: str,
              options: Mapping[str, Any] | None = None,
              hooks: Sequence[Hook] = ()) -> Runner:
        """Train a config as tools/train.py does."""
        work_dir = self.folder / run
        loaded = apis.load_config(CONFIGS / config, dict(options or {}))
        relocate(loaded, self.stage.out)
        if self.stage.smoke:
            shorten(loaded)
        apis.set_work_dir(loaded, str(work_dir))
        # MMEngine gives runs of one process that share a name one visualizer,
        # which would write all logs into the folder of the first.
        loaded.visualizer.name = str(work_dir)
        runner = apis.build_runner(loaded)
        for hook in (*hooks, ProgressHook(step)):
            runner.register_hook(hook)
        runner.train()
        self.add_command(comment, 'train', config, '--work-dir', work_dir)
        return runner

    def add_command(self, comment: str, tool: str, config: str,
                    *arguments: object) -> None:
        """Add a command that reads a config, and what this demo has written.

        ``tool`` is below tools/, without its ending.
        """
        moved = relocate(apis.load_config(CONFIGS / config), self.stage.out)
        lines = [shlex.join(['python', f'tools/{tool}.py', f'configs/{config}',
                             *map(str, arguments)])]
        if moved:
            lines += ['--cfg-options', *(shlex.quote(f'{key}={value}')
                                         for key, value in moved.items())]
        self.commands += [f'# {comment}', ' \\\n    '.join(lines)]

    def test_command(self, config: str, runner: Runner) -> None:
        """Add the command that tests a run's last checkpoint."""
        self.add_command('test', 'test', config,
                         last_checkpoint(Path(runner.work_dir)))

    def save_pictures(self, sections: Sequence[Section], *names: str) -> int:
        """Write the figures of the report as PNG files."""
        folder = self.stage.out / 'pictures'
        figures = [figure for section in sections
                   for figure in section.figures]
        for name, figure in zip(names, figures, strict=True):
            write_image(folder / f'{name}.png', figure.picture)
        return len(figures)


def last_checkpoint(work_dir: Path) -> Path:
    """The checkpoint that a run has written last."""
    return work_dir / Path(
        (work_dir / 'last_checkpoint').read_text('utf-8')).name


def relocate(config: Config, out: Path) -> dict[str, str]:
    """Let a config read what this demo has written.

    Returns the changes, as ``--cfg-options`` take them.
    """
    moved = {}
    for place, value in walk_nested(config.to_dict()):
        if not isinstance(value, str) or not value.startswith(DEFAULT_OUT) \
                or place[0] not in runner_keys():
            continue
        path = out / value.removeprefix(DEFAULT_OUT)
        if path.suffix == '.pth' \
                and (path.parent / 'last_checkpoint').is_file():
            path = last_checkpoint(path.parent)
        if path != Path(value):
            moved[dotted(place)] = str(path)
    config.merge_from_dict(moved)
    return moved


def shorten(config: Config) -> None:
    """Take every step of a run at the smallest size that works."""
    unit = 'max_iters' if 'max_iters' in config.train_cfg else 'max_epochs'
    config.train_cfg[unit] = 2
    if 'val_interval' in config.train_cfg:
        config.train_cfg.val_interval = 2
    drop_late_schedules(config, 2)
    loader = config.train_dataloader
    loader.batch_size = min(loader.batch_size, 4)
    hooks = config.default_hooks
    hooks.checkpoint.interval = 2
    hooks.logger.interval = 1
    for name, option in (('attention_mask', 'begin'),
                         ('precise_bn', 'num_batches')):
        if name in hooks:
            hooks[name][option] = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one core: for tiny models, a second one costs time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def bfloat16_is_faster() -> bool:
    """Measure whether this CPU convolves faster in bfloat16.

    CPUs with AMX are several times faster, older ones emulate it slowly.
    """
    images = torch.randn(16, 64, 32, 32)
    weights = torch.randn(64, 64, 3, 3)
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        image, weight = images.to(dtype), weights.to(dtype)
        F.conv2d(image, weight, padding=1)
        start = time.perf_counter()
        for _ in range(10):
            F.conv2d(image, weight, padding=1)
        seconds[dtype] = time.perf_counter() - start
    return seconds[torch.bfloat16] < 0.8 * seconds[torch.float32]


def find_in_log(runner: Runner, text: str) -> str:
    """Find the last line of a run's log that holds a text."""
    folder = Path(runner.log_dir)
    lines = [line for file in sorted(folder.glob('*.log'))
             for line in file.read_text('utf-8').splitlines() if text in line]
    if not lines:
        raise RuntimeError(f'no log in {folder} says {text!r}')
    return lines[-1][lines[-1].index(text):]
