"""Draw whole slides with tissue at known places, and write them as TIFF."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmmedmask.util.checks import check_choice

GLASS = (244, 243, 246)
TISSUE = (196, 96, 160)
SLIDE_LAYOUTS = ('pyramid', 'ome', 'strips', 'planes')
"""What :func:`write_slide` can write: levels as pages, which OpenSlide
reads; OME-TIFF with levels in sub-directories; one level in strips; one
level with a plane per colour."""


def draw_slide(size: tuple[int, int],
               tissue: Sequence[tuple[int, int, int, int]],
               seed: int = 0) -> np.ndarray:
    """Draw glass and (left, top, right, bottom) of tissue: uint8 (H, W, 3)."""
    random = np.random.default_rng(seed)
    width, height = size
    pixels = np.empty((height, width, 3), np.int16)
    pixels[:] = GLASS
    for left, top, right, bottom in tissue:
        pixels[top:bottom, left:right] = TISSUE
    # One value for all colours: glass must not get colourful by noise.
    pixels += random.integers(-8, 9, (height, width, 1), dtype=np.int16)
    return pixels.clip(0, 255).astype(np.uint8)


def halve(pixels: np.ndarray) -> np.ndarray:
    """Average blocks of 2 x 2 pixels of (H, W, 3), both even, and round."""
    height, width, channels = pixels.shape
    blocks = pixels.reshape(height // 2, 2, width // 2, 2, channels)
    return np.round(blocks.mean(axis=(1, 3))).astype(np.uint8)


def write_slide(path: str | Path, pixels: np.ndarray, mpp: float | None = 0.5,
                levels: int = 3, layout: str = 'pyramid') -> Path:
    """Write a slide as TIFF, in one of ``SLIDE_LAYOUTS``.

    The sides of the finest level (``pixels``, RGB, uint8) can be halved
    ``levels - 1`` times; ``'strips'`` and ``'planes'`` have one level. The
    file tells ``mpp`` micrometres per pixel, None for none.
    """
    import tifffile
    check_choice('layout', layout, SLIDE_LAYOUTS)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict = dict(photometric='rgb')
    if mpp is not None and layout != 'ome':
        options.update(resolution=(1e4 / mpp, 1e4 / mpp),
                       resolutionunit='CENTIMETER')
    if layout == 'strips':
        tifffile.imwrite(path, pixels, rowsperstrip=48, **options)
        return path
    if layout == 'planes':
        tifffile.imwrite(path, np.moveaxis(pixels, 2, 0), tile=(64, 64),
                         planarconfig='separate', **options)
        return path
    options.update(tile=(64, 64), compression='deflate')
    is_ome = layout == 'ome'
    metadata = {'axes': 'YXS'} if is_ome else None
    if is_ome and mpp is not None:
        metadata.update(PhysicalSizeX=mpp, PhysicalSizeXUnit='µm',
                        PhysicalSizeY=mpp, PhysicalSizeYUnit='µm')
    with tifffile.TiffWriter(path, ome=is_ome) as file:
        file.write(pixels, subifds=levels - 1 if is_ome else None,
                   metadata=metadata, **options)
        for _ in range(levels - 1):
            pixels = halve(pixels)
            if not is_ome and mpp is not None:
                mpp *= 2
                options['resolution'] = (1e4 / mpp, 1e4 / mpp)
            file.write(pixels, subfiletype=1, metadata=None, **options)
    return path
