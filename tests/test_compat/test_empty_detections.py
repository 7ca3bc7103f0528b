"""A detector that finds nothing has an average precision of 0."""

import json

import numpy as np
import pytest

pytest.importorskip('mmdet')


def test_nothing_detected_is_no_score_left_out(tmp_path):
    from mmdet.evaluation import CocoMetric
    (tmp_path / 'glands.json').write_text(json.dumps(dict(
        images=[dict(id=1, width=64, height=64, file_name='a.png')],
        categories=[dict(id=1, name='gland')],
        annotations=[dict(id=1, image_id=1, category_id=1, iscrowd=0,
                          bbox=[4, 4, 40, 40], area=1600,
                          segmentation=[[4, 4, 44, 4, 44, 44, 4, 44]])])))
    metric = CocoMetric(ann_file=str(tmp_path / 'glands.json'),
                        metric=['bbox', 'segm'])
    metric.dataset_meta = dict(classes=('gland', ))
    nothing = dict(img_id=1, bboxes=np.zeros((0, 4)), scores=np.zeros(0),
                   labels=np.zeros(0, int), masks=[])
    one = dict(img_id=1, bboxes=np.array([[4., 4., 44., 44.]]),
               scores=np.ones(1), labels=np.zeros(1, int))
    shape = dict(width=64, height=64, img_id=1)
    scores = metric.compute_metrics([(shape, nothing)])
    assert scores['bbox_mAP'] == scores['segm_mAP_50'] == 0
    # No gland is small, so that there is no precision of small ones.
    assert scores['bbox_mAP_s'] == -1
    metric.metrics = ['bbox']
    assert metric.compute_metrics([(shape, one)])['bbox_mAP'] == 1
