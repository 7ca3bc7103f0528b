"""Pictures of predictions, on whatever files our loaders read."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

from mmmedmask.registry import HOOKS
from mmmedmask.util.checks import check_integer
from mmmedmask.visualization.pictures import picture_of


@HOOKS.register_module()
class PredictionPicturesHook(Hook):
    """Let the visualizer draw detections, segmentations and classes.

    It takes the place of mmdet's ``DetVisualizationHook`` and of mmseg's
    ``SegVisualizationHook``, with their arguments. Those read the files with
    OpenCV, which shows some TIFF as black, and knows no DICOM. That of
    mmpretrain shows more than 8 bits modulo 256, and images that are called
    alike replace each other.

    Several processes of a test each draw their images, whose names begin with
    the process then. Visualizers of OpenMMLab draw in the first alone; the
    log says so.

    Args:
        draw: Whether to draw at all.
        interval: Of a validation, so many iterations are one picture; of a
            test all images are drawn.
        score_thr: Least score of what is drawn; None is the visualizer's.
        show: Whether to open a window for each picture.
        wait_time: Seconds that it stays; 0 until a key is pressed.
        test_out_dir: Folder for the pictures of a test, below that of the run
            if it is relative. They are called as the images, with ``.png``
            behind what OpenCV cannot write. None hands them to the
            visualizer's backends.
        options: More arguments of the visualizer's method, such as
            ``dict(rescale_factor=4.)`` of classifiers.
    """

    def __init__(self, draw: bool = False, interval: int = 50,
                 score_thr: float | None = None, show: bool = False,
                 wait_time: float = 0,
                 test_out_dir: str | None = None,
                 options: Mapping[str, Any] | None = None) -> None:
        self.draw = draw
        self.interval = check_integer('interval', interval)
        self.options = dict(options or {}, show=show, wait_time=wait_time)
        if score_thr is not None:
            self.options['pred_score_thr'] = score_thr
        self.test_out_dir = test_out_dir
        self._drawn = 0
        self._names: set[str] = set()

    def before_test(self, runner: Runner) -> None:
        """Say if images of other processes will not be drawn."""
        ranks, visualizer = get_world_size(), runner.visualizer
        # What MMEngine lets the main process do alone is wrapped.
        if self.draw and ranks > 1 and hasattr(
                _drawing_of(visualizer), '__wrapped__'):
            runner.logger.warning(
                f'{type(visualizer).__name__} draws in the main process '
                f'alone: of {ranks} processes, the images of {ranks - 1} are '
                'not drawn. A test in one process draws all.')

    def after_val_iter(self, runner: Runner, batch_idx: int,
                       data_batch: Mapping[str, Any],
                       outputs: Sequence[Any]) -> None:
        """Draw the first of a batch, every ``interval`` iterations."""
        step = runner.iter + batch_idx
        if self.draw and step % self.interval == 0:
            self._draw(runner, 'val_img', data_batch, outputs, 0, step)

    def after_test_iter(self, runner: Runner, batch_idx: int,
                        data_batch: Mapping[str, Any],
                        outputs: Sequence[Any]) -> None:
        """Draw all of a batch."""
        for place, sample in enumerate(outputs if self.draw else ()):
            self._drawn += 1
            self._draw(runner, 'test_img', data_batch, outputs, place,
                       self._drawn,
                       self.test_out_dir and self._file(runner, sample))

    def _file(self, runner: Runner, sample: Any) -> str:
        """Name a file that no other image of the test has."""
        folder = Path(runner.work_dir, runner.timestamp, self.test_out_dir)
        folder.mkdir(parents=True, exist_ok=True)
        name = Path(sample.get('img_path') or str(self._drawn)).name
        if not cv2.haveImageWriter(name):
            name = f'{name}.png'
        if name in self._names:
            name = f'{self._drawn}_{name}'
        self._names.add(name)
        if get_world_size() > 1:
            name = f'rank{get_rank()}_{name}'
        return str(folder / name)

    def _draw(self, runner: Runner, name: str, data_batch: Mapping[str, Any],
              outputs: Sequence[Any], place: int, step: int,
              file: str | None = None) -> None:
        sample = outputs[place]
        path = sample.get('img_path')
        # Data sets such as mmpretrain's CIFAR have no file per image.
        image = Path(path) if path else \
            data_batch['inputs'][place].permute(1, 2, 0).cpu().numpy()
        _drawing_of(runner.visualizer)(
            name=name, image=picture_of(image), data_sample=sample,
            step=step, out_file=file, **self.options)


def _drawing_of(visualizer: Visualizer) -> Callable:
    """Choose the method for samples, which mmpretrain's calls by the task."""
    return getattr(visualizer, 'visualize_cls', visualizer.add_datasample)
