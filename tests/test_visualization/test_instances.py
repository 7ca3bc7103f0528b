"""Instances over images: inside, outside, numbers, bad arguments."""

import numpy as np
import pytest

from mmmedmask.visualization import draw_instances


@pytest.fixture
def image():
    return np.full((40, 50, 3), 120, np.uint8)


@pytest.fixture
def mask():
    mask = np.zeros((40, 50), bool)
    mask[10:30, 5:25] = True
    return mask


@pytest.mark.parametrize('scale', [1, 2, 3])
def test_colour_is_where_the_mask_is(image, mask, scale):
    drawn = draw_instances(image, [mask], scale=scale)
    assert drawn.shape == (40 * scale, 50 * scale, 3)
    large = mask.repeat(scale, axis=0).repeat(scale, axis=1)
    changed = (drawn != 120).any(axis=2)
    assert changed[large].all()
    # The outline is two pixels wide and may stand out by as much.
    far = np.zeros_like(large)
    far[:6 * scale], far[34 * scale:], far[:, 29 * scale:] = True, True, True
    assert not changed[far].any()
    assert (image == 120).all()


def test_colours_of_neighbours_scores_and_nothing(image, mask):
    other = np.zeros_like(mask)
    other[10:30, 30:45] = True
    drawn = draw_instances(image, [mask, other], scale=1)
    assert (drawn[20, 15] != drawn[20, 37]).any()
    plain, scored, other = (draw_instances(image, [mask], scores)
                            for scores in (None, [0.87], [0.12]))
    assert (plain != scored).any()
    assert (scored != other).any()
    assert (draw_instances(image, [], scale=1) == image).all()
    empty = np.zeros((40, 50), bool)
    assert (draw_instances(image, [empty], [0.5], scale=1) == image).all()


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(masks=[], scale=0), 'got 0'),
    (dict(masks=[np.zeros((4, 4), bool)]), r'\(4, 4\)'),
    (dict(masks=[], scores=[0.5]), '1 scores for 0 masks')])
def test_bad_arguments(image, arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_instances(image, **arguments)
