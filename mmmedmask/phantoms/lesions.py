"""Lesion phantoms: drawn scans whose class is one small lesion somewhere.

What decides the class is about one patch large, lies at a random place and is
known exactly; all else is drawn from the same distribution for all classes.
Tissue fills the image, so that looking at tissue alone finds no lesion.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from mmmedmask.datasets.image_io import write_image
from mmmedmask.phantoms.gland_shapes import smooth_noise
from mmmedmask.util.atomic_files import write_csv, write_text
from mmmedmask.util.checks import check_choice, check_integer

LESION_CLASSES = ('bright', 'dark', 'striped')
NORMAL_CLASS = 'normal'
SPLIT_FOLDER = 'splits/paper'

_BRIGHT = np.float32([0.97, 0.92, 0.62])
_DARK = np.float32([0.20, 0.07, 0.10])
_TISSUE = np.float32([0.74, 0.46, 0.37])
_VESSEL = np.float32([0.52, 0.20, 0.20])
_CYST = np.float32([0.60, 0.50, 0.56])
_LUMINANCE = np.float32([0.299, 0.587, 0.114])


def draw_lesion_image(lesion: str = 'bright', size: int | tuple[int, int] = 64,
                      seed: int | Sequence[int] = 0, gray: bool = False,
                      lesion_size: int = 8,
                      align: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scan with one lesion, or with none.

    The same arguments give the same image. With the same seed, images of
    different classes differ where the lesion is, and nowhere else.

    Args:
        lesion: One of ``LESION_CLASSES``, or ``'normal'`` for no lesion.
            Striped ones are made of both colours of the others.
        size: (h, w), or one number for a square; at least 32.
        seed: One or several numbers, at least 0.
        lesion_size: Diameter in pixels, from 4 to half of the shorter side.
        align: The lesion fills a square of ``lesion_size`` whose corner is a
            multiple of this number: of a model's patch size, it lies in one.

    Returns:
        The image, uint8 (H, W, 3) in RGB, or (H, W) if ``gray``; and the
        lesion's mask, bool (H, W).
    """
    shape = (size, size) if isinstance(size, int) else tuple(size)
    _check(lesion, shape, lesion_size, align)
    rng = np.random.default_rng(seed)
    image = _draw_tissue(shape, rng)
    corner = [int(rng.integers(0, (side - lesion_size) // align + 1)) * align
              for side in shape]
    covered = _draw_outline(shape, corner, lesion_size, rng)
    texture = _draw_texture(lesion, shape, lesion_size, rng)
    grain = rng.normal(0, 0.012, (*shape, 1)).astype(np.float32)
    if lesion == NORMAL_CLASS:
        covered[:] = 0
    image = image * (1 - covered[..., None]) + texture * covered[..., None]
    image = image + grain
    if gray:
        image = image @ _LUMINANCE
    return (np.clip(image * 255, 0, 255).round().astype(np.uint8),
            covered > 0.5)


def _check(lesion: str, shape: tuple[int, ...], lesion_size: int,
           align: int) -> None:
    check_choice('lesion', lesion, (*LESION_CLASSES, NORMAL_CLASS))
    if len(shape) != 2 or min(shape) < 32:
        raise ValueError(f'size must be at least 32 by 32 pixels, got {shape}')
    check_integer('lesion_size', lesion_size, 4, min(shape) // 2)
    check_integer('align', align)


def _draw_tissue(shape: tuple[int, int],
                 rng: np.random.Generator) -> np.ndarray:
    """Tissue with shading, vessels and cysts; float32 (H, W, 3), 0 to 1."""
    side = min(shape)
    tint = 1 + rng.uniform(-0.12, 0.12, 3)
    tissue = _TISSUE * tint.astype(np.float32) * rng.uniform(0.8, 1.1)
    shading = (0.11 * smooth_noise(shape, side / 2.5, rng)
               + 0.05 * smooth_noise(shape, side / 10, rng))
    image = tissue * (1 + shading[..., None])
    layer = np.zeros(shape, np.uint8)
    for _ in range(rng.integers(3, 7)):
        _draw_vessel(layer, rng)
    strength = rng.uniform(0.5, 0.9)
    image = _blend(image, _VESSEL * tint.astype(np.float32), layer, strength)
    layer = np.zeros(shape, np.uint8)
    for _ in range(rng.integers(0, 4)):
        centre = [int(rng.integers(0, length)) for length in shape[::-1]]
        radius = int(rng.uniform(0.05, 0.12) * side)
        cv2.circle(layer, centre, radius, 255, -1, cv2.LINE_AA)
    layer = cv2.GaussianBlur(layer, (0, 0), side / 64)
    return _blend(image, _CYST, layer, rng.uniform(0.4, 0.8))


def _draw_vessel(layer: np.ndarray, rng: np.random.Generator) -> None:
    """Draw a curve that crosses the image, thicker at one end."""
    height, width = layer.shape
    steps = 24
    angle = rng.uniform(0, 2 * np.pi)
    turns = rng.uniform(-1, 1) + 0.6 * np.cumsum(rng.normal(0, 0.4, steps))
    stride = 1.6 * max(height, width) / steps
    start = rng.uniform(0.1, 0.9, 2) * (width, height) - 12 * stride * (
        np.array([np.cos(angle), np.sin(angle)]))
    headings = angle + turns / 3
    moves = stride * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    points = np.concatenate([[start], start + np.cumsum(moves, axis=0)])
    # Fixed-point coordinates with 4 binary places.
    points = np.round(points * 16).astype(np.int32)
    thickest = rng.uniform(1, 3) * min(height, width) / 64
    for index, (start, end) in enumerate(
            zip(points[:-1], points[1:], strict=True)):
        thickness = max(1, round(thickest * (1 - 0.6 * index / steps)))
        cv2.line(layer, start.tolist(), end.tolist(), 255, thickness,
                 cv2.LINE_AA, 4)


def _blend(image: np.ndarray, color: np.ndarray, layer: np.ndarray,
           strength: float) -> np.ndarray:
    """Mix a colour in where a uint8 layer (H, W) is set."""
    share = np.float32(strength / 255) * layer[..., None]
    return image * (1 - share) + color * share


def _draw_outline(shape: tuple[int, int], corner: Sequence[int],
                  lesion_size: int, rng: np.random.Generator) -> np.ndarray:
    """Share of each pixel that the lesion covers; float32 (H, W)."""
    fine = 8  # Drawn in a finer raster, then averaged.
    length = lesion_size * fine
    layer = np.zeros((length, length), np.float32)
    half = length / 2
    axes = (round(half * rng.uniform(0.94, 1)),
            round(half * rng.uniform(0.8, 0.94)))
    cv2.ellipse(layer, (round(half), round(half)), axes,
                rng.uniform(0, 180), 0, 360, 1.0, -1)
    covered = np.zeros(shape, np.float32)
    top, left = corner
    covered[top:top + lesion_size, left:left + lesion_size] = cv2.resize(
        layer, (lesion_size, lesion_size), interpolation=cv2.INTER_AREA)
    return covered


def _draw_texture(lesion: str, shape: tuple[int, int], lesion_size: int,
                  rng: np.random.Generator) -> np.ndarray:
    """What a lesion looks like, everywhere; float32 (H, W, 3)."""
    # Drawn for all classes, so that the class does not change the rest.
    contrast = np.float32(rng.uniform(0.8, 1))
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:shape[0], :shape[1]].astype(np.float32)
    along = rows * np.sin(angle) + columns * np.cos(angle)
    stripes = 0.5 + 0.5 * np.sin(along * 2 * np.pi * 2.5 / lesion_size + phase)
    share = {'bright': 1.0, 'dark': 0.0}.get(lesion, stripes)
    share = np.broadcast_to(np.float32(share), shape)[..., None]
    texture = _BRIGHT * share + _DARK * (1 - share)
    return contrast * texture + (1 - contrast) * _TISSUE


def draw_lesions_on(picture: np.ndarray, lesions: Sequence[str],
                    seed: int | Sequence[int] = 0,
                    lesion_size: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Draw lesions into a picture, at random places apart from each other.

    ``picture`` is uint8 RGB (H, W, 3), ``lesions`` names one of
    ``LESION_CLASSES`` for each; the diameter is from 4 pixels to half of the
    shorter side. Returns the picture and the mask, bool of shape (H, W). A
    ValueError if there is no room.
    """
    shape = picture.shape[:2]
    for lesion in lesions:
        check_choice('lesions', lesion, LESION_CLASSES)
        _check(lesion, shape, lesion_size, 1)
    rng = np.random.default_rng(seed)
    image = picture.astype(np.float32) / 255
    total = np.zeros(shape, np.float32)
    for number, lesion in enumerate(lesions):
        corner = _find_room(total > 0, lesion_size, rng)
        if corner is None:
            raise ValueError(
                f'{len(lesions)} lesions of {lesion_size} pixels do not fit '
                f'into a picture of {shape}: there is room for {number}')
        covered = _draw_outline(shape, corner, lesion_size, rng)
        texture = _draw_texture(lesion, shape, lesion_size, rng)
        image += covered[..., None] * (texture - image)
        total += covered
    return (np.clip(image * 255, 0, 255).round().astype(np.uint8), total > 0.5)


def _find_room(taken: np.ndarray, lesion_size: int,
               rng: np.random.Generator) -> list[int] | None:
    """Find the corner of a free square with free surroundings."""
    for _ in range(1000):
        top, left = (int(rng.integers(0, side - lesion_size + 1))
                     for side in taken.shape)
        around = taken[max(top - lesion_size, 0):top + 2 * lesion_size,
                       max(left - lesion_size, 0):left + 2 * lesion_size]
        if not around.any():
            return [top, left]
    return None


def write_lesion_dataset(root: str | Path, num_train: int, num_val: int,
                         size: int | tuple[int, int] = 64, seed: int = 0,
                         normal: bool = False, gray: bool = False,
                         lesion_size: int = 8, align: int = 1,
                         classes: Sequence[str] | None = None,
                         store: Callable[[np.ndarray], np.ndarray] = np.array,
                         suffix: str = '.png') -> Path:
    """Write phantoms in the layout of labelled images.

    The layout::

        root/
            classes.txt                     one class per line
            images/{train,val}_0000.png ...
            masks/{train,val}_0000.png ...  the lesion, 0 and 255
            splits/paper/{train,val}.csv    path, label, group, mask

    Classes take turns, and normal images have no mask. Image i of the
    training set has the seed ``(seed, 0, i)``, of the validation set
    ``(seed, 1, i)``: a larger set begins with the smaller one.

    Args:
        normal: Whether images without a lesion are the first class.
        classes: Names instead of those of the lesions, any number: the
            last one's turn is first, so that few images have the largest
            label, and what a class looks like repeats after three.
        store: Turns a drawn image into what its file holds.
        suffix: Ending of the images, which says their format.
    """
    root = Path(root)
    check_integer('num_train', num_train)
    check_integer('num_val', num_val)
    drawn_as = (NORMAL_CLASS, *LESION_CLASSES) if normal else LESION_CLASSES
    turns = drawn_as if classes is None else (*classes[-1:], *classes[:-1])
    # All are drawn before the first is written, since arguments may be bad.
    drawn = {split: [
                 draw_lesion_image(drawn_as[index % len(drawn_as)], size,
                                   (seed, position, index), gray, lesion_size,
                                   align) for index in range(number)]
             for position, (split, number) in enumerate(
                 (('train', num_train), ('val', num_val)))}
    write_text(root / 'classes.txt',
               ''.join(f'{name}\n' for name in classes or drawn_as))
    for split, images in drawn.items():
        rows = []
        for index, (image, mask) in enumerate(images):
            name = f'{split}_{index:04d}'
            mask_path = f'masks/{name}.png' if mask.any() else ''
            write_image(root / f'images/{name}{suffix}', store(image))
            if mask_path:
                write_image(root / mask_path, np.uint8(255) * mask)
            rows.append((f'images/{name}{suffix}', turns[index % len(turns)],
                         name, mask_path))
        write_csv(root / SPLIT_FOLDER / f'{split}.csv',
                  ('path', 'label', 'group', 'mask'), rows)
    return root
