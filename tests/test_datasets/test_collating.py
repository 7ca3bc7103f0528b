"""Batches of tiles: the same through workers, stacked where alike."""

import pytest
import torch
from mmengine.registry import FUNCTIONS
from torch.utils.data import DataLoader

COLLATE = FUNCTIONS.get('mmmedmask.collate_tiles')


def samples(*shapes, dtypes=(torch.uint8, )):
    return [dict(inputs=torch.full(shape, number,
                                   dtype=dtypes[number % len(dtypes)]),
                 name=f'{number}.png')
            for number, shape in enumerate(shapes)]


@pytest.mark.parametrize('workers', [0, 1])
def test_alike_tiles_are_stacked(workers):
    tiles = samples((3, 4, 5), (3, 4, 5))
    batch, = DataLoader(tiles, 2, num_workers=workers, collate_fn=COLLATE)
    assert batch['name'] == ['0.png', '1.png']
    assert batch['inputs'].dtype == torch.uint8
    assert torch.equal(batch['inputs'],
                       torch.stack([tile['inputs'] for tile in tiles]))


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('tiles', [
    samples((3, 4, 5), (3, 5, 4)),
    samples((3, 4, 5), (3, 4, 5), dtypes=(torch.uint8, torch.float32))])
def test_others_stay_a_list(tiles, workers):
    batch, = DataLoader(tiles, 2, num_workers=workers, collate_fn=COLLATE)
    assert batch['name'] == ['0.png', '1.png']
    assert isinstance(batch['inputs'], list)
    for got, tile in zip(batch['inputs'], tiles, strict=True):
        assert got.dtype == tile['inputs'].dtype
        assert torch.equal(got, tile['inputs'])
        got += 1  # Nothing that cannot be written.
