"""Features of frozen encoders: which maps, at which places, unchanged."""

import numpy as np
import pytest
import timm
import torch
import torchvision
from mmengine.registry import init_default_scope
from mmpretrain.models.backbones import (
    ConvNeXt,
    ResNet,
    SparseConvNeXt,
    SparseResNet,
    VisionTransformer,
)
from mmpretrain.models.selfsup.mae import MAEViT
from mmpretrain.models.selfsup.simmim import SimMIMSwinTransformer
from mmpretrain.models.utils.sparse_modules import SparseConv2d, SparseHelper
from scipy.ndimage import map_coordinates
from torch import nn

from mmmedmask.engine.frozen_features import (
    FrozenFeatures,
    color_vectors,
    draw_points,
    encoder_stages,
    sample_maps,
)
from mmmedmask.engine.probing import score_encoder
from mmmedmask.util.input_units import InputUnits

MEAN, STD = (120., 110., 130.), (50., 60., 55.)
TINY_VIT = dict(
    embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)


def tiny_vit(**options):
    return VisionTransformer(TINY_VIT, img_size=32, patch_size=8, **options)


def small_images(count=2, size=(32, 32), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(
        0, 256, (count, 3, *size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize('padding', ['corner', 0])
def test_patches_that_do_not_divide_the_image_stay_in_place(padding):
    """What mmpretrain pads, or cuts, padded or cut by hand."""
    features = FrozenFeatures(tiny_vit(patch_cfg=dict(padding=padding)),
                              MEAN, STD)
    images = small_images(size=(33, 38)).float()
    mean = torch.tensor(MEAN).view(3, 1, 1)
    by_hand = images[..., :32, :32] if padding == 0 else nn.functional.pad(
        images - mean, (0, 2, 0, 7)) + mean
    got, = features.maps(images)
    wanted, = features.maps(by_hand)
    assert got.shape[-2:] == ((4, 4) if padding == 0 else (5, 5))
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize(('make', 'names', 'shapes'), [
    (lambda: ResNet(18, stem_channels=8, base_channels=8),
     ['layer1', 'layer2', 'layer3', 'layer4'],
     [(8, 8), (16, 4), (32, 2), (64, 1)]),
    (lambda: torchvision.models.resnet18(weights=None),
     ['layer1', 'layer2', 'layer3', 'layer4'],
     [(64, 8), (128, 4), (256, 2), (512, 1)]),
    (lambda: ConvNeXt(dict(depths=[1, 1], channels=[8, 16]), out_indices=[1]),
     ['stages.0', 'stages.1'], [(8, 8), (16, 4)]),
    (tiny_vit, ['layers.0', 'layers.1'], [(16, 4)]),
    (lambda: torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32),
     ['encoder.layers.encoder_layer_0', 'encoder.layers.encoder_layer_1'],
     [(16, 4)])])
def test_stages_and_their_maps(make, names, shapes):
    torch.manual_seed(0)
    encoder = make()
    assert list(encoder_stages(encoder)) == names
    features = FrozenFeatures(encoder, MEAN, STD)
    maps = features.maps(small_images())
    assert [(level.shape[1], level.shape[2]) for level in maps] == shapes
    assert features.vectors(small_images()).shape == (2, sum(
        channels for channels, _ in shapes))


def test_a_vit_gives_its_patches_at_their_places():
    torch.manual_seed(0)
    encoder = tiny_vit(out_type='raw', final_norm=False)
    encoder.eval()
    images = small_images(size=(32, 32))
    level, = FrozenFeatures(encoder, MEAN, STD).maps(images)
    normalized = (images.float() - torch.tensor(MEAN).view(3, 1, 1)) / \
        torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        tokens = encoder(normalized)[-1]
    for row in range(4):
        for column in range(4):
            torch.testing.assert_close(level[:, :, row, column],
                                       tokens[:, 1 + 4 * row + column])


@pytest.mark.parametrize('make', [
    lambda: SparseResNet(18, stem_channels=8, base_channels=8,
                         out_indices=(0, 1, 2, 3),
                         norm_cfg=dict(type='SparseBatchNorm2d')),
    lambda: SparseConvNeXt(dict(depths=[1, 1, 1, 1], channels=[8, 16, 24, 32]),
                           out_indices=(0, 1, 2, 3), gap_before_output=False)])
def test_sparse_layers_see_all_places(make):
    torch.manual_seed(0)
    init_default_scope('mmpretrain')
    encoder = make()
    encoder.eval()
    # What the last step of training has left.
    SparseHelper._cur_active = torch.zeros(5, 1, 1, 1, dtype=torch.bool)
    features = FrozenFeatures(encoder, MEAN, STD)
    maps = features.maps(small_images(size=(64, 64)))
    SparseHelper._cur_active = torch.ones(2, 1, 2, 2, dtype=torch.bool)
    with torch.no_grad():
        sparse = encoder(features.normalize(small_images(size=(64, 64))))
    for level, expected in zip(maps, sparse, strict=True):
        torch.testing.assert_close(level, expected)
    assert any(isinstance(module, SparseConv2d)
               for module in encoder.modules())


def test_encoders_that_mask_see_whole_images():
    torch.manual_seed(0)
    vit = MAEViT(TINY_VIT, img_size=32, patch_size=8)
    vit.init_weights()
    images = small_images()
    first, again = (FrozenFeatures(vit, MEAN, STD).maps(images)[0]
                    for _ in range(2))
    assert first.shape == (2, 16, 4, 4)
    assert torch.equal(first, again)
    swin = SimMIMSwinTransformer(
        arch=dict(embed_dims=8, depths=[1, 1, 1], num_heads=[2, 2, 2]),
        img_size=32, out_indices=(2, ),
        stage_cfgs=dict(block_cfgs=dict(window_size=2)))
    features = FrozenFeatures(swin, MEAN, STD)
    maps = features.maps(images)
    assert [tuple(level.shape[1:]) for level in maps] == [
        (8, 8, 8), (16, 4, 4), (32, 2, 2)]
    with torch.no_grad():
        expected, = features.encoder(features.normalize(images), None)
        last = swin.norm2(maps[2].clone().permute(0, 2, 3, 1))
    torch.testing.assert_close(last.permute(0, 3, 1, 2), expected)


def test_statistics_are_measured_in_a_copy():
    torch.manual_seed(0)
    encoder = ResNet(18, stem_channels=8, base_channels=8)
    before = {name: value.clone()
              for name, value in encoder.state_dict().items()}
    encoder.train()
    batches = [small_images(8, seed=seed) for seed in range(3)]
    as_is = FrozenFeatures(encoder, MEAN, STD).vectors(batches[0])
    measured = FrozenFeatures(encoder, MEAN, STD, batches)
    assert not torch.allclose(as_is, measured.vectors(batches[0]))
    # The first BatchNorm sees the mean of what the convolution gives.
    with torch.no_grad():
        given = torch.stack([
            encoder.conv1(measured.normalize(batch)).mean(dim=(0, 2, 3))
            for batch in batches]).mean(dim=0)
    torch.testing.assert_close(measured.encoder.bn1.running_mean, given)
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert encoder.training
    encoder.eval()
    resting = FrozenFeatures(encoder, MEAN, STD, batches)
    assert torch.equal(resting.encoder.bn1.running_mean,
                       measured.encoder.bn1.running_mean)


def test_nothing_is_dropped_while_statistics_are_measured():
    encoder = ResNet(18, stem_channels=8, base_channels=8, drop_path_rate=0.5)
    first, second = ((torch.manual_seed(seed),
                      FrozenFeatures(encoder, MEAN, STD, [small_images(8)]))[1]
                     for seed in (0, 1))
    for name, value in first.encoder.state_dict().items():
        assert torch.equal(value, second.encoder.state_dict()[name]), name


def test_frozen_stages_keep_their_statistics():
    encoder = ResNet(18, stem_channels=8, base_channels=8, frozen_stages=1)
    encoder.eval()
    measured = FrozenFeatures(encoder, MEAN, STD, [small_images(8)])
    assert torch.equal(measured.encoder.bn1.running_mean,
                       encoder.bn1.running_mean)
    assert not torch.equal(measured.encoder.layer2[0].bn1.running_mean,
                           encoder.layer2[0].bn1.running_mean)


@pytest.mark.parametrize('value', [255., 1., 65535.])
def test_images_get_the_range_of_training(value):
    encoder = ResNet(18, stem_channels=8, base_channels=8)
    images = small_images(2)
    mean, std = ([value * part for part in parts]
                 for parts in ((.4, .5, .6), (.2, .2, .3)))
    found = FrozenFeatures(encoder, mean, std, data_range=value).normalize(
        images)
    expected = FrozenFeatures(encoder, [255 * .4, 255 * .5, 255 * .6],
                              [255 * .2, 255 * .2, 255 * .3]).normalize(images)
    torch.testing.assert_close(found, expected)


def test_maps_with_channels_last_are_turned():
    encoder = timm.create_model('swin_tiny_patch4_window7_224', embed_dim=24,
                                depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8))
    features = FrozenFeatures(encoder, MEAN, STD)
    maps = features.maps(small_images(1, (224, 224)))
    assert [tuple(level.shape[1:]) for level in maps][-1] == (192, 7, 7)
    with torch.no_grad():
        expected = features.encoder.forward_features(
            features.normalize(small_images(1, (224, 224))))
        last = features.encoder.norm(maps[-1].permute(0, 2, 3, 1))
    torch.testing.assert_close(last, expected)


def test_what_is_not_a_map_is_refused():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer1 = nn.Conv2d(3, 4, 3)

        def forward(self, images):
            return self.layer1(images[..., :5])

    with pytest.raises(ValueError, match='with their proportions'):
        FrozenFeatures(Odd(), MEAN, STD).maps(small_images(1))


def test_points_are_interpolated_as_scipy_says():
    """Bilinear between cell centres, edges replicated."""
    generator = torch.Generator().manual_seed(0)
    maps = [torch.rand(2, 3, 5, 7, generator=generator).double(),
            torch.rand(2, 2, 2, 3, generator=generator).double()]
    points = torch.rand(2, 11, 2, generator=generator).double() * 2 - 1
    sampled = sample_maps(maps, points)
    for image in range(2):
        expected = [map_coordinates(channel, [
            (place + 1) / 2 * side - .5 for place, side in zip(
                points[image].T.flip(0), channel.shape, strict=True)],
            order=1, mode='nearest') for level in maps
            for channel in level[image]]
        np.testing.assert_allclose(sampled[image].T, expected, atol=1e-12)


def test_pixels_are_drawn_once_and_at_their_centres():
    places, points = draw_points((3, 5), 100, torch.Generator().manual_seed(0))
    assert len({tuple(place) for place in places.tolist()}) == 15
    image = torch.arange(15.).view(1, 1, 3, 5)
    values = sample_maps([image], points[None])[0, :, 0]
    torch.testing.assert_close(values, image[0, 0, places[:, 0], places[:, 1]])


def test_colour_is_mean_and_deviation():
    images = small_images()
    values = color_vectors(images)
    for image in range(2):
        for channel in range(3):
            pixels = images[image, channel].double()
            assert values[image, channel] == pytest.approx(
                pixels.mean().item(), rel=1e-5)
            assert values[image, 3 + channel] == pytest.approx(
                pixels.std().item(), rel=1e-5)


def test_a_network_without_stages_is_named():
    with pytest.raises(ValueError, match='Sequential has no stages'):
        FrozenFeatures(nn.Sequential(nn.Conv2d(3, 4, 3)), MEAN, STD)


@pytest.mark.parametrize(('mean', 'std', 'scale'), [
    ([100.], [50.], 1), ([30000.], [9000.], 257)])
def test_gray_and_deep_encoders_see_what_they_were_trained_on(mean, std,
                                                              scale):
    """A probe's images are RGB of 8 bits."""
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    encoder = nn.Sequential()
    encoder.layer1 = nn.Conv2d(1, 2, 1)
    features = FrozenFeatures(encoder, mean, std)
    gray = images.float().mean(dim=1, keepdim=True) * scale
    torch.testing.assert_close(
        features.normalize(images), (gray - mean[0]) / std[0])


def test_images_of_8_bits_are_nothing_for_encoders_of_hounsfield_units():
    encoder = nn.Sequential()
    encoder.layer1 = nn.Conv2d(1, 2, 1)
    features = FrozenFeatures(encoder, [-300.], [400.])
    with pytest.raises(ValueError, match='8 bits needs .*mean .-300'):
        features.maps(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    # In their own units they are seen.
    torch.testing.assert_close(
        features.normalize(torch.full((2, 1, 8, 8), 100.)),
        torch.ones(2, 1, 8, 8))
    with pytest.raises(ValueError, match='a probe, which .*probe=None'):
        score_encoder(encoder, InputUnits((.5, ), (.2, ), None), {})


def test_an_encoder_of_bgr_sees_bgr():
    encoder = tiny_vit()
    images = small_images()
    features = FrozenFeatures(encoder, MEAN, STD, bgr=True)
    torch.testing.assert_close(
        features.normalize(images),
        FrozenFeatures(encoder, MEAN, STD).normalize(images.flip(1)))


def test_other_channels_are_refused():
    encoder = nn.Sequential()
    encoder.layer1 = nn.Conv2d(5, 2, 1)
    features = FrozenFeatures(encoder, [1.] * 5, [1.] * 5)
    with pytest.raises(ValueError, match='takes 5 channels, the images have'):
        features.maps(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
