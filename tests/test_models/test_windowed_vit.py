"""ViTDet's windows in plain transformers: weights, outputs, gradients."""

import pytest
import torch
from mmpretrain.models import VisionTransformer
from refusals import refuses

from mmmedmask.models.detection import BEiTFeatureViT, WindowedViT
from mmmedmask.shrinking.model_sizes import DIMS

# Images of 4 x 7 patches.
SIZE = (64, 112)


def arch(layers=4):
    return dict(embed_dims=DIMS, num_layers=layers, num_heads=2,
                feedforward_channels=2 * DIMS)


def plain(**options):
    torch.manual_seed(0)
    model = VisionTransformer(arch=arch(), out_type='featmap', **options)
    for parameter in model.parameters():
        parameter.data.add_(.1 * torch.randn_like(parameter))
    model.eval()  # It returns nothing.
    return model


@pytest.mark.parametrize('final_norm', [True, False])
def test_weights_load_in_full_and_one_window_is_all(final_norm):
    reference = plain(final_norm=final_norm)
    model = WindowedViT(arch=arch(), out_type='featmap', window_size=7,
                        num_global_layers=1, final_norm=final_norm)
    model.eval()
    model.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, *SIZE)
    torch.testing.assert_close(model(images)[0], reference(images)[0])
    model.set_windows(2, 1)
    assert (model(images)[0] - reference(images)[0]).abs().max() > 1e-3
    model.set_windows(None, 1)
    torch.testing.assert_close(model(images)[0], reference(images)[0])


@pytest.mark.parametrize('kind', [WindowedViT, BEiTFeatureViT])
def test_a_patch_reaches_its_window_and_then_everything(kind):
    """Gradients of one patch's output, with respect to the image."""
    model = kind(arch=arch(2), window_size=2, num_global_layers=1,
                 out_type='featmap')
    model.eval()
    for parameter in model.parameters():
        parameter.data.add_(.1 * torch.randn_like(parameter))
    assert model.global_layers == {1}

    def reached():
        # The class token would carry everything from the second layer on.
        images = torch.randn(1, 3, *SIZE, requires_grad=True)
        model(images)[0][0, :, 1, 3].square().sum().backward()
        cells = images.grad.abs().sum((0, 1)).unfold(0, 16, 16).unfold(
            1, 16, 16).sum((-1, -2)) > 0
        return {tuple(cell) for cell in cells.nonzero().tolist()}

    assert len(reached()) == 28
    model.global_layers = frozenset()
    model.layers = model.layers[:1]
    model.out_indices = [0]
    assert reached() == {(0, 2), (0, 3), (1, 2), (1, 3)}


def test_four_global_layers_are_those_of_vitdet():
    model = WindowedViT(arch=arch(12), out_type='featmap', window_size=3,
                        final_norm=False)
    assert model.global_layers == {2, 5, 8, 11}
    model(torch.randn(2, 3, *SIZE))[0].square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0
               for parameter in model.parameters())


test_bad_arguments = refuses(
    lambda **options: WindowedViT(arch=arch(), **options), [
    (dict(window_size=0), 'window_size'),
    (dict(num_global_layers=0), 'num_global_layers'),
    (dict(num_global_layers=5), r'\[1, 4\], got 5')])


def test_options_that_it_does_not_follow_are_refused():
    with pytest.raises(TypeError, match='drop_rate'):
        BEiTFeatureViT(arch=arch(), drop_rate=.5)
