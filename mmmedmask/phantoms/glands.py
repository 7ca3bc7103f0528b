"""Gland phantoms: drawn H&E-like images with exact instance masks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmmedmask.datasets.coco_instances import CocoInstanceWriter
from mmmedmask.datasets.image_io import write_image
from mmmedmask.phantoms.gland_rendering import TissueStyle, render_tissue
from mmmedmask.phantoms.gland_shapes import GlandLayout, draw_label_map
from mmmedmask.util.checks import check_integer, check_range

_MARGIN = 100  # Pixels at 20x drawn around the image, then cut off.


def draw_gland_image(
        size: int | tuple[int, int] = 256, seed: int | Sequence[int] = 0,
        scale: float | None = None,
        malignant: bool | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Draw an image of colon glands and the mask of each gland.

    The same arguments give the same image.

    Args:
        size: (h, w), or one number for a square; at least 64.
        seed: One or several numbers, at least 0.
        scale: Size of glands and cells, in [0.1, 4]: 1 is 20x (0.62 um per
            pixel), as in GlaS. None scales a GlaS field (522 pixels high) to
            the shorter side.
        malignant: Draw crowded, irregular glands (True), regular ones
            (False), or let the seed choose (None).

    Returns:
        The image, uint8 of shape (H, W, 3) in RGB, and the instance map,
        int32 of shape (H, W): 0 background, then 1, 2, ... without gaps.
        Lumens belong to their gland.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 64:
        raise ValueError(f'size must be at least 64 by 64 pixels, got {size}')
    if scale is None:
        scale = min(height, width) / 522
    check_range('scale', scale, 0.1, 4)
    rng = np.random.default_rng(seed)
    # Drawn in any case, so that the choice does not change the rest.
    chosen = bool(rng.random() < 0.5)
    malignant = chosen if malignant is None else malignant
    margin = int(_MARGIN * scale)
    canvas = height + 2 * margin, width + 2 * margin
    view = (slice(margin, margin + height), slice(margin, margin + width))
    labels = np.zeros(canvas, np.int32)
    while not labels[view].any():
        labels = draw_label_map(
            canvas, GlandLayout.draw(malignant, rng), scale, rng)
    image = render_tissue(labels, TissueStyle.draw(malignant, rng), scale, rng)
    # Number the instances that are left 1, 2, ... in the same order.
    labels = labels[view]
    values = np.unique(labels[labels > 0])
    numbers = np.where(labels > 0, np.searchsorted(values, labels) + 1, 0)
    return np.ascontiguousarray(image[view]), numbers.astype(np.int32)


def write_gland_split(
        root: str | Path, ann_file: str | Path, num_images: int,
        size: int | tuple[int, int] = 256, seed: int | Sequence[int] = 0,
        scale: float | None = None) -> None:
    """Write phantoms, their masks, and one COCO file.

    Image i is ``root/images/NAME/i.png`` with four digits, and its mask of
    instance numbers ``root/masks/NAME/i.png``, where NAME is the stem of
    ``ann_file``. Its seed ends with i: more images begin with the fewer.
    """
    name = Path(ann_file).stem
    seeds = (seed, ) if isinstance(seed, int) else tuple(seed)
    writer = CocoInstanceWriter(
        'gland', description=f'Drawn gland phantoms, {name}')
    for index in range(num_images):
        image, labels = draw_gland_image(size, (*seeds, index), scale)
        file_name = f'images/{name}/{index:04d}.png'
        write_image(Path(root, file_name), image)
        write_image(Path(root, 'masks', name, f'{index:04d}.png'),
                    labels.astype(np.uint16))
        writer.add(file_name, labels)
    writer.write(ann_file)


def write_gland_dataset(root: str | Path, num_train: int, num_test: int,
                        size: int | tuple[int, int] = 256, seed: int = 0,
                        scale: float | None = None) -> Path:
    """Write a small data set of phantoms, as the gland configs read it.

    Layout, with the masks for other uses than COCO's::

        root/
            annotations/{train,test}.json
            images/{train,test}/0000.png ...
            masks/{train,test}/0000.png ...      instance numbers

    Image i of the training set has the seed ``(seed, 0, i)``, of the test set
    ``(seed, 1, i)``: a larger set begins with the smaller one. See
    :func:`draw_gland_image` for size and scale.
    """
    root = Path(root)
    check_integer('num_train', num_train)
    check_integer('num_test', num_test)
    for position, (split, number) in enumerate(
            (('train', num_train), ('test', num_test))):
        write_gland_split(root, root / 'annotations' / f'{split}.json',
                          number, size, (seed, position), scale)
    return root


def write_tissue_tiles(root: str | Path, tile_size: int = 128,
                       stride: int = 64) -> list[Path]:
    """Cut the real tissue that scikit-image ships into tiles; their paths.

    It is ``skimage.data.immunohistochemistry``: colon, 512 x 512 pixels,
    brown where the antibody bound, counterstained with haematoxylin.
    Nothing is downloaded.
    """
    # scikit-image is needed for this one image only.
    from skimage.data import immunohistochemistry

    image = immunohistochemistry()
    limit = min(image.shape[:2])
    check_integer('tile_size', tile_size, 1, limit)
    check_integer('stride', stride)
    paths = []
    for top in range(0, image.shape[0] - tile_size + 1, stride):
        for left in range(0, image.shape[1] - tile_size + 1, stride):
            path = Path(root) / f'ihc_{top:03d}_{left:03d}.png'
            write_image(path,
                        image[top:top + tile_size, left:left + tile_size, :3])
            paths.append(path)
    return paths
