"""The class token's attention against loops (check 10), and its scale."""

import pytest
import torch

from mmmedmask.models.msmae import class_token_attention, normalize_attention

from .naive_msmae import class_token_map
from .tiny_msmae import ARCH, GRID, batch, tiny_classifier, tiny_pretraining


def test_map_equals_the_naive_attention():
    model = tiny_pretraining().eval()
    images, _ = batch()
    with torch.no_grad():
        attention = class_token_attention(model.backbone, images)
    assert attention.shape == (4, ARCH['num_heads'], *GRID)
    for image, heads in zip(images, attention, strict=True):
        want = class_token_map(model, image)
        assert (heads.flatten(1) - want).abs().max() < 1e-6


@pytest.mark.parametrize('weight_norm', ['per_head', 'mean_heads'])
def test_normalisation_head_by_head(weight_norm):
    attention = torch.rand(2, 3, 4, 5)
    maps = normalize_attention(attention, weight_norm)
    for one, heads in zip(maps, attention, strict=True):
        heads = heads if weight_norm == 'per_head' else heads.mean(0)[None]
        want = sum((head - head.min()) / (head.max() - head.min())
                   for head in heads) / len(heads)
        assert (one - want).abs().max() < 1e-6


@pytest.mark.parametrize('weight_norm', ['per_head', 'mean_heads'])
def test_constant_attention_is_uniform_and_a_diverged_models_no_map(
        weight_norm):
    maps = normalize_attention(torch.full((1, 2, 3, 3), .1), weight_norm)
    assert torch.equal(maps, torch.ones(1, 3, 3))
    attention = torch.rand(2, 2, 3, 3)
    attention[1, 0, 0, 0] = float('nan')
    maps = normalize_attention(attention, weight_norm)
    assert maps[0].isfinite().all()
    assert maps[1].isnan().any()


def test_softmax_is_in_float32_under_autocast():
    model = tiny_pretraining().eval()
    images, _ = batch()
    with torch.no_grad():
        want = model.attention_maps(images)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            got = model.attention_maps(images)
    assert got.dtype == torch.float32
    assert (got - want).abs().max() < 0.1


def test_classifier_and_algorithm_give_the_same_map():
    pretrained = tiny_pretraining().eval()
    classifier = tiny_classifier().eval()
    state = {name: value
             for name, value in pretrained.backbone.state_dict().items()
             if not name.startswith('ln')}
    missing, unexpected = classifier.backbone.load_state_dict(
        state, strict=False)
    assert missing == ['ln2.weight', 'ln2.bias']
    assert unexpected == []
    images, _ = batch()
    with torch.no_grad():
        assert torch.equal(pretrained.attention_maps(images),
                           classifier.attention_maps(images))
