"""Scores of pycocotools, as logs and manifests have them."""

import math


def defined_score(name: str, value: float | str) -> float:
    """Read a score of a log, NaN where pycocotools says -1.

    It does so of ``coco/*`` where there is no truth, such as no object of a
    size. ``value`` may be text, as ``'nan'`` in a manifest.

    Example:
        >>> defined_score('coco/bbox_mAP_s', -1.0)
        nan
        >>> defined_score('loss', -1.0)
        -1.0
    """
    value = float(value)
    return math.nan if 'coco/' in name and value == -1 else value
