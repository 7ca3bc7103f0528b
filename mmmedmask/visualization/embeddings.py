"""Maps of patients, as in GiMP's Figure 2, and of tiles: t-SNE or UMAP."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from mmmedmask.util.checks import check_choice, check_positive
from mmmedmask.util.extras import import_extra
from mmmedmask.visualization.pictures import draw_figure, legend_beside

MAX_CLASSES = 10
# Characters that fit above a panel.
TITLE_WIDTH = 38


@dataclass(frozen=True)
class EmbeddingPanel:
    """A map of points (N, 2), with their classes, integers (N,)."""

    title: str
    points: np.ndarray
    labels: np.ndarray


def project_tsne(vectors: np.ndarray, perplexity: float = 30.0,
                 seed: int = 0) -> np.ndarray:
    """Lay vectors (N, d) out in the plane, (N, 2), by scikit-learn's t-SNE.

    Distances between groups, and their sizes, mean nothing. ``perplexity`` is
    about how many neighbours count, at most a third of the points.
    """
    from sklearn.manifold import TSNE

    _check_vectors(vectors)
    check_positive('perplexity', perplexity)
    layout = TSNE(init='pca' if vectors.shape[1] > 1 else 'random',
                  perplexity=min(perplexity, (len(vectors) - 1) / 3),
                  random_state=seed)
    return layout.fit_transform(vectors.astype(np.float64))


def _check_vectors(vectors: np.ndarray) -> None:
    if vectors.ndim != 2 or len(vectors) < 5:
        raise ValueError('a map needs at least five vectors, of '
                         f'shape (N, d), got {vectors.shape}')
    if not np.isfinite(vectors).all():
        raise ValueError('a map needs finite vectors')
    # scikit-learn's t-SNE ends the process where float32 sees no difference.
    if np.ptp(vectors, axis=0).max() < 1e-15:
        raise ValueError(f'a map needs different vectors, all {len(vectors)} '
                         'are equal')


def project(vectors: np.ndarray, method: str = 'tsne',
            seed: int = 0) -> np.ndarray:
    """Lay vectors (N, d) out in the plane; of many dimensions 50 count.

    ``method`` is ``'tsne'``, or ``'umap'``, which is faster and needs the
    extra ``plots``.
    """
    check_choice('method', method, ('tsne', 'umap'))
    _check_vectors(vectors)
    if len(vectors) > 50 < vectors.shape[1]:
        from sklearn.decomposition import PCA
        vectors = PCA(50, random_state=seed).fit_transform(vectors)
    if method == 'tsne':
        return project_tsne(vectors, seed=seed)
    umap = import_extra('umap', 'plots', 'UMAP')
    # Fewer neighbours than points, as few as there are.
    return umap.UMAP(n_neighbors=min(15, len(vectors) - 1), n_jobs=1,
                     random_state=seed).fit_transform(vectors)


def frequent_classes(values: Sequence[str]
                     ) -> tuple[np.ndarray, tuple[str, ...]]:
    """Number the classes of points; beyond the tenth, rare ones are "others".

    Gives numbers (N,), and the names of at most 10 classes.
    """
    counts = Counter(values)
    many = len(counts) > MAX_CLASSES
    kept = sorted(name for name, _ in counts.most_common(
        MAX_CLASSES - 1 if many else None))
    places = {name: place for place, name in enumerate(kept)}
    return (np.array([places.get(value, len(kept)) for value in values]),
            (*kept, 'others') if many else tuple(kept))


def draw_embeddings(rows: Sequence[Sequence[EmbeddingPanel]],
                    classes: Sequence[str]) -> np.ndarray:
    """Draw maps in rows of one length, their legend beside, RGB (H, W, 3).

    There are at most 10 ``classes``, for colours that can be told apart.
    """
    widths = {len(row) for row in rows}
    if len(widths) != 1 or widths == {0}:
        raise ValueError('rows must have one number of panels, got '
                         f'{[len(row) for row in rows]}')
    if len(classes) > MAX_CLASSES:
        raise ValueError(f'at most {MAX_CLASSES} classes can be told apart, '
                         f'got {len(classes)}')
    columns = widths.pop()
    figure = Figure((3.2 * columns, 3.2 * len(rows)), dpi=120,
                    layout='constrained')
    axes = figure.subplots(len(rows), columns, squeeze=False)
    colors = colormaps['tab10'].colors
    for row, line in zip(rows, axes, strict=True):
        for panel, axis in zip(row, line, strict=True):
            # In random order, so that no class lies over all others.
            order = np.random.default_rng(0).permutation(len(panel.points))
            axis.scatter(*panel.points[order].T,
                         c=[colors[label] for label in panel.labels[order]],
                         s=14, linewidths=0.3, edgecolors='white')
            axis.set_title(fill(panel.title, TITLE_WIDTH), fontsize=10,
                           loc='left')
            axis.set_xticks([])
            axis.set_yticks([])
    legend_beside(figure, {
        name: figure.axes[0].scatter([], [], color=colors[place], s=24)
        for place, name in enumerate(classes)})
    return draw_figure(figure)
