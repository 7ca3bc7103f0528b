"""Panels: what is covered, marked and filled in, and undone per patch."""

import numpy as np
import pytest
import torch
from torch import nn

from mmmedmask.models.cmim import CMIM, CMIMHead
from mmmedmask.visualization import (
    PictureUnits,
    draw_grid,
    reconstruct,
    reconstruction_columns,
    view_columns,
)
from mmmedmask.visualization.reconstruction import (
    MASK_COLOR,
    OUTLINE_COLOR,
    composite,
    cover_masked,
    mark_region,
)

UNITS = PictureUnits((127.5, ) * 3, (50.0, ) * 3)


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(2, 1, 4, 4)
    mask[0, 0, 1, 2] = mask[0, 0, 3, 0] = mask[1, 0, 0, 0] = 1
    return dict(query=torch.randn(2, 3, 16, 16, generator=generator),
                key=torch.randn(2, 3, 16, 16, generator=generator), mask=mask)


def test_masked_patches_are_covered_and_no_others(inputs):
    pictures = UNITS.to_pictures(inputs['query'])
    covered = cover_masked(pictures, inputs['mask'])
    for place in np.ndindex(2, 16, 16):
        sample, row, column = place
        masked = inputs['mask'][sample, 0, row // 4, column // 4]
        expected = MASK_COLOR if masked else pictures[place]
        assert (covered[place] == expected).all()


def test_region_is_outlined_and_the_rest_fades():
    picture = np.full((1, 12, 12, 3), 100, np.uint8)
    weight = torch.zeros(1, 1, 12, 12)
    weight[..., 2:8, 3:12] = 1
    marked = mark_region(picture, weight)[0]
    # Inside: as it was.
    assert (marked[3:7, 4:12] == 100).all()
    # The outline lies inside of the region, and not along the frame.
    assert (marked[2, 3:] == OUTLINE_COLOR).all()
    assert (marked[7, 3:] == OUTLINE_COLOR).all()
    assert (marked[2:8, 3] == OUTLINE_COLOR).all()
    assert not (marked[3:7, 11] == OUTLINE_COLOR).all()
    # Outside: lighter.
    assert (marked[0] > 150).all()
    assert (marked[8:] > 150).all()
    assert (picture == 100).all()


def test_composite_takes_each_pixel_from_one(inputs):
    inside = UNITS.to_pictures(inputs['query'])
    outside = UNITS.to_pictures(inputs['key'])
    weight = (torch.rand(2, 1, 16, 16) > 0.5).float()
    mixed = composite(inside, outside, weight)
    for place in np.ndindex(2, 16, 16):
        source = inside if weight[:, 0][place] else outside
        assert (mixed[place] == source[place]).all()


def test_perfect_reconstruction_is_filled_in_without_a_trace(inputs):
    weight = torch.zeros(2, 1, 16, 16)
    weight[..., :8, :] = 1
    columns = reconstruction_columns(inputs, inputs['key'], weight, UNITS)
    pictures = {column.title: column.pictures for column in columns}
    assert (pictures['Filled in'] == pictures['Key view']).all()
    assert (pictures['Reconstruction'] == pictures['Key view']).all()
    assert not (pictures['Query view'] == pictures['Key view']).all()
    views = {c.title: c.pictures for c in view_columns(inputs, UNITS)}
    for title, shown in views.items():
        assert (shown == pictures[title]).all()


class Oracle(nn.Module):
    """Predicts exactly what its head asks for."""

    def __init__(self, norm_pix):
        super().__init__()
        self.head = CMIMHead(norm_pix=norm_pix, patch_size=4)

    def reconstruct(self, inputs):
        return self.head.target(inputs['key']), torch.ones(2, 1, 16, 16)


@pytest.mark.parametrize('norm_pix', [False, True])
def test_normalisation_per_patch_is_undone(inputs, norm_pix):
    pixels, _ = reconstruct(Oracle(norm_pix), inputs)
    torch.testing.assert_close(pixels, inputs['key'], atol=1e-4, rtol=0)


@pytest.mark.parametrize('num_channels', [1, 3, 5])
def test_panel_of_a_real_model(num_channels):
    model = CMIM(
        data_preprocessor=dict(mean=[100.0] * num_channels,
                               std=[40.0] * num_channels, view_size=64,
                               patch_size=16),
        backbone=dict(type='mmmedmask.CMIMResNet', depth=18,
                      in_channels=num_channels, stem_channels=8,
                      base_channels=8),
        neck=dict(type='mmmedmask.CMIMNeck', embed_dims=16, num_heads=2,
                  out_stride=16),
        head=dict(
            type='mmmedmask.CMIMHead', norm_pix=True, patch_size=16)).eval()
    generator = torch.Generator().manual_seed(1)
    samples = [torch.randint(
                   0, 256, (num_channels, 80, 80), generator=generator).byte()
               for _ in range(2)]
    from mmpretrain.structures import DataSample
    batch = dict(
        inputs=samples,
        data_samples=[DataSample(metainfo=dict(sample_idx=i))
                      for i in range(2)])
    inputs = model.data_preprocessor(batch, True)['inputs']
    pixels, weight = reconstruct(model, inputs)
    assert pixels.shape == inputs['key'].shape
    assert not pixels.requires_grad
    units = PictureUnits.from_preprocessor(
        model.data_preprocessor, (4, 1, 0) if num_channels == 5 else None)
    panel = draw_grid(
        reconstruction_columns(inputs, pixels, weight, units), 'Test')
    assert panel.dtype == np.uint8
    assert panel.ndim == 3
    masked = (panel == MASK_COLOR).all(axis=2).sum()
    # 11 of 16 patches of 16 x 16 pixels, enlarged by 2, in two samples.
    assert masked == 2 * 11 * 32 * 32
    assert (panel == OUTLINE_COLOR).all(axis=2).any()
