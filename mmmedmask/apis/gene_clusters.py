"""Sets of genes that go up and down together, where no pathways are known."""

import numpy as np

from mmmedmask.util.checks import check_integer


def cluster_genes(values: np.ndarray, num_sets: int,
                  seed: int = 0) -> list[list[int]]:
    """Put genes of correlated expression into one set.

    K-means over the genes' standardised profiles, brought to length 1:
    squared distances are then 2 - 2 r, with Pearson's r of two genes. No
    class is looked at; with the training patients alone, nothing is known
    of others.

    Args:
        values: Expression in a logarithmic or scaled unit, shape (N, G), of
            at least 3 patients.
        num_sets: Number of sets, at most G.
        seed: Of the starts of k-means.

    Returns:
        Places of the genes of each set in increasing order, sets by their
        first gene. A gene is in one set. Genes that are constant correlate
        with none; they are in one with the nearest centre to zero.

    Raises:
        ValueError: If shape or number do not fit, or a value is not finite.

    Example:
        >>> up = np.array([0., 1., 2., 1., 0., 3.])
        >>> values = np.stack([up, -up, up + 5, 2 * up, 1 - up], axis=1)
        >>> cluster_genes(values, 2)
        [[0, 2, 3], [1, 4]]
    """
    from sklearn.cluster import KMeans
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or len(values) < 3:
        raise ValueError('values must have the shape (N, G) with at least 3 '
                         f'patients, got {values.shape}')
    if not np.isfinite(values).all():
        raise ValueError(
            f'{int((~np.isfinite(values)).sum())} of {values.size} values '
            'are not finite: scale them first, which fills missing ones')
    check_integer('num_sets', num_sets, 1, values.shape[1])
    profiles = (values - values.mean(axis=0)).T
    lengths = np.linalg.norm(profiles, axis=1, keepdims=True)
    # What rounding leaves of a constant is no profile.
    least = 1e-12 * np.linalg.norm(values, axis=0)[:, None]
    profiles = np.where(lengths > least, profiles, 0)
    profiles = profiles / np.where(lengths > least, lengths, 1)
    kmeans = KMeans(num_sets, n_init=4, random_state=seed)
    clusters = kmeans.fit_predict(profiles)
    sets = [np.flatnonzero(clusters == number).tolist()
            for number in range(num_sets)]
    return sorted(genes for genes in sets if genes)
