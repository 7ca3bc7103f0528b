"""Write slide features as the usual tools lay them out, and draw genes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mmmedmask.util.checks import check_choice
from mmmedmask.util.extras import late_module

h5py = late_module('h5py', 'slides')

FEATURE_LAYOUTS = ('clam-pt', 'clam-h5', 'trident-h5', 'stamp-h5', 'npy',
                   'dump-h5')
"""What :func:`write_features` can write."""


def write_features(path: str | Path, layout: str, features: np.ndarray,
                   coords: np.ndarray | None = None, encoder: str = 'drawn',
                   patch_size: int = 256, mpp: float = 0.5) -> Path:
    """Write features (N, D), and coords (N, 2) in pixels.

    ``'clam-pt'`` and ``'npy'`` hold no coordinates, ``'dump-h5'`` has the
    shape (1, N, D) as dumps on the web have, ``'stamp-h5'`` holds micrometres,
    of ``mpp`` per pixel. ``encoder`` is for the layouts that tell its name, as
    is the patches' side in pixels.
    """
    check_choice('layout', layout, FEATURE_LAYOUTS)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if layout == 'clam-pt':
        torch.save(torch.from_numpy(features), path)
    elif layout == 'npy':
        with path.open('wb') as stream:
            np.save(stream, features)
    else:
        with h5py.File(path, 'w') as file:
            _write_h5(file, layout, features, coords, encoder, patch_size, mpp)
    return path


def _write_h5(file: h5py.File, layout: str, features: np.ndarray,
              coords: np.ndarray | None, encoder: str, patch_size: int,
              mpp: float) -> None:
    chunk_rows = {'clam-h5': 32, 'trident-h5': 1}.get(layout)
    # As h5py wants it: a chunk has rows, even where the data set has none.
    options = {} if chunk_rows is None else dict(
        chunks=(chunk_rows, features.shape[1]),
        maxshape=(None, features.shape[1]))
    if layout == 'dump-h5':
        file['features'] = features[None]
        if coords is not None:
            file['coords'] = coords[None]
        return
    if layout == 'stamp-h5':
        file['feats'] = features
        if coords is not None:
            file['coords'] = (coords * mpp).astype(np.float32)
        file.attrs.update(stamp_version='2.4.0', extractor=encoder, unit='um',
                          tile_size_um=patch_size * mpp, tile_size_px=224,
                          feat_type='tile')
        return
    data = file.create_dataset('features', data=features, **options)
    if coords is not None:
        kind = np.int32 if layout == 'clam-h5' else np.int64
        grid = file.create_dataset('coords', data=coords.astype(kind))
        if layout == 'trident-h5':
            grid.attrs.update(patch_size=patch_size,
                              patch_size_level0=patch_size,
                              target_magnification=20, level0_magnification=20,
                              overlap=0, name=Path(file.filename).stem)
    if layout == 'trident-h5':
        data.attrs.update(encoder=encoder, name=Path(file.filename).stem)


def draw_genes(num_genes: int, seed: int = 0) -> list[str]:
    """Draw Ensembl ids without version, all different, sorted."""
    random = np.random.default_rng(seed)
    numbers = random.choice(10**6, num_genes, replace=False)
    return [f'ENSG{number:011d}' for number in sorted(numbers)]
