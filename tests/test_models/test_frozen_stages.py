"""Layers that are not trained stay as they are."""

import pytest
from mmpretrain.models import VisionTransformer

from mmmedmask.models.detection import BEiTFeatureViT, WindowedViT
from mmmedmask.models.msmae import MSMAEViT


def build(kind, frozen):
    arch = dict(embed_dims=16, num_layers=4, num_heads=2,
                feedforward_channels=32)
    return kind(arch=arch, img_size=32, drop_path_rate=.5,
                frozen_stages=frozen)


@pytest.mark.parametrize('kind', [MSMAEViT, WindowedViT, BEiTFeatureViT])
@pytest.mark.parametrize('frozen', [-1, 2])
def test_frozen_layers_have_neither_gradients_nor_dropout(kind, frozen):
    backbone = build(kind, frozen)
    trained = [index >= frozen for index in range(4)]
    assert [{one.requires_grad for one in layer.parameters()}
            for layer in backbone.layers] == [{flag} for flag in trained]
    for mode in (True, False, True):
        assert backbone.train(mode) is backbone
        assert [{part.training for part in layer.modules()}
                for layer in backbone.layers] == [
                    {mode and flag} for flag in trained]
        assert backbone.drop_after_pos.training == (mode and frozen < 0)


def test_mmpretrain_turns_their_dropout_on_again():
    """When this fails, FrozenStages may go."""
    backbone = build(VisionTransformer, 2)
    backbone.train()
    assert backbone.layers[0].training
