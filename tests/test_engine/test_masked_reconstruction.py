"""Answers of masked models: their own loss, their own target."""

import copy

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.models.selfsup import EVA, BEiT
from mmpretrain.structures import DataSample
from tiny_runs import TINY_CMIM

from mmmedmask.engine.masked_reconstruction import (
    answer_masked,
    explain_missing,
)
from mmmedmask.functional.loss_floors import prediction_error

TINY_VIT = dict(
    embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
PIXEL_LOSS = dict(type='PixelReconstructionLoss', criterion='L2')


def cmim(norm_pix):
    config = copy.deepcopy(TINY_CMIM)
    config['head']['norm_pix'] = norm_pix
    return dict(type='mmmedmask.CMIM', **config)


def msmae(norm_pix):
    return dict(type='mmmedmask.MSMAE',
                backbone=dict(type='mmmedmask.MSMAEViT', img_size=64,
                              patch_size=16, arch=TINY_VIT, out_type='raw'),
                neck=dict(type='mmmedmask.MSMAEDecoder', embed_dims=16,
                          num_layers=1, num_heads=2),
                head=dict(type='mmmedmask.MSMAEHead', norm_pix=norm_pix,
                          cls_weight=0.))


def mae(norm_pix):
    return dict(
        type='MAE', backbone=dict(type='MAEViT', arch=TINY_VIT, img_size=64,
                                  patch_size=16, mask_ratio=0.5),
        neck=dict(type='MAEPretrainDecoder', num_patches=16, patch_size=16,
                  in_chans=3, embed_dim=16, decoder_embed_dim=16,
                  decoder_depth=1, decoder_num_heads=2),
        head=dict(type='MAEPretrainHead', norm_pix=norm_pix, patch_size=16,
                  loss=PIXEL_LOSS))


def simmim(norm_pix):
    return dict(
        type='SimMIM',
        backbone=dict(
            type='SimMIMSwinTransformer', img_size=64, out_indices=(2, ),
            arch=dict(embed_dims=16, depths=[1, 1, 1], num_heads=[2, 2, 2]),
            stage_cfgs=dict(block_cfgs=dict(window_size=4))),
        neck=dict(type='SimMIMLinearDecoder', in_channels=64,
                  encoder_stride=16),
        head=dict(type='SimMIMHead', patch_size=4,
                  loss=dict(type='PixelReconstructionLoss', criterion='L1',
                            channel=3)))


def spark(norm_pix):
    norm_cfg = dict(type='SparseBatchNorm2d')
    return dict(type='SparK', input_size=64, mask_ratio=0.5,
                enc_dec_norm_dim=64, enc_dec_norm_cfg=norm_cfg,
                backbone=dict(type='SparseResNet', depth=18, stem_channels=8,
                              base_channels=8, out_indices=(0, 1, 2, 3),
                              norm_cfg=norm_cfg),
                neck=dict(type='SparKLightDecoder', feature_dim=32,
                          upsample_ratio=32, mid_channels=0, last_act=False),
                head=dict(type='SparKPretrainHead', loss=PIXEL_LOSS,
                          norm_pix=norm_pix, patch_size=32))


def gimp(norm_target):
    return dict(
        type='mmmedmask.GiMP',
        aggregator=dict(type='mmmedmask.NystromAggregator', in_dims=6,
                        embed_dims=8, num_layers=1, num_heads=2),
        mpm_head=dict(type='mmmedmask.MPMHead', norm_target=norm_target))


def batch_for(config, model):
    """Inputs and samples as the data preprocessor gives them."""
    generator = torch.Generator().manual_seed(0)
    if config['type'] == 'mmmedmask.GiMP':
        valid = torch.arange(9) < torch.tensor([[9], [6]])
        return dict(
            patches=torch.randn(2, 9, 6, generator=generator)
            * valid[..., None], valid=valid, coords=None, genes=None,
            mask=(torch.rand(2, 9, generator=generator) > 0.5) & valid), None
    images = torch.rand(3, 3, 64, 64, generator=generator)
    samples = [DataSample(metainfo=dict(sample_idx=index))
               for index in range(3)]
    if config['type'] == 'mmmedmask.CMIM':
        images = [(200 * image).to(torch.uint8) for image in images]
        return model.data_preprocessor(dict(
            inputs=images, data_samples=samples), True)['inputs'], None
    for sample in samples:
        sample.mask = (torch.rand(16, 16, generator=generator) > 0.4).float()
    return images, samples


KINDS = {'CMIM': cmim, 'MSMAE': msmae, 'MAE': mae, 'SimMIM': simmim,
         'SparK': spark, 'GiMP': gimp}
CASES = [(name, norm) for name in KINDS for norm in (False, True, 'channel')
         if norm is False or (name != 'SimMIM' and (
             norm is True or name in ('CMIM', 'MSMAE')))]


def answer(name, norm):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    config = KINDS[name](norm)
    model = MODELS.build(config)
    model.eval()
    batch = batch_for(config, model)
    with torch.no_grad():
        torch.manual_seed(1)
        found = answer_masked(model, *batch)
        torch.manual_seed(1)
        losses = model.loss(*batch)
    return model, batch, found, losses


@pytest.mark.parametrize(('name', 'norm'), CASES)
def test_the_error_is_the_loss_of_the_model(name, norm):
    model, _, (prediction, targets, criterion), losses = answer(name, norm)
    assert explain_missing(model) is None
    assert criterion == ('absolute' if name in ('SimMIM', 'GiMP')
                         else 'squared')
    error = prediction_error(prediction, targets, criterion) / (
        float(targets.weight.sum()) * targets.values.shape[2])
    loss = losses.get('loss_rec', losses.get('loss'))
    assert error == pytest.approx(float(loss), rel=1e-5)
    assert 0 < targets.weight.sum() < targets.weight.numel() or name == 'MSMAE'


@pytest.mark.parametrize('name', ['MSMAE', 'MAE', 'SparK'])
def test_places_are_pixels_with_their_channels(name):
    """Without normalisation the targets are the pixels that are masked."""
    _, (images, _), (_, targets, _), _ = answer(name, False)
    for index in range(len(images)):
        known = {tuple(pixel) for pixel in images[index].flatten(1).T.tolist()}
        counted = targets.values[index][targets.weight[index] > 0]
        assert {tuple(pixel) for pixel in counted.tolist()} <= known


@pytest.mark.parametrize('name', ['MSMAE', 'MAE', 'SimMIM', 'SparK'])
def test_the_visible_colour_is_of_what_is_not_asked_for(name):
    """Whoever knows it all: visible and masked pixels make the image.

    MSMAE throws away nothing here.
    """
    _, (images, _), (_, targets, _), _ = answer(name, False)
    for index in range(len(images)):
        counted = targets.values[index][targets.weight[index] > 0].double()
        whole = images[index].flatten(1).double()
        seen = (whole.sum(dim=1) - counted.sum(dim=0)) / (
            whole.shape[1] - len(counted))
        assert targets.features[index, :3].tolist() == pytest.approx(
            seen.tolist(), rel=1e-5)


def test_the_guess_for_a_bag_is_the_median_of_its_visible_patches():
    _, (inputs, _), (_, targets, _), _ = answer('GiMP', False)
    seen = inputs['valid'] & ~inputs['mask']
    for index in range(2):
        rows = np.sort(inputs['patches'][index][seen[index]].numpy(), axis=0)
        assert targets.guess[index].tolist() == pytest.approx(
            rows[(len(rows) - 1) // 2].tolist())


def test_models_without_pixels_say_why():
    assert 'features of a teacher' in explain_missing(EVA.__new__(EVA))
    assert 'tokens of a tokenizer' in explain_missing(BEiT.__new__(BEiT))
    model = torch.nn.Linear(2, 2)
    assert 'Linear reconstructs no masked' in explain_missing(model)
    with pytest.raises(ValueError, match='Linear reconstructs no masked'):
        answer_masked(model, None, None)
    config = gimp(False)
    del config['mpm_head']
    config['contrast_head'] = dict(type='mmmedmask.TripletHead')
    assert 'without mpm_head' in explain_missing(MODELS.build(config))
