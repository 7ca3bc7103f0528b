"""Give the tiles of many slides, whole slides per worker process."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from mmmedmask.datasets.slides import slide_readers, tiling
from mmmedmask.datasets.slides.slide_list import SlideTask
from mmmedmask.datasets.slides.tissue import TissueOptions, find_tissue
from mmmedmask.util.checks import check_integer, check_range

_THUMBNAIL_SIDE = 1500


@dataclass(frozen=True)
class TilingOptions:
    """Which tiles of a slide are kept.

    Attributes:
        tile_size: Side of a tile in pixels.
        mpp: Micrometres per pixel of a tile.
        overlap: How far neighbours overlap, in pixels of a tile.
        min_tissue: Least share of a tile that has to be tissue, in (0, 1].
        allow_enlarging: Whether tiles may be finer than the slide is.
        trust_slide_mpp: Whether a resolution that the user gives counts
            where a file tells another; else such a slide fails.
    """

    tile_size: int = 256
    mpp: float = 0.5
    overlap: int = 0
    min_tissue: float = 0.5
    allow_enlarging: bool = False
    tissue: TissueOptions = field(default_factory=TissueOptions)
    trust_slide_mpp: bool = False

    def __post_init__(self) -> None:
        check_range('min_tissue', self.min_tissue, 0, 1, open_low=True)


@dataclass(frozen=True)
class SlidePlan:
    """The tiles of a slide.

    Attributes:
        coords: Upper left corners (x, y) in pixels of the finest level,
            int32 of shape (N, 2).
        size: (width, height) of the finest level.
        thumbnail: The slide, RGB, uint8, sides up to 1500 pixels.
        tissue: Tissue on a smaller picture of the slide, bool.
    """

    coords: np.ndarray
    geometry: tiling.TileGeometry
    size: tuple[int, int]
    thumbnail: np.ndarray
    tissue: np.ndarray
    origin: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class SlideEvent:
    """Something that a worker has to say about the slide of a number.

    Its kind is ``'plan'``, which comes first, ``'tiles'``, uint8
    (B, S, S, 3) from the tile ``start`` on, ``'done'`` or ``'failed'``.
    """

    number: int
    kind: str
    plan: SlidePlan | None = None
    start: int = 0
    tiles: np.ndarray | None = None
    error: str = ''


def plan_slide(slide: slide_readers.SlideReader, options: TilingOptions,
               slide_mpp: float | None = None) -> SlidePlan:
    """Choose the tiles of a slide, row by row; see :func:`plan_tiles`."""
    geometry = tiling.plan_tiles(
        slide, options.tile_size, options.mpp, options.overlap, slide_mpp,
        options.allow_enlarging, options.trust_slide_mpp)
    # One picture for both: a slide of one level is read as a whole for it.
    coarse = max(1.0, options.tissue.mpp / geometry.slide_mpp)
    fine = max(1.0, max(slide.size) / _THUMBNAIL_SIDE)
    overview = tiling.read_overview(slide, min(coarse, fine))
    picture, thumbnail = (
        tiling.resize(overview, tiling.small_size(slide.size, downsample))
        for downsample in (coarse, fine))
    tissue = find_tissue(picture, options.tissue, coarse * geometry.slide_mpp)
    coords = tiling.tile_grid(slide.size, geometry)
    shares = tiling.tissue_shares(tissue, coords, geometry.side, slide.size)
    # A share that is met exactly must not fail by rounding.
    kept = shares >= options.min_tissue - 1e-9
    return SlidePlan(coords[kept], geometry, slide.size, thumbnail, tissue,
                     slide.origin)


class SlideTiles(IterableDataset):
    """The tiles of slides as events.

    With W workers, worker w takes the slides w, w + W, ... and goes through
    them one by one; the events of a slide are in order. A slide that fails
    does not stop the others.
    """

    def __init__(self, tasks: Sequence[SlideTask], options: TilingOptions,
                 batch_size: int) -> None:
        self.tasks = list(tasks)
        self.options = options
        self.batch_size = check_integer('batch_size', batch_size)

    def __iter__(self) -> Iterator[SlideEvent]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id,
                                                     worker.num_workers)
        for number in range(first, len(self.tasks), step):
            yield from self._events(number)

    def _events(self, number: int) -> Iterator[SlideEvent]:
        task = self.tasks[number]
        try:
            with slide_readers.open_slide(task.path) as slide:
                plan = plan_slide(slide, self.options, task.mpp)
                yield SlideEvent(number, 'plan', plan=plan)
                for start in range(0, len(plan.coords), self.batch_size):
                    batch = plan.coords[start:start + self.batch_size]
                    tiles = [tiling.read_tile(slide, plan.geometry, int(x),
                                              int(y)) for x, y in batch]
                    yield SlideEvent(number, 'tiles', start=start,
                                     tiles=np.stack(tiles))
        # Whatever is wrong with one slide, the others can be read.
        except Exception as error:
            text = str(error)
            if not isinstance(error, slide_readers.SlideError | OSError):
                text = f'{task.path}: {type(error).__name__}: {text}'
            yield SlideEvent(number, 'failed', error=text)
        else:
            yield SlideEvent(number, 'done')
