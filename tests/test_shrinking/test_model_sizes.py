"""Models are shrunk by what they are, and plugins by what they inherit."""

import pytest
import torch
from mmengine.registry import MODELS as ENGINE_MODELS
from mmengine.registry import init_default_scope
from shipped_configs import read

from mmmedmask.models.msmae import MSMAE
from mmmedmask.registry import MODELS
from mmmedmask.shrinking.shrink import shrink_config


@pytest.fixture
def plugin():
    """A user's MSMAE with a class name of its own."""
    @MODELS.register_module(force=True)
    class EdgeMSMAE(MSMAE):
        pass

    yield 'mmmedmask.EdgeMSMAE'
    del MODELS.module_dict['EdgeMSMAE']


def test_a_plugin_is_as_small_as_what_it_inherits(plugin, tmp_path):
    shapes = []
    for kind in ('mmmedmask.MSMAE', plugin):
        config = read('msmae_vit-mini-p8_1xb64-30e_brain-tumor-mri')
        config.model.type = kind
        config = shrink_config(config, tmp_path / kind, tmp_path / 'data')
        shapes.append((config.model.backbone.img_size, [
            step.get('scale') for step in
            config.train_dataloader.dataset.pipeline]))
        init_default_scope('mmpretrain')
        model = ENGINE_MODELS.build(config.model)
        assert isinstance(model, MSMAE)
        assert sum(map(torch.numel, model.parameters())) < 1e5
    assert shapes[0] == shapes[1]
