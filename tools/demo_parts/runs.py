"""What the parts of the demo share: training runs, and their results."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from demo_parts.stage import Step
from mmmedmask import apis
from mmmedmask.visualization.html_report import Section

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@dataclass
class PartResult:
    """What a part of the demo hands to the report.

    Attributes:
        sections: Sections of the report.
        overview: uint8 RGB picture that shows the part at a glance.
        commands: Shell commands that do the same by hand.
    """

    sections: list[Section]
    overview: np.ndarray
    commands: list[str] = field(default_factory=list)


class ProgressHook(Hook):
    """Tell a step how far a training run is.

    Args:
        step: The step.
    """

    def __init__(self, step: Step) -> None:
        self.step = step

    def after_train_iter(self,
                         runner,
                         batch_idx: int,
                         data_batch=None,
                         outputs=None) -> None:
        """Show the iteration and the loss."""
        self.step.update(runner.iter + 1, runner.max_iters,
                         f'loss {outputs["loss"].item():.3f}')


def build_run(config: str, work_dir: Path,
              options: Mapping[str, Any]) -> Runner:
    """Make the runner of a config, as tools/train.py does.

    Args:
        config: Path below configs/.
        work_dir: Folder of the run.
        options: Dotted keys and values that override the config's.

    Returns:
        The runner.
    """
    loaded = apis.load_config(CONFIGS / config, options)
    apis.set_work_dir(loaded, str(work_dir))
    # MMEngine gives runs of one process that share a name one visualizer,
    # which would write all logs into the folder of the first.
    loaded.visualizer.name = str(work_dir)
    return apis.build_runner(loaded)


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

    Returns:
        True if it is at least a fifth faster.
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


def name_dataset_roots(splits: Sequence[str], root: Path) -> dict[str, str]:
    """Options that tell a config where its data sets are.

    Args:
        splits: Some of ``'train'``, ``'val'`` and ``'test'``.
        root: Root folder of all of them.

    Returns:
        Dotted keys and values.
    """
    return {
        f'{split}_dataloader.dataset.data_root': str(root)
        for split in splits
    }


def save_pictures(folder: Path, sections: Sequence[Section],
                  names: Sequence[str]) -> int:
    """Write the figures of the report as PNG files.

    Args:
        folder: Where they go.
        sections: The sections.
        names: One per figure, in order.

    Returns:
        Number of files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = [figure for section in sections for figure in section.figures]
    for name, figure in zip(names, figures, strict=True):
        Image.fromarray(figure.picture).save(folder / f'{name}.png')
    return len(figures)


def find_in_log(runner: Runner, text: str) -> str:
    """Find the last line of a run's log that holds a text.

    Args:
        runner: The runner.
        text: What the line holds.

    Returns:
        The line from the text on.

    Raises:
        RuntimeError: If there is no such line.
    """
    folder = Path(runner.log_dir)
    lines = [
        line for file in sorted(folder.glob('*.log'))
        for line in file.read_text('utf-8').splitlines() if text in line
    ]
    if not lines:
        raise RuntimeError(f'no log in {folder} says {text!r}')
    return lines[-1][lines[-1].index(text):]
