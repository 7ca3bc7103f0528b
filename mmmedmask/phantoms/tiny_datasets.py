"""Write tiny data sets to disk, laid out as our data sets expect them."""

from pathlib import Path

import cv2

from mmmedmask.datasets.coco_instances import CocoInstanceWriter
from mmmedmask.datasets.nct_crc import NCT_CLASSES
from mmmedmask.phantoms.glands import draw_gland_image


def write_gland_dataset(image_folder: str | Path,
                        ann_file: str | Path,
                        num_images: int = 4,
                        size: tuple[int, int] = (96, 128),
                        category: str = 'gland',
                        seed: int = 0) -> None:
    """Write images with instances, and their COCO annotations.

    Args:
        image_folder: Where the PNG images go; the annotations name them
            relative to it.
        ann_file: The json file to write.
        num_images: Number of images.
        size: Height and width in pixels.
        category: Name of the only category.
        seed: Seed of the first image, the next has the next one.
    """
    image_folder = Path(image_folder)
    image_folder.mkdir(parents=True, exist_ok=True)
    writer = CocoInstanceWriter(category)
    for number in range(num_images):
        image, labels = draw_gland_image(size, seed + number)
        name = f'{Path(ann_file).stem}_{number}.png'
        cv2.imwrite(str(image_folder / name), image[..., ::-1])
        writer.add(name, labels)
    writer.write(ann_file)


def write_tile_folder(folder: str | Path,
                      num_tiles: int = 4,
                      size: tuple[int, int] = (112, 112),
                      seed: int = 0) -> None:
    """Write unlabelled RGB tiles.

    Args:
        folder: Where the PNG files go.
        num_tiles: Number of tiles.
        size: Height and width in pixels.
        seed: Seed of the first image, the next has the next one.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(num_tiles):
        image, _ = draw_gland_image(size, seed + number)
        cv2.imwrite(str(folder / f'{number}.png'), image[..., ::-1])


def write_nct_dataset(folder: str | Path,
                      tiles_per_class: int = 1,
                      size: tuple[int, int] = (112, 112)) -> None:
    """Write NCT-CRC's folders and all of ConCL's lists, for a few tiles.

    All classes show glands. Lists have CRLF line ends and none after the
    last line, as ConCL's.

    Args:
        folder: The data root.
        tiles_per_class: Tiles per class and split.
        size: Height and width in pixels.
    """
    folder = Path(folder)
    (folder / 'meta').mkdir(parents=True, exist_ok=True)
    number = 0
    for split in ('train', 'val'):
        names, labelled = [], []
        for label, class_name in enumerate(NCT_CLASSES):
            (folder / 'data' / class_name).mkdir(parents=True, exist_ok=True)
            for _ in range(tiles_per_class):
                name = f'{class_name}/{class_name}-{number:08d}.tif'
                image, _ = draw_gland_image(size, number)
                cv2.imwrite(
                    str(folder / 'data' / name), image[..., ::-1])
                names.append(name)
                labelled.append(f'{name} {label}')
                number += 1
        for kind, lines in (('', names), ('_labeled', labelled)):
            (folder / 'meta' / f'{split}{kind}.txt').write_bytes(
                '\r\n'.join(lines).encode())
