"""A training step reads like the paper: its equations, in few lines."""

import inspect

import pytest

from mmmedmask.models.cmim import CMIM
from mmmedmask.models.gimp import GiMP
from mmmedmask.models.msmae import MSMAE


@pytest.mark.parametrize(('model', 'equations'), [
    (CMIM, ('1-3', '4', '5', '6', '7')), (GiMP, ('1, 2', '3', '4')),
    (MSMAE, ('6, 7', '1', '2', '3'))])
def test_the_step_reads_like_the_paper(model, equations):
    lines = inspect.getsource(model.loss).split('"""')[2].strip().splitlines()
    assert len(lines) <= 15
    text = '\n'.join(lines)
    places = [text.index(f'# Eq. {numbers}\n') for numbers in equations]
    assert places == sorted(places)
