"""The dataset bases of GlaS and CRAG read what our writers write."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mmmedmask.datasets.image_io import read_image
from mmmedmask.phantoms.glands import write_gland_dataset

BASES = Path(__file__).resolve().parents[2] / 'configs/_base_/datasets'
SIZE = (96, 128)


@pytest.fixture(scope='module')
def glands(tmp_path_factory):
    return write_gland_dataset(
        tmp_path_factory.mktemp('glands'), 2, 2, size=SIZE)


@pytest.mark.parametrize('name', ['glas', 'crag'])
def test_masks_arrive_in_mmdet_pixel_by_pixel(name, glands):
    import mmdet.datasets  # noqa: F401

    config = Config.fromfile(BASES / f'{name}_instance.py')
    settings = config.train_dataloader.dataset
    settings.data_root = str(glands)
    # Neither resized nor flipped, so that masks can be compared.
    for transform in settings.pipeline:
        if transform.type == 'RandomResize':
            transform.update(type='Resize', scale=SIZE[::-1])
        elif transform.type == 'RandomFlip':
            transform.prob = 0.0
    # No other default scope: it would stay for later tests.
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(settings)
    assert len(dataset) == 2
    assert dataset.metainfo['classes'] == ('gland', )
    for sample in dataset:
        data_sample = sample['data_samples']
        path = Path(data_sample.img_path)
        labels = read_image(glands / 'masks/train' / path.name)[..., 0]
        instances = data_sample.gt_instances
        assert len(instances) == labels.max()
        assert set(instances.labels.tolist()) == {0}
        for number, (mask, box) in enumerate(
                zip(instances.masks.masks, instances.bboxes.tensor.tolist(),
                    strict=True), start=1):
            np.testing.assert_array_equal(mask, labels == number)
            rows, columns = np.nonzero(labels == number)
            assert box == [columns.min(), rows.min(), columns.max() + 1,
                           rows.max() + 1]
        # mmdet reads BGR; the preprocessor turns it round.
        np.testing.assert_array_equal(
            sample['inputs'].numpy()[::-1].transpose(1, 2, 0),
            read_image(path))


@pytest.mark.parametrize('name', ['glas', 'crag'])
def test_tests_see_every_image(name):
    config = Config.fromfile(BASES / f'{name}_instance.py')
    assert 'filter_cfg' not in config.test_dataloader.dataset
    assert config.train_dataloader.dataset.filter_cfg.filter_empty_gt
    assert config.test_evaluator.ann_file.endswith(
        config.test_dataloader.dataset.ann_file)
    assert config.test_evaluator.metric == ['bbox', 'segm']
