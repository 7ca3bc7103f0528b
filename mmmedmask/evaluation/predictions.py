"""The predictions of a classifier as a csv file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from mmmedmask.evaluation import tables
from mmmedmask.util.atomic_files import write_csv

COLUMNS = ('path', 'label', 'group', 'predicted')


@dataclass(frozen=True)
class Predictions:
    """What a classifier said about a data set.

    Attributes:
        paths: The images, N.
        labels: True classes, integers of shape (N,).
        scores: Probability of each class, shape (N, C).
        groups: The group (patient, lesion) of each image, or None.
    """

    paths: Sequence[str]
    labels: np.ndarray
    scores: np.ndarray
    classes: Sequence[str]
    groups: Sequence[str] | None = None


def relative_path(path: str, root: str | None) -> str:
    """Cut a folder, if a path is below it, off; with forward slashes then."""
    if root is None:
        return path
    absolute, folder = Path(path).absolute(), Path(root).absolute()
    return absolute.relative_to(folder).as_posix() \
        if absolute.is_relative_to(folder) else path


def write_predictions(file: str | Path, predictions: Predictions) -> None:
    """Write predictions, whole or not at all.

    The columns are ``path, label, group, predicted`` (classes by name, the
    group empty if there are none) and one ``probability CLASS`` per class,
    with the nine digits that tell every float32 from its neighbours.
    """
    classes = list(predictions.classes)
    predicted = predictions.scores.argmax(axis=1)
    groups = predictions.groups or [''] * len(predictions.paths)
    write_csv(file, [*COLUMNS, *tables.probability_columns(classes)],
              [[path, classes[label], group, classes[guess],
                *tables.probability_cells(scores)]
               for path, label, group, guess, scores in zip(
                   predictions.paths, predictions.labels, groups, predicted,
                   predictions.scores, strict=True)])


def read_predictions(file: str | Path) -> Predictions:
    """Read what :func:`write_predictions` wrote.

    ``groups`` is None if the column is empty; only some of them is an error.
    """
    rows, classes, labels, scores = tables.read_class_table(
        file, COLUMNS, 'table of predictions')
    groups = [row['group'] for row in rows]
    if any(groups) and not all(groups):
        raise ValueError(f'{file} gives {groups.count("")} of {len(rows)} '
                         'images no group, and the others one')
    return Predictions(paths=[row['path'] for row in rows], labels=labels,
                       scores=scores, classes=classes,
                       groups=groups if any(groups) else None)


def select_listed(predictions: Predictions,
                  split_file: str | Path) -> Predictions:
    """Keep the images that a split file lists, in its order.

    It is a csv of ``path``, relative to the data root, and ``label``. A
    ValueError names an image that is listed twice or not predicted, has
    another label, or may mean several predictions.
    """
    rows = tables.read_located_rows(split_file, ('path', 'label'), 'split')
    # Paths of predictions may begin with the data root: match from the end.
    by_name: dict[tuple[str, ...], list[int]] = {}
    for index, path in enumerate(predictions.paths):
        by_name.setdefault(_parts(path)[-1:], []).append(index)
    indices, missing = [], []
    for _, row in rows:
        path, parts = row['path'], _parts(row['path'])
        alike = [index for index in by_name.get(parts[-1:], [])
                 if _parts(predictions.paths[index])[-len(parts):] == parts]
        if not alike:
            missing.append(path)
            continue
        if len(alike) > 1:
            raise ValueError(
                f'{path} of {split_file} may mean several predictions: '
                f'{[predictions.paths[index] for index in alike]}')
        if alike[0] in indices:
            raise ValueError(f'{split_file} lists {path} twice')
        label = predictions.classes[predictions.labels[alike[0]]]
        if label != row['label']:
            raise ValueError(f'{path} is {row["label"]!r} in {split_file}, '
                             f'but {label!r} in the predictions')
        indices += alike
    if missing:
        raise ValueError(
            f'{len(missing)} of {len(rows)} images of {split_file} have no '
            f'prediction: {", ".join(missing[:5])}')
    return Predictions(
        [predictions.paths[index] for index in indices],
        predictions.labels[indices], predictions.scores[indices],
        predictions.classes, predictions.groups and [
            predictions.groups[index] for index in indices])


def _parts(path: str) -> tuple[str, ...]:
    return PurePosixPath(path.replace('\\', '/')).parts
