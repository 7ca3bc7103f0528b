"""Encode folders of tiles as bags: features, a cohort csv, a list of tiles."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmmedmask.apis.encoder_weights import encode_tiles
from mmmedmask.datasets.image_io import ImageFileError, read_image
from mmmedmask.datasets.slides.bags_of_tiles import (
    Tile,
    TileBag,
    draw_mosaic,
    mosaic_coords,
)
from mmmedmask.datasets.slides.feature_writer import (
    FeatureWriter,
    differing_settings,
    stored_settings,
)
from mmmedmask.evaluation.files import write_table
from mmmedmask.models.layers.tile_encoders import TileEncoder


def encode_bags(bags: Sequence[TileBag],
                folder: Path,
                encoder: TileEncoder,
                tile_size: int = 224,
                batch_size: int = 64,
                precision: str = 'float32',
                mosaics: bool = False,
                report: Callable[[str], None] | None = None) -> None:
    """Write ``features/<bag>.h5``, ``tiles.csv`` and ``cohort.csv``.

    Bags whose file is there, made with the same settings, are not encoded
    again. The coordinates are those of the tiles in a mosaic.

    Args:
        bags: The bags, with their splits.
        folder: Where to.
        encoder: The encoder.
        tile_size: Side in pixels that tiles are resized to.
        batch_size: Tiles that are encoded at once.
        precision: See :func:`mmmedmask.apis.encoder_weights.encode_tiles`.
        mosaics: Whether to draw ``mosaics/<bag>.png``.
        report: Is called with a line per bag.

    Raises:
        ValueError: If a size is not positive, or the folder has bags that
            were made with other settings.
        ImageFileError: If a tile cannot be used.
    """
    for name, value in (('tile_size', tile_size), ('batch_size', batch_size)):
        if value < 1:
            raise ValueError(f'{name} must be positive, got {value}')
    for number, bag in enumerate(bags, start=1):
        path = folder / 'features' / f'{bag.name}.h5'
        settings = {
            'encoder': encoder.name,
            'weights': encoder.weights_id,
            'input_size': encoder.input_size,
            'precision': precision,
            'tile_size': tile_size,
            'tiles': [f'{tile.label}/{tile.path.name}' for tile in bag.tiles],
        }
        stored = stored_settings(path)
        differing = '' if stored is None else differing_settings(
            stored, settings)
        if differing:
            raise ValueError(
                f'{path} was made with other settings ({differing}): choose '
                'another folder or delete it')
        picture = folder / 'mosaics' / f'{bag.name}.png'
        wanted = mosaics and not picture.is_file()
        if stored is None or wanted:
            tiles = np.stack([read_tile(tile, tile_size)
                              for tile in bag.tiles])
            if wanted:
                picture.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(draw_mosaic(tiles)).save(picture)
        if stored is None:
            _write_bag(path, tiles, encoder, settings, batch_size, precision)
        if report is not None:
            report(f'{number}/{len(bags)} {bag.name}: {len(bag.tiles)} tiles'
                   f'{", was there" if stored is not None else ""}')
    write_table(
        folder / 'tiles.csv', ('bag', 'row', 'tile', 'group', 'split'),
        [(bag.name, row, f'{tile.label}/{tile.path.name}', tile.group,
          bag.split) for bag in bags for row, tile in enumerate(bag.tiles)])
    write_table(
        folder / 'cohort.csv', ('case_id', 'slide_id', 'label', 'split'),
        [(bag.name, bag.name, bag.label, bag.split) for bag in bags])


def _write_bag(path: Path, tiles: np.ndarray, encoder: TileEncoder,
               settings: dict, batch_size: int, precision: str) -> None:
    side = tiles.shape[1]
    coords = mosaic_coords(len(tiles), side)
    width, height = (int(value) for value in coords.max(axis=0) + side)
    writer = FeatureWriter(
        path, coords, encoder.dims, encoder.name, settings,
        dict(patch_size=side, patch_size_level0=side, overlap=0,
             level0_width=width, level0_height=height, name=path.stem))
    try:
        for start in range(0, len(tiles), batch_size):
            writer.write(start, encode_tiles(
                encoder, tiles[start:start + batch_size], precision))
        writer.finish()
    except BaseException:
        writer.discard()
        raise


def read_tile(tile: Tile, tile_size: int) -> np.ndarray:
    """Read a tile as RGB of a wanted size.

    Args:
        tile: The tile.
        tile_size: Side in pixels.

    Returns:
        uint8, shape (tile_size, tile_size, 3).

    Raises:
        ImageFileError: If it is broken, has not 8 bits, is not square, or
            has other channels than gray or colours.
    """
    image = read_image(tile.path)
    height, width, channels = image.shape
    if image.dtype != np.uint8 or channels not in (1, 3, 4):
        raise ImageFileError(
            f'{tile.path} has {channels} channels of {image.dtype}, expected '
            '8-bit gray or RGB')
    if height != width:
        raise ImageFileError(
            f'{tile.path} measures {height}x{width} pixels: tiles are square')
    image = np.repeat(image, 3, axis=2) if channels == 1 else image[..., :3]
    if height != tile_size:
        smaller = height > tile_size
        image = cv2.resize(
            image, (tile_size, tile_size), interpolation=cv2.INTER_AREA
            if smaller else cv2.INTER_CUBIC)
    return np.ascontiguousarray(image)
