"""Write drawn slide features and expression tables as the usual tools do.

Each writer follows one tool's layout on disk; the content is random.
"""

from pathlib import Path

import h5py
import numpy as np
import torch

FEATURE_LAYOUTS = ('clam-pt', 'clam-h5', 'trident-h5', 'stamp-h5', 'npy',
                   'dump-h5')
"""What :func:`write_features` can write."""


def draw_bag(num_patches: int,
             dims: int,
             seed: int = 0,
             patch_size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Draw the features and the coordinates of a slide.

    Args:
        num_patches: Number of patches N.
        dims: Size of a feature D.
        seed: Seed.
        patch_size: Side of a patch in pixels; the patches fill a grid about
            as wide as high, row by row.

    Returns:
        float32 (N, D) and int64 (N, 2), upper left corners (x, y).
    """
    random = np.random.default_rng(seed)
    features = random.standard_normal((num_patches, dims), np.float32)
    columns = max(1, round(num_patches**0.5))
    number = np.arange(num_patches)
    coords = np.stack([number % columns, number // columns], axis=1)
    return features, coords * patch_size


def write_features(path: str | Path,
                   layout: str,
                   features: np.ndarray,
                   coords: np.ndarray | None = None,
                   encoder: str = 'drawn',
                   patch_size: int = 256,
                   mpp: float = 0.5) -> Path:
    """Write features in one of ``FEATURE_LAYOUTS``.

    Args:
        path: The file; the name is free.
        layout: ``'clam-pt'`` and ``'npy'`` hold no coordinates;
            ``'dump-h5'`` has the shape (1, N, D) as dumps on the web have;
            ``'stamp-h5'`` holds micrometres.
        features: Shape (N, D).
        coords: Shape (N, 2) in pixels, or None for none.
        encoder: Name of the encoder, for the layouts that tell it.
        patch_size: Side of a patch in pixels.
        mpp: Micrometres per pixel, for STAMP.

    Returns:
        The path.

    Raises:
        ValueError: If the layout is not known.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if layout == 'clam-pt':
        torch.save(torch.from_numpy(features), path)
    elif layout == 'npy':
        with path.open('wb') as stream:
            np.save(stream, features)
    elif layout in ('clam-h5', 'trident-h5', 'stamp-h5', 'dump-h5'):
        with h5py.File(path, 'w') as file:
            _write_h5(file, layout, features, coords, encoder, patch_size,
                      mpp)
    else:
        raise ValueError(
            f'layout must be one of {FEATURE_LAYOUTS}, got {layout!r}')
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
        file.attrs.update(
            stamp_version='2.4.0',
            extractor=encoder,
            unit='um',
            tile_size_um=patch_size * mpp,
            tile_size_px=224,
            feat_type='tile')
        return
    data = file.create_dataset('features', data=features, **options)
    if coords is not None:
        kind = np.int32 if layout == 'clam-h5' else np.int64
        grid = file.create_dataset('coords', data=coords.astype(kind))
        if layout == 'trident-h5':
            grid.attrs.update(
                patch_size=patch_size,
                patch_size_level0=patch_size,
                target_magnification=20,
                level0_magnification=20,
                overlap=0,
                name=Path(file.filename).stem)
    if layout == 'trident-h5':
        data.attrs.update(encoder=encoder, name=Path(file.filename).stem)
