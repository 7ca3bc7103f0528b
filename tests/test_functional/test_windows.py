"""Functions within windows, against a loop over every window."""

import numpy as np
import pytest
import torch

from mmmedmask.functional.windows import in_windows


def attend(tokens):
    """Each token sees all others of its sequence, and where it stands not."""
    weights = (tokens @ tokens.transpose(1, 2)).softmax(dim=-1)
    return tokens + weights @ tokens.sin()


@pytest.mark.parametrize('extra', [0, 1, 2])
@pytest.mark.parametrize('grid', [(4, 6), (5, 7), (2, 9), (3, 3), (1, 4)])
def test_against_a_loop(grid, extra):
    size, (height, width) = 2, grid
    random = np.random.default_rng(0)
    tokens = random.normal(size=(2, extra + height * width, 3))
    expected = np.zeros_like(tokens)
    for image in range(2):
        for top in range(0, height, size):
            for left in range(0, width, size):
                places = [extra + y * width + x
                          for y in range(top, min(top + size, height))
                          for x in range(left, min(left + size, width))]
                window = tokens[image, [*range(extra), *places]]
                output = attend(torch.tensor(window)[None])[0].numpy()
                expected[image, places] = output[extra:]
                expected[image, :extra] += output[:extra] * len(places) / (
                    height * width)
    found = in_windows(attend, torch.tensor(tokens), grid, size, extra)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_one_window_is_the_function_itself():
    tokens = torch.randn(2, 1 + 12, 5)
    assert torch.equal(in_windows(attend, tokens, (3, 4), 4, 1),
                       attend(tokens))


def test_bad_arguments():
    with pytest.raises(ValueError, match='window_size'):
        in_windows(attend, torch.zeros(1, 4, 1), (2, 2), 0)
    with pytest.raises(ValueError, match=r'\(1, 5, 1\).*\(2, 2\)'):
        in_windows(attend, torch.zeros(1, 5, 1), (2, 2), 2)
