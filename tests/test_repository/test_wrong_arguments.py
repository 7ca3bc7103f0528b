"""What is registered names an argument that it cannot use.

Hooks have a table of their own, ``test_engine/test_hooks/
test_bad_arguments.py``. Here stand values that libraries below would take.
"""

import math

import pytest

from mmmedmask import registry

VIT = dict(img_size=32, patch_size=8, arch=dict(
    embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32))
DECODER = dict(img_size=32, patch_size=8, encoder_dims=16, embed_dims=16,
               num_layers=1, num_heads=2)
HEAD = dict(patch_size=8, num_classes=2, embed_dims=16)
PAIR = dict(image_dims=8, gene_dims=8)
LEVELS = dict(in_channels=[8], strides=[4], offsets=[1.5])
#: Arguments that build a class, by its registry and name.
VALID = {
    ('DATA_SAMPLERS', 'BlockShuffleSampler'): dict(dataset=range(4)),
    ('METRICS', 'DiseaseClassification'): {},
    ('METRICS', 'SlideClassification'): {},
    ('METRICS', 'SurvivalConcordance'): {},
    ('MODELS', 'ABMIL'): dict(in_dims=8),
    ('MODELS', 'BEiTFeatureViT'): VIT,
    ('MODELS', 'CMIMConvNeXt'): dict(arch='atto'),
    ('MODELS', 'CMIMDataPreprocessor'): {},
    ('MODELS', 'CMIMNeck'): dict(LEVELS, embed_dims=16, num_heads=2),
    ('MODELS', 'CoxHead'): dict(in_dims=8),
    ('MODELS', 'InfoNCEHead'): {},
    ('MODELS', 'KroneckerFusion'): PAIR,
    ('MODELS', 'MGCAHead'): PAIR,
    ('MODELS', 'MSMAEDecoder'): DECODER,
    ('MODELS', 'MSMAEHead'): HEAD,
    ('MODELS', 'MSMAEViT'): VIT,
    ('MODELS', 'NystromAggregator'): dict(in_dims=8, embed_dims=16),
    ('MODELS', 'SlideOmicHead'): dict(in_dims=8, num_classes=2),
    ('MODELS', 'TripletHead'): {},
    ('TRANSFORMS', 'ColorJitter'): {},
    ('TRANSFORMS', 'GenerateSequenceMask'): {},
    ('TRANSFORMS', 'LoadTile'): {},
    ('TRANSFORMS', 'RandomFlip'): {},
}


def build(place, **wrong):
    kind, name = place
    return getattr(registry, kind).build(
        dict(VALID[place], type=f'mmmedmask.{name}') | wrong)


@pytest.mark.parametrize('place', VALID, ids=lambda place: place[1])
def test_what_is_valid_is_built(place):
    assert type(build(place)).__name__ == place[1]


@pytest.mark.parametrize(('name', 'argument', 'values'), [
    ('ABMIL', 'drop_rate', [math.nan, 1.5, 'a']),
    ('BEiTFeatureViT', 'drop_path_rate', [-3., math.nan]),
    ('BEiTFeatureViT', 'frozen_stages', [-3, math.nan]),
    ('BEiTFeatureViT', 'img_size', [-3, 0]),
    ('BEiTFeatureViT', 'in_channels', [0, 'a']),
    ('BEiTFeatureViT', 'layer_scale_init_value', [-3., math.inf]),
    ('BlockShuffleSampler', 'seed', [-1, 'a', 1.5]),
    ('CMIMConvNeXt', 'out_indices', [[-1], [], 'abc', [4]]),
    ('CMIMDataPreprocessor', 'mean', [[math.inf, 0., 0.], 'abc', 3]),
    ('CMIMDataPreprocessor', 'seed', [-1, 'a', 1.5]),
    ('CMIMDataPreprocessor', 'std', [[1., math.nan, 2.], [math.inf] * 3]),
    ('CMIMNeck', 'offsets', [[math.nan]]),
    ('ColorJitter', 'backend', ['gimp']),
    ('ColorJitter', 'brightness', [math.nan, math.inf, [-1., .5], 'a']),
    ('ColorJitter', 'hue', [[.2, math.nan], [.3, -.3]]),
    ('CoxHead', 'drop_rate', [math.nan, 'a']),
    ('CoxHead', 'loss_weight', [math.inf, -1]),
    ('DiseaseClassification', 'collect_device', ['tpu']),
    ('DiseaseClassification', 'seed', [-1, 'a', None]),
    ('GenerateSequenceMask', 'seed', [-1, 'a', 1.5]),
    ('InfoNCEHead', 'gene_dims', [-3, 'a']),
    ('InfoNCEHead', 'image_dims', [0, 1.5]),
    ('KroneckerFusion', 'drop_rate', [math.nan, 'a']),
    ('MGCAHead', 'proj_dims', [0, -3]),
    ('MSMAEDecoder', 'embed_dims', [0, -3, 'a']),
    ('MSMAEDecoder', 'encoder_dims', [0, -3]),
    ('MSMAEDecoder', 'img_size', [0, -8, 'a']),
    ('MSMAEDecoder', 'in_channels', [0, 'a']),
    ('MSMAEDecoder', 'num_heads', [-3, 0, 1.5]),
    ('MSMAEDecoder', 'patch_size', [0, 'abc']),
    ('MSMAEHead', 'cls_weight', [math.inf, -1]),
    ('MSMAEHead', 'embed_dims', [0, -3, 'a']),
    ('MSMAEHead', 'num_classes', ['a', math.nan]),
    ('MSMAEHead', 'patch_size', ['a', -4, 0, 1.5, [], [8]]),
    ('MSMAEViT', 'drop_path_rate', [-3., math.nan, 1]),
    ('MSMAEViT', 'drop_rate', [math.nan, 'a']),
    ('MSMAEViT', 'frozen_stages', [-3, math.nan]),
    ('MSMAEViT', 'img_size', [0, -8, 'a']),
    ('MSMAEViT', 'in_channels', [0, 'a']),
    ('MSMAEViT', 'out_indices', [[]]),
    ('NystromAggregator', 'drop_rate', [math.nan, 'a']),
    ('NystromAggregator', 'embed_dims', [-3, 'a']),
    ('RandomFlip', 'seed', [-1, 'a', 1.5]),
    ('SlideClassification', 'seed', [-1, 'a', None]),
    ('LoadTile', 'window', [(math.nan, 400), (40, math.inf), (40, )]),
    ('SlideOmicHead', 'class_weights', [[math.nan, 1.], [1., math.inf], [1.]]),
    ('SlideOmicHead', 'drop_rate', [math.nan, 'a']),
    ('SlideOmicHead', 'loss_weight', [math.inf]),
    ('SurvivalConcordance', 'collect_device', ['tpu']),
    ('SurvivalConcordance', 'seed', [-1, 'a', None]),
    ('TripletHead', 'margin', [math.inf, -1.])])
def test_what_is_wrong_is_named(name, argument, values):
    place, = (place for place in VALID if place[1] == name)
    for value in values:
        with pytest.raises(ValueError, match=argument):
            build(place, **{argument: value})
