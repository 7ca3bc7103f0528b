"""ConCL's functions again, slowly: one image, one cell, one key at a time."""

import math

import numpy as np


def unit(vector):
    return vector / max(np.linalg.norm(vector), 1e-12)


def kmeans(features, start, iterations):
    """Labels and centroids of one image's features (N, C)."""
    features = np.array([unit(feature) for feature in features])
    centroids = features[start]
    for _ in range(iterations):
        similar = features @ centroids.T
        labels = similar.argmax(1)
        worst = iter(np.argsort(similar.max(1), kind='stable'))
        centroids = np.array([unit(
            features[labels == cluster].mean(0) if cluster in labels
            else features[next(worst)]) for cluster in range(len(start))])
    return (features @ centroids.T).argmax(1).tolist(), centroids


def carry(labels, num_labels, theta, size):
    """Labels of one image's map on the grid of a view, by areas."""
    shares = []
    for axis, (count, cells) in enumerate(zip(labels.shape, size,
                                              strict=True)):
        # The edges of the view's cells, in cells of the reference.
        scale, shift = theta[1 - axis, 1 - axis], theta[1 - axis, 2]
        edges = (scale * np.linspace(-1, 1, cells + 1) + shift + 1) / 2 * count
        low, high = np.sort([edges[:-1], edges[1:]], axis=0)[..., None]
        places = np.arange(count)
        shares.append((np.minimum(high, places + 1)
                       - np.maximum(low, places)).clip(0))
    areas = np.stack([shares[0] @ (labels == label) @ shares[1].T
                      for label in range(num_labels)])
    return np.where(areas.max(0) > 1e-9, areas.argmax(0), -1)


def pool(features, labels, label):
    """Mean of one image's features (C, H, W) with a label, or None."""
    found = features[:, np.asarray(labels) == label]
    return found.mean(1) if found.size else None


def contrast(query, key, queue, temperature):
    """InfoNCE of one query."""
    positive = math.exp(query @ key / temperature)
    negatives = sum(math.exp(query @ other / temperature) for other in queue)
    return -math.log(positive / (positive + negatives))


def enqueue(queue, pointer, keys, valid):
    """The ring after a step, and its pointer."""
    queue = [*queue]
    for key, is_valid in zip(keys, valid, strict=True):
        if is_valid:
            queue[pointer] = key
            pointer = (pointer + 1) % len(queue)
    return queue, pointer
