"""A detector that finds nothing has an average precision of 0.

One that has not seen all images is told so.
"""

import json

import numpy as np
import pytest
from mmengine.logging import MMLogger

pytest.importorskip('mmdet')


def gland_metric(tmp_path, images):
    from mmdet.evaluation import CocoMetric
    (tmp_path / 'glands.json').write_text(json.dumps(dict(
        images=[dict(id=number, width=64, height=64, file_name='a.png')
                for number in range(1, images + 1)],
        categories=[dict(id=1, name='gland')],
        annotations=[dict(id=1, image_id=1, category_id=1, iscrowd=0,
                          bbox=[4, 4, 40, 40], area=1600,
                          segmentation=[[4, 4, 44, 4, 44, 44, 4, 44]])])))
    metric = CocoMetric(ann_file=str(tmp_path / 'glands.json'),
                        metric=['bbox', 'segm'])
    metric.dataset_meta = dict(classes=('gland', ))
    return metric


def test_nothing_detected_is_no_score_left_out(tmp_path):
    metric = gland_metric(tmp_path, 1)
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


def test_images_without_a_result_are_told(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'filters', [
        lambda record: said.append(record.getMessage())])
    result = dict(img_id=1, bboxes=np.zeros((0, 4)), scores=np.zeros(0),
                  labels=np.zeros(0, int), masks=[])
    for images in (1, 3):
        gland_metric(tmp_path, images).compute_metrics(
            [(dict(width=64, height=64, img_id=1), result)])
    text, = [text for text in said if 'ann_file' in text]
    assert '2 of the 3 images' in text
