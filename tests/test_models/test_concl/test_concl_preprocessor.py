"""Query, key and reference: where they lie, and how they look."""

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refuses
from test_cmim.test_preprocessor import crops_of, inputs
from test_cmim.tiny import batch, draw_tile

from mmmedmask.functional.warp import resample
from mmmedmask.models.concl import ConCLDataPreprocessor

VIEWS = ('query', 'key')


def build(**changes):
    """A preprocessor whose pictures keep their stored units."""
    return ConCLDataPreprocessor(
        **dict(view_size=64, seed=3, mean=[0] * 3, std=[1] * 3) | changes)


@pytest.mark.parametrize('size', [(64, 64), (48, 72), (150, 120)])
def test_reference_is_pillows_bicubic_of_both_crops(size):
    views = build(views=dict(scale=(.1, .5)))
    got = inputs(views, range(6), size=size)['reference']
    both = crops_of(views, range(6), size)
    for index in range(6):
        boxes = [[int(side[index]) for side in crops[:4]] for crops in both]
        left = min(box[1] for box in boxes)
        top = min(box[0] for box in boxes)
        right = max(box[1] + box[3] for box in boxes)
        bottom = max(box[0] + box[2] for box in boxes)
        tile = draw_tile(index, size).permute(1, 2, 0).numpy()
        want = Image.fromarray(tile).resize((64, 64), Image.Resampling.BICUBIC,
                                            box=(left, top, right, bottom))
        want = np.array(want).clip(tile.min(), tile.max())
        difference = got[index].permute(1, 2, 0).numpy() - want
        # Pillow rounds to 8 bits after each axis.
        assert np.abs(difference).max() < 1.6


@pytest.mark.parametrize('views', [
    {}, dict(scale=(.1, .3)), dict(vertical_flip_prob=.5)])
def test_matrices_find_the_views_in_the_reference(views):
    """Sampling the reference gives the view, as far as it is that fine."""
    preprocessor = build(views=views)
    got = inputs(preprocessor, range(8), size=(64, 80))
    corners = torch.tensor([[-1., -1, 1], [1, 1, 1]]).T
    for name in VIEWS:
        theta = got[f'theta_{name}']
        assert theta.dtype == torch.float32
        assert (theta @ corners).abs().max() < 1 + 1e-6
        again = resample(got['reference'], theta, (64, 64), separable=True)
        difference = (again - got[name]).abs().mean(dim=(1, 2, 3))
        # Another tile's, or a view that is flipped wrongly, is far away.
        assert difference.max() < 5
        assert (again.roll(1, 0) - got[name]).abs().mean() > 25
        mirrored = again.flip(-1) - got[name]
        assert mirrored.abs().mean(dim=(1, 2, 3)).mean() > 10
    # The reference is the smallest such box: each side touches a view.
    reach = torch.cat([got[f'theta_{name}'] @ corners for name in VIEWS], 2)
    assert torch.allclose(reach[:, :2].amax(dim=2), torch.ones(8, 2))
    assert torch.allclose(reach[:, :2].amin(dim=2), -torch.ones(8, 2))


def test_colours_are_drawn_for_each_view_and_not_for_the_reference():
    plain = inputs(build(), range(8))
    jitter = dict(jitter_prob=1., gray_prob=0., blur_prob=0.)
    coloured = inputs(build(color=jitter), range(8))
    assert torch.equal(plain['reference'], coloured['reference'])
    changes = []
    for name in VIEWS:
        assert torch.equal(plain[f'theta_{name}'], coloured[f'theta_{name}'])
        changes.append((coloured[name] - plain[name]).mean(dim=(2, 3)))
        assert changes[-1].abs().mean() > 5
    assert (changes[0] - changes[1]).abs().mean() > 5


@pytest.mark.parametrize(('low', 'high'), [(-1000, 2000), (-2, 2), (0, 4e4)])
def test_the_reference_has_the_values_of_its_tile(low, high):
    tile = torch.full((3, 64, 64), float(low))
    tile[:, 32:] = high
    data = batch([0]) | dict(inputs=[tile])
    views = build(views=dict(scale=(1, 1), ratio=(1, 1)), view_size=96)
    reference = views(data, training=True)['inputs']['reference']
    assert reference.min() == low
    assert reference.max() == high


def test_a_sample_depends_on_its_index_alone(run_state):
    preprocessor = build(color=dict())
    whole = inputs(preprocessor, [5, 2, 9])
    part = inputs(preprocessor, [2])
    for name, value in part.items():
        torch.testing.assert_close(value[0], whole[name][1], atol=1e-4,
                                   rtol=1e-5)
    run_state['iter'] = 1
    later = inputs(preprocessor, [2])
    assert not torch.equal(later['theta_query'], part['theta_query'])


test_bad_arguments_are_refused_by_value = refuses(build, [
    (dict(views=dict(max_angle=5.)), r'must be 0, got 5\.0'),
    (dict(views=dict(max_shear=5.)), r'got 0\.0 and 5\.0'),
    (dict(view_size=0), 'view_size .* 0')])
