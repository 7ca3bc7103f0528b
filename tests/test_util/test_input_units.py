"""What a network sees of pictures, by its preprocessor and its loader."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from shipped_configs import load

from mmmedmask.util.input_units import (
    InputUnits,
    input_units,
    units_of_config,
)
from mmmedmask.util.nested import nested_dicts

LOAD_BGR = dict(type='LoadImageFromFile')
GIVEN = dict(mean=[1., 2., 3.], std=[4., 5., 6.])


def config_of(preprocessor, loader=None, **backbone):
    loaders = {} if loader is None else dict(train_dataloader=dict(
        dataset=dict(dataset=dict(pipeline=[loader, dict(type='Pack')]))))
    model = dict(type='A', backbone=dict(backbone, type='B'))
    if preprocessor is not None:
        model['data_preprocessor'] = preprocessor
    return dict(model=model, default_scope='mmpretrain', **loaders)


def units(mean=(1., 2., 3.), std=(4., 5., 6.), data_range=255., bgr=False):
    return InputUnits(mean, std, data_range, bgr)


PLAIN = units((0., ) * 3, (1., ) * 3)


@pytest.mark.parametrize(('preprocessor', 'loader', 'expected'), [
    # Of 16 bits, by what is said, by the loader, by the mean.
    (dict(GIVEN, data_range=100), None, units(data_range=100.)),
    (GIVEN, dict(type='mmmedmask.LoadTile', dtype='uint16'),
     units(data_range=65535.)),
    (dict(mean=[900.], std=[300.]), None,
     units((900., ), (300., ), 65535.)),
    (GIVEN, dict(type='mmmedmask.LoadTile', dtype='float32', window=(40, 9)),
     units(data_range=1.)),
    (GIVEN, dict(type='mmmedmask.LoadTile', dtype='float32', data_range=3),
     units(data_range=3.)),
    (GIVEN, dict(type='mmmedmask.LoadTile', dtype='uint16', data_range=4095),
     units(data_range=4095.)),
    # Of floats it is not known without a window, nor of means below 0.
    (GIVEN, dict(type='mmmedmask.LoadTile', dtype='float32'),
     units(data_range=None)),
    (dict(GIVEN, data_range=2), dict(
        type='mmmedmask.LoadTile', dtype='float32'), units(data_range=2.)),
    (dict(mean=[-300.], std=[400.]), None, units((-300., ), (400., ), None)),
    # Nothing is subtracted where no mean is.
    (dict(type='ClsDataPreprocessor'), None, PLAIN), (None, None, PLAIN),
    (dict(type='mmmedmask.CMIMDataPreprocessor'), None, InputUnits()),
    (dict(type='mmmedmask.ConCLDataPreprocessor', std=[1.] * 3), None,
     units((123.675, 116.28, 103.53), (1., ) * 3)),
    (dict(type='OfAnotherProject'), None, InputUnits()),
    # Channels, by the loader and by what reverses them.
    (dict(GIVEN, bgr_to_rgb=False), LOAD_BGR, units(bgr=True)),
    (dict(GIVEN, bgr_to_rgb=True), LOAD_BGR, units()),
    (dict(GIVEN, to_rgb=True), dict(type='mmmedmask.LoadTile'),
     units(bgr=True)),
    (GIVEN, dict(type='mmmedmask.LoadTile'), units()), (GIVEN, None, units()),
    (dict(mean=[9.], std=[2.]), LOAD_BGR, units((9., ), (2., )))])
def test_a_config_and_what_it_builds_say_the_same(
        preprocessor, loader, expected):
    config = config_of(preprocessor, loader)
    assert units_of_config(config) == expected
    if preprocessor and 'OfAnother' not in preprocessor.get('type', ''):
        init_default_scope('mmpretrain')
        kind = 'mmmedmask.CMIMDataPreprocessor' if 'data_range' in \
            preprocessor else 'SelfSupDataPreprocessor'
        built = MODELS.build(dict(dict(type=kind), **preprocessor))
        found = input_units(built, config)
        assert (found.mean, found.std) == (
            pytest.approx(expected.mean), pytest.approx(expected.std))
        assert (found.data_range, found.bgr) == (
            expected.data_range, expected.bgr)


@pytest.mark.parametrize('name', [
    'cmim_resnet18_8xb32-coslr-800e_nct',
    'concl_resnet18_8xb32-coslr-800e_nct'])
@pytest.mark.parametrize('preprocessor', [
    None, dict(view_size=64), dict(std=[1.] * 3)])
def test_models_that_fill_in_their_preprocessor(name, preprocessor):
    config = load(name)
    config.model.data_preprocessor = preprocessor
    init_default_scope(config.default_scope)
    expected = input_units(MODELS.build(config.model).data_preprocessor,
                           config)
    found = units_of_config(config)
    assert found.mean == pytest.approx(expected.mean)
    assert found.std == pytest.approx(expected.std)
    assert (found.data_range, found.bgr) == (
        expected.data_range, expected.bgr)
    assert found.mean == InputUnits.mean


@pytest.mark.parametrize('name', [
    'beitv2_vit-small-p16_8xb32-coslr-800e_nct',
    'cmim_resnet18_8xb32-coslr-800e_nct',
    'concl_resnet18_8xb32-coslr-800e_nct',
    'densecl_resnet18_8xb32-coslr-200e_nct',
    'mae_fsdp_vit-small-p16_8xb32-coslr-800e_nct',
    'msmae_vit-base-p16_1xb64-coslr-300e_brain-tumor-mri',
    'setr-plain_msmae-vit-base-p16_1xb8-200e_busi'])
def test_floats_of_every_method_can_be_given_a_range(name):
    config = load(name)
    loaders = [step for step in nested_dicts(config.train_dataloader)
               if step.get('type') == 'mmmedmask.LoadTile']
    for more, expected in (({}, None), (dict(data_range=2), 2.)):
        for step in loaders:
            step.update(dtype='float32', **more)
        init_default_scope(config.default_scope)
        built = MODELS.build(config.model.get('data_preprocessor')
                             or config.data_preprocessor)
        assert input_units(built, config).data_range == expected
        assert units_of_config(config).data_range == expected


def test_what_belongs_to_a_model_alone():
    assert units_of_config({}) == InputUnits()
    assert units_of_config(config_of(None, in_channels=2)).mean == (0., 0.)
    # The order is not known where other steps change it.
    turned = config_of(GIVEN, dict(LOAD_BGR, to_rgb=True))
    assert not units_of_config(turned).bgr
    whole = units(bgr=True)
    assert input_units(whole) == whole
    unknown = units(data_range=None)
    assert input_units(unknown) == unknown
    with pytest.raises(ValueError, match=r'the export needs .*1\.0, 2\.0.*'
                       r'LoadTile\(data_range=\.\.\.\)'):
        unknown.known_range('the export')
    assert input_units(torch.nn.Identity()) == PLAIN
