"""The bases for labelled images agree with the converters and the paper."""

from pathlib import Path

import pytest
from labelled_downloads import SMALL_DOWNLOADS, SOURCES
from mmengine.config import Config

from mmmedmask.datasets.conversion.labelled_conversion import prepare
from mmmedmask.registry import DATASETS

BASES = Path(__file__).resolve().parents[2] / 'configs/_base_/datasets'


@pytest.fixture(scope='module')
def converted(tmp_path_factory):
    root = tmp_path_factory.mktemp('converted')
    for name, source in SOURCES.items():
        SMALL_DOWNLOADS[name](root / 'in' / name)
        prepare(source, root / 'in' / name, root / name).write(root / name)
    return root


@pytest.mark.parametrize('name', SOURCES)
@pytest.mark.parametrize(('kind', 'batch'), [('images', 64), ('cls', 256)])
def test_base_reads_what_the_converter_writes(converted, name, kind, batch):
    cfg = Config.fromfile(BASES / f'{name}_{kind}.py')
    assert cfg.num_classes == len(SOURCES[name].classes)
    assert cfg.data_root == f'data/{name}/'
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.train_dataloader.drop_last
    loaders = [cfg.train_dataloader]
    if kind == 'cls':
        assert not cfg.val_dataloader.drop_last
        assert cfg.test_dataloader == cfg.val_dataloader
        assert cfg.val_evaluator.get('graded', False) == (name == 'messidor2')
        loaders.append(cfg.val_dataloader)
    for loader in loaders:
        loader.dataset.update(
            data_root=str(converted / name), serialize_data=False)
        dataset = DATASETS.build(loader.dataset)
        assert dataset.metainfo['classes'] == SOURCES[name].classes
        sample = dataset[0]
        assert sample['inputs'].shape == (3, 224, 224)
        meta = sample['data_samples']
        assert ('crop_box' in meta) == (loader is cfg.train_dataloader)
        # Intervals are drawn by group.
        assert ('group' in meta) == (loader is not cfg.train_dataloader)


@pytest.mark.parametrize('name', SOURCES)
def test_whole_images_are_squashed_and_say_so(converted, name):
    cfg = Config.fromfile(BASES / f'{name}_images.py')
    pipeline = cfg.train_dataloader.dataset.pipeline
    cfg.train_dataloader.dataset.update(
        data_root=str(converted / name), serialize_data=False,
        pipeline=cfg.whole_image_pipeline)
    meta = DATASETS.build(cfg.train_dataloader.dataset)[0]['data_samples']
    assert tuple(meta.crop_box) == (0, 0, 1, 1)
    assert not meta.flip
    # Pre-training and fine-tuning are augmented alike.
    other = Config.fromfile(BASES / f'{name}_cls.py')
    assert pipeline == other.train_dataloader.dataset.pipeline
    _, crop, flip, _ = pipeline
    assert tuple(crop.crop_ratio_range) == (0.2, 1.0)
    assert crop.interpolation == 'bicubic'
    assert flip.prob == 0.5
