"""Coverage of lesions against loops, closed forms and chance."""

import math
from operator import call

import numpy as np
import pytest
import torch
from refusals import refuses

from mmmedmask.functional.attention_masking import partition_tokens
from mmmedmask.functional.lesion_coverage import (
    attention_on_lesion,
    cell_shares,
    centre_hits,
    image_coverage,
    lesion_patches,
    masking_of_lesion,
    summarize_coverage,
)


def draw_masks(size, number=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(number, *size, generator=generator) < 0.3


def naive_shares(mask, *grid):
    """Overlap of each cell with each pixel, in units of the cell."""
    rows, columns = (cells * np.clip(
        np.minimum.outer(1 + np.arange(cells), (
            1 + np.arange(pixels)) * cells / pixels)
        - np.maximum.outer(np.arange(cells), np.arange(
            pixels) * cells / pixels), 0, None) / cells
        for cells, pixels in zip(grid, mask.shape, strict=True))
    return rows @ mask.numpy() @ columns.T


def naive_hits(mask, *grid):
    """Whether each centre is in a lesion pixel's closed square."""
    centres = [((np.arange(cells) + .5) * pixels / cells)[:, None]
               - np.arange(pixels)
               for cells, pixels in zip(grid, mask.shape, strict=True)]
    rows, columns = ((0 <= one) & (one <= 1) for one in centres)
    return rows @ mask.numpy() @ columns.T > 0


@pytest.mark.parametrize(('size', 'grid'), [
    ((8, 12), (4, 3)), ((9, 7), (4, 3)), ((3, 5), (4, 7))])
def test_cells_equal_loops(size, grid):
    """Their shares, and the hits of their centres."""
    masks = draw_masks(size)
    expected = torch.tensor(np.stack([
        naive_shares(mask, *grid) for mask in masks]))
    for given in (masks, masks.float(), masks.long()):
        torch.testing.assert_close(
            cell_shares(given, grid), expected, rtol=0, atol=1e-12)
    full = cell_shares(torch.ones(1, *size), grid)
    assert torch.equal(full, torch.ones_like(full))
    masks = draw_masks(size, seed=1) & draw_masks(size, seed=2)
    expected = torch.tensor(np.stack([
        naive_hits(mask, *grid) for mask in masks]))
    assert torch.equal(centre_hits(masks, grid), expected)


def test_attention_equals_loops():
    masks = draw_masks((9, 7))
    generator = torch.Generator().manual_seed(4)
    maps = torch.rand(3, 4, 3, generator=generator)
    found = attention_on_lesion(maps, masks)
    for index, mask in enumerate(masks):
        weight, hits = maps[index].double().numpy(), naive_hits(mask, 4, 3)
        share = (weight * naive_shares(mask, 4, 3)).sum() / weight.sum()
        area = mask.double().mean().item()
        expected = [share, area, share / area,
                    float(hits.flat[weight.argmax()]), hits.mean()]
        values = [value[index].item() for value in found.values()]
        assert values == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('level', [0.3, 1.0, 0.0])
def test_uniform_maps_gain_nothing(level):
    """Nor do maps of zeros, which mask as uniform ones do."""
    masks = draw_masks((224, 200), 2)
    found = attention_on_lesion(torch.full((2, 14, 14), level), masks)
    torch.testing.assert_close(
        found['attention_gain'], torch.ones(2).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        found['lesion_share'], masks.double().mean((1, 2)), rtol=0, atol=1e-12)
    torch.testing.assert_close(found['pointing'], found['pointing_chance'])


def test_several_maxima_count_by_their_share():
    masks = torch.zeros(1, 4, 4)
    masks[:, :2] = 1
    maps = torch.tensor([[[1., 0.], [1., 1.]]])
    assert attention_on_lesion(
        maps, masks)['pointing'].item() == pytest.approx(1 / 3)


def test_images_without_lesion():
    masks = draw_masks((8, 8), 2)
    masks[1] = False
    maps = torch.rand(2, 4, 4)
    found = attention_on_lesion(maps, masks)
    assert found['lesion_share'][1] == 0
    for name in ('attention_share', 'attention_gain', 'pointing',
                 'pointing_chance'):
        assert found[name][0].isfinite()
        assert found[name][1].isnan()
    patches = lesion_patches(masks, (4, 4))
    assert patches.any(dim=1).tolist() == [True, False]
    masking = masking_of_lesion(torch.ones(2, 16), patches)
    assert masking['masked'][1].isnan()
    assert masking['masked_chance'].tolist() == [1, 1]


def test_patches_of_a_lesion():
    """Half of the patch, or the one with most of it."""
    masks = torch.zeros(3, 8, 8)
    masks[0, :4, :2] = 1  # half of patch 0
    masks[0, 4, 4:] = 1  # a quarter of patch 3
    masks[1, 5, 1] = masks[1, 5, 5] = masks[1, 6, 6] = 1
    masks[2, 3:5, 3:5] = 1  # one pixel each
    found = lesion_patches(masks, (2, 2))
    assert found.tolist() == [[True, False, False, False],
                              [False, False, False, True],
                              [True, False, False, False]]


def test_masking_equals_loops():
    generator = torch.Generator().manual_seed(0)
    flags = torch.randint(-1, 2, (2, 5, 12), generator=generator)
    patches = torch.rand(2, 12, generator=generator) < 0.4
    found = masking_of_lesion(flags, patches)
    for image in range(2):
        lesion = [patch for patch in range(12) if patches[image, patch]]
        expected = []
        for flag in (1, -1, 0):
            hits = [patch for draw in flags[image].tolist()
                    for patch, one in enumerate(draw) if one == flag]
            expected += [sum(hit in lesion for hit in hits) / 5 / len(lesion),
                         len(hits) / 60]
        values = [value[image].item() for value in found.values()]
        assert values == pytest.approx(expected, abs=1e-12)
    first = masking_of_lesion(flags[:, 0], patches)
    torch.testing.assert_close(first, masking_of_lesion(flags[:, :1], patches))


def draw_flags(weights, number, seed=0):
    noise = torch.empty(number, weights.numel()).exponential_(
        generator=torch.Generator().manual_seed(seed))
    return partition_tokens(
        weights.flatten().expand(number, -1), noise, 0.45, 0.30).flags()


def test_chance_masks_at_random():
    """Uniform weights: 88, 59 and 49 of 196, within 4 sigma."""
    masks = torch.zeros(1, 224, 224)
    masks[:, 64:112, 32:96] = 1
    number, lesion = 2000, 12  # patches
    found = masking_of_lesion(draw_flags(torch.ones(196), number)[None],
                              lesion_patches(masks, (14, 14)))
    for name, count in (('masked', 88), ('thrown', 59), ('visible', 49)):
        p = count / 196
        assert found[f'{name}_chance'].item() == pytest.approx(p, abs=1e-12)
        sigma = math.sqrt(p * (1 - p) / lesion * (196 - lesion) / 195 / number)
        assert abs(found[name].item() - p) < 4 * sigma


def test_hot_block():
    """Check 4: 49 hot ones are always masked, cold with (88 - 49) / 147."""
    hot = torch.zeros(14, 14, dtype=torch.bool)
    hot[3:10, 4:11] = True
    weights = torch.where(hot, 1.0, 1e-6)
    flags = draw_flags(weights, 500)[None]
    pixels = torch.kron(hot.float(), torch.ones(16, 16))[None]
    on_hot = masking_of_lesion(flags, lesion_patches(pixels, (14, 14)))
    assert on_hot['masked'].item() == 1
    assert on_hot['thrown'].item() == on_hot['visible'].item() == 0
    cold = masking_of_lesion(flags, lesion_patches(1 - pixels, (14, 14)))
    assert cold['masked'].item() == pytest.approx((88 - 49) / 147, abs=1e-12)
    assert cold['thrown'].item() == pytest.approx(59 / 147, abs=1e-12)
    found = attention_on_lesion(weights[None], pixels)
    assert found['attention_share'].item() == pytest.approx(
        49 / (49 + 147e-6), rel=1e-6)
    assert found['attention_gain'].item() == pytest.approx(4, rel=1e-5)


def test_summary_counts_each_image_once():
    """A large and a small lesion, and one image without."""
    masks = torch.zeros(3, 8, 8)
    masks[0] = 1
    masks[1, :2, :2] = 1
    maps = torch.zeros(3, 4, 4)
    maps[:, 0, 0] = 1
    flags = torch.zeros(3, 16, dtype=torch.int64)
    flags[:, :4] = 1
    images = [image_coverage(*image) for image in zip(
                  maps, masks, flags, strict=True)]
    found = summarize_coverage(images)
    assert found == pytest.approx(
        dict(attention_share=1, lesion_share=(1 + 1 / 16) / 2,
             attention_gain=(1 + 16) / 2, pointing=1,
             pointing_chance=(1 + 1 / 16) / 2, masked=(1 / 4 + 1) / 2,
             masked_chance=1 / 4, thrown=0, thrown_chance=0,
             visible=(3 / 4 + 0) / 2, visible_chance=3 / 4, masked_gain=2.5,
             num_images=2, num_without_lesion=1))
    alone = summarize_coverage(
        [image_coverage(maps[0], masks[0]) for _ in range(2)])
    assert 'masked' not in alone
    assert alone['num_images'] == 2


def test_summary_of_nothing():
    empty = image_coverage(torch.ones(2, 2), torch.zeros(4, 4))
    with pytest.raises(ValueError, match='none of 1 images has a lesion'):
        summarize_coverage([empty])
    maps, mask = torch.ones(2, 2), torch.ones(4, 4)
    images = [image_coverage(maps, mask),
              image_coverage(maps, mask, torch.ones(4))]
    with pytest.raises(ValueError, match='the same values'):
        summarize_coverage(images)


test_what_does_not_fit = refuses(call, [
    (lambda: attention_on_lesion(torch.ones(2, 2), torch.ones(1, 4, 4)),
     r'shape \(1, gh, gw\), got \(2, 2\)'),
    (lambda: attention_on_lesion(-torch.ones(1, 2, 2), torch.ones(1, 4, 4)),
     'not negative, got -1.0 to -1.0'),
    (lambda: attention_on_lesion(
        torch.full((1, 2, 2), torch.inf), torch.ones(1, 4, 4)), 'finite'),
    (lambda: cell_shares(torch.full((1, 4, 4), 255), (2, 2)),
     '0 and 1, got values from 255 to 255'),
    (lambda: cell_shares(torch.ones(4, 4), (2, 2)), r'got \(4, 4\)'),
    (lambda: masking_of_lesion(torch.ones(1, 5), torch.ones(1, 4) > 0),
     r'shape \(1, D, 4\), got \(1, 1, 5\)'),
    (lambda: masking_of_lesion(torch.full((1, 4), 2), torch.ones(1, 4) > 0),
     'got 2'),
])
