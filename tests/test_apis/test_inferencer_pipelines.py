"""How inferencers load an image, with every shipped config and no model."""

from argparse import Namespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS, DefaultScope
from PIL import Image
from shipped_configs import CONFIGS, read

from mmmedmask.apis.inferencers import (
    EmbeddingInferencer,
    Inferencer,
    ReconstructionInferencer,
    describe,
    keep_whole,
    list_inputs,
)
from mmmedmask.datasets.image_io import write_image
from mmmedmask.util.nested import nested_dicts


def inferencer_of(config):
    """An inferencer that lacks its model."""
    infer = object.__new__(Inferencer)
    infer.config = config
    infer.scope = config.get('default_scope') or 'mmengine'
    return infer


@pytest.fixture(scope='module')
def configs():
    """Those with images, by name; alike ones once."""
    found = {}
    for path in sorted(set(CONFIGS.rglob('*.py'))
                       - set(CONFIGS.glob('_base_/**/*.py'))):
        config = read(path)
        if 'backbone' in config.model:
            loaders = [config.get(f'{split}_dataloader')
                       for split in ('test', 'val', 'train')]
            loaders.append(config.get('default_hooks'))
            steps = [node['pipeline'] for node in nested_dicts(loaders)
                     if 'pipeline' in node]
            found.setdefault(repr((
                config.get('default_scope'), steps,
                config.get('data_preprocessor'),
                config.model.get('data_preprocessor'))), path)
    assert len(found) > 40
    return {path.stem: read(path) for path in found.values()}


def loader_of(config):
    """Arguments of the transform that loads a config's images."""
    return next(node for node in nested_dicts(
        [config.get('test_dataloader'), config.get('train_dataloader')])
        if node.get('type') in (
            'mmmedmask.LoadTile', 'mmmedmask.LoadImageFromFile'))


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """An array for each number of channels and type, and its file."""
    folder = tmp_path_factory.mktemp('pictures')

    def get(loader):
        channels, dtype = loader.get('in_channels', 3), loader.get(
            'dtype', 'uint8')
        pixels = np.random.default_rng(0).integers(
            0, 256, (61, 83, channels)).astype(dtype)
        file = folder / f'{channels}_{dtype}.tif'
        if not file.exists():
            write_image(file, pixels)
        return pixels, file

    return get


def test_a_file_an_array_and_a_picture_are_loaded_alike(configs, pictures):
    for name, config in configs.items():
        pixels, file = pictures(loader_of(config))
        given = [file, pixels]
        if pixels.dtype == np.uint8 and pixels.shape[2] in (1, 3):
            given.append(Image.fromarray(pixels.squeeze()))
        infer = inferencer_of(config)
        pipeline = infer.pipeline()
        with DefaultScope.overwrite_default_scope(infer.scope):
            found = [pipeline(describe(image, number)) for number, image
                     in enumerate(list_inputs([*given, pixels]))]
        for sample in found:
            assert np.array_equal(sample['inputs'], found[0]['inputs']), name


def test_validation_goes_before_a_hook(pictures):
    """The hook's resizing is bilinear."""
    config = read('vit-mini-p8_scratch_1xb64-6e_ham10000')
    steps = config.test_dataloader.dataset.pipeline
    assert steps != config.default_hooks.lesion_coverage.pipeline
    assert repr(inferencer_of(config).pipeline()) == repr(Compose(steps))


def test_the_size_of_training_stays():
    for steps, size in (
            ([dict(type='RandomResizedCrop', scale=(30, 20))], (20, 30)),
            ([dict(type='mmmedmask.RandomFlip'),
              dict(type='mmmedmask.RandomResizedCrop', scale=(30, 20))],
             (30, 20)),
            ([dict(type='MultiView', transforms=[[dict(
                type='Crops', scale=(.2, 1.), size=24)]])], 24)):
        _, resize, _ = keep_whole([dict(type='mmmedmask.LoadTile'), *steps,
                                   dict(type='PackInputs')])
        assert resize == dict(type='mmmedmask.ResizeImage', scale=size)


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet'])
def test_a_config_that_loads_no_whole_images_is_refused(scope):
    loader = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile')]))
    config = Config(dict(default_scope=scope, **(
        dict(train_dataloader=loader) if scope == 'mmdet' else {})))
    with pytest.raises(ValueError, match='how to load images'):
        inferencer_of(config).pipeline()


def test_views_that_loaders_make_are_reconstructed(pictures):
    infer = inferencer_of(read(
        'cmim_loader-views_resnet18_8xb32-coslr-800e_nct'))
    _, file = pictures({})
    assert infer.pipeline()(describe(file, 0))['inputs'].shape == (3, 61, 83)
    infer.__class__ = ReconstructionInferencer
    assert infer.pipeline()(describe(file, 0))['inputs'].shape == (
        2, 3, 224, 224)


def test_every_preprocessor_normalises_images(configs, pictures):
    """Those of mmpretrain's pre-training take a list for several views."""
    for name, config in configs.items():
        _, file = pictures(loader_of(config))
        infer = inferencer_of(config)
        infer.__class__ = EmbeddingInferencer
        pipeline = infer.pipeline()
        with DefaultScope.overwrite_default_scope(infer.scope):
            infer.model = Namespace(data_preprocessor=MODELS.build(
                dict(type='ClsDataPreprocessor') | dict(
                    config.model.get('data_preprocessor')
                    or config.data_preprocessor)))
            samples = [pipeline(describe(file, place)) for place in range(2)]
            one, two = (infer._prepared(pseudo_collate(samples[:count]))
                        for count in (1, 2))
        assert two.dtype == torch.float32, name
        assert two.shape[:2] == (2, samples[0]['inputs'].shape[0]), name
        assert torch.equal(two, one.expand_as(two)), name
        mean = infer.model.data_preprocessor.mean
        assert mean is None or abs(two.mean()) < 3, name


def test_several_views_of_an_image_are_refused(pictures):
    _, file = pictures({})
    steps = [dict(type='mmmedmask.LoadTile'),
             dict(type='MultiView', num_views=2, transforms=[[]]),
             dict(type='PackInputs', meta_keys=())]
    infer = inferencer_of(Config(dict(
        default_scope='mmpretrain',
        test_dataloader=dict(dataset=dict(pipeline=steps)))))
    with pytest.raises(ValueError, match='several views'):
        next(infer.batches([file], 1, False))
