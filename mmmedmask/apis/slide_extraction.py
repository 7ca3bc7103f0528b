"""Extract the features of whole slides, many slides in parallel.

Worker processes read, this process encodes and writes. A run can be stopped
at any time: what is complete stays, and the next run does the rest.
"""

import contextlib
import hashlib
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import TextIO

from mmengine.logging import print_log
from PIL import Image
from torch.utils.data import DataLoader

from mmmedmask.apis.encoder_weights import (
    encode_tiles,
    encoder_settings,
    unnoted_settings,
)
from mmmedmask.compat.orphaned_workers import end_with_parent
from mmmedmask.datasets.slides.feature_files import SlideFeatureError
from mmmedmask.datasets.slides.feature_writer import (
    FeatureWriter,
    differing_settings,
)
from mmmedmask.datasets.slides.slide_list import SlideTask
from mmmedmask.datasets.slides.tile_stream import (
    SlideEvent,
    SlidePlan,
    SlideTiles,
    TilingOptions,
)
from mmmedmask.models.layers.tile_encoders import TileEncoder
from mmmedmask.util.atomic_files import atomic_path, csv_text
from mmmedmask.util.checks import check_integer
from mmmedmask.util.extras import late_module
from mmmedmask.visualization.kept_tiles import draw_kept_tiles

h5py = late_module('h5py', 'slides')

# What of each end of a slide is read to know it again.
_END_BYTES = 2**20
DONE, PRESENT, EMPTY, FAILED = 'done', 'was there', 'empty', 'failed'
SMALL = 'too small'


@dataclass
class SlideResult:
    """What became of a slide; a line of the manifest.

    Its status is ``'done'``, ``'was there'`` (complete before this run),
    ``'empty'`` (no tile has enough tissue), ``'too small'`` (no tile fits) or
    ``'failed'``. Width, height and ``slide_mpp`` (micrometres per pixel) are
    those of the finest level, ``tile_mpp`` that of a tile; ``num_tiles`` is
    None if it failed; it took seconds from its plan to its end.

    Example:
        >>> result = SlideResult('a', 'failed', error='it has no resolution')
        >>> result.num_tiles is None
        True
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


def feature_file(folder: Path, slide_id: str) -> Path:
    """Name the file of a slide's features in a folder of extraction.

    Example:
        >>> str(feature_file(Path('out'), 'a'))
        'out/h5_files/a.h5'
    """
    return folder / 'h5_files' / f'{slide_id}.h5'


def extract_slides(tasks: Sequence[SlideTask], folder: Path,
                   encoder: TileEncoder, tiling: TilingOptions,
                   batch_size: int = 64, workers: int = 0,
                   precision: str = 'float32', overwrite: bool = False,
                   report: Callable[[SlideResult, int, int], None]
                   | None = None) -> list[SlideResult]:
    """Extract features into ``h5_files/<slide>.h5``.

    Beside them ``thumbnails/<slide>.png``, ``tiles/<slide>.png`` with the
    tiles that were kept, and ``manifests/<time>.csv``.

    Args:
        workers: Processes that read slides, each one at a time; 0 reads in
            this process.
        precision: See :func:`mmmedmask.apis.encoder_weights.encode_tiles`.
        overwrite: Whether slides that were done with other settings, or
            that were replaced since, are done again; else they fail.
        report: Is called after each slide with its result, the number of
            slides that are finished and the number of all.

    Returns:
        What became of each slide, in the order of ``tasks``.

    Example:
        >>> from mmmedmask.apis.encoder_weights import build_tile_encoder
        >>> from mmmedmask.datasets.slides.slide_list import list_slides
        >>> from mmmedmask.phantoms.whole_slides import draw_slide, write_slide
        >>> tissue = draw_slide((256, 256), [(0, 0, 256, 256)])
        >>> _ = write_slide('slides/a.tif', tissue, mpp=2.0)
        >>> tasks, _ = list_slides([Path('slides')])
        >>> encoder = build_tile_encoder('resnet18-block3', random_seed=0)
        >>> tiling = TilingOptions(tile_size=64, mpp=2.0)
        >>> extract_slides(tasks, Path('out'), encoder, tiling)[0].num_tiles
        16
    """
    check_integer('workers', workers, 0)
    run = ExtractionRun(tasks, folder, encoder, tiling, precision, overwrite,
                        report)
    loader = DataLoader(
        SlideTiles(run.todo, tiling, batch_size), batch_size=None,
        num_workers=min(workers, len(run.todo)), collate_fn=_as_it_is,
        worker_init_fn=end_with_parent)
    try:
        for event in loader:
            run.handle(event)
    except RuntimeError as error:
        # DataLoader says so when one of its workers was killed.
        if 'DataLoader worker' not in str(error):
            raise
        for number, task in enumerate(run.todo):
            if task.slide_id not in run.results:
                run.fail(number, 'a process that reads slides died, perhaps '
                         f'for want of memory ({error})')
    finally:
        run.close()
    return [run.results[task.slide_id] for task in tasks]


def _as_it_is(event: SlideEvent) -> SlideEvent:
    return event


def _digest_slide(path: Path) -> str:
    """Tell a slide from another one in its place, by its size and ends."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open('rb') as stream:
        for start in (0, max(0, size - _END_BYTES)):
            stream.seek(start)
            digest.update(stream.read(_END_BYTES))
    return digest.hexdigest()[:16]


def _open_manifest(folder: Path) -> TextIO:
    """Make a csv that no other run has, named by the time."""
    folder.mkdir(parents=True, exist_ok=True)
    name = time.strftime('%Y%m%d-%H%M%S')
    for number in itertools.count():
        # Jobs that begin in the same second must not share one.
        with contextlib.suppress(FileExistsError):
            return (folder / f'{name}-{number}.csv').open(
                'x', newline='', encoding='utf-8')


class ExtractionRun:
    """The state of :func:`extract_slides`: open files, results, the manifest.

    Example:
        >>> run = ExtractionRun([SlideTask('a', None)], Path('out'), None,
        ...                     TilingOptions(), 'float32', False, None)
        >>> run.results['a'].error
        'the csv lists it, and there is no file of this name'
        >>> run.close()
    """

    def __init__(self, tasks, folder, encoder, tiling, precision, overwrite,
                 report) -> None:
        self.folder, self.encoder, self.tiling = folder, encoder, tiling
        self.precision, self.report = precision, report
        self.total = len(tasks)
        self.results: dict[str, SlideResult] = {}
        self.todo: list[SlideTask] = []
        self._open: dict[int, tuple[FeatureWriter, SlidePlan, float]] = {}
        self._manifest = _open_manifest(folder / 'manifests')
        self._write_line([field.name for field in fields(SlideResult)])
        for task in tasks:
            self._look_at(task, overwrite)

    def _settings(self, task: SlideTask) -> dict:
        tiling = asdict(self.tiling)
        # A slide that tells another resolution fails without, and has no file.
        del tiling['trust_slide_mpp']
        return dict(
            encoder_settings(self.encoder, self.precision),
            given_slide_mpp=task.mpp, slide=_digest_slide(task.path),
            **tiling)

    def _target(self, task: SlideTask) -> Path:
        return feature_file(self.folder, task.slide_id)

    def _look_at(self, task: SlideTask, overwrite: bool) -> None:
        """Decide whether a slide has to be done."""
        if task.path is None:
            self._finish(task, FAILED, error='the csv lists it, and there is '
                         'no file of this name')
            return
        path = self._target(task)
        try:
            differing = differing_settings(
                path, self._settings(task), unnoted_settings(self.encoder))
        except (OSError, SlideFeatureError) as error:
            self._finish(task, FAILED, error=str(error))
            return
        if differing is None or differing and overwrite:
            self.todo.append(task)
        elif differing:
            self._finish(
                task, FAILED, error=f'{path} was made with other settings '
                f'({differing}): choose another folder, or --overwrite')
        else:
            with h5py.File(path, 'r') as file:
                self._finish(task, PRESENT, num_tiles=len(file['features']))

    def handle(self, event: SlideEvent) -> None:
        """Take what a worker reports of a slide, unless it has failed."""
        task = self.todo[event.number]
        if task.slide_id in self.results:
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
                self.fail(event.number, event.error)
        # A full disk, bad features: the other slides may do better.
        except (OSError, RuntimeError, SlideFeatureError) as error:
            self.fail(event.number, str(error))

    def _begin(self, number: int, task: SlideTask, plan: SlidePlan) -> None:
        geometry = plan.geometry
        writer = FeatureWriter(
            self._target(task), plan.coords, self.encoder.dims,
            self.encoder.name, self._settings(task),
            dict(patch_size=geometry.tile_size,
                 patch_size_level0=geometry.side, overlap=self.tiling.overlap,
                 mpp=geometry.mpp, level0_mpp=geometry.slide_mpp,
                 level0_width=plan.size[0], level0_height=plan.size[1],
                 level0_bounds_x=plan.origin[0],
                 level0_bounds_y=plan.origin[1], level=geometry.level,
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
            with atomic_path(path) as temporary:
                Image.fromarray(picture).save(temporary)

    def _complete(self, number: int, task: SlideTask) -> None:
        writer, plan, begin = self._open[number]
        writer.finish()
        del self._open[number]
        (width, height), side = plan.size, plan.geometry.side
        status, error = DONE if len(plan.coords) else EMPTY, ''
        if min(plan.size) < side:
            status, error = SMALL, (
                f'a tile is {side} x {side} pixels of the finest level, the '
                f'slide {width} x {height}')
        self._finish(
            task, status, num_tiles=len(plan.coords), width=width,
            height=height, slide_mpp=round(plan.geometry.slide_mpp, 6),
            tile_mpp=round(plan.geometry.mpp, 6), level=plan.geometry.level,
            seconds=round(time.monotonic() - begin, 2), error=error)

    def fail(self, number: int, error: str) -> None:
        """Give a slide up."""
        if number in self._open:
            self._open.pop(number)[0].discard()
        self._finish(self.todo[number], FAILED, error=error)

    def _finish(self, task: SlideTask, status: str, **known) -> None:
        result = SlideResult(task.slide_id, status,
                             path=str(task.path or ''), **known)
        self.results[task.slide_id] = result
        self._write_line(
            ['' if value is None else value for value in astuple(result)])
        if self.report is not None:
            self.report(result, len(self.results), self.total)

    def _write_line(self, values: list) -> None:
        """Write a line of the manifest at once.

        On a full disk the line waits until there is room again.
        """
        self._manifest.write(csv_text([values]))
        with contextlib.suppress(OSError):
            self._manifest.flush()

    def close(self) -> None:
        """Leave no part of a file behind."""
        for writer, _, _ in self._open.values():
            writer.discard()
        self._open.clear()
        try:
            self._manifest.close()
        except OSError as error:
            print_log(f'{self._manifest.name} lacks its last lines: {error}',
                      'current', 40)
