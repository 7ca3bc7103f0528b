"""MMEngine's ``compile`` compiles a step: it trains as without."""

import pytest
import torch
from tiny_runs import (
    TinyCMIM,
    dataset,
    msmae_config,
    msmae_model,
    train_watched,
    write_images,
)

from mmmedmask.phantoms.slide_omic_cohort import write_slide_omic_cohort
from mmmedmask.registry import MODELS


def fine_tuning():
    config = msmae_config()
    return MODELS.build(dict(
        type='mmmedmask.MSMAEClassifier', masking='random',
        data_preprocessor=config['data_preprocessor'],
        backbone=dict(config['backbone'], out_type='avg_featmap',
                      final_norm=False),
        head=dict(type='LinearClsHead', num_classes=2, in_channels=16,
                  loss=dict(type='CrossEntropyLoss'))))


def cohort(root):
    write_slide_omic_cohort(root, num_cases=12, patches=(20, 30), dims=5,
                            num_genes=40, num_pathways=2)
    return dict(
        type='mmmedmask.SlideOmicDataset', data_root=str(root),
        ann_file='cohort.csv', feature_root='features',
        expression=dict(path='expression.tsv', unit='fpkm'), pipeline=[
            dict(type='mmmedmask.LoadSlideFeatures'),
            dict(type='mmmedmask.ContiguousSubsequence', length=16),
            dict(type='mmmedmask.LoadExpression'),
            dict(type='mmmedmask.PackSlideOmicInputs')])


def gimp():
    return MODELS.build(dict(
        type='mmmedmask.GiMP',
        contrast_head=dict(type='mmmedmask.TripletHead', margin=20.),
        aggregator=dict(
            type='mmmedmask.NystromAggregator', in_dims=5, embed_dims=8,
            num_heads=2, num_landmarks=4, conv_kernel=5),
        gene_encoder=dict(type='mmmedmask.LinearGeneEncoder', num_genes=40,
                          embed_dims=8)))


@pytest.mark.slow
@pytest.mark.parametrize(('model', 'draw'), [
    (TinyCMIM, lambda root: dataset(write_images(root, 8), [
        dict(type='mmmedmask.LoadTile'),
        dict(type='mmmedmask.ResizeImage', scale=80),
        dict(type='mmmedmask.PackTile')])),
    (msmae_model, lambda root: dataset(write_images(root, 8))),
    (fine_tuning, lambda root: dataset(write_images(root, 8))),
    (gimp, cohort)], ids=['CMIM', 'MSMAE', 'fine-tuning', 'GiMP'])
def test_a_compiled_step_trains_as_without(tmp_path, model, draw):
    data = draw(tmp_path / 'data')
    hooks = [dict(type='mmmedmask.GeneStatsHook')] if model is gimp else []
    plain, compiled = (train_watched(
        tmp_path / name, model, data, hooks, epochs=1, batch_size=4,
        loader=dict(drop_last=True), cfg=settings) for name, settings in (
            ('plain', {}), ('compiled', dict(compile=dict(backend='eager')))))
    torch._dynamo.reset()
    # The compiler adds up in another order.
    assert len(plain[1]) >= 2
    assert compiled[1] == pytest.approx(plain[1], rel=1e-5)
    for name, value in plain[2].items():
        assert torch.allclose(compiled[2][name], value, atol=1e-5), name
