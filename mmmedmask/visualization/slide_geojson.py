"""Patches of a slide as GeoJSON that QuPath (0.4 and later) opens.

Each is a detection whose measurements "Measure > Show measurement maps" shows.
Format: QuPath's QuPathTypeAdapters. QuPath counts from what was scanned
(``openslide.bounds`` of MIRAX and Leica).
"""

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

from mmmedmask.util.checks import check_shape
from mmmedmask.visualization.slide_heatmap import PatchPlaces


def patch_features(places: PatchPlaces, measurements: Mapping[str, np.ndarray],
                   classes: Sequence[str] = (),
                   labels: np.ndarray | None = None) -> dict:
    """Describe patches as a GeoJSON feature collection.

    Args:
        places: Where the patches are; their corners become polygons in
            pixels of the finest level, counted from ``places.origin``.
        measurements: Values of the patches by name, (N,) each, finite.
        labels: Class of each patch, (N,).
    """
    number = len(places.coords)
    for name, values in measurements.items():
        check_shape(f'values of {name}', values, (number, ),
                    'one for each patch')
        if not np.isfinite(values).all():
            raise ValueError(f'{name} has values that are NaN or infinite')
    if labels is not None:
        check_shape('labels', labels, (number, ), 'one for each patch')
    kinds = [dict(name=name, color=[
        round(255 * part)
        for part in matplotlib.colormaps['tab10'](place % 10)[:3]])
        for place, name in enumerate(classes)]
    features = []
    corners = places.coords - np.array(places.origin)
    for row, (x, y) in enumerate(corners.tolist()):
        right, bottom = _plain(x + places.side), _plain(y + places.side)
        corners_of_patch = [
            [x, y], [right, y], [right, bottom], [x, bottom], [x, y]]
        properties: dict = dict(
            objectType='detection', name=f'patch {row}',
            measurements={name: float(values[row])
                          for name, values in measurements.items()})
        if labels is not None:
            properties['classification'] = kinds[int(labels[row])]
        features.append(dict(
            type='Feature', properties=properties, geometry=dict(
                type='Polygon', coordinates=[corners_of_patch])))
    return dict(type='FeatureCollection', features=features)


def _plain(value: float) -> float | int:
    """Whole numbers without a point."""
    return int(value) if math.isclose(value, round(value)) else value
