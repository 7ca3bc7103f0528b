"""Weights of a file arrive, however ``init_cfg`` is written."""

from copy import deepcopy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.models import VisionTransformer
from test_cmim.tiny import CHANNELS, tiny_config

from mmmedmask import registry
from mmmedmask.apis.models import build_model
from mmmedmask.engine.checkpoint.matching import (
    compare_modules,
    pretrained_source,
)
from mmmedmask.models import cmim
from mmmedmask.models.detection import BEiTFeatureViT, WindowedViT
from mmmedmask.models.msmae import MSMAEDecoder, MSMAEViT
from mmmedmask.models.slide_omic import SlideOmicDataPreprocessor

ARCH = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
VIT = dict(arch=ARCH, img_size=32)
RESNET = dict(depth=18, **CHANNELS)
CMIM = tiny_config()
del CMIM['type']
#: Sizes of the models that draw weights beside ``init_cfg``.
SIZES = {
    MSMAEViT: VIT, WindowedViT: VIT, BEiTFeatureViT: VIT,
    MSMAEDecoder: dict(img_size=32, encoder_dims=16, embed_dims=16,
                       num_layers=1, num_heads=2),
    cmim.CMIM: CMIM, cmim.CMIMResNet: RESNET, cmim.CMIMResNetV1c: RESNET,
    cmim.CMIMResNetV1d: RESNET, cmim.CMIMSparseResNet: RESNET}
MODES = ('dict', 'list', 'with others')


def started(kind, path, mode):
    """Build and initialise a model from a file of drawn values."""
    loaded = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    others = [dict(type='Constant', layer=['Linear', 'Conv2d'], val=.5)]
    init_cfg = dict(zip(MODES, (loaded, [loaded], [*others, loaded]),
                        strict=True))[mode]
    options = SIZES.get(kind, VIT)
    values = {name: torch.rand_like(value) if value.is_floating_point()
              else value for name, value in kind(
                  **deepcopy(options)).state_dict().items()}
    torch.save(dict(state_dict={f'backbone.{name}': value
                                for name, value in values.items()}), path)
    backbone = kind(**deepcopy(options), init_cfg=init_cfg)
    model = torch.nn.ModuleDict(dict(backbone=backbone))
    model.backbone.init_weights()
    return backbone, values


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('kind', SIZES)
def test_the_file_wins(tmp_path, kind, mode):
    backbone, values = started(kind, tmp_path / 'a.pth', mode)
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, values[name]), name


def test_the_file_wins_in_every_model_that_draws():
    ours = 'mmmedmask.'
    draw = {kind for kind in registry.MODELS.module_dict.values()
            if hasattr(kind, 'init_weights') and kind.__module__.startswith(
                ours) and kind.init_weights.__module__.startswith(ours)}
    # The preprocessor draws nothing; it loads the scale of genes by itself.
    assert draw - {SlideOmicDataPreprocessor} == set(SIZES)


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
