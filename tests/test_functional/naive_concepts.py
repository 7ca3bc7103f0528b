"""ConCL's functions again, slowly: one image, one cell, one key at a time."""

import math

import numpy as np


def unit(vector):
    return vector / max(np.linalg.norm(vector), 1e-12)


def kmeans(features, start, iterations):
    """Labels and centroids of one image's features (N, C)."""
    features = [unit(feature) for feature in features]
    centroids = [features[index] for index in start]

    def nearest(feature):
        similarities = [feature @ centroid for centroid in centroids]
        best = max(similarities)
        return similarities.index(best), best

    for _ in range(iterations):
        found = [nearest(feature) for feature in features]
        worst = sorted(range(len(features)), key=lambda n: found[n][1])
        moved = []
        for cluster in range(len(centroids)):
            members = [feature for feature, (label, _) in
                       zip(features, found, strict=True) if label == cluster]
            if not members:
                members = [features[worst.pop(0)]]
            moved.append(unit(sum(members) / len(members)))
        centroids = moved
    return [nearest(feature)[0] for feature in features], centroids


def carry(labels, num_labels, theta, size):
    """Labels of one image's map on the grid of a view, by areas."""
    height, width = labels.shape
    carried = np.full(size, -1)
    for row in range(size[0]):
        for column in range(size[1]):
            # The cell's corners, in cells of the reference.
            x = sorted((theta[0, 0] * (2 * edge / size[1] - 1) +
                        theta[0, 2] + 1) / 2 * width
                       for edge in (column, column + 1))
            y = sorted((theta[1, 1] * (2 * edge / size[0] - 1) +
                        theta[1, 2] + 1) / 2 * height
                       for edge in (row, row + 1))
            area = [0.] * num_labels
            for i in range(height):
                for j in range(width):
                    inside_y = min(y[1], i + 1) - max(y[0], i)
                    inside_x = min(x[1], j + 1) - max(x[0], j)
                    if inside_x > 0 and inside_y > 0:
                        area[labels[i, j]] += inside_x * inside_y
            if max(area) > 1e-9:
                carried[row, column] = area.index(max(area))
    return carried


def pool(features, labels, label):
    """Mean of one image's features (C, H, W) with a label, or None."""
    found = [features[:, row, column] for row in range(labels.shape[0])
             for column in range(labels.shape[1])
             if labels[row, column] == label]
    return sum(found) / len(found) if found else None


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
