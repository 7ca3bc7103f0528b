"""Paint a phantom: from a map of glands to an H&E-stained image.

It is what light remains behind the stains (Beer-Lambert, stain vectors of
Ruifrok and Johnston 2001, varied). Lengths: pixels at 20x, times ``scale``.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mmmedmask.phantoms.gland_shapes import smooth_noise

# Absorption in R, G, B per unit of concentration.
HAEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.07, 0.99, 0.11)
BLOOD = (0.10, 0.85, 0.55)


@dataclass
class TissueStyle:
    """What one image looks like, apart from where its glands are."""

    malignant: bool  # Nuclei are large, crowded and stratified.
    epithelium: float  # Its thickness, pixels at 20x.
    goblets: float  # How many of the cells hold mucin, in [0, 1].
    debris: float  # How much is in the lumens, in [0, 1].
    cleft: float  # Width of the cleft around glands, pixels at 20x.
    cellularity: float  # Density of the stroma's cells, 1 is typical.
    fibres: float  # Contrast of the stroma's fibres.
    inflammation: float  # Part of the stroma full of lymphocytes.
    open_area: bool  # Some of the image is empty glass.
    vessels: int  # Number to try; they look like small glands.
    haematoxylin: float  # Strength of the blue stain.
    eosin: float  # Strength of the pink stain.
    blur: float  # Standard deviation of the focus blur in pixels.
    noise: float  # That of the camera noise in gray levels.

    @classmethod
    def draw(cls, malignant: bool, rng: np.random.Generator) -> 'TissueStyle':
        """Draw the style of an image."""
        return cls(
            malignant=malignant,
            epithelium=rng.uniform(24, 36) if malignant
            else rng.uniform(26, 42),
            goblets=rng.choice([0.0, 0.15, 0.4]) if malignant
            else rng.uniform(0.4, 1.0),
            debris=rng.uniform(0.2, 1.0) if malignant
            else rng.uniform(0.0, 0.5),
            cleft=rng.choice([0.0, rng.uniform(2, 10)], p=[0.4, 0.6]),
            cellularity=rng.uniform(0.6, 1.5),
            fibres=rng.uniform(0.5, 1.3),
            inflammation=rng.choice([0.05, 0.2, 0.5], p=[0.4, 0.4, 0.2]),
            open_area=bool(rng.random() < 0.2),
            vessels=int(rng.integers(0, 5)),
            haematoxylin=rng.uniform(0.75, 1.25),
            eosin=rng.uniform(0.7, 1.25),
            blur=rng.uniform(0.35, 0.95),
            noise=rng.uniform(0.5, 3.0))


@dataclass
class _Canvas:
    """Concentrations of the stains, and a brush for many ellipses."""

    haematoxylin: np.ndarray
    eosin: np.ndarray
    blood: np.ndarray
    grain: np.ndarray  # Varies within nuclei and cytoplasm.
    scale: float
    rng: np.random.Generator

    @property
    def shape(self) -> tuple[int, int]:
        return self.grain.shape

    def window(self, where: tuple[slice, slice]) -> '_Canvas':
        """Return a part that paints on this canvas."""
        return _Canvas(
            self.haematoxylin[where], self.eosin[where], self.blood[where],
            self.grain[where], self.scale, self.rng)

    def ellipses(self, centres: np.ndarray, axes: np.ndarray,
                 angles: np.ndarray,
                 values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Paint ellipses on an empty layer.

        Centres and half axes are (N, 2), x and y in pixels; angles (N, ), of
        the first axis, in radians; values (N, ), in [0, 1]. Returns how much
        of each pixel is covered, and the value there; both (h, w).
        """
        covered = np.zeros(self.shape, np.uint8)
        value = np.zeros(self.shape, np.uint8)
        # OpenCV takes fixed-point numbers with 4 binary places.
        points = np.round(centres * 16).astype(int)
        halves = np.maximum(np.round(axes * 16), 10).astype(int)
        degrees = np.degrees(angles)
        grays = np.clip(values * 255, 0, 255).astype(int)
        for point, half, degree, gray in zip(
                points.tolist(), halves.tolist(), degrees.tolist(),
                grays.tolist(), strict=True):
            cv2.ellipse(covered, point, half, degree, 0, 360, 255,
                        cv2.FILLED, cv2.LINE_AA, 4)
            cv2.ellipse(value, point, half, degree, 0, 360, gray,
                        cv2.FILLED, cv2.LINE_8, 4)
        return (covered.astype(np.float32) / 255,
                cv2.dilate(value, np.ones((3, 3))).astype(np.float32) / 255)

    def mix(self, weight: np.ndarray, haematoxylin: np.ndarray | float,
            eosin: np.ndarray | float) -> None:
        """Replace what is there by something, as far as the weight says."""
        self.haematoxylin += weight * (haematoxylin - self.haematoxylin)
        self.eosin += weight * (eosin - self.eosin)
        self.blood *= 1 - weight

    def nuclei(self, centres: np.ndarray, axes: np.ndarray,
               angles: np.ndarray, darkness: np.ndarray) -> None:
        """Paint nuclei with chromatin; arguments as of :meth:`ellipses`."""
        covered, value = self.ellipses(centres, axes, angles, darkness)
        inner, _ = self.ellipses(centres, axes * 0.68, angles, darkness)
        stain = 1.75 * value * (1 + 0.22 * self.grain) * (1 - 0.22 * inner)
        self.mix(0.95 * covered, np.maximum(stain, 0.1), 0.35)


def render_tissue(labels: np.ndarray, style: TissueStyle, scale: float,
                  rng: np.random.Generator) -> np.ndarray:
    """Paint RGB, uint8 (H, W, 3), for labels (H, W); ``scale`` 1 is 20x."""
    canvas = _Canvas(*np.zeros((3, *labels.shape), np.float32), smooth_noise(
        labels.shape, 1.6 * max(scale, 0.6), rng), scale, rng)
    outside = cv2.distanceTransform(
        (labels == 0).astype(np.uint8), cv2.DIST_L2, 5)
    _paint_stroma(canvas, labels, outside, style)
    for number in np.unique(labels[labels > 0]):
        gland = labels == number
        where = _window_around(gland, int(6 * scale) + 2)
        _paint_gland(canvas.window(where), gland[where], style)
    return _to_image(canvas, style)


def _paint_stroma(canvas: _Canvas, labels: np.ndarray, outside: np.ndarray,
                  style: TissueStyle) -> None:
    """Paint fibres, cells, vessels, clefts and empty glass."""
    rng, scale, shape = canvas.rng, canvas.scale, canvas.shape
    angle = _fibre_directions(outside, scale, rng)
    fibre = _along_fibres(angle, scale, rng)
    dense = smooth_noise(shape, 60 * scale, rng)
    canvas.eosin[:] = np.maximum(0.45 + 0.10 * dense + 0.09 * style.fibres
                                 * fibre + 0.04 * canvas.grain, 0.04)
    canvas.haematoxylin[:] = (
        0.10 + 0.03 * dense + 0.02 * fibre + 0.03 * canvas.grain)
    # Loose places, where the fibres part.
    loose = _ramp(smooth_noise(shape, 25 * scale, rng) - 0.5 * fibre
                  - 0.3 * canvas.grain - 1.1, 0.5)
    canvas.mix(0.85 * loose, 0.04, 0.05)
    stroma = labels == 0
    _paint_stroma_cells(canvas, stroma, angle, style)
    for _ in range(style.vessels):
        _paint_vessel(canvas, outside, style)
    if style.open_area:
        slope = np.linspace(-1.5, 1.5, shape[1], dtype=np.float32)[None]
        where = (slope * rng.choice([-1, 1])
                 + 0.5 * smooth_noise(shape, 70 * scale, rng)
                 + 0.05 * smooth_noise(shape, 6 * scale, rng))
        canvas.mix(_ramp(where - 1.0, 0.06), 0.01, 0.01)
    if style.cleft:
        width = style.cleft * scale * (
            0.5 + 0.8 * smooth_noise(shape, 45 * scale, rng))
        cleft = stroma * _ramp(width - outside, 1.0)
        canvas.mix(0.9 * cleft, 0.02, 0.04)


def _window_around(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Return the rows and columns that hold a mask, and some more."""
    return tuple(
        slice(max(int(places[0]) - margin, 0), int(places[-1]) + margin + 1)
        for places in (np.flatnonzero(mask.any(axis=1)),
                       np.flatnonzero(mask.any(axis=0))))


def _ramp(value: np.ndarray, width: float) -> np.ndarray:
    """Rise from 0 to 1 around zero, over twice the width."""
    return np.clip(0.5 + 0.5 * value / width, 0, 1).astype(np.float32)


def _fibre_directions(outside: np.ndarray, scale: float,
                      rng: np.random.Generator) -> np.ndarray:
    """Return angles (h, w): around glands close by, wavy further away."""
    around = _uphill(outside, 6 * scale) + np.pi / 2
    wavy = rng.uniform(0, np.pi) + 0.7 * smooth_noise(
        outside.shape, 80 * scale, rng)
    near = np.exp(-outside / (18 * scale))
    # Directions have no sign, so they are mixed as doubled angles.
    return 0.5 * np.arctan2(
        near * np.sin(2 * around) + (1 - near) * np.sin(2 * wavy),
        near * np.cos(2 * around) + (1 - near) * np.cos(2 * wavy)).astype(
            np.float32)


def _uphill(heights: np.ndarray, blur: float) -> np.ndarray:
    """Return the angles (h, w) of the gradient of blurred heights."""
    rise_y, rise_x = np.gradient(cv2.GaussianBlur(heights, (0, 0), blur))
    return np.arctan2(rise_y, rise_x)


def _along_fibres(angle: np.ndarray, scale: float,
                  rng: np.random.Generator) -> np.ndarray:
    """Smear noise along the directions (line integral convolution)."""
    noise = smooth_noise(angle.shape, 1.5 * max(scale, 0.6), rng)
    y, x = np.mgrid[:angle.shape[0], :angle.shape[1]].astype(np.float32)
    step = 1.5 * scale
    total = noise.copy()
    for sign in (-step, step):
        place_x, place_y = x.copy(), y.copy()
        for _ in range(7):
            here = cv2.remap(angle, place_x, place_y, cv2.INTER_NEAREST,
                             borderMode=cv2.BORDER_REFLECT)
            place_x += sign * np.cos(here)
            place_y += sign * np.sin(here)
            total += cv2.remap(noise, place_x, place_y, cv2.INTER_LINEAR,
                               borderMode=cv2.BORDER_REFLECT)
    return (total - total.mean()) / (total.std() + 1e-6)


def _scatter(where: np.ndarray, spacing: float,
             rng: np.random.Generator) -> np.ndarray:
    """Return points (N, 2), x and y, about ``spacing`` apart."""
    height, width = where.shape
    rows, columns = np.mgrid[0:height:spacing, 0:width:spacing].astype(float)
    columns[1::2] += spacing / 2
    points = np.stack([columns.ravel(), rows.ravel()], axis=1)
    points += rng.uniform(-0.45, 0.45, points.shape) * spacing
    index = np.round(points).astype(int)
    inside = ((index >= 0) & (index < (width, height))).all(axis=1)
    points = points[inside]
    return points[where[tuple(index[inside, ::-1].T)]]


def _at(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Read a map (h, w) at points (N, 2), x and y, rounded down."""
    return values[tuple(points[:, ::-1].astype(int).T)]


def _paint_stroma_cells(canvas: _Canvas, stroma: np.ndarray,
                        angle: np.ndarray, style: TissueStyle) -> None:
    """Paint spindle cells along the fibres, and lymphocytes."""
    rng, scale = canvas.rng, canvas.scale
    spacing = 17 * scale / np.sqrt(style.cellularity)
    points = _scatter(stroma, spacing, rng)
    points = points[rng.random(len(points)) < 0.75]
    size = rng.uniform(0.8, 1.3, (len(points), 1))
    canvas.nuclei(
        points,
        size * scale * np.stack([rng.uniform(4.5, 8, len(points)),
                                 rng.uniform(1.4, 2.4, len(points))], axis=1),
        _at(angle, points) + rng.normal(0, 0.25, len(points)),
        rng.uniform(0.45, 0.85, len(points)))

    crowd = smooth_noise(stroma.shape, 50 * scale, rng)
    limit = np.quantile(crowd, 1 - style.inflammation)
    points = _scatter(stroma, 9.5 * scale, rng)
    chance = 0.06 * style.cellularity + 0.8 * _ramp(
        _at(crowd, points) - limit, 0.25)
    points = points[rng.random(len(points)) < chance]
    canvas.nuclei(points, scale * rng.uniform(2.7, 4.0, (len(points), 1))
                  * rng.uniform(0.85, 1.1, (len(points), 2)),
                  rng.uniform(0, np.pi, len(points)),
                  rng.uniform(0.7, 1.0, len(points)))


def _paint_vessel(canvas: _Canvas, outside: np.ndarray,
                  style: TissueStyle) -> None:
    """Paint a vessel with blood where there is room for it."""
    rng, scale = canvas.rng, canvas.scale
    radius = scale * rng.uniform(7, 24)
    rows, columns = np.nonzero(outside > 1.3 * radius)
    if not rows.size:
        return
    chosen = rng.integers(rows.size)
    centre = np.array([columns[chosen], rows[chosen]], float)
    axes = radius * np.array([1.0, rng.uniform(0.45, 0.95)])
    turn = rng.uniform(0, np.pi)
    for grow, haematoxylin, eosin in ((1.25, 0.15, 0.6), (1.0, 0.01, 0.05)):
        covered, _ = canvas.ellipses(
            centre[None], grow * axes[None], np.array([turn]), np.ones(1))
        canvas.mix(covered, haematoxylin, eosin)
    cells = _scatter(covered > 0.9, 5.5 * scale, rng)
    cells = cells[rng.random(len(cells)) < rng.uniform(0, 1)]
    red, _ = canvas.ellipses(cells, np.full((len(cells), 2), 2.9 * scale),
                             np.zeros(len(cells)), np.ones(len(cells)))
    canvas.blood += 0.9 * red
    # Flat nuclei of the wall.
    number = max(int(2 * np.pi * radius / (16 * scale)), 3)
    phase = np.sort(rng.uniform(0, 2 * np.pi, number))
    ring = 1.12 * np.stack(
        [axes[0] * np.cos(phase), axes[1] * np.sin(phase)], axis=1)
    turned = ring @ np.array([[np.cos(turn), np.sin(turn)],
                              [-np.sin(turn), np.cos(turn)]])
    tangent = turn + np.arctan2(
        axes[1] * np.cos(phase), -axes[0] * np.sin(phase))
    canvas.nuclei(centre + turned,
                  scale * np.stack([rng.uniform(4, 6.5, number),
                                    rng.uniform(1.2, 1.9, number)], axis=1),
                  tangent, rng.uniform(0.6, 0.9, number))


def _paint_gland(canvas: _Canvas, mask: np.ndarray,
                 style: TissueStyle) -> None:
    """Paint one gland: cytoplasm, lumen, mucin and nuclei."""
    rng, scale, shape = canvas.rng, canvas.scale, canvas.shape
    depth = cv2.distanceTransform(
        np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    thickness = style.epithelium * scale * rng.uniform(0.85, 1.15)
    inward = _uphill(depth, max(2 * scale, 0.8))

    purple = rng.uniform(0.12, 0.3) + 0.12 * style.malignant
    apical = np.clip(depth / thickness, 0, 1)
    canvas.mix(mask.astype(np.float32),
               np.maximum(purple * (1.25 - 0.5 * apical) + 0.05 * canvas.grain,
                          0.02),
               np.maximum(rng.uniform(0.38, 0.55) + 0.05 * canvas.grain, 0.05))

    ragged = thickness * (1 + 0.10 * smooth_noise(shape, 14 * scale, rng))
    ragged += 0.8 * scale * smooth_noise(shape, 3 * scale, rng)
    lumen = mask * _ramp(depth - ragged, 0.8)
    canvas.mix(lumen, 0.02, 0.04)
    _paint_lumen(canvas, lumen, style)
    _paint_mucin(canvas, depth, inward, thickness, style)
    _paint_epithelial_nuclei(canvas, depth, inward, thickness, style)


def _paint_lumen(canvas: _Canvas, lumen: np.ndarray,
                 style: TissueStyle) -> None:
    """Put debris, wisps of mucin and dead cells into a lumen."""
    rng, scale, shape = canvas.rng, canvas.scale, canvas.shape
    amount = style.debris * rng.uniform(0, 1.3)
    if amount < 0.15 or not (lumen > 0.5).any():
        return
    clumps = _ramp(
        smooth_noise(shape, 5 * scale, rng)
        + smooth_noise(shape, 30 * scale, rng) + 1.6 * amount - 1.3, 0.4)
    canvas.mix(0.9 * clumps * lumen, 0.12,
               np.maximum(0.4 + 0.12 * canvas.grain, 0.05))
    points = _scatter(lumen * clumps > 0.6, 12 * scale, rng)
    points = points[rng.random(len(points)) < 0.3 * amount]
    canvas.nuclei(points, scale * rng.uniform(1.5, 3.5, (len(points), 2)),
                  rng.uniform(0, np.pi, len(points)),
                  rng.uniform(0.6, 0.95, len(points)))


def _paint_mucin(canvas: _Canvas, depth: np.ndarray, inward: np.ndarray,
                 thickness: float, style: TissueStyle) -> None:
    """Paint the pale vacuoles of goblet cells between nuclei and lumen."""
    rng, scale = canvas.rng, canvas.scale
    goblets = style.goblets * rng.uniform(0.6, 1.2)
    levels = np.arange(0.62, 0.62 + max(
        (depth.max() - 0.5 * thickness) / thickness, 0), 0.5)
    for level in levels:
        points = _along_contour(depth > level * thickness, 9.5 * scale, rng)
        points = points[rng.random(len(points)) < goblets]
        # Deeper rows exist only where there is no lumen.
        points = points[_at(canvas.eosin, points) > 0.15]
        size = rng.uniform(0.75, 1.25, (len(points), 1)) * scale
        axes = size * np.array([0.26 * thickness / scale, 3.9])
        angles = _at(inward, points)
        rim, _ = canvas.ellipses(
            points, axes + 0.9 * scale, angles, np.ones(len(points)))
        pale, value = canvas.ellipses(
            points, axes, angles, rng.uniform(0.4, 1.0, len(points)))
        inside = (depth > 0).astype(np.float32)
        canvas.mix(0.5 * rim * inside, 0.22, 0.5)
        canvas.mix(0.9 * pale * inside, 0.16 * value, 0.10 + 0.08 * value)


def _paint_epithelial_nuclei(canvas: _Canvas, depth: np.ndarray,
                             inward: np.ndarray, thickness: float,
                             style: TissueStyle) -> None:
    """Paint the nuclei in rows along the border, pointing inwards."""
    rng, scale = canvas.rng, canvas.scale
    if style.malignant:
        rows = np.arange(0.2, rng.uniform(0.3, 0.75), 0.24)
        half_axes, spread = np.array([6.0, 2.6]), 0.25
        spacing, jitter, darkness = 7.8, 1.6, (0.4, 0.95)
    else:
        rows = np.arange(0.16, rng.uniform(0.18, 0.42), 0.17)
        half_axes, spread = np.array([4.5, 2.6]), 0.14
        spacing, jitter, darkness = 7.4, 0.8, (0.55, 0.9)
    roundness = rng.uniform(0.0, 0.5)
    half_axes = half_axes * [1 - 0.4 * roundness, 1 + 0.3 * roundness]
    for row in rows:
        points = _along_contour(depth > row * thickness, spacing * scale, rng)
        points = points + jitter * scale * rng.standard_normal(points.shape)
        index = np.clip(
            points.astype(int), 0, np.array(canvas.shape[::-1]) - 1)
        keep = (_at(depth, index) > 2.2 * scale) & (
            rng.random(len(points)) < 0.94)
        points, index = points[keep], index[keep]
        size = scale * np.clip(
            1 + spread * rng.standard_normal((len(points), 2)), 0.5, 1.7)
        canvas.nuclei(
            points, size * half_axes, _at(inward, index)
            + (0.2 + 0.2 * style.malignant) * rng.standard_normal(len(points)),
            rng.uniform(*darkness, len(points)))


def _along_contour(mask: np.ndarray, spacing: float,
                   rng: np.random.Generator) -> np.ndarray:
    """Return points (N, 2), x and y, evenly along a mask's outlines."""
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = [np.zeros((0, 2))]
    for contour in contours:
        line = contour[:, 0].astype(float)
        steps = np.linalg.norm(np.diff(line, axis=0, append=line[:1]), axis=1)
        travelled = np.cumsum(steps)
        number = int(travelled[-1] / spacing)
        if number < 1:
            continue
        stops = (np.arange(number) + rng.random()
                 + rng.uniform(-0.2, 0.2, number)) * travelled[-1] / number
        points.append(line[np.searchsorted(
            travelled, stops % travelled[-1]) % len(line)])
    return np.concatenate(points)


def _to_image(canvas: _Canvas, style: TissueStyle) -> np.ndarray:
    """Send light through the stains, and through a microscope."""
    rng = canvas.rng
    stains = np.array([HAEMATOXYLIN, EOSIN, BLOOD], np.float32)
    stains *= rng.uniform(0.88, 1.12, stains.shape).astype(np.float32)
    density = (style.haematoxylin * canvas.haematoxylin[..., None] * stains[0]
               + style.eosin * canvas.eosin[..., None] * stains[1]
               + canvas.blood[..., None] * stains[2])
    light = rng.uniform(0.93, 1.0, 3).astype(np.float32)
    light = light * (1 + 0.02 * smooth_noise(
        canvas.shape, max(canvas.shape) / 2, rng)[..., None])
    image = 255 * light * np.exp(-density)
    image = cv2.GaussianBlur(image, (0, 0), style.blur)
    image += style.noise * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)
