"""Find a picture of a slide, and where its patches lie on it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mmmedmask.datasets.slides.slide_features import SlideFeatures
from mmmedmask.datasets.slides.slide_readers import PictureReader, open_slide
from mmmedmask.datasets.slides.tiling import known_mpp, read_overview
from mmmedmask.functional.patch_grid import grid_step
from mmmedmask.util.extras import late_module

h5py = late_module('h5py', 'slides')

_BESIDE = ('thumbnails', 'mosaics')


@dataclass(frozen=True)
class SlidePicture:
    """A slide as a picture (RGB, uint8), or the place where it would be.

    In pixels of its finest level: ``size`` (width, height), ``side`` of a
    patch, and ``origin`` (x, y) of what was scanned, where QuPath begins.
    """

    thumbnail: np.ndarray | None
    size: tuple[int, int]
    side: int
    source: str
    origin: tuple[int, int] = (0, 0)


def find_picture(features: SlideFeatures, slide: Path | None = None,
                 thumbnail: Path | None = None, patch_size: int | None = None,
                 max_side: int = 1500,
                 slide_mpp: float | None = None) -> SlidePicture:
    """Find a picture of the slide that features are of.

    Args:
        features: The features, with coordinates.
        slide: The slide, read if it is given.
        thumbnail: A picture of the whole slide. Without both, one in
            ``thumbnails`` or ``mosaics`` beside the folder of the features
            is taken, and else none.
        patch_size: Side of a patch in pixels of the finest level; None takes
            the file's, else
            :func:`~mmmedmask.functional.patch_grid.grid_step`.
        max_side: Longest side of what is read from a slide.
        slide_mpp: Micrometres per pixel, which must not contradict the slide.
    """
    coords = features.coords
    if coords is None:
        raise ValueError(f'{features.path} has no coordinates, so nothing '
                         'tells where its patches are')
    if features.coord_unit != 'level0':
        raise ValueError(f'{features.path} has coordinates in micrometres: '
                         'give the µm per pixel of the slide, slide_mpp')
    coords = coords.numpy()
    side = patch_size or features.patch_size or _distance(coords)
    if side is None:
        raise ValueError(f'{features.path} does not tell how large a patch '
                         'is: give its patch_size')
    if slide is not None:
        with open_slide(slide) as reader:
            known_mpp(reader, slide_mpp)
            size, origin = reader.size, reader.origin
            picture = read_overview(reader, max(1.0, max(size) / max_side))
        source = str(slide)
    else:
        size, origin = _stored_size(features.path)
        path = thumbnail or _beside(features.path)
        picture = None if path is None or size is None else _read(path)
        if thumbnail is not None and size is None:
            raise ValueError(f'{features.path} does not tell how large the '
                             f'slide is, so {thumbnail} cannot be laid below '
                             'its patches: give the slide itself')
        source = 'an empty canvas' if picture is None else str(path)
    if size is None:
        size = tuple(int(value) for value in coords.max(
            axis=0, initial=0) + side)
    if (coords + side / 2 > np.array(size)).any():
        raise ValueError(f'{features.path} has patches up to '
                         f'{coords.max(axis=0)}, outside of the slide of '
                         f'{size[0]} x {size[1]} pixels ({source}): are they '
                         'of one slide, and coordinates of its finest level?')
    return SlidePicture(picture, size, int(side), source, origin)


def _distance(coords: np.ndarray) -> int | None:
    """Distance of neighbours, None if no two are in one row or column."""
    if not len(coords):
        return 1  # No patch has any.
    coords = np.unique(coords, axis=0)
    if all(len(np.unique(coords[:, axis])) == len(coords)
           for axis in range(2)):
        return None
    return round(grid_step(torch.as_tensor(coords)))


def _stored_size(path: Path) -> tuple[tuple[int, int] | None, tuple[int, int]]:
    """Size as we and TRIDENT write it, and the origin as we do."""
    if not h5py.is_hdf5(path):
        return None, (0, 0)
    with h5py.File(path, 'r') as file:
        attributes = file['coords'].attrs
        size = [attributes.get(f'level0_{name}')
                for name in ('width', 'height')]
        origin = tuple(int(attributes.get(f'level0_bounds_{axis}', 0))
                       for axis in 'xy')
    return None if None in size else tuple(map(int, size)), origin


def _beside(path: Path) -> Path | None:
    places = (place / folder / f'{path.stem}.png' for folder in _BESIDE
              for place in (path.parent.parent, path.parent))
    return next(filter(Path.is_file, places), None)


def _read(path: Path) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f'The picture {path} does not exist')
    with PictureReader(path) as picture:
        return picture.read(0, 0, 0, *picture.size)
