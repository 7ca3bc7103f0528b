"""Classes of COCO data sets: their order, unknown ones, images without."""

import json

import numpy as np
import pytest
from mmengine.logging import MMLogger

pytest.importorskip('mmdet')


@pytest.fixture
def ann_file(tmp_path):
    """A gland of the first image, a lumen of the second, an empty third."""
    file = tmp_path / 'two.json'
    shape = dict(width=64, height=64)
    file.write_text(json.dumps(dict(
        images=[dict(shape, id=number, file_name=f'{number}.png')
                for number in (1, 2, 3)],
        categories=[dict(id=4, name='gland'), dict(id=9, name='lumen')],
        annotations=[
            dict(id=number, image_id=number, category_id=category, iscrowd=0,
                 bbox=[4, 4, 40, 40], area=1600,
                 segmentation=[[4, 4, 44, 4, 44, 44, 4, 44]])
            for number, category in ((1, 4), (2, 9))])))
    return str(file)


@pytest.fixture
def read(ann_file):
    from mmdet.datasets import CocoDataset

    def read(classes, **options):
        return CocoDataset(ann_file=ann_file, metainfo=dict(classes=classes),
                           data_prefix=dict(img=''), pipeline=[], **options)

    return read


@pytest.mark.parametrize('classes', [
    ('gland', 'lumen'), ('lumen', 'gland'), ('lumen', ), 'lumen'])
def test_a_label_is_the_place_of_its_name(classes, read, ann_file):
    data = read(classes)
    names = [classes] if isinstance(classes, str) else list(classes)
    for index, name in enumerate(('gland', 'lumen')):
        assert [names[one['bbox_label']] for one in data.get_data_info(
            index)['instances']] == [name] * (name in names)


def test_the_metric_scores_by_the_same_labels(ann_file):
    from mmdet.evaluation import CocoMetric
    metric = CocoMetric(ann_file=ann_file, metric='bbox', classwise=True)
    metric.dataset_meta = dict(classes=('lumen', 'gland'))
    results = [(
        dict(shape, img_id=number), dict(
            img_id=number, bboxes=np.array([[4., 4., 44., 44.]]),
            scores=np.ones(1), labels=np.array([label])))
        for shape in [dict(width=64, height=64)]
        for number, label in ((1, 1), (2, 0))]
    scores = metric.compute_metrics(results)
    assert scores['lumen_precision'] == scores['gland_precision'] == 1


def test_without_names_the_order_is_that_of_the_file(ann_file):
    from mmdet.datasets.api_wrappers import COCO
    coco = COCO(ann_file)
    assert coco.get_cat_ids() == [4, 9]
    assert coco.get_cat_ids(cat_names=['lumen', 'gland']) == [9, 4]
    assert coco.get_cat_ids(cat_ids=[9]) == [9]


@pytest.mark.parametrize('test_mode', [False, True])
def test_a_class_that_the_file_lacks(read, test_mode):
    with pytest.raises(ValueError, match=r"no category 'glands', but "
                       r"\['gland', 'lumen'\]; .* Did you mean gland\?"):
        read(('lumen', 'glands'), test_mode=test_mode)


def test_last_classes_may_lack(read):
    """As of a test set of another hospital; the others keep their places."""
    data = read(('lumen', 'gland', 'vessel'))
    assert [[one['bbox_label'] for one in data.get_data_info(
        index)['instances']] for index in range(2)] == [[1], [0]]
    with pytest.raises(ValueError, match="no category 'vessel'"):
        read(('vessel', 'gland', 'lumen'))


def test_images_left_out_are_counted(read):
    said = []
    MMLogger.get_current_instance().addFilter(
        lambda record: said.append(record.msg))
    assert len(read(('gland', ))) == 3
    assert said == []
    assert len(read(('gland', ),
                    filter_cfg=dict(filter_empty_gt=True))) == 1
    assert 'two.json: 2 of 3 images are left out, without an instance of ' \
        "('gland',)" in said[0]
    with pytest.raises(ValueError, match=r'data set is empty: .*two.json: 3 '
                       r'of 3 images .*min_size'):
        read(('gland', ), filter_cfg=dict(min_size=99))
