"""Give a detector that finds nothing an average precision of 0.

COCO's API cannot load an empty list of detections. mmdet's ``CocoMetric`` then
reports no scores at all, so that no epoch is the best and a table has an empty
cell, as in mmdetection#6265 and mmengine#845. Delete when it reports 0.
"""

import copy

from mmmedmask.compat.replacing import replaces


def load_empty_detections() -> None:
    """Let mmdet's ``COCO.loadRes`` take an empty list."""
    from mmdet.datasets.api_wrappers.coco_api import COCO

    @replaces(COCO, 'loadRes')
    def load_results(load, self, detections):
        if not isinstance(detections, list) or detections:
            return load(self, detections)
        results = copy.copy(self)
        results.dataset = {**self.dataset, 'annotations': []}
        results.createIndex()
        return results
