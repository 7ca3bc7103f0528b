"""Where the glands of a phantom are: shapes and layout, no colours.

A gland is the inside of a smooth union of discs along a skeleton, bent by
noise. Lengths are in pixels at 20x (0.62 um), times ``scale``.
"""

from dataclasses import dataclass

import cv2
import numpy as np

SHAPE_KINDS = ('round', 'elongated', 'irregular', 'branching')


@dataclass
class GlandLayout:
    """How the glands of one image are laid out."""

    kinds: tuple[float, ...]  # Probability of each of SHAPE_KINDS.
    radius: float  # Typical radius, pixels at 20x.
    radius_spread: float  # Relative standard deviation of the radius.
    coverage: float  # Part of the area that glands may fill, in (0, 1).
    gap: float  # Typical distance between neighbours, pixels at 20x.
    touching: float  # Probability of touching those that it meets.
    direction: float  # What elongated glands prefer, radians.

    @classmethod
    def draw(cls, malignant: bool, rng: np.random.Generator) -> 'GlandLayout':
        """Draw a layout; malignant glands are irregular, crowded and mixed."""
        if malignant:
            return cls(kinds=(0.15, 0.25, 0.35, 0.25),
                       radius=rng.uniform(42, 80), radius_spread=0.35,
                       coverage=rng.uniform(0.3, 0.65), gap=rng.uniform(4, 14),
                       touching=0.35, direction=rng.uniform(0, np.pi))
        longitudinal = rng.random() < 0.3
        return cls(kinds=(0.1, 0.75, 0.1, 0.05) if longitudinal
                   else (0.6, 0.25, 0.12, 0.03),
                   radius=rng.uniform(42, 76), radius_spread=0.18,
                   coverage=rng.uniform(0.3, 0.6), gap=rng.uniform(6, 26),
                   touching=0.12, direction=rng.uniform(0, np.pi))


def smooth_noise(shape: tuple[int, int], length: float,
                 rng: np.random.Generator) -> np.ndarray:
    """Draw float32 noise (h, w), mean 0, deviation 1, of ``length`` pixels."""
    length = max(length, 1.0)
    coarse = rng.standard_normal(
        (int(shape[0] / length) + 4, int(shape[1] / length) + 4))
    fine = cv2.resize(coarse.astype(np.float32), None, fx=length, fy=length,
                      interpolation=cv2.INTER_CUBIC)
    top, left = rng.integers(0, max(int(length), 1), size=2)
    # Interpolation takes about a third of the deviation away.
    return 1.4 * fine[top:top + shape[0], left:left + shape[1]]


def draw_label_map(shape: tuple[int, int], layout: GlandLayout,
                   scale: float, rng: np.random.Generator) -> np.ndarray:
    """Lay out glands; later ones give way to earlier ones.

    ``shape`` is (h, w), ``scale`` the size relative to 20x. Gives int32 (h,
    w): 0 background, then 1, 2, ... Every gland is one connected part without
    holes.
    """
    labels = np.zeros(shape, np.int32)
    bend = rng.uniform(3, 9)
    warp = [smooth_noise(shape, 60 * scale, rng) * bend * scale
            for _ in range(2)]
    number, attempts = 0, 0
    while attempts < 60 and (labels > 0).mean() < layout.coverage:
        attempts += 1
        radius = scale * layout.radius * np.clip(
            1 + layout.radius_spread * rng.standard_normal(), 0.45, 2.0)
        kind = rng.choice(SHAPE_KINDS, p=layout.kinds)
        centre = rng.uniform(0, shape[1]), rng.uniform(0, shape[0])
        skeleton = _draw_skeleton(kind, centre, radius, layout.direction, rng)
        body = _inside(skeleton, shape, warp, scale, rng)
        gap = 0.0 if rng.random() < layout.touching else (
            layout.gap * scale * rng.uniform(0.5, 1.5))
        free = cv2.distanceTransform(
            (labels == 0).astype(np.uint8), cv2.DIST_L2, 3) > gap
        gland = _tidy(body & free, scale)
        too_small = gland.sum() < max(
            0.6 * body.sum(), 0.35 * np.pi * radius**2)
        # A hole that was filled may be another gland.
        if too_small or (gland & ~free).any():
            continue
        number += 1
        labels[gland] = number
    return labels


def _draw_skeleton(kind: str, centre: tuple[float, float], radius: float,
                   direction: float, rng: np.random.Generator) -> np.ndarray:
    """Return discs as rows of x, y and radius."""
    if kind == 'round':
        return np.array([[*centre, radius]])
    if kind == 'irregular':
        number = rng.integers(3, 6)
        angles = rng.uniform(0, 2 * np.pi, number)
        away = radius * rng.uniform(0.3, 1.0, number)
        radii = radius * rng.uniform(0.4, 0.8, number)
        return np.stack([centre[0] + away * np.cos(angles),
                         centre[1] + away * np.sin(angles), radii], axis=1)
    heading = direction + 0.25 * rng.standard_normal()
    trunk = _walk(centre, heading, 0.62 * radius, rng.uniform(2, 5), rng)
    if kind == 'elongated':
        return trunk
    parts = [trunk]
    for _ in range(rng.integers(1, 3)):
        start = trunk[rng.integers(len(trunk))]
        side = heading + rng.choice([-1, 1]) * rng.uniform(0.6, 1.5)
        parts.append(_walk(start[:2], side, 0.5 * radius, rng.uniform(1.5, 3),
                           rng, centred=False))
    return np.concatenate(parts)


def _walk(start: tuple[float, float], heading: float, radius: float,
          length: float, rng: np.random.Generator,
          centred: bool = True) -> np.ndarray:
    """Return discs along a bent line that is ``length`` radii long."""
    number = max(int(2 * length), 2)
    bend = rng.normal(0, 0.12)
    headings = heading + bend * (np.arange(number) - number / 2)
    steps = 0.5 * radius * np.stack(
        [np.cos(headings), np.sin(headings)], axis=1)
    points = np.cumsum(steps, axis=0)
    points += np.asarray(start) - (points.mean(axis=0) if centred else 0)
    taper = np.linspace(1, rng.uniform(0.75, 1.15), number)
    return np.column_stack([points, radius * taper])


def _inside(skeleton: np.ndarray, shape: tuple[int, int],
            warp: list[np.ndarray], scale: float,
            rng: np.random.Generator) -> np.ndarray:
    """Return which pixels are inside the bent, smooth union of discs."""
    reach = skeleton[:, 2].max() + 25 * scale
    left, top = (skeleton[:, :2].min(axis=0) - reach).astype(int)
    right, bottom = (skeleton[:, :2].max(axis=0) + reach).astype(int)
    rows = slice(max(top, 0), min(max(bottom, 0), shape[0]))
    columns = slice(max(left, 0), min(max(right, 0), shape[1]))
    body = np.zeros(shape, bool)
    y, x = np.mgrid[rows, columns].astype(np.float32)
    if not x.size:
        return body
    x = x + warp[0][rows, columns]
    y = y + warp[1][rows, columns]
    softness = 5 * scale
    total = np.zeros_like(x)
    for disc_x, disc_y, radius in skeleton.astype(np.float32):
        distance = np.hypot(x - disc_x, y - disc_y) - radius
        total += np.exp(-np.clip(distance / softness, -30, 30))
    outline = rng.uniform(0.3, 1.8) * scale * smooth_noise(
        x.shape, 14 * scale, rng)
    body[rows, columns] = -softness * np.log(total) + outline < 0
    return body


def _tidy(mask: np.ndarray, scale: float) -> np.ndarray:
    """Cut spikes off, keep the largest part and fill its holes."""
    size = max(int(7 * scale) | 1, 3)
    opened = cv2.morphologyEx(
        mask.astype(np.uint8), cv2.MORPH_OPEN,
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    contours, _ = cv2.findContours(
        opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    tidy = np.zeros_like(opened)
    if contours:
        largest = max(contours, key=cv2.contourArea)
        cv2.drawContours(tidy, [largest], -1, 1, cv2.FILLED)
    return tidy.astype(bool)
