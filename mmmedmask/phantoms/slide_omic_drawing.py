"""Draw slides as bags and gene expression, with a class planted in both."""

from dataclasses import dataclass

import numpy as np

from mmmedmask.phantoms.gland_shapes import smooth_noise
from mmmedmask.util.checks import check_integer, check_range

PATCH_SIZE = 256
# Directions of the features in which neighbours resemble each other.
_SMOOTH_DIRECTIONS = 8
_SMOOTH_SHARE = 0.8  # of a feature's variance


@dataclass(frozen=True, eq=False)
class SlideStyle:
    """What the slides of a cohort have in common, all float64."""

    mixing: np.ndarray  # (K, D), from smooth maps to features.
    # Unit vectors, all orthogonal: of the classes, (C, D), and of the region
    # that stands out on all slides alike, (D, ).
    class_directions: np.ndarray
    distractor: np.ndarray


def draw_slide_style(num_classes: int, dims: int,
                     rng: np.random.Generator) -> SlideStyle:
    """Draw a style of C >= 2 classes, for features of ``dims`` D above C."""
    check_integer('num_classes', num_classes, 2)
    check_integer('dims', dims, num_classes + 1)
    directions, _ = np.linalg.qr(rng.standard_normal((dims, num_classes + 1)))
    smooth = min(_SMOOTH_DIRECTIONS, dims)
    mixing = rng.standard_normal((smooth, dims))
    mixing /= np.linalg.norm(mixing, axis=0)
    return SlideStyle(mixing, directions[:, 1:].T, directions[:, 0])


@dataclass(frozen=True, eq=False)
class DrawnSlide:
    """A slide whose truth is known."""

    features: np.ndarray  # float32 (N, D).
    # int64 (N, 2), upper left corners (x, y) in pixels of the finest level,
    # row by row.
    coords: np.ndarray
    region: np.ndarray  # bool (N, ), 1 where the class was planted.
    distractor: np.ndarray  # The same of the region that all classes share.


def draw_bag(style: SlideStyle, label: int, num_patches: int,
             rng: np.random.Generator, share: float = 0.05,
             signal: float = 4.0, smoothness: float = 0.9) -> DrawnSlide:
    """Draw a slide: tissue on a grid, with two regions that stand out.

    Features vary smoothly over the tissue, with deviation 1. In a compact
    region they are moved along the direction of the class, in another one,
    as large, along a direction that all classes share: what merely stands
    out does not tell the class. The mean over a slide is zero and tells
    nothing; the deviation of each feature tells some of the class where the
    signal is strong. With generators of equal state, slides of different
    classes differ by the region and what it took from the mean.

    Args:
        share: Share of the patches in each region, in (0, 0.25]; at least
            one patch.
        signal: How far features are moved in the regions, in standard
            deviations.
        smoothness: Correlation of neighbours in the smooth part, in [0, 1).
    """
    check_integer('label', label, 0, len(style.class_directions) - 1)
    check_integer('num_patches', num_patches)
    check_range('share', share, 0, 0.25, open_low=True)
    check_range('smoothness', smoothness, 0, 1, open_high=True)
    cells, order = _draw_tissue(num_patches, rng)
    smooth, dims = style.mixing.shape
    maps = _smooth_maps(cells.max(axis=0) + 1, smooth, smoothness, rng)
    noise = rng.standard_normal((num_patches, dims))
    features = (_SMOOTH_SHARE**0.5 * maps[cells[:, 0], cells[:, 1]]
                @ style.mixing + (1 - _SMOOTH_SHARE)**0.5 * noise)
    count = max(1, round(share * num_patches))
    region, distractor = _draw_regions(cells, order, count, rng)
    strengths = signal * rng.uniform(0.75, 1.25, 2)
    features[region] += strengths[0] * style.class_directions[label]
    features[distractor] += strengths[1] * style.distractor
    features -= features.mean(axis=0)
    return DrawnSlide(
        features.astype(np.float32),
        cells[:, ::-1].astype(np.int64) * PATCH_SIZE, region, distractor)


def _draw_tissue(num_patches: int, rng: np.random.Generator
                 ) -> tuple[np.ndarray, np.ndarray]:
    """Draw tissue: cells (N, 2), row by row, and their order from inside."""
    side = int(np.ceil((2 * num_patches)**0.5)) + 2
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1, 1.5)
    along = rows * np.sin(angle) + columns * np.cos(angle)
    across = rows * np.cos(angle) - columns * np.sin(angle)
    depth = np.hypot(along / stretch**0.5, across * stretch**0.5)
    depth *= 1 + 0.15 * smooth_noise((side, side), side / 4, rng)
    chosen = np.sort(np.argsort(depth, axis=None)[:num_patches])
    cells = np.stack(np.unravel_index(chosen, depth.shape), axis=1)
    order = np.argsort(depth.ravel()[chosen])
    return cells - cells.min(axis=0), order


def _smooth_maps(shape: tuple[int, int], count: int, smoothness: float,
                 rng: np.random.Generator) -> np.ndarray:
    """Draw maps (h, w, count) that are autoregressive in both directions."""
    maps = rng.standard_normal((*shape, count))
    innovation = (1 - smoothness**2)**0.5
    for axis in (0, 1):
        lines = np.moveaxis(maps, axis, 0)
        for place in range(1, len(lines)):
            lines[place] = (smoothness * lines[place - 1]
                            + innovation * lines[place])
    return maps


def _draw_regions(cells: np.ndarray, order: np.ndarray, count: int,
                  rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Choose two compact regions of ``count`` cells, the second if it fits."""
    inner = order[:max(1, len(order) // 2)]
    region = np.zeros(len(cells), bool)
    other = np.zeros(len(cells), bool)
    centre = cells[rng.choice(inner)]
    away = np.linalg.norm(cells - centre, axis=1)
    region[np.argsort(away, kind='stable')[:count]] = True
    # Drawn before it is known whether there is room.
    draw = rng.random()
    far = order[away[order] > 2 * away[region].max() + 1]
    if not len(far):
        far = order[~region[order]]
    if len(far) >= count:
        # From the inner half of what is far enough.
        centre = cells[far[int(draw * max(1, len(far) // 2))]]
        away = np.linalg.norm(cells - centre, axis=1)
        away[region] = np.inf
        other[np.argsort(away, kind='stable')[:count]] = True
    return region, other


@dataclass(frozen=True, eq=False)
class ExpressionStyle:
    """What the gene expression of a cohort has in common."""

    mean: np.ndarray  # float64 (G, ), mean of log2(FPKM + 1).
    deviation: np.ndarray  # The same of what genes do by themselves.
    # int64 (2 P, K), genes of each pathway, none in two. The first P are
    # planted, pathway p in class p % C; the others vary alike in all classes.
    pathways: np.ndarray
    num_planted: int
    num_classes: int


def draw_expression_style(num_genes: int, num_classes: int,
                          num_pathways: int, pathway_size: int,
                          rng: np.random.Generator) -> ExpressionStyle:
    """Draw a style of P >= C planted pathways of K genes, and as many others.

    There are at least as many genes G as in all pathways.
    """
    check_integer('num_pathways', num_pathways, num_classes)
    check_integer('pathway_size', pathway_size)
    needed = 2 * num_pathways * pathway_size
    check_integer('num_genes', num_genes, needed)
    mean = np.maximum(rng.normal(2.5, 1.5, num_genes), 0.2)
    deviation = rng.uniform(0.4, 1.0, num_genes)
    chosen = rng.choice(num_genes, needed, replace=False)
    # A gene that is off in most patients can tell nothing.
    mean[chosen] = np.maximum(mean[chosen], 2.0)
    pathways = np.sort(chosen.reshape(-1, pathway_size), axis=1)
    return ExpressionStyle(mean, deviation, pathways, num_pathways,
                           num_classes)


def draw_expression(style: ExpressionStyle, label: int,
                    rng: np.random.Generator,
                    signal: float = 1.0) -> np.ndarray:
    """Draw the gene expression of a patient, FPKM, float64 (G, ).

    A pathway's genes go up and down together; those of the patient's class
    are up by ``signal`` in the mean. With generators of equal state,
    patients of different classes differ in planted genes alone.

    ``signal`` is in log2 of FPKM + 1. A pathway's activity varies by 0.5 by
    itself, a gene by 0.4 to 1.
    """
    own = rng.standard_normal(len(style.mean))
    values = style.mean + style.deviation * own
    activity = rng.normal(0, 0.5, len(style.pathways))
    planted = np.arange(style.num_planted)
    activity[planted] += signal * (planted % style.num_classes == label)
    values[style.pathways] += activity[:, None]
    return np.maximum(np.exp2(values) - 1, 0).round(4)
