"""Weights of a file arrive, however ``init_cfg`` is written."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.models import VisionTransformer

from mmmedmask.apis.models import build_model
from mmmedmask.engine.checkpoint.matching import (
    compare_modules,
    pretrained_source,
)
from mmmedmask.models.cmim import CMIMResNet
from mmmedmask.models.detection import BEiTFeatureViT, WindowedViT
from mmmedmask.models.msmae import MSMAEViT

ARCH = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
MODES = ('dict', 'list', 'with others')


def started(kind, path, mode):
    """Build and initialise a backbone from a file of drawn values."""
    loaded = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    others = [dict(type='Constant', layer=['Linear', 'Conv2d'], val=.5)]
    init_cfg = dict(zip(MODES, (loaded, [loaded], [*others, loaded]),
                        strict=True))[mode]
    options = dict(depth=18) if kind is CMIMResNet else dict(
        arch=dict(ARCH), img_size=32)
    values = {name: torch.rand_like(value) if value.is_floating_point()
              else value for name, value in kind(
                  **options).state_dict().items()}
    torch.save(dict(state_dict={f'backbone.{name}': value
                                for name, value in values.items()}), path)
    backbone = kind(**options, init_cfg=init_cfg)
    model = torch.nn.ModuleDict(dict(backbone=backbone))
    model.backbone.init_weights()
    return backbone, values


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('kind', [MSMAEViT, WindowedViT, BEiTFeatureViT,
                                  CMIMResNet])
def test_the_file_wins(tmp_path, kind, mode):
    backbone, values = started(kind, tmp_path / 'a.pth', mode)
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, values[name]), name


def test_the_load_check_sees_what_mmpretrain_draws_over(tmp_path):
    """When this fails, PretrainedLast may go."""
    backbone, values = started(VisionTransformer, tmp_path / 'a.pth', 'list')
    assert pretrained_source(backbone) == (
        str(tmp_path / 'a.pth'), 'backbone.')
    report = compare_modules([backbone], values, compare_values=True)
    assert report.differing == ('pos_embed', )


def test_a_model_is_built_without_the_file_of_a_list():
    init_cfg = [dict(type='Xavier', layer='Linear'),
                dict(type='Pretrained', checkpoint='nowhere.pth')]
    model = build_model(Config(dict(
        default_scope='mmpretrain', model=dict(
            type='ImageClassifier', backbone=dict(
                type='mmmedmask.MSMAEViT', arch=ARCH, img_size=32,
                init_cfg=init_cfg)))))
    assert isinstance(model, MODELS.get('mmpretrain.ImageClassifier'))
    assert model.backbone.init_cfg == init_cfg[:1]
