"""What a model sees in patches is what the model says."""

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from mmmedmask.apis.slide_attention import find_evidence

HEADS = {'CLAM_MB': 'ClasswiseSlideOmicHead'}


def build(aggregator, **options):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(dict(
        type='mmmedmask.SlideOmicClassifier',
        aggregator=dict(type=f'mmmedmask.{aggregator}', in_dims=6,
                        embed_dims=8, **options),
        head=dict(type=f'mmmedmask.{HEADS.get(aggregator, "SlideOmicHead")}',
                  num_classes=3),
        data_preprocessor=dict(type='mmmedmask.SlideOmicDataPreprocessor')))
    model.eval()
    return model


def inputs(number=7):
    generator = torch.Generator().manual_seed(1)
    return dict(patches=torch.randn(number, 6, generator=generator),
                coords=torch.arange(2 * number).view(number, 2) * 64,
                genes=None)


@pytest.mark.parametrize(('aggregator', 'options'), [
    ('ABMIL', {}), ('MeanPool', {}), ('NystromAggregator', dict(num_heads=2)),
    ('CLAM_MB', dict(num_classes=3))])
def test_attention_and_classes_of_single_patches(aggregator, options):
    model, bag = build(aggregator, **options), inputs()
    evidence = find_evidence(model, bag, ('a', 'b', 'c'))
    rows = 3 if aggregator == 'CLAM_MB' else 1
    assert evidence.attention.shape == (rows, 7)
    np.testing.assert_allclose(evidence.attention.sum(axis=1), 1, rtol=1e-5)
    assert evidence.attention_names == (('a', 'b', 'c') if rows == 3 else ())
    assert evidence.patch_scores.shape == (3, 7)
    for row in range(7):
        alone = find_evidence(model, dict(
            patches=bag['patches'][row:row + 1],
            coords=bag['coords'][row:row + 1], genes=None), per_patch=False)
        assert alone.patch_scores is None
        np.testing.assert_allclose(evidence.patch_scores[:, row],
                                   alone.bag_scores, atol=1e-6)


def test_bags_without_patches_and_models_without_bags():
    model = build('ABMIL')
    for patches in (None, torch.zeros(0, 6)):
        evidence = find_evidence(model, dict(patches=patches))
        assert evidence.attention.shape == (1, 0)
        assert evidence.patch_scores is evidence.bag_scores is None
    model.aggregator = None
    with pytest.raises(ValueError, match='does not look at slides'):
        find_evidence(model, inputs())
