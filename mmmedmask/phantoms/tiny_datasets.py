"""Write tiny sets of unlabelled and of NCT-CRC's tiles to disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmmedmask.datasets.image_io import write_image
from mmmedmask.datasets.nct_crc import NCT_CLASSES
from mmmedmask.phantoms.glands import draw_gland_image


def write_tile_folder(folder: str | Path, num_tiles: int = 4,
                      size: tuple[int, int] = (112, 112), seed: int = 0,
                      store: Callable[[np.ndarray], np.ndarray] = np.array,
                      suffix: str = '.png') -> None:
    """Write tiles of (h, w); the next has the next seed.

    ``store`` turns a drawn RGB image into what its file holds, whose
    ``suffix`` says the format.
    """
    for number in range(num_tiles):
        write_image(Path(folder) / f'{number}{suffix}',
                    store(draw_gland_image(size, seed + number)[0]))


def write_nct_dataset(folder: str | Path,
                      tiles_per_class: int = 1,
                      size: tuple[int, int] = (112, 112),
                      store: Callable[[np.ndarray], np.ndarray] = np.array
                      ) -> None:
    """Write NCT-CRC's folders and ConCL's lists (CRLF) for a few tiles."""
    folder = Path(folder)
    (folder / 'meta').mkdir(parents=True, exist_ok=True)
    number = 0
    for split in ('train', 'val'):
        names, labelled = [], []
        for label, class_name in enumerate(NCT_CLASSES):
            for _ in range(tiles_per_class):
                name = f'{class_name}/{class_name}-{number:08d}.tif'
                write_image(folder / 'data' / name,
                            store(draw_gland_image(size, number)[0]))
                names.append(name)
                labelled.append(f'{name} {label}')
                number += 1
        for kind, lines in (('', names), ('_labeled', labelled)):
            (folder / 'meta' / f'{split}{kind}.txt').write_bytes(
                '\r\n'.join(lines).encode())
