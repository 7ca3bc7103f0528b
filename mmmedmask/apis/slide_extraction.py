"""Extract the features of whole slides, many slides in parallel.

Worker processes read, this process encodes and writes. A run can be stopped
at any time: what is complete stays, and the next run does the rest.
"""

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import h5py
from PIL import Image
from torch.utils.data import DataLoader

from mmmedmask.apis.encoder_weights import encode_tiles
from mmmedmask.datasets.slides.feature_files import SlideFeatureError
from mmmedmask.datasets.slides.feature_writer import (
    FeatureWriter,
    differing_settings,
    stored_settings,
)
from mmmedmask.datasets.slides.slide_list import SlideTask
from mmmedmask.datasets.slides.tile_stream import (
    SlideEvent,
    SlidePlan,
    SlideTiles,
    TilingOptions,
)
from mmmedmask.models.layers.tile_encoders import TileEncoder
from mmmedmask.visualization.kept_tiles import draw_kept_tiles

DONE, PRESENT, EMPTY, FAILED = 'done', 'was there', 'empty', 'failed'


@dataclass
class SlideResult:
    """What became of a slide; a line of the manifest.

    Attributes:
        slide_id: Name of the slide.
        status: ``'done'``, ``'was there'`` (complete before this run),
            ``'empty'`` (no tile has enough tissue) or ``'failed'``.
        num_tiles: Number of tiles, None if it failed.
        width: Width of the finest level in pixels.
        height: Height of the finest level in pixels.
        slide_mpp: Micrometres per pixel of the finest level.
        tile_mpp: Micrometres per pixel of a tile.
        level: The level that tiles were read from.
        seconds: Time from its plan to its end.
        path: The slide.
        error: Why it failed.
    """

    slide_id: str
    status: str
    num_tiles: int | None = None
    width: int | None = None
    height: int | None = None
    slide_mpp: float | None = None
    tile_mpp: float | None = None
    level: int | None = None
    seconds: float | None = None
    path: str = ''
    error: str = ''


class Manifest:
    """A csv with a line per slide, written while the run goes on.

    Args:
        folder: Its folder; the name is the time of the run.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = time.strftime('%Y%m%d-%H%M%S')
        number = 0
        while (path := folder / f'{name}-{number}.csv').exists():
            number += 1
        self.path = path
        self._file = path.open('x', newline='', encoding='utf-8')
        self._writer = csv.writer(self._file, lineterminator='\n')
        self._writer.writerow([field.name for field in fields(SlideResult)])
        self._file.flush()

    def add(self, result: SlideResult) -> None:
        """Write a line at once."""
        self._writer.writerow(
            ['' if value is None else value for value in astuple(result)])
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def extract_slides(tasks: Sequence[SlideTask],
                   folder: Path,
                   encoder: TileEncoder,
                   tiling: TilingOptions,
                   batch_size: int = 64,
                   workers: int = 0,
                   precision: str = 'float32',
                   overwrite: bool = False,
                   report: Callable[[SlideResult, int, int], None]
                   | None = None) -> list[SlideResult]:
    """Extract features into ``h5_files/<slide>.h5``.

    Beside them ``thumbnails/<slide>.png``, ``tiles/<slide>.png`` with the
    tiles that were kept, and ``manifests/<time>.csv``.

    Args:
        tasks: The slides.
        folder: Where to.
        encoder: The encoder, on its device.
        tiling: Which tiles are kept.
        batch_size: Tiles that are encoded at once.
        workers: Processes that read slides, each one at a time; 0 reads in
            this process.
        precision: See :func:`mmmedmask.apis.encoder_weights.encode_tiles`.
        overwrite: Whether slides that were done with other settings are
            done again; else they fail.
        report: Is called after each slide with its result, the number of
            slides that are finished and the number of all.

    Returns:
        What became of each slide, in the order of ``tasks``.

    Raises:
        ValueError: If ``batch_size`` or ``workers`` is out of range.
    """
    if workers < 0:
        raise ValueError(f'workers must not be negative, got {workers}')
    run = _Run(tasks, folder, encoder, tiling, precision, overwrite, report)
    dataset = SlideTiles(run.todo, tiling, batch_size)
    loader = DataLoader(
        dataset, batch_size=None, num_workers=min(workers, len(run.todo)),
        collate_fn=_as_it_is)
    try:
        for event in loader:
            run.handle(event)
    except RuntimeError as error:
        # DataLoader says so when one of its workers was killed.
        if 'DataLoader worker' not in str(error):
            raise
        run.give_up(f'a process that reads slides died, perhaps for want of '
                    f'memory ({error})')
    finally:
        run.close()
    return [run.results[task.slide_id] for task in tasks]


def _as_it_is(event: SlideEvent) -> SlideEvent:
    return event


class _Run:
    """The state of a run: open files, results, the manifest."""

    def __init__(self, tasks, folder, encoder, tiling, precision, overwrite,
                 report) -> None:
        self.folder = folder
        self.encoder = encoder
        self.tiling = tiling
        self.precision = precision
        self.report = report
        self.total = len(tasks)
        self.results: dict[str, SlideResult] = {}
        self.todo: list[SlideTask] = []
        self._open: dict[int, tuple[FeatureWriter, SlidePlan, float]] = {}
        self._failed: set[int] = set()
        self.manifest = Manifest(folder / 'manifests')
        for task in tasks:
            self._look_at(task, overwrite)

    def _settings(self, task: SlideTask) -> dict:
        return {
            'encoder': self.encoder.name,
            'weights': self.encoder.weights_id,
            'input_size': self.encoder.input_size,
            'precision': self.precision,
            'given_slide_mpp': task.mpp,
            **self.tiling.as_settings(),
        }

    def _target(self, task: SlideTask) -> Path:
        return self.folder / 'h5_files' / f'{task.slide_id}.h5'

    def _look_at(self, task: SlideTask, overwrite: bool) -> None:
        """Decide whether a slide has to be done."""
        if task.path is None:
            self._finish(task, FAILED, error='the csv lists it, and there is '
                         'no file of this name')
            return
        path = self._target(task)
        try:
            stored = stored_settings(path)
        except SlideFeatureError as error:
            self._finish(task, FAILED, error=str(error))
            return
        wanted = self._settings(task)
        differing = '' if stored is None else differing_settings(
            stored, wanted)
        if stored is not None and not differing:
            with h5py.File(path, 'r') as file:
                self._finish(task, PRESENT, num_tiles=len(file['features']))
        elif differing and not overwrite:
            self._finish(
                task, FAILED, error=f'{path} was made with other settings '
                f'({differing}): choose another folder, or --overwrite')
        else:
            self.todo.append(task)

    def handle(self, event: SlideEvent) -> None:
        """Take what a worker has to say."""
        task = self.todo[event.number]
        if event.number in self._failed:
            return
        try:
            if event.kind == 'plan':
                self._begin(event.number, task, event.plan)
            elif event.kind == 'tiles':
                self._open[event.number][0].write(event.start, encode_tiles(
                    self.encoder, event.tiles, self.precision))
            elif event.kind == 'done':
                self._complete(event.number, task)
            else:
                self._fail(event.number, event.error)
        # A full disk, bad features: the other slides may do better.
        except (OSError, SlideFeatureError) as error:
            self._fail(event.number, str(error))

    def _begin(self, number: int, task: SlideTask, plan: SlidePlan) -> None:
        geometry = plan.geometry
        writer = FeatureWriter(
            self._target(task), plan.coords, self.encoder.dims,
            self.encoder.name, self._settings(task),
            dict(patch_size=geometry.tile_size,
                 patch_size_level0=geometry.side,
                 overlap=self.tiling.overlap,
                 mpp=geometry.mpp,
                 level0_mpp=geometry.slide_mpp,
                 level0_width=plan.size[0],
                 level0_height=plan.size[1],
                 level=geometry.level,
                 name=task.slide_id))
        self._open[number] = (writer, plan, time.monotonic())
        # The font of pictures has no Greek letters.
        note = (f'{geometry.tile_size} px at {geometry.mpp:.4g} um per '
                f'pixel, {geometry.side} px of the finest level; '
                f'{100 * plan.tissue.mean():.0f} % of the slide is tissue')
        drawn = draw_kept_tiles(plan.thumbnail, plan.coords, geometry.side,
                                plan.size, plan.tissue, task.slide_id, note)
        for kind, picture in (('thumbnails', plan.thumbnail),
                              ('tiles', drawn)):
            path = self.folder / kind / f'{task.slide_id}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)

    def _complete(self, number: int, task: SlideTask) -> None:
        writer, plan, begin = self._open[number]
        writer.finish()
        del self._open[number]
        self._finish(
            task, DONE if len(plan.coords) else EMPTY,
            num_tiles=len(plan.coords), width=plan.size[0],
            height=plan.size[1], slide_mpp=round(plan.geometry.slide_mpp, 6),
            tile_mpp=round(plan.geometry.mpp, 6), level=plan.geometry.level,
            seconds=round(time.monotonic() - begin, 2))

    def _fail(self, number: int, error: str) -> None:
        if number in self._open:
            self._open.pop(number)[0].discard()
        self._failed.add(number)
        self._finish(self.todo[number], FAILED, error=error)

    def give_up(self, error: str) -> None:
        """Let all slides fail that are not finished."""
        for number, task in enumerate(self.todo):
            if task.slide_id not in self.results:
                self._fail(number, error)

    def _finish(self, task: SlideTask, status: str, **known) -> None:
        result = SlideResult(task.slide_id, status,
                             path=str(task.path or ''), **known)
        self.results[task.slide_id] = result
        self.manifest.add(result)
        if self.report is not None:
            self.report(result, len(self.results), self.total)

    def close(self) -> None:
        """Leave no part of a file behind."""
        for writer, _, _ in self._open.values():
            writer.discard()
        self._open.clear()
        self.manifest.close()
