"""The dataset bases of GlaS and CRAG read what our writers write."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner

from mmmedmask.datasets.image_io import ImageFileError, read_image
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


def test_mmdets_inferencer_takes_the_place_of_the_loader(glands):
    from mmdet.apis import DetInferencer
    config = Config.fromfile(BASES / 'glas_instance.py')
    config.test_dataloader.dataset.data_root = str(glands)
    with DefaultScope.overwrite_default_scope('mmdet'):
        data = DATASETS.build(config.test_dataloader.dataset)[0]
        pipeline = object.__new__(DetInferencer)._init_pipeline(config)
    path = data['data_samples'].img_path
    for given in (path, read_image(path)[..., ::-1]):
        assert torch.equal(pipeline(given)['inputs'], data['inputs'])


def test_a_damaged_image_ends_a_detection_with_its_name(tmp_path):
    import mmdet.datasets  # noqa: F401
    root = write_gland_dataset(tmp_path, 2, 1, size=SIZE)
    for path in (root / 'images/train').iterdir():
        path.write_bytes(path.read_bytes()[:-200])
    settings = Config.fromfile(BASES / 'glas_instance.py').train_dataloader
    settings.dataset.data_root = str(root)
    settings.update(num_workers=1)
    with DefaultScope.overwrite_default_scope('mmdet'):
        loader = Runner.build_dataloader(settings, seed=0)
        with pytest.raises(ImageFileError, match=r'\d+\.png: .*truncated'):
            next(iter(loader))
