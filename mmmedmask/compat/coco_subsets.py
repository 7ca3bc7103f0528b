"""Say that detections were looked for in a part of the images only.

mmdet's ``CocoMetric`` counts the objects of all images of its file, also of
those that ``indices`` of the data set leaves out, as missed (no upstream
issue).

Delete when ``CocoMetric`` leaves them out or says so.
"""

from mmmedmask.compat.replacing import replaces


def count_unseen_images() -> None:
    """Let ``CocoMetric.compute_metrics`` warn of images without a result."""
    from mmdet.evaluation.metrics.coco_metric import CocoMetric
    from mmengine.logging import print_log

    @replaces(CocoMetric, 'compute_metrics')
    def compute(compute_metrics, self, results):
        scores = compute_metrics(self, results)
        seen = {result['img_id'] for _, result in results}
        unseen = [name for name in self.img_ids if name not in seen]
        if unseen:
            print_log(
                f'CocoMetric: {len(unseen)} of the {len(self.img_ids)} images '
                'of its ann_file are not in the data set (indices, '
                'filter_cfg?). Their objects count as missed, so precision '
                'and recall are too low: give it an ann_file of these images',
                'current', 30)
        return scores
